"""A setting that is a class or a function, named by ``_target_``: its keys are that callable's arguments."""

import inspect
import pkgutil
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

_OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def _imported(name: Any) -> Callable[..., Any]:
    if not isinstance(name, str):
        raise PydanticCustomError("target", "should be the dotted name of a class or function")
    try:
        found = pkgutil.resolve_name(name)  # Hydra's own function logs the error besides
    except Exception as error:  # importing a module of the user's can raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise PydanticCustomError("target", "cannot be imported ({reason})", {"reason": reason}) from error
    if not callable(found):
        raise PydanticCustomError("target", "should be the dotted name of a class or function")
    return found


def arguments_of(function: Callable[..., Any]) -> list[str] | None:
    """Names of the keyword arguments that a callable takes; None if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some builtins have no signature
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY]


def _checked_option(node: Any, place: tuple[str, ...] = ()) -> Any:
    """Check that every ``_target_`` below a node can be called with the keys beside it."""
    if isinstance(node, list):
        return [_checked_option(item, (*place, str(index))) for index, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    for key, value in node.items():
        _checked_option(value, (*place, str(key)))
    if "_target_" not in node:
        return node
    try:
        known = arguments_of(_imported(node["_target_"]))
    except PydanticCustomError as error:
        raise error_at((*place, "_target_"), error.message(), node["_target_"]) from error
    for key in node.keys() - {*(known or node), *_OF_HYDRA}:
        raise _unknown((*place, str(key)), known)
    return node


def error_at(place: tuple[str, ...], message: str, value: Any) -> PydanticCustomError:
    """An error of a value that pydantic does not know by itself: one inside an option, or one that others forbid."""
    context = {"place": list(place), "sentence": message, "value": value}
    return PydanticCustomError("inside_option", "{sentence}", context)


def _unknown(place: tuple[str, ...], known: list[str]) -> PydanticCustomError:
    context = {"place": list(place), "sentence": "is not a setting", "known": known}
    return PydanticCustomError("unknown_in_option", "{sentence}", context)


def _has_target(node: Any) -> Any:
    if not isinstance(node, dict) or "_target_" not in node:
        raise PydanticCustomError("option", "should be an option, a group with its _target_")
    return node


def _limited(node: dict[str, Any]) -> dict[str, Any]:
    limit, longest = node.get("limit"), node.get("max_new_tokens", 1)
    if limit is not None and not _is_count(limit):
        raise error_at(("limit",), "should be null or a whole number of 1 or more", limit)
    if not _is_count(longest):
        raise error_at(("max_new_tokens",), "should be a whole number of 1 or more", longest)
    return node


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


Option = Annotated[dict[str, Any], BeforeValidator(_has_target), AfterValidator(_checked_option)]
Benchmark = Annotated[Option, AfterValidator(_limited)]
