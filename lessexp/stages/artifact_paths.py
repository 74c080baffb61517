"""Where the artifacts of a run lie, told to its configuration."""

from collections.abc import Sequence

from lessexp.artifacts import Artifact
from lessexp.stages.configuration import missing_keys_named
from lessexp.stages.experiment import Experiment
from lessexp.stages.warmup_checkpoints import GivenCheckpoints


@missing_keys_named()
def set_artifact_paths(experiment: Experiment) -> None:
    """Fill in ``paths``, so that a selector's configuration can refer to what its stages build.

    Raises:
        ExperimentError: a setting is missing.
    """
    cfg = experiment.cfg
    if cfg.warmup.path:
        cfg.paths.warmup = cfg.warmup.path
    for stage in cfg.selector.stages:
        for artifact in _built_by(stage, experiment):
            cfg.paths[artifact.kind] = str(experiment.shelf.folder(artifact))


def _built_by(stage: str, experiment: Experiment) -> Sequence[Artifact]:
    """The artifacts of a stage to which a configuration may refer."""
    match stage:
        case "warmup":
            return [] if isinstance(experiment.warmup, GivenCheckpoints) else [experiment.warmup]
        case "gradients":
            return [experiment.pool_gradients[0], experiment.target_gradients[0]]
        case "representations":
            return list(experiment.representations.values())
        case _:
            return []
