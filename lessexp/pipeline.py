"""The stages of a run in their order, each measured."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lessexp.artifacts import Built
from lessexp.data.counts import count_warnings
from lessexp.files import write_json
from lessexp.processes import ALONE, Team
from lessexp.reports import tracking
from lessexp.reports.results import overrides_of
from lessexp.stages import evaluate, finetune, gradients, proxy, report, representations, select, warmup
from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.composition import settings_file
from lessexp.stages.configuration import instantiate, plain
from lessexp.stages.cost import bytes_in, measure
from lessexp.stages.credentials import CredentialError, refuse_credentials_in
from lessexp.stages.experiment import Experiment
from lessexp.stages.finished import is_finished
from lessexp.stages.forecast import announce_forecast
from lessexp.stages.home import expand_home
from lessexp.stages.preflight import check_settings, preflight
from lessexp.stages.preparation import pool_counts
from lessexp.stages.progress import quieten_libraries, say
from lessexp.stages.run_folder import held
from lessexp.stages.storage import refusals_explained
from lessexp.terminal import print_any_text

BY_ALL = {"warmup", "gradients", "representations", "finetune"}  # stages of all processes, not of the leader alone

STAGES: Mapping[str, Callable[[Experiment], dict[str, Any]]] = {
    "warmup": warmup.run,
    "proxy": proxy.run,
    "gradients": gradients.run,
    "representations": representations.run,
    "select": select.run,
    "finetune": finetune.run,
    "evaluate": evaluate.run,
    "report": report.run,
}


def run(cfg: DictConfig, run_folder: Path, team: Team = ALONE) -> Experiment:
    """Check the experiment, then run its selector's stages; another run in the same folder has to wait.

    Args:
        cfg: the composed configuration.
        run_folder: gets this run's files; one record a stage lies under ``stages/``.
        team: of processes that each call this with the same configuration and folder.

    Returns:
        The experiment, with the rows it has read.

    Raises:
        StorageError: a file cannot be written; the file, the folder and its key are named.
    """
    print_any_text()
    quieten_libraries()
    expand_home(cfg)
    with refusals_explained(cfg, run_folder), held(run_folder, announce=say) if team.is_leader else nullcontext():
        return _run(cfg, run_folder, team)


def _run(cfg: DictConfig, run_folder: Path, team: Team) -> Experiment:
    experiment = Experiment(cfg, run_folder, team)
    if team.from_leader(team.is_leader and is_finished(cfg, run_folder)):
        say(f"{run_folder} is finished and stays as it is")
        return experiment
    _refuse_written_credentials(cfg, run_folder)
    check_settings(experiment)  # before trackers look for their servers, which takes seconds
    make_loggers = instantiate(cfg.logger.loggers) if team.is_leader else []
    preflight(experiment)
    refuse_credentials_in(plain(cfg))
    set_artifact_paths(experiment)
    n_good, n_bad = map(len, experiment.pool_read)
    if n_bad:
        say(f"{n_bad:,} of {n_good + n_bad:,} rows could not be read and are skipped, see excluded.parquet")
    for warning in count_warnings(pool_counts(experiment.pool, cfg)):
        say(warning)
    if experiment.unusable:
        counts = f"{len(experiment.unusable)} of {len(experiment.pool)}"
        say(f"{counts} pool rows hold nothing to learn from and are left out, see excluded.parquet")
    announce_forecast(experiment)
    settings = plain(cfg) | {"overrides": overrides_of(run_folder)}
    team.meet()  # from here on the run folder changes
    for name in cfg.selector.stages:
        experiment.team = team if name in BY_ALL else ALONE
        if team.is_leader or name in BY_ALL:
            with tracking.tracked(make_loggers, stage=name, settings=settings) as experiment.loggers:
                _run_stage(name, experiment)
        team.meet()
    return experiment


def _refuse_written_credentials(cfg: DictConfig, run_folder: Path) -> None:
    """Check the settings as they stand; if a file has brought a token into them, what Hydra wrote of it goes."""
    try:
        refuse_credentials_in(OmegaConf.to_container(cfg))
    except CredentialError:
        shutil.rmtree(settings_file(run_folder).parent, ignore_errors=True)
        raise


def _run_stage(name: str, experiment: Experiment) -> None:
    say(f"── {name}")
    before = bytes_in(experiment.run_folder)
    with measure() as cost:
        record = STAGES[name](experiment)
    artifacts: dict[str, Built] = record.pop("artifacts", {})
    sizes = {kind: bytes_in(artifact.folder) for kind, artifact in artifacts.items()}
    built = {kind: artifact for kind, artifact in artifacts.items() if not artifact.reused}
    record |= {
        "seconds": cost.seconds,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "bytes_written": bytes_in(experiment.run_folder) - before + sum(sizes[kind] for kind in built),
        "flops": record.get("flops", 0) + sum(new.record["flops"] for new in built.values()),
        "artifacts": {
            kind: {
                "key": artifact.key,
                "reused": artifact.reused,
                "built_in_seconds": artifact.seconds,
                "bytes": sizes[kind],
            }
            | artifact.record
            for kind, artifact in artifacts.items()
        },
    }
    if not experiment.team.is_leader:
        return
    folder = experiment.run_folder / "stages"
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{name}.json", record)
    costs = ("seconds", "peak_memory_bytes", "bytes_written", "flops")
    tracking.log_metrics(experiment.loggers, {f"cost/{cost}": record[cost] for cost in costs})
