"""Whatever input of a run changes, reused artifacts give bit for bit what a run without any artifact gives.

Inputs are all settings that the composed configuration has, and the files that runs open. Each is changed alone; the
changed run is made twice: from nothing, and beside the artifacts and prepared pools of the unchanged one.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from lessexp.data.rows import write_records, write_rows
from lessexp.pipeline import run
from lessexp.settings.validation import validate
from tests.conftest import make_rows, write_lines
from tests.stages.conftest import compose_from

pytestmark = pytest.mark.slow

SHRUNK = [
    *("model=hf", "recipe=smollm2_135m", "logger=none", "model.dtype=float32", "proj_dim=64", "lora.rank=2"),
    *("fraction=0.3", "warmup.fraction=0.4", "warmup.training.epochs=2", "finetune.training.epochs=2"),
    *("warmup.training.batch_size=3", "finetune.training.batch_size=2", "datastore.rows_per_shard=7"),
    *("max_length=96", "preparation.in_memory_below=3", "preparation.num_proc=1", "data=jsonl"),
    *("evaluation.bootstrap.n_resamples=20", "finetune.training.learning_rate=0.01"),
    # Each row is computed alone, so one that is copied from an old store is bit for bit what it would be in a new one.
    *("gradients.tokens_per_batch=1", "evaluation.tokens_per_batch=1"),
]
OF_JSONL = ["target=jsonl", "target.path={files}/target.jsonl", "benchmark.path={files}/test.jsonl"]
OF_MMLU = [
    *("target=mmlu", "target.path={files}/dev.jsonl", "benchmark.path={files}/questions.jsonl"),
    *("target_max_length=400", "evaluation.max_length=400"),
    *("benchmark.n_shots=1", "target.per_subtask=3", "benchmark.limit=5"),
]
BASES = {
    "less": ["selector=less", *OF_MMLU, "lora.dropout=0.1", "chat_format=model"],
    "given": ["selector=less", *OF_JSONL, "warmup.path={files}/warmup"],
    "iprox": [
        *("selector=iprox", *OF_JSONL, "proxy.rank_multiple=4", "proxy.probes.n_rows=4", "alignment=first_order"),
        *("alignment.n_held_out=3", "alignment.n_rows=4", "alignment.settings.epochs=1", "alignment.proj_dim=64"),
        *("alignment.settings.check_every=1", "alignment.settings.learning_rate=0.01"),
    ],
    "rds": ["selector=rds", *OF_JSONL],
    "full": ["selector=random", "finetune=full", *OF_JSONL],
}

# How a setting is changed where its type does not tell.
OTHER = {
    "model.dtype": "bfloat16",
    "data.on_bad_row": "skip",
    "target.subtasks": "[sums]",
    "target.task": "other",
    "benchmark.limit": 4,
    "benchmark.subtasks": "[sums]",
    "warmup.training.schedule": "constant",
    "finetune.training.schedule": "constant",
    "warmup.training.betas": "[0.8,0.99]",
    "finetune.training.betas": "[0.8,0.99]",
    "warmup.training.warmup_ratio": 0.5,
    "finetune.training.warmup_ratio": 0.5,
    "warmup.training.weight_decay": 0.5,
    "finetune.training.weight_decay": 0.5,
    "warmup.training.eps": 1e-4,
    "finetune.training.eps": 1e-4,
    "warmup.training.max_grad_norm": 0.01,
    "finetune.training.max_grad_norm": 0.01,
    "warmup.checkpoints": "[2]",
    "lora.dropout": 0.2,
    "lora.target_modules": "[q_proj,down_proj]",
    "chat_format.date": "2031-02-03",
    "projection.nonzeros": 2,
    "protocol.mmlu.stop": "[A]",
    "protocol.mmlu.by_subtask": "{sums: {cue: '>'}}",
    "datastore.dtype": "int8",
    "selector.representations.dtype": "float32",
    "pool_sample.n_rows": 9,
    "proxy.layers": "[q_proj,down_proj]",
    "proxy.adapter_from": "proxy",
    "proxy.sparsity": 0.3,
    "alignment.n_held_out": 4,
    "fraction": 0.5,
    "warmup.fraction": 0.8,
    "max_length": 50,
    "target_max_length": 395,
    "evaluation.max_length": 395,
    "data.counts": "{sums: 3}",
    "datastore.also": "[{proj_dim: 32}]",
}
# Settings that are references to others until a user sets them.
REFERENCES = [
    ("less", "target_max_length", 395),
    ("less", "evaluation.max_length", 395),
    ("less", "benchmark.seed", 1),
    ("less", "projection.seed", 1),
    ("less", "selector.fraction", 0.4),
    ("iprox", "proxy.probes.seed", 5),
    ("iprox", "alignment.seed", 5),
    ("rds", "selector.representations.dtype", "float32"),
]
# Options of groups.
OPTIONS = [
    ("less", "gradients=sgd"),
    ("less", "gradients=adam_centered"),
    ("less", "projection=srht"),
    ("less", "projection=rademacher"),
    ("less", "projection=identity"),
    ("less", "chat_format=tulu"),
    ("less", "influence=cosine_of_mean"),
    ("less", "aggregate=mean"),
    ("less", "dedup=near"),
    ("less", "finetune=full"),
    ("less", "protocol=released"),
    ("less", "logger=csv"),
    ("less", "warmup.fraction=0"),
    ("iprox", "proxy=activation_svd"),
    ("iprox", "alignment=second_order"),
    ("iprox", "alignment.factor_gradients=null"),
    ("rds", "selector=rds_plus"),
    ("full", "finetune=lora"),
]
# Settings that alter no number beyond rounding: they keep every key, and the numbers of the artifacts with it.
ROUNDING = {
    *("gradients.tokens_per_batch", "evaluation.tokens_per_batch", "proxy.probes.tokens_per_batch"),
    *("proxy.factors.moment_bytes",),
}
# Settings that are no input of the numbers, each with its reason.
NOT_CHANGED = {
    "model.path": "the files are changed",
    "model.source.repo_id": "goes after model.path",
    "model.source.revision": "goes after model.path",
    "model.quantization": "needs another package",
    "data.path": "the files are changed",
    "target.path": "the files are changed",
    "target.repo_id": "goes after target.path",
    "benchmark.path": "the files are changed",
    "warmup.path": "the files are changed",
    "warmup.importer": "an option of its own",
    "trainer.device": "there is one",
    "trainer.processes": "one process runs the test",
    "trainer.strategy": "of several processes",
    "artifacts_dir": "where reused artifacts lie",
    "resume": "of finished runs",
    "selector.stages": "other stages are other runs",
    "selector.representations.rows_of": "the scorer's",
    "benchmark.max_new_tokens": "letters have one",
    "proxy.steps": "an option of its own",
    "proxy.rank_multiple": "the tiny layers have one",
    "alignment.factor_gradients": "an option of its own",
    "logger.loggers": "an option of its own",
}


def leaves(node: DictConfig, above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that are not references to others, and their values."""
    for name, raw in OmegaConf.to_container(node, resolve=False).items():
        key, value = f"{above}{name}", node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none():
            yield from leaves(value, f"{key}.")
        elif not str(name).startswith("_") and not str(raw).startswith("${"):
            yield key, raw


