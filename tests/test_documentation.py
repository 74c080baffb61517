"""Every command and block of the documentation runs to its end, in a small size, and leaves what it promises."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lessexp.reports.results import read_results
from lessexp.stages import composition
from lessexp.stages.command_line import checked_arguments
from lessexp.stages.composition import composed, composing, parsed
from tests.documentation import LANGUAGES, PAGES, blocks, checkout, commands, furnish

# What cannot run here, and why; of these, what run.py is given is composed and checked all the same.
NOT_HERE = {
    r"pip install .*": "installs packages; .ci/run does that in a fresh environment",
    r"pytest.*|LESSEXP_FUZZ=\S+ pytest .*": "the tests themselves",
    r"python -m tests\..*": "minutes to hours of mutated code and generated inputs, run by hand",
    r"torchrun .*|srun .*": "needs two machines",
    r"python run\.py trainer=(ddp|fsdp).*": "needs a GPU",
    r"python run\.py .*model\.quantization=.*": "needs bitsandbytes; tests/models/test_quantization.py",
    r"python run\.py -cd sweeps -cn \w+": "dozens of runs of a 7B model; the same with size=mini runs",
    r"(OMP_NUM_THREADS=1 )?python -m lessexp\.benchmark .*": "measures for minutes to hours; tests/benchmark",
    r"python -m baselines dsir": "270,000 rows; tests/baselines/test_main.py",
    r"wandb sync.*": "needs an account",
}
BLOCKS_NOT_RUN = {
    "model = AutoModelForCausalLM.from_pretrained(smollm2_folder())": "fetches SmolLM2 to cut it",
}
# Makes a command small; what a command names itself, or has no use for, is left out.
SHRINK = [
    *("model.path=TINY", "model.dtype=float32", "selection_model.path=OTHER", "selection_model.dtype=float32"),
    *("data.rows_per_family=4", "target.rows_per_family=2", "benchmark.rows_per_family=2", "data.path=LESS_POOL"),
    *("target.path=FOLDER/eval/mmlu/dev.jsonl", "benchmark.path=FOLDER/eval/mmlu/test.jsonl"),
    *("lora.rank=4", "lora.alpha=8", "proj_dim=64", "micro_batch_size=8", "benchmark.max_new_tokens=4"),
    *("warmup.training.batch_size=2", "finetune.training.batch_size=2", "finetune.training.epochs=2"),
    *("proxy.rank_multiple=8", "proxy.probes.n_rows=8"),
    *("benchmark.limit=2", "evaluation.bootstrap.n_resamples=20", "logger=none", "device=cpu"),
]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "COLUMNS": "120"}
RUNNABLE = [command for command in commands() if not any(re.fullmatch(one, command) for one in NOT_HERE)]
SHOWN_BY_HYDRA = ("--help", "--cfg")


def test_every_page_is_read():
    assert len(commands()) > 50
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert not re.search(r"^ {4}(python|pip|torchrun|srun|wandb) ", text, re.M), f"{page}: put commands in fences"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page}:{block.line}")
def test_every_block_is_of_a_kind_that_is_checked(block):
    assert block.language in LANGUAGES
    if block.language == "yaml" or (block.language == "python" and block.file is None):
        known = [reason for beginning, reason in BLOCKS_NOT_RUN.items() if block.text.startswith(beginning)]
        assert block.file or known or block.text.startswith("import lessexp\n")


def test_nothing_is_listed_that_the_pages_do_not_show():
    for pattern in NOT_HERE:
        assert any(re.fullmatch(pattern, command) for command in commands()), pattern
    for beginning in BLOCKS_NOT_RUN:
        assert any(block.text.startswith(beginning) for block in blocks()), beginning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with the files that the pages add to it, and what their commands name."""
    folder = checkout(tmp_path_factory.mktemp("checkout"))
    furnish(folder)
    return folder


@pytest.fixture
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(composition, "_PACKAGE", folder / "lessexp")  # the options that the pages add
    return folder


def execute(folder: Path, words: list[str]) -> subprocess.CompletedProcess:
    words = [sys.executable, *words[1:]]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(folder), "LESSEXP_CACHE": str(folder / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, timeout=900)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    return done


def key_of(word: str) -> str:
    return word.partition("=")[0]


def first_values(words: list[str]) -> list[str]:
    """The overrides of a command, each with the first of its values."""
    overrides = [parsed(word) for word in words[2:] if "=" in word]
    return [
        f"{one.get_key_element()}={next(one.sweep_string_iterator())}" if one.is_sweep_override() else one.input_line
        for one in overrides
    ]


def smaller(words: list[str]) -> list[str]:
    """A command of run.py with what makes it small."""
    with composing():
        cfg = composed("config", first_values(words))
    given = {key_of(word) for word in words}
    if len(words) == 2:
        given.add("logger")  # the first command of all keeps the default tracker
    if cfg.selection_model == cfg.model:
        given |= {"selection_model.path", "selection_model.dtype"}
    if not cfg.data._target_.endswith("less_pool"):
        given.add("data.path")
    if cfg.target.get("task") != "mmlu" or cfg.target.path is not None:
        given |= {"target.path", "benchmark.path"}
    return words + [
        override
        for override in SHRINK
        if key_of(override) not in given
        and (override.startswith("model.") or OmegaConf.select(cfg, key_of(override), default=cfg) is not cfg)
    ]


