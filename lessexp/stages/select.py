"""select: score the pool, cut, write ``scores.parquet`` and ``selected.jsonl``."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch

from lessexp.data.rows import write_rows
from lessexp.reports.results import selection_summary
from lessexp.selection.base import Scores, Selector
from lessexp.selection.top_k import top_k
from lessexp.stages.configuration import instantiate
from lessexp.stages.experiment import Experiment


def _score_table(scores: Scores, score: torch.Tensor, datasets: dict[str, str]) -> pa.Table:
    columns: dict[str, Any] = {
        "example_id": scores.example_ids,
        "dataset": [datasets[example_id] for example_id in scores.example_ids],
        "score": score.numpy(),
    }
    columns |= {name: scores.by_subtask[:, index].numpy() for index, name in enumerate(scores.subtasks)}
    return pa.table(columns)


def _checkpoint_table(scores: Scores) -> pa.Table:
    """One line for each checkpoint and example, so that any other aggregation starts from here."""
    n_checkpoints, n_scored, _ = scores.by_checkpoint.shape
    columns: dict[str, Any] = {
        "checkpoint": [index + 1 for index in range(n_checkpoints) for _ in range(n_scored)],
        "example_id": scores.example_ids * n_checkpoints,
    }
    flat = scores.by_checkpoint.flatten(0, 1)
    columns |= {name: flat[:, index].numpy() for index, name in enumerate(scores.subtasks)}
    return pa.table(columns)


def _excluded_table(unusable: dict[str, str], scores: Scores) -> pa.Table:
    reasons = unusable | scores.excluded
    columns = {"example_id": list(reasons), "reason": list(reasons.values())}
    return pa.table(columns, schema=pa.schema([("example_id", pa.string()), ("reason", pa.string())]))


def run(experiment: Experiment) -> dict[str, Any]:
    """Score and cut."""
    cfg, folder = experiment.cfg, experiment.run_folder
    selector: Selector = instantiate(cfg.selector.scorer)
    scores = selector.score(experiment.usable_pool, experiment.target)
    score = instantiate(cfg.aggregate)(scores.by_subtask)
    pool = {row.example_id: row for row in experiment.pool}
    chosen = top_k(
        score,
        scores.example_ids,
        k=experiment.n_selected,
        pool_position={example_id: position for position, example_id in enumerate(pool)},
    )
    selected = [pool[example_id] for example_id in chosen]
    datasets = {example_id: row.dataset for example_id, row in pool.items()}
    pyarrow.parquet.write_table(_score_table(scores, score, datasets), folder / "scores.parquet")
    if scores.by_checkpoint is not None:
        pyarrow.parquet.write_table(_checkpoint_table(scores), folder / "scores_by_checkpoint.parquet")
    excluded = _excluded_table(experiment.unusable, scores)
    pyarrow.parquet.write_table(excluded, folder / "excluded.parquet")
    write_rows(experiment.selected_file, selected)
    summary = selection_summary(experiment.pool, selected, experiment.target)
    return {"selection": summary | {"n_excluded": excluded.num_rows}}
