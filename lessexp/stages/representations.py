"""representations: features of rows from one forward pass of the selection model, without adapter or warm-up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lessexp.artifacts import Order
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of, sort_by_length
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore, NoDirectionError
from lessexp.gradients.filling import StoreInProgress, donors_of, fill_stores, tokens_to_compute
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.memory import Batches, Features
from lessexp.stages.configuration import instantiate
from lessexp.stages.cost import forward_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import progress_bar, say

_CHECKPOINT = 1  # what stores call the only state of a model that is not trained


@runtime_checkable
class Representation(Features, Protocol):
    """Features whose width is known beforehand."""

    proj_dim: int


@dataclass(frozen=True)
class Side:
    """What differs between pool and target.

    Attributes:
        kind: of artifact.
        rows: as the selection model reads them.
        fields: all that determines the store.
        subtask_of: by example id, for a target.
    """

    kind: str
    rows: ArrowSequence[TokenizedRow]
    fields: dict[str, Any]
    subtask_of: Mapping[str, str] | None = None


def _pool(experiment: Experiment) -> Side:
    return Side("pool_representations", experiment.tokenized_pool, experiment.pool_representation_fields)


def _target(experiment: Experiment) -> Side:
    rows, _ = experiment.tokenized_target
    subtask_of = {row.example_id: row.subtask for row in experiment.target}
    return Side("target_representations", rows, experiment.target_representation_fields, subtask_of)


_SIDES = {"pool": _pool, "target": _target}


def _fill(
    experiment: Experiment, load: Callable[[], tuple[Representation, int]], side: Side, folder: Path
) -> dict[str, Any]:
    """Fill a store; its record."""
    cfg = experiment.cfg
    features, n_parameters = load()
    rows = sort_by_length(side.rows)
    manifest = Manifest(
        example_ids=rows.ids,
        checkpoints=[_CHECKPOINT],
        proj_dim=features.proj_dim,
        dtype=cfg.selector.representations.dtype,
        rows_per_shard=cfg.datastore.rows_per_shard,
        provenance=side.fields,
        row_hashes=rows.column("content_hash").to_pylist(),
        subtasks=[side.subtask_of[name] for name in rows.ids] if side.subtask_of else None,
    )
    with experiment.team.leader_first():
        store = StoreInProgress(DatastoreWriter(folder, manifest), donors_of(Order(folder, side.fields), {}, reader={}))
    n_tokens = tokens_to_compute(lengths_of(rows), manifest.row_hashes, [store.donors])
    batches = Batches(
        cfg.evaluation.tokens_per_batch,
        pad_token_id=experiment.selection_model.tokenizer.pad_token_id,
        device=experiment.device,
        announce=say,
    )
    with progress_bar(side.kind.replace("_", " "), total=len(rows)) as advance:
        [finished] = fill_stores(
            [store],
            rows,
            lambda _checkpoint: features,
            split=lambda computed: [computed],
            batches=batches,
            advance=advance,
            team=experiment.team,
        )
    return {
        "n_rows": len(rows),
        "excluded": len(finished.excluded),
        "flops": forward_flops(n_parameters, n_tokens),
    }


def _require_all(target: GradientDatastore) -> None:
    for example_id in target.excluded:
        raise NoDirectionError(
            f"target example '{example_id}': its representation is zero or not finite; remove it from the target, "
            "or set selection_model.dtype=float32"
        )


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the stores that the selector reads, or take those that are there.

    Raises:
        NoDirectionError: a target row whose representation is zero or not finite.
    """
    settings = experiment.cfg.selector.representations

    @cache
    def load() -> tuple[Representation, int]:
        model = experiment.selection_model.load()
        return instantiate(settings.features, model), model.num_parameters()

    artifacts = {}
    for name in settings.rows_of:
        side = _SIDES[name](experiment)
        built = experiment.shelf.build_by_all(
            side.kind, side.fields, partial(_fill, experiment, load, side), team=experiment.team
        )
        store = GradientDatastore.open(built.folder, provenance=side.fields)
        if side.subtask_of:
            _require_all(store)
        artifacts[side.kind] = built
    return {"artifacts": artifacts}