def composed(base: str, files: Path, *overrides: str) -> DictConfig:
    settings = [setting.format(files=files) for setting in BASES[base]]
    places = [f"model.path={files / 'model'}", f"data.path={files / 'pool.jsonl'}"]
    return compose_from(*SHRUNK, *places, *settings, *overrides)


def outcome(base: str, files: Path, folder: Path, state: Path, *overrides: str) -> dict[str, Any]:
    """All that a run finds; ``state`` holds artifacts and prepared pools."""
    folder.mkdir(parents=True)
    cfg = composed(base, files, f"artifacts_dir={state / 'artifacts'}", f"cache_dir={state / 'cache'}", *overrides)
    run(cfg, folder)
    results = json.loads((folder / "results.json").read_text())
    tables = {path.name: pyarrow.parquet.read_table(path).to_pydict() for path in folder.glob("*.parquet")}
    texts = {name: (folder / name).read_text() for name in ("selected.jsonl", "predictions.jsonl")}
    weights = {path.parent.name: path.read_bytes() for path in folder.glob("*/*model*.safetensors")}
    found = {"metrics": results["metrics"], "selection": results["selection"], **tables, **texts, **weights}
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in found.items()}


def keys_in(state: Path) -> set[str]:
    """The finished artifacts."""
    return {str(path.parent.relative_to(state)) for path in (state / "artifacts").glob("*/*/COMPLETE")}


