"""select: score the pool, cut, write ``scores.parquet`` and ``selected.jsonl``."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch

from lessexp.data.arrow_rows import datasets_of
from lessexp.data.bad_rows import BAD_ROW_SCHEMA
from lessexp.data.rows import Row, write_rows
from lessexp.files import written_whole
from lessexp.reports import tracking
from lessexp.reports.results import selection_summary
from lessexp.reports.selection_figures import composition_figure, score_figure
from lessexp.selection.base import Scores, Selector
from lessexp.selection.copies import without_copies
from lessexp.selection.top_k import aggregated_and_ranked, rows_won, tied_with_others
from lessexp.stages.checkpoints import checkpoint_folders
from lessexp.stages.configuration import ExperimentError, instantiate
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import say
from lessexp.stages.training_steps import check_learning_rate


def _score_table(scores: Scores, score: torch.Tensor, datasets: dict[str, str]) -> pa.Table:
    columns: dict[str, Any] = {
        "example_id": scores.example_ids,
        "dataset": [datasets[example_id] for example_id in scores.example_ids],
        "score": score.numpy(),
    }
    columns |= {name: scores.by_subtask[:, index].numpy() for index, name in enumerate(scores.subtasks)}
    return pa.table(columns)


def _checkpoint_table(scores: Scores, epochs: Sequence[int]) -> pa.Table:
    """One line for each checkpoint and example, so that any other aggregation starts from here."""
    columns: dict[str, Any] = {
        "checkpoint": [epoch for epoch in epochs for _ in scores.example_ids],
        "example_id": scores.example_ids * len(epochs),
    }
    flat = scores.by_checkpoint.flatten(0, 1)
    columns |= {name: flat[:, index].numpy() for index, name in enumerate(scores.subtasks)}
    return pa.table(columns)


def _excluded_table(reasons: dict[str, str], bad_rows: pa.Table) -> pa.Table:
    """Rows that were read and cannot be selected, then those that could not be read, with their file and line."""
    nothing = [None] * len(reasons)
    columns = [list(reasons), list(reasons.values()), nothing, nothing]
    return pa.concat_tables([pa.table(columns, schema=BAD_ROW_SCHEMA), bad_rows])


def _write_table(table: pa.Table, path: Path) -> None:
    with written_whole(path) as partial:
        pyarrow.parquet.write_table(table, partial)


_ONE_SUBTASK_RULES = 0.8  # share of the picks from which a warning is due


def _warn_if_one_subtask_rules(scores: Scores, selected: Sequence[str]) -> None:
    place = {example_id: index for index, example_id in enumerate(scores.example_ids)}
    won = rows_won(scores.by_subtask[[place[example_id] for example_id in selected]])
    share, name = won.max().item() / len(selected), scores.subtasks[int(won.argmax())]
    if len(scores.subtasks) > 1 and share > _ONE_SUBTASK_RULES:
        say(
            f"warning: {share:.0%} of the selected rows score highest for '{name}', one of "
            f"{len(scores.subtasks)} subtasks; aggregate=round_robin or aggregate=balanced lets the others pick too"
        )


def _warn_of_ties(scores: Scores, score: torch.Tensor, selected: Sequence[str], copies: Collection[str]) -> None:
    is_selected, is_copy = (
        torch.tensor([example_id in ids for example_id in scores.example_ids]) for ids in (set(selected), copies)
    )
    # Where subtasks take turns, rows of equal scores have different places.
    tied = [tied_with_others(values, is_selected, is_copy) for values in (score[:, None], scores.by_subtask)]
    n_tied = int((tied[0] | tied[1]).sum())
    if n_tied:
        say(
            f"warning: {n_tied:,} of the {len(selected):,} selected rows have no score of their own: rows that were "
            "not selected score the same, and ties are broken by the seed"
        )


_N_LOGGED = 100  # rows; a tracker's table is for looking at, selected.jsonl has all


def _log_selected(experiment: Experiment, scores: Scores, score: torch.Tensor, selected: Sequence[Row]) -> None:
    """Show trackers the best rows: what they are and score, and their texts where these may leave the machine."""
    if not experiment.loggers:
        return
    chosen = {row.example_id for row in selected}
    is_selected = [example_id in chosen for example_id in scores.example_ids]
    composition = composition_figure(datasets_of(experiment.pool), datasets_of(selected))
    tracking.log_figure(experiment.loggers, "composition", composition)
    tracking.log_figure(experiment.loggers, "scores", score_figure(score.tolist(), is_selected))
    shared = experiment.cfg.logger.share_rows
    place = {example_id: index for index, example_id in enumerate(scores.example_ids)}
    lines = []
    for row in selected[:_N_LOGGED]:
        at = place[row.example_id]
        line = [row.example_id, row.dataset, score[at].item(), *scores.by_subtask[at].tolist()]
        text = "\n".join(f"{role}: {content}" for role, content in row.messages)
        lines.append([*line, text] if shared else line)
    columns = ["example_id", "dataset", "score", *scores.subtasks]
    tracking.log_table(experiment.loggers, "selected", [*columns, "text"] if shared else columns, lines)
    if shared:
        tracking.log_file(experiment.loggers, "selected", experiment.selected_file)


def run(experiment: Experiment) -> dict[str, Any]:
    """Score and cut.

    Raises:
        ExperimentError: no row of the pool can be scored, or too few are left to train on.
    """
    cfg, folder = experiment.cfg, experiment.run_folder
    selector: Selector = instantiate(cfg.selector.scorer)
    pool = experiment.pool
    scores = selector.score(experiment.usable_pool, experiment.target).in_order_of(pool.ids)
    if not scores.example_ids:
        example_id, reason = next(iter(scores.excluded.items()))
        raise ExperimentError(
            f"none of the {len(experiment.usable_pool)} pool rows can be scored; the first, '{example_id}': {reason}"
        )
    aggregate = instantiate(cfg.aggregate)
    score, ranked = aggregated_and_ranked(scores.by_subtask, scores.example_ids, aggregate, seed=cfg.seed)
    place = {example_id: index for index, example_id in enumerate(pool.ids)}
    best_first = (pool[place[example_id]] for example_id in ranked)
    chosen, original_of = without_copies(best_first, instantiate(cfg.dedup), k=experiment.n_selected)
    if len(chosen) < experiment.n_selected:
        left = f"{len(chosen)} rows are selected, not {experiment.n_selected}"
        say(f"warning: {left}; the others are copies or cannot be scored, see excluded.parquet")
        if "finetune" in cfg.selector.stages:  # the preflight could not know
            check_learning_rate("finetune", cfg.finetune.training, len(chosen))
    _warn_if_one_subtask_rules(scores, chosen)
    _warn_of_ties(scores, score, chosen, original_of)
    selected = pool.select([place[example_id] for example_id in chosen])
    datasets = dict(zip(pool.ids, datasets_of(pool), strict=True))
    _write_table(_score_table(scores, score, datasets), folder / "scores.parquet")
    if scores.by_checkpoint is not None:
        table = _checkpoint_table(scores, list(checkpoint_folders(cfg)))
        _write_table(table, folder / "scores_by_checkpoint.parquet")
    copies = {name: f"a copy of '{original}', which scores higher" for name, original in original_of.items()}
    excluded = _excluded_table(experiment.unusable | scores.excluded | copies, experiment.pool_read[1])
    _write_table(excluded, folder / "excluded.parquet")
    write_rows(experiment.selected_file, selected)
    _log_selected(experiment, scores, score, selected)
    summary = selection_summary(experiment.pool, selected, experiment.target)
    return {"selection": summary | {"n_excluded": excluded.num_rows, "n_copies": len(copies)}}
