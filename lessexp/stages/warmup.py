"""warmup: train an adapter on a random share of the pool, one checkpoint an epoch; or take checkpoints as they are."""

import json
from pathlib import Path
from typing import Any

from lessexp.artifacts import Artifact
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.pool import drawn
from lessexp.data.tokenize import TokenizedRow
from lessexp.files import written_whole
from lessexp.stages.configuration import training_settings
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import say
from lessexp.stages.training import train_epochs
from lessexp.stages.tuning import LoraTuning
from lessexp.training.imports import ImportedWarmup
from lessexp.training.untrained import write_untrained


def warmup_rows(rows: ArrowSequence[TokenizedRow], *, n: int, seed: int) -> ArrowSequence[TokenizedRow]:
    """A random subset in random order, drawn by the seed."""
    return drawn(rows, n_rows=n, seed=seed, purpose="warmup share")


def _import(experiment: Experiment, imported: ImportedWarmup) -> Artifact:
    """Convert another trainer's checkpoints or take those converted before."""

    def build(folder: Path) -> dict[str, Any]:
        model = experiment.warmup_model.load_with_adapter(seed=experiment.cfg.seed)
        n_checkpoints = imported.convert(model, folder, announce=lambda text: say(f"warmup: {text}"))
        say(f"warmup: {n_checkpoints} checkpoints of {imported.root} are imported")
        return {"n_checkpoints": n_checkpoints, "flops": 0}

    return experiment.shelf.build("warmup", experiment.warmup_fields, build)


def _untrained(experiment: Experiment) -> Artifact:
    """The adapter as it is before any training."""
    cfg = experiment.cfg

    def build(folder: Path) -> dict[str, Any]:
        model = experiment.warmup_model.load_with_adapter(seed=cfg.seed)
        write_untrained(folder, model, training_settings(cfg.warmup.training), seed=cfg.seed)
        return {"n_rows": 0, "flops": 0}

    return experiment.shelf.build("warmup", experiment.warmup_fields, build)


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the warm-up checkpoints or take those that are there."""
    cfg = experiment.cfg
    if experiment.imported_warmup:
        return {"artifacts": {"warmup": _import(experiment, experiment.imported_warmup)}}
    if cfg.warmup.path:
        say(f"warmup: the checkpoints of {cfg.warmup.path} are used")
        return {}
    if cfg.warmup.fraction == 0:
        return {"artifacts": {"warmup": _untrained(experiment)}}

    def build(folder: Path) -> dict[str, Any]:
        rows = warmup_rows(experiment.tokenized_pool, n=experiment.n_warmup, seed=cfg.seed)
        if experiment.team.is_leader:
            with written_whole(folder / "example_ids.json") as partial:
                partial.write_text(json.dumps(rows.ids) + "\n", encoding="utf-8")
        return train_epochs(
            experiment,
            experiment.warmup_model,
            rows,
            cfg.warmup.training,
            folder=folder,
            log_prefix="warmup",
            tuning=LoraTuning(),
            keeps_all_checkpoints=True,
        )

    built = experiment.shelf.build_by_all("warmup", experiment.warmup_fields, build, team=experiment.team)
    return {"artifacts": {"warmup": built}}
