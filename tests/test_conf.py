import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from lessexp.settings.validation import validate
from lessexp.stages.configuration import lora_settings, training_settings

ROOT = Path(__file__).parents[1]
PARTS = ("paper", "few_shot")  # what options are made of; no options themselves
PLUGINS = "hydra"  # options of Hydra's own, which need extras; tests of sweeps run with them
OPTIONS = [
    f"{file.parent.relative_to(ROOT / 'conf')}={file.stem}"
    for file in sorted((ROOT / "conf").glob("*/**/*.yaml"))
    if file.stem not in PARTS and PLUGINS not in file.parts
]


def companions(group: str, name: str) -> list[str]:
    """What an option goes with, where it needs another."""
    if group == "benchmark" and (ROOT / "conf" / "target" / f"{name}.yaml").is_file():
        return [f"target={name}"]
    return ["data=hf"] if group == "data/columns" else []


def swept_values(sweep: Path, *overrides: str) -> dict[str, list[str]]:
    """What a sweep's command runs over, by key, as overrides."""
    with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
        given = [f"hydra.searchpath=[file://{ROOT / 'conf'}]", *overrides]
        params = compose(sweep.stem, overrides=given, return_hydra_config=True).hydra.sweeper.params
        parsed = {key: OverridesParser.create().parse_override(f"{key}={values}") for key, values in params.items()}
    return {
        key: [f"{key}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [f"{key}={params[key]}"]
        for key, override in parsed.items()
    }


SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def composed(*overrides: str, folder: str = "conf", name: str = "config") -> DictConfig:
    with initialize_config_dir(str(ROOT / folder), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def values(node):
    """All leaves of a configuration; those a user must give are left out."""
    if isinstance(node, DictConfig):
        keys = [(node, key) for key in node]
    elif OmegaConf.is_list(node):
        keys = [(node, index) for index in range(len(node))]
    else:
        yield node
        return
    for parent, key in keys:
        try:
            child = parent[key]
        except (MissingMandatoryValue, InterpolationToMissingValueError):
            continue  # the user must give it
        yield from values(child)


def targets(node):
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node["_target_"]
        for key in node:
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
                yield from targets(node[key])
    elif OmegaConf.is_list(node):
        for item in node:
            yield from targets(item)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_resolves_and_its_targets_import(option):
    from hydra.utils import get_object

    group, name = option.split("=")
    cfg = composed(option, *companions(group, name))
    assert len(list(values(cfg))) > 50
    found = list(targets(cfg))
    assert found
    for target in found:
        assert callable(get_object(target)), target


def given(node):
    """Give a value to whatever a user must give."""
    for key in node:
        if OmegaConf.is_missing(node, key):
            node[key] = ["one"] if key in ("paths", "tasks") else "one"
        elif OmegaConf.is_dict(node._get_node(key)) and not OmegaConf.is_interpolation(node, key):
            given(node[key])
    return node


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_the_schema(option):
    validate(given(composed(option, *companions(*option.split("=")))))


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_composes(sweep):
    for size, recipe in (("paper", "less_pool"), ("mini", "paraphrased_rows")):
        cfg = composed(f"hydra.searchpath=[file://{ROOT / 'conf'}]", f"size={size}", folder="sweeps", name=sweep.stem)
        assert cfg.data._target_.endswith(recipe)
        assert list(targets(cfg))


@pytest.mark.parametrize("model", ["llama2_7b", "llama2_13b", "mistral_7b", "hf"])
def test_naming_a_large_model_brings_the_papers_recipe(model):
    cfg = composed("selector=less", f"model={model}")
    assert cfg.data._target_ == "lessexp.data.pool.less_pool"
    assert sum(cfg.data.counts.values()) == 270_679
    assert (cfg.target.task, cfg.target.path, cfg.target.repo_id) == ("mmlu", None, "cais/mmlu")
    assert cfg.benchmark._target_ == "lessexp.evaluation.few_shot.FewShotBenchmark"
    assert cfg.benchmark.answering._target_ == "lessexp.evaluation.mmlu.LikeliestLetter"
    assert (cfg.lora.rank, cfg.lora.alpha, cfg.lora.dropout) == (128, 512, 0.1)
    assert cfg.lora.target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"]
    for training in (cfg.warmup.training, cfg.finetune.training):
        assert (training.epochs, training.batch_size, training.learning_rate) == (4, 128, 2e-5)
        assert (training.schedule, training.warmup_ratio, training.weight_decay) == ("linear", 0.03, 0)
        assert training.max_grad_norm == 1.0
    assert (cfg.max_length, cfg.projection.proj_dim, cfg.fraction, cfg.warmup.fraction) == (2048, 8192, 0.05, 0.05)
    assert cfg.chat_format._target_.endswith("TuluFormat")
    assert cfg.selection_model == cfg.model


@pytest.mark.parametrize("size", ["paper", "mini"])
@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_every_value_that_a_sweep_runs_over_composes(sweep, size):
    values = swept_values(sweep, f"size={size}")
    assert len(list(itertools.product(*values.values()))) > 3
    given = [f"hydra.searchpath=[file://{ROOT / 'conf'}]", f"size={size}"]
    for key in values.keys() - {"seed"}:
        for value in values[key]:
            others = [found[-1] for other, found in values.items() if other != key]
            assert composed(*given, value, *others, folder="sweeps", name=sweep.stem)


def test_parts_of_the_recipe_can_be_exchanged():
    cfg = composed("model=llama2_7b", "data=jsonl", "data.paths=[a.jsonl]", "target=jsonl", "target.path=b.jsonl")
    assert cfg.data.paths == ["a.jsonl"]
    assert cfg.benchmark.path == "b.jsonl"
    assert cfg.lora.rank == 128
    assert composed("model=llama2_7b", "recipe=smollm2_135m").lora.rank == 16


@pytest.mark.parametrize(
    ("override", "expected"),
    [("data.counts=null", None), ("data.counts.dolly=null", None), ("data.counts={dolly:14996}", 14996)],
)
def test_expected_counts_can_be_changed_or_given_up(override, expected):
    counts = composed("model=llama2_7b", override).data.counts
    assert (counts and counts.dolly) == expected
    assert counts is None or counts.cot == 100_000


def test_a_local_path_is_also_the_selection_models():
    assert composed("model=llama2_7b", "model.path=/models/x").selection_model.path == "/models/x"


def test_settings_have_the_types_the_code_wants():
    cfg = composed()
    assert lora_settings(cfg).target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert training_settings(cfg.warmup.training).betas == (0.9, 0.999)


def test_single_values_of_the_papers_recipe_can_be_changed():
    cfg = composed("model=llama2_7b", "warmup.training.epochs=1", "finetune.training.batch_size=64")
    assert (cfg.warmup.training.epochs, cfg.finetune.training.epochs) == (1, 4)
    assert (cfg.warmup.training.batch_size, cfg.finetune.training.batch_size) == (128, 64)


def test_another_model_can_select():
    cfg = composed("model=llama2_13b", "selection_model=llama2_7b", "selection_model.path=/models/7b")
    assert cfg.selection_model.source.repo_id == "meta-llama/Llama-2-7b-hf"
    assert (cfg.selection_model.path, cfg.model.path) == ("/models/7b", None)
    assert set(cfg.selection_model.source) == {"_target_", "repo_id", "revision"}


def test_an_unknown_option_lists_what_there_is():
    with pytest.raises((MissingConfigException, ConfigCompositionException), match=r"(?s)less.*random"):
        composed("selector=lesss")


def test_importing_a_warmup_keeps_the_keys_of_a_trained_one():
    keys = ("path", "fraction", "training", "checkpoints")
    trained, imported = composed("warmup.path=/w").warmup, composed("warmup=import", "warmup.path=/w").warmup
    assert all(trained[key] == imported[key] for key in keys)
    assert trained.importer is None
    assert imported.importer.path == "/w"
    assert composed("model=llama2_7b", "warmup=import", "warmup.fraction=0.1").warmup.fraction == 0.1


def test_the_small_experiment_on_real_rows_takes_any_benchmarks_files_from_one_folder():
    cfg = composed("experiment=real_mini", "data.path=folder", "target=gsm8k", "benchmark.limit=9")
    assert cfg.data._target_ == "lessexp.data.pool.less_pool"
    assert (cfg.target.path, cfg.benchmark.path) == ("folder/eval/gsm8k/dev.jsonl", "folder/eval/gsm8k/test.jsonl")
    assert (cfg.benchmark.limit, cfg.benchmark.max_new_tokens, cfg.pool_sample.n_rows) == (9, 96, 2000)
