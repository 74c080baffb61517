"""What a value consists of, as JSON: keys of artifacts are hashes of it, so nobody keeps a list of what counts.

A dataclass is its class, its ``version`` and those of its fields that count when two are compared; any other object is
its class and its attributes. A value that stands for content (rows, weights, a tokenizer) says so by an attribute
``identity``. A path is refused, because what a file holds may change while its name stays.

Code of this package counts by the ``version`` of the artifacts that it makes, which their author raises when numbers
change. Code of others, and that of the benchmarks, counts by its source.
"""

import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, TypeVar

import torch

from lessexp.errors import UserError

Value = TypeVar("Value")

_VERSIONED, _BY_SOURCE = "lessexp", "lessexp.evaluation"  # of the former's modules, those below the latter are hashed


def key_of(value: Any) -> str:
    """The hash that names an artifact, 16 hexadecimal digits of `identity_of`."""
    return hash_of(identity_of(value))


def hash_of(record: Any) -> str:
    """The hash of a value that is JSON already."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


class IdentityError(UserError, TypeError):
    """A value whose content cannot be told."""


@dataclass(frozen=True)
class Hashed(Generic[Value]):
    """A large value, which keys name by a hash."""

    value: Value

    @functools.cached_property
    def identity(self) -> str:
        """Hash of the value's identity.

        Raises:
            IdentityError: see `identity_of`.
        """
        return key_of(self.value)


@functools.singledispatch
def identity_of(value: Any) -> Any:
    """All that a value consists of, as JSON; other modules register types of other libraries.

    Raises:
        IdentityError: it holds a path, or something whose content cannot be told.
    """
    if hasattr(value, "identity"):
        return value.identity
    if is_dataclass(value) and not isinstance(value, type):
        version = {"version": value.version} if hasattr(value, "version") else {}
        held = {field.name: getattr(value, field.name) for field in fields(value) if field.compare}
        return {**_of_code(type(value)), **version, **_of_items(held)}
    if isinstance(value, type):
        return _of_code(value)
    if hasattr(value, "__dict__"):
        held = {name: one for name, one in vars(value).items() if not _is_derived(type(value), name)}
        return {**_of_code(type(value)), "state": _of_items(held)}
    try:
        _, *parts = value.__reduce_ex__(4)  # what pickle would keep of a date, a fraction, an array
    except TypeError as error:
        raise IdentityError(
            f"a key cannot tell what a {_name(type(value))} consists of; give the class an attribute 'identity'"
        ) from error
    return {**_of_code(type(value)), "state": [identity_of(one) for one in parts if not isinstance(one, Iterator)]}


def _of_items(items: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): identity_of(value) for name, value in items.items()}


def _is_derived(kind: type, name: str) -> bool:
    """Whether an attribute is what a cached property has kept."""
    return isinstance(getattr(kind, name, None), functools.cached_property)


@identity_of.register(bool | int | float | str | None)
def _(value: Any) -> Any:
    return value


@identity_of.register
def _(value: Enum) -> Any:
    return [_name(type(value)), value.name]


@identity_of.register
def _(value: PurePath) -> Any:
    raise IdentityError(f"a key cannot hold the path {value}, for what the file holds may change; hold its content")


@identity_of.register
def _(value: Mapping) -> Any:
    return _of_items(value)


@identity_of.register(list | tuple)
def _(value: Sequence) -> Any:
    return [identity_of(one) for one in value]


@identity_of.register(set | frozenset)
def _(value: Any) -> Any:
    return sorted((identity_of(one) for one in value), key=json.dumps)


@identity_of.register
def _(value: bytes) -> Any:
    return hashlib.sha256(value).hexdigest()


@identity_of.register
def _(value: re.Pattern) -> Any:
    return [value.pattern, value.flags]


@identity_of.register
def _(value: torch.Tensor) -> Any:
    content = value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b""
    return [str(value.dtype), list(value.shape), hashlib.sha256(content).hexdigest()]


@identity_of.register
def _(value: functools.partial) -> Any:
    return [identity_of(value.func), identity_of(value.args), identity_of(value.keywords)]


@identity_of.register
def _(value: MethodType) -> Any:
    return [identity_of(value.__self__), value.__name__]


@identity_of.register(FunctionType | BuiltinFunctionType)
def _(value: Any) -> Any:
    value = inspect.unwrap(value)
    bound = getattr(value, "__closure__", None) or ()
    return {**_of_code(value), **({"bound": [identity_of(cell.cell_contents) for cell in bound]} if bound else {})}


def _name(definition: Any) -> str:
    """Its name; modules of this package may be moved."""
    module = definition.__module__
    return definition.__qualname__ if _is_ours(module) else f"{module}.{definition.__qualname__}"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == _VERSIONED


def _of_code(definition: Any) -> dict[str, Any]:
    source = source_hash(definition)
    return {"name": _name(definition)} | ({"source": source} if source else {})


def source_hash(definition: Callable[..., Any]) -> str | None:
    """Hash of the module in which a class or function stands, and of those of its own package that it imports.

    ``None`` for code that counts by versions: this package's but for its benchmarks, Python's, and installed packages'.
    """
    found: dict[str, bytes] = {}
    _add_sources(sys.modules.get(definition.__module__), definition.__module__.partition(".")[0], found)
    if not found:
        return None
    return hashlib.sha256(b"".join(name.encode() + source for name, source in sorted(found.items()))).hexdigest()[:16]


def _add_sources(module: ModuleType | None, package: str, found: dict[str, bytes]) -> None:
    """Add the source of a module and of what it holds of its package's other modules."""
    name = getattr(module, "__name__", "")
    if name.partition(".")[0] != package or name in found or not _counts_by_source(module):
        return
    found[name] = Path(module.__file__).read_bytes()
    for held in list(vars(module).values()):
        other = held if isinstance(held, ModuleType) else sys.modules.get(getattr(held, "__module__", None) or "")
        _add_sources(other, package, found)


def _counts_by_source(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return False
    if _is_ours(module.__name__):
        return module.__name__.startswith(_BY_SOURCE)
    return "site-packages" not in Path(file).parts and not _is_pythons(module)


def _is_pythons(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] in sys.stdlib_module_names
