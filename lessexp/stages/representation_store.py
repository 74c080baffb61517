"""Stores of features of rows from one forward pass of the selection model, without adapter or warm-up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.gradients.datastore import DatastoreWriter, rows_per_shard_of
from lessexp.gradients.filling import StoreInProgress, checked, donors_of, fill_stores, tokens_to_compute
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.memory import Batches, Features
from lessexp.identity import identity_of
from lessexp.stages.configuration import Configured
from lessexp.stages.cost import forward_flops
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import progress_bar, say
from lessexp.stages.runtime import Runtime

_CHECKPOINT = 1  # what stores call the only state of a model that is not trained


@runtime_checkable
class Representation(Features, Protocol):
    """Features whose width is known beforehand."""

    proj_dim: int


@dataclass(frozen=True)
class RepresentationStore:
    """Features of rows.

    Attributes:
        model: that reads them.
        features: makes them, of the loaded model.
        dtype: of the stored values.
        rows: from short to long.
        subtasks: of the rows, for a target; ``None`` for a pool.
        pad_token_id: fills the ends of short rows.
    """

    version: ClassVar[int] = 5
    by_all: ClassVar[bool] = True

    model: Model
    features: Configured
    dtype: str
    rows: ArrowSequence[TokenizedRow]
    subtasks: tuple[str, ...] | None
    pad_token_id: int

    @property
    def kind(self) -> str:
        """The folder that holds it and its like."""
        return "pool_representations" if self.subtasks is None else "target_representations"

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Compute all features, or copy them from stores that differ in their rows alone."""
        return build_store(self, folder, lambda: self.load(runtime), runtime)

    def load(self, runtime: Runtime) -> tuple[Representation, int]:
        """What makes the features, and the number of the model's parameters."""
        model = self.model.load(runtime)
        return self.features.make(model), model.num_parameters()


def build_store(
    store: RepresentationStore, folder: Path, load: Callable[[], tuple[Representation, int]], runtime: Runtime
) -> dict[str, Any]:
    """Fill a store; its record.

    Args:
        store: to be filled.
        folder: of the store.
        load: see `RepresentationStore.load`; stores of the same model may share what it gives.
        runtime: where and how.
    """
    features, n_parameters = load()
    rows, team = store.rows, runtime.engine.team
    manifest = Manifest(
        example_ids=rows.ids,
        checkpoints=[_CHECKPOINT],
        proj_dim=features.proj_dim,
        dtype=store.dtype,
        rows_per_shard=rows_per_shard_of([folder], otherwise=runtime.rows_per_shard),
        provenance=identity_of(store),
        row_hashes=rows.column("content_hash").to_pylist(),
        subtasks=None if store.subtasks is None else list(store.subtasks),
    )
    with team.leader_first():
        donors = donors_of(folder, manifest.provenance, {}, free=("rows", "subtasks"), announce=say)
        filling = StoreInProgress(DatastoreWriter(folder, manifest), checked(donors, announce=say))
    n_tokens = tokens_to_compute(lengths_of(rows), manifest.row_hashes, [filling.donors])
    batches = Batches(
        runtime.evaluation_tokens_per_batch, pad_token_id=store.pad_token_id, device=runtime.device, announce=say
    )
    with progress_bar(store.kind.replace("_", " "), total=len(rows)) as advance:
        [finished] = fill_stores(
            [filling],
            rows,
            lambda _checkpoint: features,
            split=lambda computed: [computed],
            batches=batches,
            advance=advance,
            team=team,
        )
    return {
        "n_rows": len(rows),
        "excluded": len(finished.excluded),
        "flops": forward_flops(n_parameters, n_tokens),
    }
