"""warmup: train an adapter on a random share of the pool, one checkpoint an epoch; or take checkpoints as they are."""

from typing import Any

from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import say
from lessexp.stages.warmup_checkpoints import GivenCheckpoints
from lessexp.training.checkpoint import require_epochs


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the warm-up checkpoints or take those that exist."""
    warmup = experiment.warmup
    if isinstance(warmup, GivenCheckpoints):
        say(f"warmup: the checkpoints of {warmup.folder} are used")
        return {}
    built = experiment.runtime.get(warmup)
    require_epochs(built.folder, warmup.n_epochs)
    return {"artifacts": {"warmup": built}}
