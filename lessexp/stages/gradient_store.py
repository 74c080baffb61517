"""Stores of gradient features: Γ of every pool row or ∇ℓ of every target row, at every warm-up checkpoint."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftModel

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.errors import DamagedFileError
from lessexp.files import read_json, write_json
from lessexp.gradients.datastore import DatastoreWriter, rows_per_shard_of
from lessexp.gradients.filling import Donor, StoreInProgress, checked, donors_of, fill_stores, tokens_to_compute
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.memory import Batches, tokens_that_fit
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import Projector, ProjectorStack
from lessexp.identity import identity_of
from lessexp.models.lora import LoraSettings, copy_into
from lessexp.stages.configuration import Configured
from lessexp.stages.cost import training_flops
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import progress_bar, say
from lessexp.stages.runtime import Runtime
from lessexp.stages.shelf import Shelf
from lessexp.stages.warmup_checkpoints import Checkpoints, checkpoint_hashes, chosen_folders, folder_of
from lessexp.training.checkpoint import read_checkpoint
from lessexp.wholeness import read_complete


@dataclass(frozen=True)
class GradientStore:
    """Projected gradients of rows at the checkpoints of a warm-up.

    Attributes:
        model: whose gradients they are.
        lora: shape of its adapter.
        warmup: gives adapter and moments.
        epochs: the checkpoints that count; ``None``: all.
        space: with respect to what gradients are taken.
        direction: what is projected, of gradient and moments.
        projection: how.
        dtype: of the stored values.
        rows: from short to long.
        subtasks: of the rows, for a target; ``None`` for a pool.
        pad_token_id: fills the ends of short rows.
    """

    version: ClassVar[int] = 5
    by_all: ClassVar[bool] = True

    model: Model
    lora: LoraSettings
    warmup: Checkpoints
    epochs: tuple[int, ...] | None
    space: Configured
    direction: Configured
    projection: Configured
    dtype: str
    rows: ArrowSequence[TokenizedRow]
    subtasks: tuple[str, ...] | None
    pad_token_id: int

    @property
    def kind(self) -> str:
        """The folder that holds it and its like."""
        return "pool_gradients" if self.subtasks is None else "target_gradients"

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Compute all features, or copy them from stores that differ in their rows alone."""
        [record] = build_stores([(self, folder)], cache(lambda: self.load(runtime)), runtime)
        return record

    def load(self, runtime: Runtime) -> PeftModel:
        """The model with an adapter, into which each checkpoint's is copied."""
        return self.model.load_with_adapter(self.lora, runtime, seed=0)

    def checkpoints(self, shelf: Shelf) -> dict[int, Path]:
        """The folders of the checkpoints that count, once they exist."""
        return chosen_folders(folder_of(self.warmup, shelf), self.epochs)

    def donors(self, folder: Path, hashes: Mapping[str, str], *, announce: Callable[[str], None]) -> list[Donor]:
        """Finished stores from which rows may be copied into the one in ``folder``, not checked for damage.

        Args:
            folder: of this store.
            hashes: of the checkpoints that count. They are compared by content: the same settings may have been
                trained twice, and an ordinary run's warm-up may be given by path.
            announce: gets a sentence on each store that cannot be read.
        """
        free = ("rows", "subtasks", "warmup", "epochs")
        return donors_of(folder, identity_of(self), hashes, free=free, announce=announce)


