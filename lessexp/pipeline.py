"""The stages of a run in their order, each measured."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.artifacts import Artifact
from lessexp.reports import tracking
from lessexp.stages import evaluate, finetune, gradients, report, select, warmup
from lessexp.stages.cost import bytes_in, measure
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import quieten_libraries, say

STAGES: Mapping[str, Callable[[Experiment], dict[str, Any]]] = {
    "warmup": warmup.run,
    "gradients": gradients.run,
    "select": select.run,
    "finetune": finetune.run,
    "evaluate": evaluate.run,
    "report": report.run,
}


def run(cfg: DictConfig, run_folder: Path) -> None:
    """Check the experiment, then run its selector's stages.

    Args:
        cfg: the composed configuration.
        run_folder: gets this run's files; one record a stage lies under ``stages/``.
    """
    quieten_libraries()
    experiment = Experiment(cfg, run_folder)
    experiment.check()
    experiment.set_artifact_paths()
    dropped = experiment.tokenized_pool[1]
    if dropped:
        say(f"{len(dropped)} of {len(experiment.pool)} pool rows hold nothing to learn, see excluded.parquet")
    try:
        for name in cfg.selector.stages:
            _run_stage(name, experiment)
    finally:
        tracking.close(experiment.loggers)


def _run_stage(name: str, experiment: Experiment) -> None:
    say(f"── {name}")
    before = bytes_in(experiment.run_folder)
    with measure() as cost:
        record = STAGES[name](experiment)
    record |= {
        "seconds": cost.seconds,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "bytes_written": bytes_in(experiment.run_folder) - before,
    }
    record.setdefault("flops", 0)
    artifact = record.get("artifact")
    if isinstance(artifact, Artifact):
        record |= {"artifact": artifact.key, "reused": artifact.reused, "built_in_seconds": artifact.seconds}
        record["bytes_written"] += 0 if artifact.reused else bytes_in(artifact.folder)
        record["flops"] = 0 if artifact.reused else record["flops"]
    folder = experiment.run_folder / "stages"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
