"""Runs that are finished, so that a sweep that was stopped runs only what is missing."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lessexp.identity import hash_of
from lessexp.reports.results import RESULTS_FILE, read_results
from lessexp.stages.configuration import ExperimentError

_ALTERS_NO_RESULT = ("paths", "resume", "device", "trainer", "logger", "artifacts_dir", "cache_dir", "preparation")


def settings_key(cfg: DictConfig) -> str:
    """Hash of all settings that may alter a run's results, so that two runs can be told to be the same."""
    settings = OmegaConf.to_container(cfg)  # references as they are written; what they refer to is in it too
    return hash_of({name: value for name, value in settings.items() if name not in _ALTERS_NO_RESULT})


def is_finished(cfg: DictConfig, run_folder: Path) -> bool:
    """Whether this run is asked to be resumed and has nothing left to do.

    Raises:
        ExperimentError: the folder holds a finished run, but of other settings, or it is not to be resumed.
    """
    if not (run_folder / RESULTS_FILE).exists():
        return False
    if not cfg.resume:
        raise ExperimentError(
            f"{run_folder} holds a finished run; set hydra.run.dir (hydra.sweep.dir in a sweep) to another folder, "
            "or resume=true to keep what is finished"
        )
    if read_results(run_folder).get("settings_key") != settings_key(cfg):
        raise ExperimentError(
            f"{run_folder} holds a finished run of other settings; set hydra.run.dir (hydra.sweep.dir in a sweep) "
            "to another folder"
        )
    return True
