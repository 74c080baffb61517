"""The stages of a run in their order, each measured."""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.artifacts import Built
from lessexp.data.counts import count_warnings
from lessexp.files import write_json
from lessexp.processes import ALONE, Team
from lessexp.reports import tracking
from lessexp.reports.results import by_key
from lessexp.stages import evaluate, finetune, gradients, proxy, report, representations, select, warmup
from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.composition import Command, write_settings
from lessexp.stages.configuration import instantiate, plain
from lessexp.stages.cost import bytes_in, measure
from lessexp.stages.credentials import refuse_credentials_in, without_environment
from lessexp.stages.experiment import Experiment
from lessexp.stages.finished import claim, finish, is_finished
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


def run(
    cfg: DictConfig,
    run_folder: Path,
    team: Team = ALONE,
    *,
    command: Command = Command(),  # noqa: B008  (frozen)
) -> Experiment:
    """Check the experiment, then run its selector's stages; another run in the same folder has to wait.

    Args:
        cfg: the composed configuration.
        run_folder: gets this run's files; one record a stage lies under ``stages/``.
        team: of processes that each call this with the same configuration and folder.
        command: that the configuration was composed for.

    Returns:
        The experiment, with the rows it has read.

    Raises:
        StorageError: a file cannot be written; the file, the folder and its key are named.
    """
    print_any_text()
    quieten_libraries()
    as_composed = copy.deepcopy(cfg)
    expand_home(cfg)
    with refusals_explained(cfg, run_folder), held(run_folder, announce=say) if team.is_leader else nullcontext():
        experiment = Experiment(cfg, run_folder, team)
        if team.from_leader(team.is_leader and is_finished(experiment)):
            say(f"{run_folder} is finished and stays as it is")
            return experiment
        if team.is_leader:
            write_settings(as_composed, command, run_folder)
        _run(experiment, command)
    return experiment


def _run(experiment: Experiment, command: Command) -> None:
    cfg, team = experiment.cfg, experiment.team
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
    team.meet()  # from here on the run folder changes
    if team.is_leader:
        claim(experiment)
    settings = without_environment(cfg) | {"overrides": by_key(command.overrides)}
    results: dict[str, Any] = {}
    for name in cfg.selector.stages:
        experiment.team = team if name in BY_ALL else ALONE
        if team.is_leader or name in BY_ALL:
            with tracking.tracked(make_loggers, stage=name, settings=settings) as experiment.loggers:
                results = _run_stage(name, experiment)
        team.meet()
    if team.is_leader and results:
        finish(experiment, results)


def _run_stage(name: str, experiment: Experiment) -> dict[str, Any]:
    """Run a stage and write its record; what a run's last file will hold is returned by the stage that collects it."""
    say(f"── {name}")
    before = bytes_in(experiment.run_folder)
    with measure() as cost:
        record = STAGES[name](experiment)
    artifacts: dict[str, Built] = record.pop("artifacts", {})
    results: dict[str, Any] = record.pop("results", {})
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
        return results
    write_json(experiment.run_folder / "stages" / f"{name}.json", record)
    costs = ("seconds", "peak_memory_bytes", "bytes_written", "flops")
    tracking.log_metrics(experiment.loggers, {f"cost/{cost}": record[cost] for cost in costs})
    return results
