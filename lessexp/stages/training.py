"""Training epoch by epoch in an artifact's folder, from the last epoch that is there: warm-up and final."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.files import remove_whole
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import say
from lessexp.stages.runtime import Runtime
from lessexp.stages.tuning import Tuning
from lessexp.training.checkpoint import checkpoints_in, contiguous, epoch_of, read_checkpoint, read_trainer_state
from lessexp.training.fit import fit
from lessexp.training.module import TrainingSettings


def train_epochs(
    model: Model,
    tuning: Tuning,
    rows: Sequence[TokenizedRow],
    training: TrainingSettings,
    *,
    seed: int,
    pad_token_id: int,
    folder: Path,
    log_prefix: str,
    keeps_all_checkpoints: bool,
    runtime: Runtime,
) -> dict[str, Any]:
    """Leave checkpoints of epochs in ``folder``; a stopped training resumes after the last one.

    If all checkpoints are to stay, that is the last before the first gap, and those after the gap are deleted.

    Args:
        model: that is trained.
        tuning: what of the model is trained.
        rows: what to train on.
        training: how.
        seed: of an adapter, row orders and dropout.
        pad_token_id: fills the ends of short rows.
        folder: gets the ``epoch=K`` folders.
        log_prefix: first part of the metric names.
        keeps_all_checkpoints: whether those of earlier epochs stay.
        runtime: where and how.

    Returns:
        The rows trained on, the optimizer steps and the arithmetic in FLOP, of all epochs.
    """
    engine = runtime.engine
    # Whole in the computer's memory where it is spread; a device gets its part.
    loaded = tuning.fresh(model, runtime.on("cpu") if engine.spreads_model else runtime, seed=seed)
    n_parameters = loaded.num_parameters()
    found = checkpoints_in(folder)
    done = contiguous(found) if keeps_all_checkpoints else found
    engine.team.meet()  # all have seen the same
    if engine.team.is_leader:
        for surplus in found[len(done) :]:
            say(f"{surplus}: deleted, for an earlier epoch is missing")
            remove_whole(surplus)
    if not done or epoch_of(done[-1]) < training.epochs:
        fit(
            loaded,
            rows,
            training,
            micro_batch_size=runtime.micro_batch_size,
            pad_token_id=pad_token_id,
            seed=seed,
            log_prefix=log_prefix,
            engine=engine,
            precision=tuning.precision(model),
            part=tuning.part,
            loggers=runtime.loggers,
            log_folder=runtime.log_folder,
            checkpoint_root=folder,
            keeps_all_checkpoints=keeps_all_checkpoints,
            resume_from=read_checkpoint(done[-1], part=tuning.part) if done else None,
        )
    engine.team.meet()
    last = read_trainer_state(checkpoints_in(folder)[-1])
    if last.epoch != training.epochs:
        raise RuntimeError(f"{folder} holds {last.epoch} of {training.epochs} epochs")
    engine.team.meet()  # from here on the leader may move them
    n_tokens = training.epochs * int(lengths_of(rows).sum())
    return {"n_rows": len(rows), "n_steps": last.step, "flops": tuning.flops(n_parameters, n_tokens)}
