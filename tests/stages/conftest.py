import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel

from lessexp.data.rows import write_rows
from lessexp.data.tokenize import TokenizedRow
from lessexp.stages import warmup
from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.composition import compose_config as compose_config_of_the_package
from lessexp.stages.configuration import training_settings
from lessexp.stages.experiment import Experiment
from lessexp.stages.preflight import check_settings, preflight
from lessexp.training.fit import fit
from lessexp.training.trainer import Engine
from tests.conftest import make_rows

CONF = Path(__file__).parents[2] / "conf"
# The demo's recipe on the tiny model and a file of rows: the real configuration, shrunk.
SHRUNK = [
    "model=hf",
    "recipe=smollm2_135m",
    "data=jsonl",
    "target=jsonl",
    "logger=none",
    "proj_dim=512",
    "fraction=0.25",
    "warmup.fraction=0.5",
    "warmup.training.batch_size=4",
    "warmup.training.epochs=2",
    "finetune.training.batch_size=4",
    "finetune.training.epochs=1",
    "datastore.rows_per_shard=7",
    "max_length=200",
]


def compose_from(*overrides: str) -> DictConfig:
    """The shipped configuration with overrides."""
    return compose_config_of_the_package(overrides)


def keys_of(node: DictConfig, above: str = "") -> list[str]:
    """Every key of a configuration, of groups and of values, but for the names of what to import."""
    keys = [key for key in node if key != "_target_"]
    inside = [keys_of(node[key], f"{above}{key}.") for key in keys if OmegaConf.is_dict(node._get_node(key))]
    return [f"{above}{key}" for key in keys] + [key for some in inside for key in some]


@pytest.fixture
def compose_config(tmp_path: Path, model_folder: Path) -> Callable[..., DictConfig]:
    """The shrunk configuration with more overrides."""
    write_rows(tmp_path / "pool.jsonl", make_rows(24))
    write_rows(tmp_path / "target.jsonl", make_rows(5, prefix="target", target=True))

    def make(*overrides: str) -> DictConfig:
        places = [
            f"model.path={model_folder}",
            f"artifacts_dir={tmp_path / 'artifacts'}",
        ]
        if not any(override.startswith("data=") for override in overrides):
            places.append(f"data.paths=[{tmp_path / 'pool.jsonl'}]")
        if not any(override.startswith(("target=", "target.")) for override in overrides):
            places.append(f"target.path={tmp_path / 'target.jsonl'}")
        return compose_from(*SHRUNK, *places, *overrides)

    return make


@pytest.fixture
def make_experiment(compose_config: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., Experiment]:
    """A checked experiment, ready for its first stage."""

    def make(*overrides: str, run: str = "run") -> Experiment:
        folder = tmp_path / run
        folder.mkdir(exist_ok=True)
        experiment = Experiment(compose_config(*overrides), folder)
        check_settings(experiment)
        preflight(experiment)
        set_artifact_paths(experiment)
        return experiment

    return make


@pytest.fixture
def built_warmup(make_experiment: Callable[..., Experiment], tmp_path: Path) -> Path:
    """A warm-up's checkpoints, copied out of the artifacts."""
    experiment = make_experiment(run="warmup")
    warmup.run(experiment)
    return shutil.copytree(experiment.cfg.paths.warmup, tmp_path / "checkpoints")


def train_alone(experiment: Experiment, rows: list[TokenizedRow], training: DictConfig, folder: Path) -> PeftModel:
    """What a fresh adapter becomes by training on these rows and on nothing else, without the stages."""
    model = experiment.model.load_with_adapter(seed=experiment.cfg.seed)
    fit(
        model,
        rows,
        training_settings(training),
        micro_batch_size=experiment.cfg.micro_batch_size,
        pad_token_id=experiment.model.tokenizer.pad_token_id,
        seed=experiment.cfg.seed,
        log_prefix="alone",
        engine=Engine("cpu"),
        loggers=[],
        log_folder=folder,
    )
    return model


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
