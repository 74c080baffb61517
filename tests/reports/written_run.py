"""A finished run's folder, in which nothing was computed and some texts are hostile."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml

from lessexp.data.rows import Row, write_rows
from lessexp.reports.results import selection_summary, write_results

HOSTILE = ["<script>window.pwned=1</script>", '"><img src=x onerror="window.pwned=1">', "{{ 7 * 7 }} & </textarea>"]
SUBTASKS = ["sums", "a/b <i>odd</i>"]


def make_pool(n: int) -> list[Row]:
    """Rows of three data sets whose answers are of many lengths; the first three hold what a page must not run."""
    texts = HOSTILE + [f"question {i}" for i in range(3, n)]
    return [
        Row(
            ("sums", "words", HOSTILE[1])[i % 3],
            f"row-{i}",
            (("user", text), ("assistant", text[:1] * (1 + i * i % 997))),
        )
        for i, text in enumerate(texts)
    ]


TARGET = [Row("sums", f"target-{name}", (("user", HOSTILE[0]), ("assistant", "1")), "toy", name) for name in SUBTASKS]


def results_of(pool: list[Row], selected: list[Row], *, selector: str, seed: int) -> dict[str, Any]:
    models = {
        name: {
            "mean": mean,
            "interval": [mean - 0.5, mean + 0.5],
            "mean_of_rows": mean,
            "by_subtask": {subtask: mean for subtask in SUBTASKS},
            "interval_by_subtask": {subtask: [mean - 1, mean + 1] for subtask in SUBTASKS},
        }
        for name, mean in {"base": 3.0, "tuned": 1.0, "change": -2.0}.items()
    }
    costs = {"seconds": 5.0, "peak_memory_bytes": 10**9, "bytes_written": 10**6, "flops": 1e12, "artifacts": {}}
    return {
        "selector": selector,
        "model": "tiny",
        "selection_model": "tiny",
        "task": "toy",
        "seed": seed,
        "fraction": 0.4,
        "metrics": {"score": models},
        "selection": selection_summary(pool, selected, TARGET) | {"n_excluded": 0, "n_copies": 0},
        "stages": {"select": costs, "evaluate": costs},
        "held_out": True,
        "leaks": {"pool": 2, "selected": 1},
        "versions": {"lessexp": "1", "torch": "2.13.0"},
        "git_commit": "abc-dirty",
    }


def write_run(
    folder: Path, *, n_pool: int = 30, n_selected: int = 12, selector: str = "less", seed: int = 0, settings=()
) -> Path:
    """A finished run in which nothing was computed.

    With ``less``, scores fall from 1 to 0 in the order of the pool; any other selector adds noise to that. The second
    subtask's scores are those of the first times -1.
    """
    (folder / ".hydra").mkdir(parents=True)
    pool = make_pool(n_pool)
    ids = [row.example_id for row in pool]
    rng = np.random.default_rng(seed)
    score = np.linspace(1, 0, n_pool, dtype=np.float32) + (0 if selector == "less" else rng.random(n_pool))
    by_subtask = {SUBTASKS[0]: score, SUBTASKS[1]: -score}
    columns = {"example_id": ids, "dataset": [row.dataset for row in pool], "score": score.astype(np.float32)}
    pyarrow.parquet.write_table(
        pa.table(columns | {name: values.astype(np.float32) for name, values in by_subtask.items()}),
        folder / "scores.parquet",
    )
    if selector == "less":
        parts = {name: np.tile(values / 2, 2).astype(np.float32) for name, values in by_subtask.items()}
        epochs = {"checkpoint": [1] * n_pool + [2] * n_pool, "example_id": ids * 2}
        pyarrow.parquet.write_table(pa.table(epochs | parts), folder / "scores_by_checkpoint.parquet")
    selected = [pool[place] for place in np.argsort(-score, kind="stable")[:n_selected]]
    write_rows(folder / "selected.jsonl", selected)
    write_rows(folder / "target.jsonl", TARGET)
    with (folder / "predictions.jsonl").open("w") as file:
        for model, value in (("base", 0.25), ("tuned", 0.5)):
            for i in range(4):
                answer = {"example_id": f"q-{i}", "subtask": SUBTASKS[i % 2], "answer": HOSTILE[i % 3]}
                file.write(json.dumps({"model": model, "reference": "1", "score": value * (i != 3)} | answer) + "\n")
    write_results(folder, results_of(pool, selected, selector=selector, seed=seed))
    overrides = [f"selector={selector}", f"seed={seed}", "logger.api_key=hunter2", *settings]
    hydra = {"job": {"config_name": "config"}, "runtime": {"config_sources": []}}
    config = {"seed": seed, "logger": {"api_key": "hunter2"}, "benchmark": {"max_new_tokens": 24}, "text": HOSTILE}
    for name, content in {"overrides": overrides, "hydra": {"hydra": hydra}, "config": config}.items():
        (folder / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder
