"""gradients: features of every pool row (Γ) and every target row (∇ℓ) at every warm-up checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from omegaconf import DictConfig
from peft import PeftModel

from lessexp.artifacts import Artifact, Order
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of, sort_by_length
from lessexp.files import read_json, write_json
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore, require_directions
from lessexp.gradients.filling import StoreInProgress, donors_of, fill_stores, tokens_to_compute
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.memory import Batches, tokens_that_fit
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import ProjectorStack
from lessexp.models.lora import copy_into
from lessexp.stages.checkpoints import checkpoint_folders, checkpoint_hashes
from lessexp.stages.configuration import instantiate
from lessexp.stages.cost import training_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import progress_bar, say
from lessexp.stages.store_settings import StoreSettings
from lessexp.training.checkpoint import read_checkpoint
from lessexp.wholeness import read_complete


@dataclass(frozen=True)
class Side:
    """What differs between pool and target.

    Attributes:
        kind: of artifact.
        rows: as the selection model reads them.
        direction: what is projected.
        fields: all that determines a store of these rows.
        subtask_of: by example id, for a target.
    """

    kind: str
    rows: ArrowSequence[TokenizedRow]
    direction: DictConfig
    fields: Callable[[StoreSettings], dict[str, Any]]
    subtask_of: Mapping[str, str] | None = None


def _sides(experiment: Experiment) -> tuple[Side, Side]:
    cfg = experiment.cfg
    target_rows, _ = experiment.tokenized_target
    target = Side(
        "target_gradients",
        target_rows,
        cfg.gradients.target_direction,
        experiment.target_gradient_fields,
        {row.example_id: row.subtask for row in experiment.target},
    )
    pool = Side("pool_gradients", experiment.tokenized_pool, cfg.gradients.direction, experiment.pool_gradient_fields)
    return target, pool


def _remembered_budget(orders: Sequence[Order], choose: Callable[[], int]) -> int:
    """Choose a token budget, or keep the one that a stopped run chose: other batches round otherwise."""
    file = orders[0].folder / "tokens_per_batch.json"
    if not file.exists():
        write_json(file, {"tokens_per_batch": choose()})
    return read_json(file)["tokens_per_batch"]


def _fill(
    experiment: Experiment, load_model: Callable[[], PeftModel], side: Side, orders: Sequence[Order]
) -> list[dict[str, Any]]:
    """Fill the stores ordered in one pass; the record of each."""
    cfg, device = experiment.cfg, experiment.device
    rows = sort_by_length(side.rows)
    checkpoints = checkpoint_folders(cfg)
    settings = {experiment.shelf.folder(side.kind, side.fields(store)): store for store in experiment.stores}
    projectors = ProjectorStack([instantiate(settings[order.folder].projection) for order in orders])

    def store_for(order: Order, proj_dim: int) -> StoreInProgress:
        manifest = Manifest(
            example_ids=rows.ids,
            checkpoints=list(checkpoints),
            proj_dim=proj_dim,
            dtype=settings[order.folder].dtype,
            rows_per_shard=cfg.datastore.rows_per_shard,
            provenance=dict(order.fields),
            checkpoint_hashes=checkpoint_hashes(checkpoints),
            row_hashes=rows.column("content_hash").to_pylist(),
            subtasks=[side.subtask_of[name] for name in rows.ids] if side.subtask_of else None,
        )
        donors = donors_of(order, manifest.checkpoint_hashes, reader=experiment.warmup_reader_fields)
        return StoreInProgress(DatastoreWriter(order.folder, manifest), donors)

    space = instantiate(cfg.space)

    def features_at(epoch: int) -> GradientFeatures:
        checkpoint = read_checkpoint(checkpoints[epoch])
        model = load_model()
        copy_into(model, checkpoint.parameters)
        return GradientFeatures(model, projectors, instantiate(side.direction, checkpoint), layers=space(model))

    def fitting() -> int:
        return tokens_that_fit(features_at(min(checkpoints)), rows, device=device)

    with experiment.team.leader_first():  # it tries budgets out, and clears away what a killed run was writing
        budget = cfg.gradients.tokens_per_batch
        tokens_per_batch = _remembered_budget(orders, fitting) if budget == "auto" else budget
        stores = [
            store_for(order, projector.proj_dim) for order, projector in zip(orders, projectors.projectors, strict=True)
        ]
    batches = Batches(
        tokens_per_batch,
        pad_token_id=experiment.selection_model.tokenizer.pad_token_id,
        device=device,
        announce=say,
    )
    with progress_bar(side.kind.replace("_", " "), total=len(rows) * len(checkpoints)) as advance:
        finished = fill_stores(
            stores,
            rows,
            features_at,
            split=projectors.split,
            batches=batches,
            advance=advance,
            team=experiment.team,
        )
    lengths = lengths_of(rows)
    row_hashes = rows.column("content_hash").to_pylist()
    n_computed = tokens_to_compute(lengths, row_hashes, [store.donors for store in stores])
    flops_a_token = len(checkpoints) * training_flops(load_model().num_parameters(), 1)
    made = {
        "n_rows": len(rows),
        "n_checkpoints": len(checkpoints),
        "flops": flops_a_token * n_computed,  # of the one pass, in the record of each store that it served
        **_cost_of_copies(stores, flops_a_token * (int(lengths.sum()) - n_computed)),
    }
    return [made | {"excluded": len(store.excluded)} for store in finished]


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


def _build(experiment: Experiment, load_model: Callable[[], PeftModel], side: Side) -> Artifact:
    """Build a side's stores or take those that are there; the run's own is returned."""
    own, *_ = experiment.shelf.build_in_one_go(
        side.kind,
        [side.fields(settings) for settings in experiment.stores],
        partial(_fill, experiment, load_model, side),
        team=experiment.team,
    )
    return own


def run(experiment: Experiment) -> dict[str, Any]:
    """Build both stores or take those that are there."""

    @cache
    def load_model() -> PeftModel:
        # Loaded at most once; each checkpoint's adapter is copied into it.
        return experiment.selection_model.load_with_adapter(seed=experiment.cfg.seed)

    own = experiment.stores[0]
    target_side, pool_side = _sides(experiment)
    target = _build(experiment, load_model, target_side)
    require_directions(GradientDatastore.open(target.folder, provenance=target_side.fields(own)))
    pool = _build(experiment, load_model, pool_side)
    GradientDatastore.open(pool.folder, provenance=pool_side.fields(own))
    return {"artifacts": {"target_gradients": target, "pool_gradients": pool}}
