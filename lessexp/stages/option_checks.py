"""Whether what stands for an option, a group made by its ``_target_``, can make one."""

import pkgutil

from omegaconf import DictConfig, OmegaConf

from lessexp.stages.configuration import ExperimentError

_ALWAYS = (
    *("model.source", "selection_model.source", "data", "target", "benchmark", "chat_format"),
    *("gradients.direction", "gradients.target_direction", "projection", "space", "finetune.tuning"),
    *("influence.subtask_vector", "influence.row_weights", "selector.scorer", "aggregate", "dedup"),
)
_OR_NULL = ("warmup.importer", "proxy.factors", "alignment.factor_gradients", "alignment.settings")
_LISTS = ("logger.loggers", "proxy.steps")


def check_targets_of_options(cfg: DictConfig) -> None:
    """Check that each option is a group whose ``_target_`` can be found and called; its settings are not looked at.

    Raises:
        ExperimentError: naming the key.
    """
    for key in _ALWAYS:
        _check(key, OmegaConf.select(cfg, key))
    for key in _OR_NULL:
        if (option := OmegaConf.select(cfg, key)) is not None:
            _check(key, option)
    for key in _LISTS:
        for i, option in enumerate(OmegaConf.select(cfg, key)):
            _check(f"{key}[{i}]", option)


def _check(key: str, option: object) -> None:
    name = option.get("_target_") if isinstance(option, DictConfig) else None
    if name is None:
        raise ExperimentError(
            f"{key} must be an option, a group with its _target_, it is {option!r:.80}; "
            f"set single settings, as {key}.NAME=..."
        )
    try:
        found = pkgutil.resolve_name(name)  # Hydra's own would log the error besides
    except Exception as error:  # importing a module of the user's can raise anything
        raise ExperimentError(f"{key}._target_={name!r:.80} cannot be found; {error!r:.200}") from error
    if not callable(found):
        raise ExperimentError(f"{key}._target_={name} is no class or function, it is {found!r:.80}")