def build_stores(
    missing: Sequence[tuple[GradientStore, Path]], load_model: Callable[[], PeftModel], runtime: Runtime
) -> list[dict[str, Any]]:
    """Fill stores over the same rows and checkpoints in one pass; the record of each.

    Args:
        missing: stores that differ in projection and type alone, and their folders.
        load_model: gives their model, the same one at every call.
        runtime: where and how.
    """
    shared, team = missing[0][0], runtime.engine.team
    rows = shared.rows
    checkpoints = shared.checkpoints(runtime.shelf)
    hashes = checkpoint_hashes(checkpoints)
    row_hashes = rows.column("content_hash").to_pylist()
    projectors = ProjectorStack([_projector(store.projection, checkpoints) for store, _ in missing])

    def store_for(store: GradientStore, folder: Path, proj_dim: int) -> StoreInProgress:
        manifest = Manifest(
            example_ids=rows.ids,
            checkpoints=list(checkpoints),
            proj_dim=proj_dim,
            dtype=store.dtype,
            rows_per_shard=rows_per_shard,
            provenance=identity_of(store),
            checkpoint_hashes=hashes,
            row_hashes=row_hashes,
            subtasks=None if store.subtasks is None else list(store.subtasks),
        )
        donors = checked(store.donors(folder, hashes, announce=say), announce=say)
        return StoreInProgress(DatastoreWriter(folder, manifest), donors)

    space = shared.space.make()

    def features_at(epoch: int) -> GradientFeatures:
        checkpoint = read_checkpoint(checkpoints[epoch])
        model = load_model()
        copy_into(model, checkpoint.parameters)
        return GradientFeatures(model, projectors, shared.direction.make(checkpoint), layers=space(model))

    def fitting() -> int:
        return tokens_that_fit(features_at(min(checkpoints)), rows, device=runtime.device)

    with team.leader_first():  # it tries budgets out, and clears away what a killed run was writing
        budget = runtime.tokens_per_batch
        tokens_per_batch = _remembered_budget(missing[0][1], fitting) if budget == "auto" else budget
        folders = [folder for _, folder in missing]
        rows_per_shard = rows_per_shard_of(folders, otherwise=runtime.rows_per_shard)
        stores = [
            store_for(store, folder, projector.proj_dim)
            for (store, folder), projector in zip(missing, projectors.projectors, strict=True)
        ]
    batches = Batches(tokens_per_batch, pad_token_id=shared.pad_token_id, device=runtime.device, announce=say)
    with progress_bar(shared.kind.replace("_", " "), total=len(rows) * len(checkpoints)) as advance:
        finished = fill_stores(
            stores, rows, features_at, split=projectors.split, batches=batches, advance=advance, team=team
        )
    lengths = lengths_of(rows)
    n_computed = tokens_to_compute(lengths, row_hashes, [store.donors for store in stores])
    flops_a_token = len(checkpoints) * training_flops(load_model().num_parameters(), 1)
    made = {
        "n_rows": len(rows),
        "n_checkpoints": len(checkpoints),
        "flops": flops_a_token * n_computed,  # of the one pass, in the record of each store that it served
        **_cost_of_copies(stores, flops_a_token * (int(lengths.sum()) - n_computed)),
    }
    return [made | {"excluded": len(store.excluded)} for store in finished]


def _projector(projection: Configured, checkpoints: Mapping[int, Path]) -> Projector:
    """A projector; one that depends on the parameters' names and sizes is told where to read them."""
    made = projection.make()
    return made(next(iter(checkpoints.values()))) if isinstance(made, functools.partial) else made


def _remembered_budget(folder: Path, choose: Callable[[], int]) -> int:
    """Choose a token budget, or keep the one that a stopped run chose: other batches round otherwise."""
    file = folder / "tokens_per_batch.json"
    if not file.exists():
        write_json(file, {"tokens_per_batch": choose()})
    chosen = read_json(file).get("tokens_per_batch")
    if type(chosen) is not int or chosen < 1:
        raise DamagedFileError(
            f"{file}: 'tokens_per_batch' must be a whole number above 0, it is {chosen!r:.80}; delete the file"
        )
    return chosen


def _cost_of_copies(stores: Sequence[StoreInProgress], flops: float) -> dict[str, Any]:
    """What copied rows had cost: their arithmetic, and seconds at the pace of the stores they are from."""
    if not flops:
        return {}
    of_donors = [read_complete(donor.store.root) for store in stores for donor in store.donors]
    spent = [(donor["seconds"], donor["record"]["flops"]) for donor in of_donors]
    copied = [donor["record"]["copied"] for donor in of_donors if "copied" in donor["record"]]
    spent += [(before["seconds"], before["flops"]) for before in copied]
    seconds, done = map(sum, zip(*spent, strict=True))
    # Stores that older code filled beside others do not tell their arithmetic.
    return {"copied": {"seconds": flops * seconds / done if done else 0.0, "flops": flops}}
