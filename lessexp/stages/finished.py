"""Where a run begins and ends: what its folder must not hold before, and what ``results.json`` vouches for after.

``results.json`` is a run's last file, so a run that was stopped before it is unfinished, whatever else is there.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from lessexp.files import changed_files, hashes_of, read_json, write_json
from lessexp.identity import key_of
from lessexp.reports.checkpoints import CHECKPOINT_SCORES
from lessexp.reports.results import RESULTS_FILE, read_results, write_results
from lessexp.reports.run_page import PAGE_FILE, TARGET_FILE
from lessexp.stages.composition import read_settings
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import say
from lessexp.stages.storage import RUN_FOLDER

_STAGES = "stages"
_BEGUN = "settings_key.json"
_OF_STAGES = (
    _STAGES,
    "scores.parquet",
    CHECKPOINT_SCORES,
    "excluded.parquet",
    "selected.jsonl",
    "leaks.jsonl",
    "predictions.jsonl",
    TARGET_FILE,
    PAGE_FILE,
)


def is_finished(experiment: Experiment) -> bool:
    """Whether this run is asked to be resumed and has nothing left to do.

    Raises:
        ExperimentError: the folder holds a finished run, but of other settings, rows or models, or it is not to be
            resumed; or it holds an unfinished run of other settings.
        DamagedFileError: ``results.json`` cannot be read.
    """
    folder = experiment.run_folder
    if not (folder / RESULTS_FILE).exists():
        _refuse_another_begun(experiment)
        return False
    if not experiment.cfg.resume:
        raise ExperimentError(
            f"{folder} holds a finished run; set {RUN_FOLDER} to another folder, "
            "or resume=true to keep what is finished"
        )
    results = read_results(folder)
    if results.get("settings_key") != experiment.settings_key:
        raise ExperimentError(f"{folder} holds a finished run of other settings; set {RUN_FOLDER} to another folder")
    now = experiment.data_fingerprints | model_identities(experiment)
    then = results.get("data", {}) | results.get("models", {})  # older runs wrote down less
    if changed := [f"the {name}" for name, identity in then.items() if now.get(name) != identity]:
        raise ExperimentError(
            f"{folder} holds a finished run, but what it read has changed since: {', '.join(changed)}; "
            f"set {RUN_FOLDER} to another folder"
        )
    if damaged := changed_files(folder, results.get("files", {})):
        say(f"{folder} is finished but for what is missing or has changed: {', '.join(damaged)}; the run is done again")
    return not damaged


def _refuse_another_begun(experiment: Experiment) -> None:
    begun = experiment.run_folder / _BEGUN
    if begun.exists() and read_json(begun).get("settings_key") != experiment.settings_key:
        raise ExperimentError(
            f"{experiment.run_folder} holds an unfinished run of other settings; set {RUN_FOLDER} to another folder, "
            "or delete this one"
        )


def claim(experiment: Experiment) -> None:
    """Write down which settings the folder's files are going to be of, before the first of them."""
    (experiment.run_folder / _STAGES).mkdir(exist_ok=True)
    write_json(experiment.run_folder / _BEGUN, {"settings_key": experiment.settings_key})


def model_identities(experiment: Experiment) -> dict[str, str]:
    """What determines the models that a run reads, and the warm-up that a user gave: their files' content."""
    stages, read = experiment.cfg.selector.stages, {"model": experiment.model}
    if "warmup" in stages or "representations" in stages:
        read["selection model"] = experiment.whole_selection_model
    identities = {
        name: key_of([model.model, experiment.reader_of(model, max_length=experiment.cfg.max_length)])
        for name, model in read.items()
    }
    if "warmup" in stages and experiment.cfg.warmup.path:
        identities["warm-up"] = key_of(experiment.warmup)
    return identities


def finish(experiment: Experiment, results: Mapping[str, Any]) -> None:
    """Write ``results.json``, with the run's settings and the hashes of its files.

    Args:
        experiment: all of whose stages have run.
        results: what they found out.
    """
    folder = experiment.run_folder
    cfg, command = read_settings(folder)
    places = [folder / name for name in (*_OF_STAGES, experiment.tuning.folder_name)]
    files = (file for place in places for file in (place, *place.rglob("*")) if file.is_file())
    settings = {"settings": OmegaConf.to_container(cfg), "overrides": list(command.overrides)}
    write_results(folder, results | settings | {"files": hashes_of(files, within=folder)})
