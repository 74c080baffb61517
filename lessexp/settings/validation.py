"""Check a composed configuration against the schema, and fill in what it leaves out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from lessexp.errors import ExperimentError
from lessexp.settings.schema import Group, Settings
from lessexp.settings.stage_order import stages_to_run


def validate(cfg: DictConfig) -> None:
    """Check every setting, set those that a file leaves out to their defaults, and complete the list of stages.

    Args:
        cfg: a run's configuration, changed in place.

    Raises:
        ExperimentError: naming the key, what is wrong with it and, if it does not exist, the nearest one that does.
    """
    try:
        settings = Settings.model_validate(_resolved(cfg))
    except ValidationError as error:
        raise ExperimentError(_sentence(error, cfg)) from None
    for key, value in _leaves(settings.model_dump()):
        if OmegaConf.select(cfg, key, default=_ABSENT) is _ABSENT:
            OmegaConf.update(cfg, key, value, force_add=True)
    if "proj_dim" in cfg.projection:
        cfg.projection.proj_dim = "${proj_dim}"  # as it may be given by value, which datastore.also would not change
    if cfg.selector.fraction is None:
        cfg.selector.fraction = cfg.fraction
    cfg.selector.stages = stages_to_run(cfg)


_ABSENT = object()


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values.

    Raises:
        ExperimentError: a value is still to be given, or an interpolation leads nowhere.
    """
    # Single values first: an error is named where it is and not where another setting refers to it.
    names = sorted(cfg, key=lambda name: OmegaConf.is_config(cfg._get_node(name)))
    try:
        return {name: _plain(cfg[name]) for name in names}
    except MissingMandatoryValue as error:
        raise ExperimentError(
            f"{error.full_key} is not set; give it on the command line: {error.full_key}=..."
        ) from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, InterpolationKeyError) and isinstance(error.parent_node, DictConfig):
            reason += "; the options chosen do not go together (a benchmark and its target, say)"
        raise ExperimentError(f"{error.full_key}: {reason}") from None


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node


def is_setting(key: str) -> bool:
    """Whether the schema has a dotted key, outside of options, whose settings are their callables'."""
    group: Any = Settings
    for name in key.split("."):
        if not (isinstance(group, type) and issubclass(group, Group) and name in group.model_fields):
            return False
        group = group.model_fields[name].annotation
    return True


def known_keys(cfg: DictConfig) -> list[str]:
    """The dotted key of every setting and group of a configuration, interpolations not followed."""

    def below(node: DictConfig, above: str) -> Iterator[str]:
        for name in node:
            yield f"{above}{name}"
            if isinstance(child := node._get_node(name), DictConfig) and not child._is_none():
                yield from below(child, f"{above}{name}.")

    return list(below(cfg, ""))


def unknown_key(key: str, known: Iterable[str]) -> ExperimentError:
    """The error for a key that does not exist, with those that were probably meant.

    Args:
        key: dotted.
        known: dotted keys that exist.
    """
    nearest = _nearest(key, [one for one in known if one != key and not one.startswith(f"{key}.")])
    meant = f"did you mean {' or '.join(nearest)}?" if nearest else "python run.py --cfg job shows all settings"
    return ExperimentError(f"{key} is not a setting; {meant}")


def _nearest(key: str, known: Sequence[str]) -> list[str]:
    """Up to two keys: those with the same last name, most alike first; else the most alike of all."""
    *_, name = key.split(".")

    def likeness(one: str) -> float:
        return SequenceMatcher(None, key, one).ratio()

    namesakes = sorted((one for one in known if one.split(".")[-1] == name), key=likeness, reverse=True)
    if namesakes:
        return namesakes[:2]
    group = key.rpartition(".")[0]
    siblings = [one for one in known if one.rpartition(".")[0] == group]
    return get_close_matches(key, siblings, n=1, cutoff=0.8) or get_close_matches(key, known, n=1, cutoff=0.75)


def _sentence(error: ValidationError, cfg: DictConfig) -> str:
    """The first of the schema's errors; those of a union's members at the same key are joined."""
    first, *others = ({**one, "key": _key_of(one)} for one in error.errors(include_url=False))
    key = first["key"]
    if first["type"] == "extra_forbidden":
        return str(unknown_key(key, known_keys(cfg)))
    context = first.get("ctx", {})
    if first["type"] == "unknown_in_option":
        above = key.rpartition(".")[0]
        known = [f"{above}.{name}" for name in context["known"]]
        return f"{unknown_key(key, known)}" if known else f"{key} is not a setting; {above} takes none"
    if first["type"] == "missing":
        return f"{key} is missing; its option, or the command line, must give it"
    reasons = [first["msg"], *(one["msg"] for one in others if one["key"] == key)]
    # pydantic's messages begin with "Input should be", "List should have" and the like.
    joined = " or ".join(dict.fromkeys(reason.partition("should ")[2] or reason for reason in reasons))
    verb = "should " if "should " in first["msg"] else ""
    value = context.get("value", first["input"])
    return f"{key} {verb}{joined.replace(' or be ', ' or ')}, got {value!r:.80}"


def _key_of(error: Mapping[str, Any]) -> str:
    """Dotted, without the names that pydantic gives to the members of a union."""
    place = [str(part) for part in (*error["loc"], *error.get("ctx", {}).get("place", ()))]
    return ".".join(part for part in place if part.isidentifier() or part.isdigit())


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and "_target_" not in value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
