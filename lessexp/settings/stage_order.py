"""Which stages a run has: those that ``selector.stages`` names and what they need."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from omegaconf import DictConfig, OmegaConf

from lessexp.errors import ExperimentError

STAGES = ("warmup", "proxy", "gradients", "representations", "select", "finetune", "evaluate", "report")
"""All stages, in the order in which they run."""

_NEEDS: Mapping[str, Sequence[str]] = {
    "gradients": ("warmup",),
    "finetune": ("select",),
    "evaluate": ("finetune",),
    "report": ("select",),
}
_BUILDS: Mapping[str, Sequence[str]] = {
    "warmup": ("warmup",),
    "gradients": ("pool_gradients", "target_gradients"),
    "representations": ("pool_representations", "target_representations"),
}
"""Names in ``paths`` that a selector's scorer refers to."""


def stages_to_run(cfg: DictConfig) -> list[str]:
    """The stages named, those that they need, and a report of what was selected.

    Args:
        cfg: a run's configuration.

    Raises:
        ExperimentError: the list is empty or out of order, or a stage occurs twice, does not exist, or has no
            settings in this selector.
    """
    named = list(cfg.selector.stages)
    shown = f"selector.stages=[{','.join(named)}]"
    if not named:
        raise ExperimentError(f"{shown} names no stage; give some of {', '.join(STAGES)}")
    for name in named:
        if name not in STAGES:
            nearest = get_close_matches(name, STAGES, n=1)
            meant = f"did you mean {nearest[0]}? The stages are" if nearest else "the stages are"
            raise ExperimentError(f"{shown}: '{name}' is no stage; {meant} {', '.join(STAGES)}")
    in_order = sorted(set(named), key=STAGES.index)
    if named != in_order:
        raise ExperimentError(f"{shown} names a stage twice or out of order; write [{','.join(in_order)}]")
    needed = _with_needs(named, cfg)
    if "select" in needed:
        needed.add("report")
    if "representations" in needed and "representations" not in cfg.selector:
        raise ExperimentError(f"{shown}: selector={cfg.selector.name} has no settings for representations")
    return sorted(needed, key=STAGES.index)


def _with_needs(named: Sequence[str], cfg: DictConfig) -> set[str]:
    read = str(OmegaConf.to_container(cfg.selector.scorer, resolve=False))
    of_gradients = ["proxy"] if cfg.proxy.get("factors") is not None else []
    of_scorer = [stage for stage, built in _BUILDS.items() if any(f"${{paths.{name}}}" in read for name in built)]
    found, waiting = set(), list(named)
    while waiting:
        stage = waiting.pop()
        found.add(stage)
        waiting += _NEEDS.get(stage, ())
        waiting += {"select": of_scorer, "gradients": of_gradients}.get(stage, ())
    return found
