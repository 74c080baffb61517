"""report: the page, the tables on the terminal and what ``results.json`` will hold, from what the stages wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lessexp.data.rows import write_rows
from lessexp.files import read_json, written_whole
from lessexp.reports import tracking
from lessexp.reports.results import device_name, git_commit, package_versions
from lessexp.reports.run_page import PAGE_FILE, TARGET_FILE, run_page
from lessexp.reports.tables import report_tables
from lessexp.stages.experiment import Experiment
from lessexp.stages.finished import model_identities
from lessexp.stages.preparation import pool_counts
from lessexp.stages.progress import console, say

_COSTS = ("seconds", "peak_memory_bytes", "bytes_written", "flops", "artifacts")

_NOTHING_JUDGED: Mapping[str, Any] = {
    "metrics": {},
    "higher_is_better": {},
    "n_rows": 0,
    "not_judged": {},
    "held_out": None,
    "leaks": None,
}


def run(experiment: Experiment) -> dict[str, Any]:
    """Collect, show, write, log; ``results.json``, which says that a run is finished, is left to the run's end."""
    cfg = experiment.cfg
    stages = [name for name in cfg.selector.stages if name != "report"]
    records = {name: read_json(experiment.run_folder / "stages" / f"{name}.json") for name in stages}
    judged = records.get("evaluate", _NOTHING_JUDGED)
    results = {
        "selector": cfg.selector.name,
        "model": cfg.model.name,
        "selection_model": cfg.selection_model.name,
        "task": experiment.target[0].task,
        "seed": cfg.seed,
        "fraction": cfg.selector.fraction,
        "settings_key": experiment.settings_key,
        "pool": pool_counts(experiment.pool, cfg),
        "data": experiment.data_fingerprints,
        "models": model_identities(experiment),
        "metrics": judged["metrics"],
        "higher_is_better": judged["higher_is_better"],
        "selection": records["select"]["selection"],
        "stages": {name: {cost: record[cost] for cost in _COSTS} for name, record in records.items()},
        "test_rows": {"judged": judged["n_rows"], "not_judged": len(judged["not_judged"])},
        "held_out": judged["held_out"],
        "leaks": judged["leaks"],
        "device": device_name(experiment.device),
        "versions": package_versions(),
        "git_commit": git_commit(Path(__file__).parent),
    }
    for table in report_tables(results):
        console.print(table)
    say(f"selected rows: {experiment.selected_file}")
    write_rows(experiment.run_folder / TARGET_FILE, experiment.target)
    page = run_page(
        experiment.run_folder,
        results,
        lengths={row.example_id: row.answer_length for row in experiment.pool},
        target=experiment.target,
        questions=experiment.benchmark.questions() if "evaluate" in records else {},
    )
    with written_whole(experiment.run_folder / PAGE_FILE) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")  # a path need not be Unicode
    metrics = tracking.flat_metrics({key: results[key] for key in ("metrics", "selection", "stages")})
    tracking.log_metrics(experiment.loggers, metrics)
    rows = [
        [metric, subtask, models["base"]["by_subtask"][subtask], models["tuned"]["by_subtask"][subtask]]
        for metric, models in results["metrics"].items()
        for subtask in models["base"]["by_subtask"]
    ]
    tracking.log_table(experiment.loggers, "results", ["metric", "subtask", "base", "tuned"], rows)
    return {"results": results}