def run_folder_of(done: subprocess.CompletedProcess) -> Path:
    return Path(done.stdout.splitlines()[-1])


def check_run(run_folder: Path) -> None:
    results = read_results(run_folder)
    assert results["selection"]["n_selected"] == len((run_folder / "selected.jsonl").read_text().splitlines()) > 0
    assert "<table" in (run_folder / "report.html").read_text()
    if "finetune" in results["stages"]:
        assert (run_folder / "adapter" / "adapter_model.safetensors").is_file()
    if "evaluate" in results["stages"]:
        assert results["metrics"]["answer_nll"]["tuned"]["mean"] > 0


def check_sweep(done: subprocess.CompletedProcess) -> None:
    sweep = run_folder_of(done)
    runs = sorted(file.parent for file in sweep.glob("*/results.json"))
    assert len(runs) > 1
    for run in runs:
        check_run(run)
    assert "Mean ± standard deviation over seeds" in done.stdout
    assert "<table" in (sweep / "report.html").read_text()


@pytest.fixture(scope="module")
def runs_before(folder):
    """What commands on finished runs name: a sweep, two runs, and the warm-up of one."""
    rows = ["data=jsonl", "data.paths=[old.jsonl]", "target=jsonl", "target.path=target.jsonl"]
    words = ["python", "run.py", "-m", "selector=random,less", "seed=0,1", *rows]
    sweep = run_folder_of(execute(folder, smaller(words)))
    for place in ("multirun/DATE/TIME", "multirun/table3_baselines/mini"):
        shutil.copytree(sweep, folder / place)
    shutil.copytree(sweep / "seed=0,selector=random", folder / "RUN")
    shutil.copytree(sweep / "seed=0,selector=less", folder / "OTHER_RUN")
    key = read_results(folder / "OTHER_RUN")["stages"]["warmup"]["artifacts"]["warmup"]["key"]
    shutil.copytree(folder / "artifacts" / "warmup" / key, folder / "artifacts" / "warmup" / "KEY")


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNNABLE)
def test_every_command_runs_to_its_end(command, in_folder, request):
    words = shlex.split(command)
    if words[1] == "run.py" and any(word in SHOWN_BY_HYDRA for word in words):
        assert "selector" in execute(in_folder, words).stdout
        return
    if words[1] == "run.py":
        if "KEY" in command:
            request.getfixturevalue("runs_before")
        done = execute(in_folder, smaller(words))
        check_sweep(done) if {"-m", "-cn"} & set(words) else check_run(run_folder_of(done))
        return
    commands_of_results = ("lessexp.reports", "lessexp.compare", "lessexp.wholeness", "lessexp.prune")
    assert words[:2] == ["python", "-m"] and words[2] in commands_of_results
    request.getfixturevalue("runs_before")
    done = execute(in_folder, words)
    for flag, file in itertools.pairwise(words):
        if flag in ("--markdown", "--json", "--html", "--figures"):
            assert (in_folder / file).exists()
    if words[2] == "lessexp.reports":
        assert "Mean ± standard deviation over seeds" in done.stdout


@pytest.mark.parametrize("command", [one for one in commands() if one not in RUNNABLE and " run.py " in one])
def test_what_cannot_run_here_is_composed(command, in_folder):
    _, _, given = command.partition(" run.py ")
    if words := [word for word in shlex.split(given) if word not in ("python", "run.py")]:
        checked_arguments(words)


def test_added_selectors_are_under_the_tests_of_all_selectors(in_folder):
    """Nothing but the two files of the page tells the tests of the new selector."""
    words = ["python", "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/baselines/test_contract.py"]
    listed = execute(in_folder, [*words, "--collect-only"]).stdout
    assert listed.count("[shortest") >= 4
    execute(in_folder, [*words, "-k", "shortest"])


def test_a_new_metric_says_which_way_is_better(in_folder):
    command = next(one for one in RUNNABLE if "benchmark=contains" in one)
    run = run_folder_of(execute(in_folder, smaller(shlex.split(command))))
    results = read_results(run)
    assert results["higher_is_better"] == {"answer_nll": False, "contains": True}
    assert 0 <= results["metrics"]["contains"]["tuned"]["mean"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("block", [one for one in blocks() if one.text.startswith("import lessexp\n")], ids=str)
def test_the_notebooks_block_runs(block, in_folder):
    small = ["model.path=TINY", "lora.rank=4", "proj_dim=64", "warmup.training.batch_size=2"]
    text = block.text.replace("fraction=0.05)", f"fraction=0.25, overrides={small})")
    assert text != block.text
    done = execute(
        in_folder, ["python", "-c", f"{text}\nprint(len(selection.ids), len(selection.subset), selection.folder)"]
    )
    n_ids, n_rows, folder = done.stdout.splitlines()[-1].split()
    assert n_ids == n_rows == "6" and (Path(folder) / "selected.jsonl").is_file()