def write_files(folder: Path, model_folder: Path, warmup: Path) -> None:
    folder.mkdir()
    shutil.copytree(model_folder, folder / "model")
    shutil.copytree(warmup, folder / "warmup")
    write_rows(folder / "pool.jsonl", make_rows(14))
    write_rows(folder / "target.jsonl", make_rows(4, prefix="target", target=True))
    write_rows(folder / "test.jsonl", make_rows(13, prefix="test", target=True)[9:])

    def question(number: int, split: str) -> dict[str, Any]:
        subject = ("sums", "words")[number % 2]
        return {"subject": subject, "question": f"{split} {number}?", "choices": list("wxyz"), "answer": number % 4}

    write_lines(folder / "dev.jsonl", *(question(number, "dev") for number in range(8)))
    write_lines(folder / "questions.jsonl", *(question(number, "test") for number in range(12)))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """The files that all runs open."""
    root = tmp_path_factory.mktemp("reuse")
    (root / "no warmup").mkdir()
    write_files(root / "first", model_folder, root / "no warmup")
    settings = ["selector.stages=[warmup]", "lora.dropout=0"]
    (root / "run").mkdir()
    run(composed("less", root / "first", *settings, f"artifacts_dir={root / 'artifacts'}"), root / "run")
    [warmup] = (root / "artifacts" / "warmup").glob("*/COMPLETE")
    write_files(root / "files", model_folder, warmup.parent)
    (root / "files" / "warmup" / "COMPLETE").unlink()  # it vouches for files that are changed here
    return root / "files"


@pytest.fixture(scope="session")
def states(files: Path) -> dict[str, Path]:
    """For each base, the artifacts and prepared pools of the unchanged run."""
    found = {}
    for base in BASES:
        found[base] = files.parent / f"state {base}"
        outcome(base, files, files.parent / f"run {base}", found[base])
    return found


@pytest.fixture
def reused(files: Path, states: dict[str, Path], tmp_path: Path) -> Callable[..., tuple[set[str], set[str]]]:
    """Runs a changed experiment from nothing and beside the unchanged one's artifacts, and compares what they find."""

    def compare(base: str, *overrides: str, changed_files: Path = files) -> tuple[set[str], set[str]]:
        shutil.copytree(states[base], tmp_path / "state")
        before = keys_in(tmp_path / "state")
        anew = outcome(base, changed_files, tmp_path / "anew", tmp_path / "nothing", *overrides)
        beside = outcome(base, changed_files, tmp_path / "beside", tmp_path / "state", *overrides)
        assert [name for name in anew if anew[name] != beside[name]] == []
        return before, keys_in(tmp_path / "state")

    return compare


def other(key: str, value: Any) -> Any:
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.5
    return f"'{value} x'" if isinstance(value, str) else None


def changes() -> Iterator[tuple[str, str, Any]]:
    """A base, a setting and another value of it; settings that bases share are changed in the first."""
    seen = set()
    for base in BASES:
        cfg = composed(base, Path("files"))
        validate(cfg)
        for key, value in leaves(cfg):
            if key in seen or key in NOT_CHANGED or key.startswith(("paths.", "recipe.", "sweep.", "protocol.")):
                continue
            seen.add(key)
            yield base, key, other(key, value)
    for name in ("header", "question", "answer", "solved", "cue", "separator", "stop", "by_subtask"):
        key = f"protocol.mmlu.{name}"
        yield "less", key, other(key, "{question}" if name == "question" else "x")
    yield from REFERENCES


CHANGES = list(changes())


def test_every_setting_has_another_value_or_a_reason_why_not():
    assert [key for _, key, value in CHANGES if value is None] == []
    assert len(CHANGES) >= 60
    known = {key for base in BASES for key, _ in leaves(composed(base, Path("files")))}
    assert sorted(NOT_CHANGED.keys() - known) == []


def named(parameters: list[tuple]) -> dict[str, Any]:
    return {"argvalues": parameters, "ids": [" ".join(map(str, one[:2])) for one in parameters]}


@pytest.mark.parametrize(("base", "key", "value"), **named([one for one in CHANGES if one[1] not in ROUNDING]))
def test_a_changed_setting_never_meets_an_artifact_of_the_other_value(reused, base, key, value):
    reused(base, f"++{key}={value}")


@pytest.mark.parametrize(("base", "option"), **named(OPTIONS))
def test_another_option_never_meets_an_artifact_of_the_first(reused, base, option):
    reused(base, option)


@pytest.mark.parametrize(("base", "key", "value"), **named([one for one in CHANGES if one[1] in ROUNDING]))
def test_what_alters_nothing_but_rounding_keeps_every_key(files, states, tmp_path, base, key, value):
    before = keys_in(states[base])
    outcome(base, files, tmp_path / "run", states[base], f"++{key}={value}")
    assert keys_in(states[base]) == before


def edit_json(**entries: Any) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))

    return edit


def edit_lines(change: Callable[[list[dict]], list[dict]]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        write_records(file, change([json.loads(line) for line in file.read_text().splitlines()]))

    return edit


def edit_first(**entries: Any) -> Callable[[Path], None]:
    return edit_lines(lambda rows: [rows[0] | entries, *rows[1:]])


def edit_tensors(file: Path) -> None:
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name] = tensors[name] + 0.1 * torch.ones_like(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})


def write(text: str) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    return edit


TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}{{ '' if true }}"
ANSWER = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "Four."}]
FILES = [
    ("less", "model/model.safetensors", edit_tensors),
    ("less", "model/config.json", edit_json(rms_norm_eps=0.1)),
    ("less", "model/config.json", edit_json(rope_parameters={"rope_theta": 50.0, "rope_type": "default"})),
    ("full", "model/model.safetensors", edit_tensors),
    ("rds", "model/model.safetensors", edit_tensors),
    ("less", "model/generation_config.json", edit_json(suppress_tokens=[5])),
    ("given", "model/tokenizer_config.json", edit_json(bos_token="<|im_start|>")),
    ("given", "model/tokenizer_config.json", edit_json(eos_token="<|im_end|>")),
    ("given", "model/tokenizer_config.json", edit_json(extra_special_tokens=["zzz"])),
    ("given", "model/tokenizer_config.json", edit_json(split_special_tokens=True)),
    ("less", "model/chat_template.jinja", write(TEMPLATE)),
    ("less", "model/additional_chat_templates/default.jinja", write(TEMPLATE)),
    ("less", "pool.jsonl", edit_first(messages=ANSWER)),
    ("rds", "pool.jsonl", edit_first(messages=ANSWER)),
    ("full", "pool.jsonl", edit_first(messages=ANSWER)),
    ("less", "pool.jsonl", edit_first(id="other")),
    ("less", "pool.jsonl", edit_first(dataset="other")),
    ("less", "pool.jsonl", edit_first(note="carried along")),
    ("less", "pool.jsonl", edit_lines(lambda rows: rows[::-1])),
    ("given", "pool.jsonl", edit_lines(lambda rows: rows[::-1])),
    ("less", "pool.jsonl", edit_lines(lambda rows: rows[:-1])),
    ("given", "target.jsonl", edit_first(messages=ANSWER)),
    ("given", "target.jsonl", edit_first(subtask="other")),
    ("given", "target.jsonl", edit_first(id="other")),
    ("rds", "target.jsonl", edit_first(subtask="other")),
    ("given", "test.jsonl", edit_first(messages=ANSWER)),
    ("given", "test.jsonl", edit_first(subtask="other")),
    ("less", "dev.jsonl", edit_first(question="other?")),
    ("less", "dev.jsonl", edit_first(answer=3)),
    ("less", "questions.jsonl", edit_first(question="other?")),
    ("less", "questions.jsonl", edit_lines(lambda rows: [row | {"answer": 0} for row in rows])),
    ("less", "questions.jsonl", edit_lines(lambda rows: [row | {"choices": list("abcd")} for row in rows])),
    ("given", "warmup/epoch=1/adapter_model.safetensors", edit_tensors),
    ("given", "warmup/epoch=1/adam_moments.safetensors", edit_tensors),
    ("given", "warmup/epoch=1/trainer_state.json", edit_json(step=40)),
    ("given", "warmup/epoch=1/trainer_state.json", edit_json(betas=[0.5, 0.9])),
    ("given", "warmup/epoch=1/trainer_state.json", edit_json(eps=1e-3)),
    ("given", "warmup/epoch=1/trainer_state.json", edit_json(mean_learning_rate=0.5)),
    ("given", "warmup/epoch=2", lambda folder: shutil.rmtree(folder)),
]


@pytest.mark.parametrize(("base", "name", "edit"), **named(FILES))
def test_a_changed_file_never_meets_an_artifact_of_the_old_one(reused, files, tmp_path, base, name, edit):
    changed = shutil.copytree(files, tmp_path / "changed")
    edit(changed / name)
    reused(base, changed_files=changed)


def test_more_than_sixty_inputs_are_changed():
    assert len(CHANGES) + len(OPTIONS) + len(FILES) > 120


def moved(folder: Path) -> None:
    """Only the place differs."""


def notes(folder: Path) -> None:
    (folder / "model" / "trainer_log.json").write_text('{"loss": 1}')
    (folder / "model" / "README.md").write_text("Trained yesterday.")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("change", [moved, notes])
def test_what_cannot_matter_keeps_every_key(reused, files, tmp_path, base, change):
    elsewhere = shutil.copytree(files, tmp_path / "elsewhere")
    change(elsewhere)
    overrides = ["model.name=other", "selector.name=other", "preparation.num_proc=2", "logger=csv"]
    if base != "less":
        overrides.append("benchmark.seed=5")  # of a draw, which is not made
    before, after = reused(base, *overrides, changed_files=elsewhere)
    assert after == before


def test_another_day_is_another_run_of_the_same_rows(reused, monkeypatch):
    class Tomorrow:
        @staticmethod
        def now():
            raise AssertionError("the clock was read")

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    before, after = reused("less")
    assert after == before
