"""representations: features of rows from one forward pass of the selection model, without adapter or warm-up."""

from functools import cache
from typing import Any

from lessexp.gradients.datastore import GradientDatastore, NoDirectionError
from lessexp.identity import identity_of
from lessexp.stages.experiment import Experiment
from lessexp.stages.representation_store import build_store


def _require_all(target: GradientDatastore) -> None:
    for example_id in target.excluded:
        raise NoDirectionError(
            f"target example '{example_id}': its representation is zero or not finite; remove it from the target, "
            "or set selection_model.dtype=float32"
        )


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the stores that the selector reads, or take those that exist.

    Raises:
        NoDirectionError: a target row whose representation is zero or not finite.
    """
    stores, runtime = experiment.representations, experiment.runtime
    load = cache(lambda: next(iter(stores.values())).load(runtime))  # once for both sides
    artifacts = {}
    for store in stores.values():
        [built] = runtime.shelf.get_all(
            [store],
            lambda missing: [build_store(one, folder, load, runtime) for one, folder in missing],
            team=experiment.team,
        )
        opened = GradientDatastore.open(built.folder, provenance=identity_of(store))
        if store.subtasks is not None:
            _require_all(opened)
        artifacts[store.kind] = built
    return {"artifacts": artifacts}
