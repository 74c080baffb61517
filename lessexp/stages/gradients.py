"""gradients: features of every pool row (Γ) and every target row (∇ℓ) at every warm-up checkpoint."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from peft import PeftModel

from lessexp.artifacts import Built
from lessexp.gradients.datastore import GradientDatastore, require_directions
from lessexp.identity import identity_of
from lessexp.stages.experiment import Experiment
from lessexp.stages.gradient_store import GradientStore, build_stores


def _build(experiment: Experiment, stores: Sequence[GradientStore], load_model: Callable[[], PeftModel]) -> Built:
    """Build stores or take those that exist; the first, the run's own, is returned."""
    own, *_ = experiment.shelf.get_all(
        stores, lambda missing: build_stores(missing, load_model, experiment.runtime), team=experiment.team
    )
    return own


def run(experiment: Experiment) -> dict[str, Any]:
    """Build both sides' stores or take those that exist."""
    load_model = cache(lambda: experiment.pool_gradients[0].load(experiment.runtime))  # once for both sides
    target = _build(experiment, experiment.target_gradients, load_model)
    provenance = identity_of(experiment.target_gradients[0])
    require_directions(GradientDatastore.open(target.folder, provenance=provenance))
    pool = _build(experiment, experiment.pool_gradients, load_model)
    GradientDatastore.open(pool.folder, provenance=identity_of(experiment.pool_gradients[0]))
    return {"artifacts": {"target_gradients": target, "pool_gradients": pool}}
