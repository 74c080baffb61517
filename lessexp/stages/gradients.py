"""gradients: features of every pool row (Γ) and every target row (∇ℓ) at every warm-up checkpoint."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from peft import PeftModel

from lessexp.data.tokenize import TokenizedRow, collate, sort_by_length, split_by_tokens
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore, require_directions
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.per_example import GradientFeatures
from lessexp.models.lora import copy_into
from lessexp.stages.cost import training_flops
from lessexp.stages.experiment import Experiment, instantiate
from lessexp.stages.progress import progress_bar
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint


def _fill(
    writer: DatastoreWriter,
    rows: Sequence[TokenizedRow],
    features_at: Callable[[Path], GradientFeatures],
    *,
    checkpoints: Sequence[Path],
    tokens_per_batch: int,
    pad_token_id: int,
    device: str,
    advance: Callable[[int], None],
) -> None:
    """Compute the shards that are missing; ``rows`` are in the store's order."""
    for checkpoint, folder in zip(writer.manifest.checkpoints, checkpoints, strict=True):
        missing = list(writer.missing_shards(checkpoint))
        advance((writer.manifest.n_shards - len(missing)) * writer.manifest.rows_per_shard)
        if not missing:
            continue
        features = features_at(folder)
        for shard in missing:
            blocks = []
            for group in split_by_tokens(writer.manifest.of_shard(shard, rows), tokens_per_batch):
                batch = collate(group, pad_token_id=pad_token_id).to(device)
                blocks.append(features.compute(batch))
                advance(len(group))
            writer.write_shard(checkpoint, shard, torch.cat(blocks))


def _build_store(
    experiment: Experiment,
    load_model: Callable[[], PeftModel],
    folder: Path,
    rows: list[TokenizedRow],
    *,
    fields: dict[str, Any],
    direction: DictConfig,
    subtask_of: dict[str, str] | None,
    description: str,
) -> dict[str, Any]:
    cfg = experiment.cfg
    rows = sort_by_length(rows)
    checkpoints = checkpoints_in(Path(cfg.paths.warmup))
    projector = instantiate(cfg.projection)
    manifest = Manifest(
        example_ids=[row.example_id for row in rows],
        checkpoints=[int(path.name.removeprefix("epoch=")) for path in checkpoints],
        proj_dim=projector.proj_dim,
        dtype=cfg.datastore.dtype,
        rows_per_shard=cfg.datastore.rows_per_shard,
        provenance=fields,
        subtasks=[subtask_of[row.example_id] for row in rows] if subtask_of else None,
    )
    model = load_model()

    def features_at(checkpoint_folder: Path) -> GradientFeatures:
        checkpoint = read_checkpoint(checkpoint_folder)
        copy_into(model, checkpoint.adapter)
        return GradientFeatures(model, projector, instantiate(direction, checkpoint))

    with progress_bar(description, total=len(rows) * len(checkpoints)) as advance:
        writer = DatastoreWriter(folder, manifest)
        _fill(
            writer,
            rows,
            features_at,
            checkpoints=checkpoints,
            tokens_per_batch=cfg.gradients.tokens_per_batch,
            pad_token_id=experiment.selection_model.tokenizer.pad_token_id,
            device=experiment.device,
            advance=advance,
        )
        store = writer.finish()
    n_tokens = len(checkpoints) * sum(len(row.input_ids) for row in rows)
    return {
        "n_rows": len(rows),
        "n_checkpoints": len(checkpoints),
        "excluded": len(store.excluded),
        "flops": training_flops(model.num_parameters(), n_tokens),
    }


def run(experiment: Experiment) -> dict[str, Any]:
    """Build both stores or take those that are there."""
    cfg = experiment.cfg
    target_rows, _ = experiment.tokenize(experiment.target, experiment.selection_model)

    @cache
    def load_model() -> PeftModel:
        # Loaded at most once; each checkpoint's adapter is copied into it.
        return experiment.selection_model.load_with_adapter(seed=cfg.seed)

    target = experiment.build(
        "target_gradients",
        experiment.target_gradient_fields,
        lambda folder: _build_store(
            experiment,
            load_model,
            folder,
            target_rows,
            fields=experiment.target_gradient_fields,
            direction=cfg.gradients.target_direction,
            subtask_of={row.example_id: row.subtask for row in experiment.target},
            description="target gradients",
        ),
    )
    require_directions(GradientDatastore.open(target.folder, provenance=experiment.target_gradient_fields))
    pool = experiment.build(
        "pool_gradients",
        experiment.pool_gradient_fields,
        lambda folder: _build_store(
            experiment,
            load_model,
            folder,
            experiment.tokenized_pool,
            fields=experiment.pool_gradient_fields,
            direction=cfg.gradients.direction,
            subtask_of=None,
            description="pool gradients",
        ),
    )
    GradientDatastore.open(pool.folder, provenance=experiment.pool_gradient_fields)
    return {"artifacts": {"target_gradients": target, "pool_gradients": pool}}
