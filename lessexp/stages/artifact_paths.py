"""Where the artifacts of a run lie, told to its configuration."""

from typing import Any

from lessexp.stages.configuration import missing_keys_named
from lessexp.stages.experiment import Experiment


@missing_keys_named()
def set_artifact_paths(experiment: Experiment) -> None:
    """Fill in ``paths``, so that a selector's configuration can refer to what its stages build.

    Raises:
        ExperimentError: a setting is missing.
    """
    cfg = experiment.cfg
    for stage in cfg.selector.stages:
        for kind, fields in _built_by(stage, experiment).items():
            cfg.paths[kind] = str(experiment.shelf.folder(kind, fields))
    if cfg.warmup.importer is None:
        cfg.paths.warmup = cfg.warmup.path or cfg.paths.warmup


def _built_by(stage: str, experiment: Experiment) -> dict[str, dict[str, Any]]:
    """All that determines each artifact that a stage builds, by kind."""
    match stage:
        case "warmup":
            return {"warmup": experiment.warmup_fields}
        case "gradients":
            return {
                "pool_gradients": experiment.pool_gradient_fields(experiment.stores[0]),
                "target_gradients": experiment.target_gradient_fields(experiment.stores[0]),
            }
        case "representations":
            return {
                "pool_representations": experiment.pool_representation_fields,
                "target_representations": experiment.target_representation_fields,
            }
        case _:
            return {}
