import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lessexp.data.rows import Row, write_rows
from lessexp.pipeline import run
from lessexp.reports.__main__ import main
from lessexp.reports.results import read_results
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK, compose_from

ROOT = Path(__file__).parents[1]


def run_py(folder, *overrides, **environment):
    import os

    command = [sys.executable, str(ROOT / "run.py"), *overrides, f"hydra.run.dir={folder}"]
    # Outside the checkout, with no network to try and no account to log into.
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def places(tmp_path, model_folder):
    write_rows(tmp_path / "pool.jsonl", make_rows(24))
    write_rows(tmp_path / "target.jsonl", make_rows(5, prefix="target", target=True))
    return [
        f"model.path={model_folder}",
        f"data.paths=[{tmp_path / 'pool.jsonl'}]",
        f"target.path={tmp_path / 'target.jsonl'}",
    ]


def test_the_command_line_runs_offline_with_wandb_and_ends_with_the_run_folder(places, tmp_path):
    options = [option for option in SHRUNK if not option.startswith("logger")]
    done = run_py(tmp_path / "out", *options, *places, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found >= {"results.json", "scores.parquet", "selected.jsonl", ".hydra", "wandb", "adapter"}
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_users_error_is_one_sentence_without_a_traceback(tmp_path):
    done = run_py(tmp_path / "out", "model=llama2_7b", "data=reasoning_gym", "target=reasoning_gym")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: could not fetch the model 'meta-llama/Llama-2-7b-hf' from the Hugging Face hub "
        "(LocalEntryNotFoundError); set model.path to a local model folder"
    ]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+fracton=0.1"], "Error: fracton is not a setting; did you mean fraction?"),
        (["warmup.epochs=2"], "Error: warmup.epochs is not a setting; did you mean warmup.training.epochs or "),
        (["selector=random,less"], "Error: selector=random,less names several values; add -m "),
        (["artifacts_dir=a(b)"], "Error: the value of artifacts_dir has signs that mean something to Hydra; write it "),
    ],
)
def test_a_mistyped_command_is_one_sentence_and_makes_no_folder(tmp_path, overrides, sentence):
    done = run_py(tmp_path / "out", *overrides)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_command_that_is_refused_leaves_a_finished_folder_as_it_is(places, tmp_path):
    settings = [*SHRUNK, "selector=random", *places]
    assert run_py(tmp_path / "out", *settings, "seed=1").returncode == 0
    before = contents(tmp_path / "out")
    for others in ([], ["seed=1"], ["fraction=0.5", "resume=true"], ["trainer.processes=2"]):
        done = run_py(tmp_path / "out", *settings, *others)
        assert done.returncode == 1 and "holds a finished run" in done.stderr + done.stdout
        assert contents(tmp_path / "out") == before
    assert main([str(tmp_path / "out")]) is None


def test_jobs_of_a_sweep_that_are_refused_leave_their_finished_folders_as_they_are(places, tmp_path):
    settings = ["-m", *SHRUNK, *places, "selector=random", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = run_py(tmp_path / "out", *settings)
    assert done.returncode == 0, done.stderr
    jobs = [tmp_path / "sweep" / f"seed={seed}" for seed in (1, 2)]
    before = [contents(job) for job in jobs]
    for others in ([], ["fraction=0.5", "resume=true"]):
        done = run_py(tmp_path / "out", *settings, *others)
        assert done.returncode == 1 and "2 jobs of this sweep failed" in done.stderr
        assert [contents(job) for job in jobs] == before
    done = run_py(tmp_path / "out", *settings, "resume=true")
    assert done.returncode == 0 and done.stdout.count("is finished and stays as it is") == 2
    assert [contents(job) for job in jobs] == before


def test_of_two_runs_at_once_in_one_folder_the_second_changes_nothing(places, tmp_path):
    settings = [*SHRUNK, "selector=random", *places]
    with ThreadPoolExecutor() as executor:
        both = [executor.submit(run_py, tmp_path / "out", *settings, f"seed={seed}") for seed in (1, 2)]
    codes = [one.result().returncode for one in both]
    assert sorted(codes) == [0, 1]
    first = codes.index(0) + 1
    assert f"- seed={first}\n" in (tmp_path / "out" / ".hydra" / "overrides.yaml").read_text()
    assert read_results(tmp_path / "out")["overrides"][-1] == f"seed={first}"


def test_ctrl_c_while_the_program_loads_leaves_no_traceback(tmp_path):
    command = [sys.executable, "-X", "importtime", str(ROOT / "run.py"), f"hydra.run.dir={tmp_path / 'out'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    loading = next(line for line in process.stderr if line.rstrip().endswith(" omegaconf"))
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT, loading + rest
    assert "Traceback" not in rest and "KeyboardInterrupt" not in rest


@pytest.mark.parametrize(
    ("recipe", "n_warmup", "n_selected", "batch_size"), [("paper", 3, 3, 128), ("smollm2_135m", 6, 9, 8)]
)
def test_a_small_pool_of_ones_own_runs_without_any_further_setting(
    places, tmp_path, recipe, n_warmup, n_selected, batch_size
):
    write_rows(tmp_path / "pool.jsonl", make_rows(60))
    options = ["model=hf", f"recipe={recipe}", "data=jsonl", "target=jsonl", "logger=none", *places]
    done = run_py(tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    short = f"of 60 rows, less than one batch of {batch_size}; each step takes all of them"
    notes = [f"warmup: {n_warmup} {short}"]
    notes += [f"finetune: {n_selected} {short}"] * (n_selected < batch_size)
    assert [line for line in said if "less than" in line] == notes
    assert said.index(notes[-1]) < said.index("── warmup")
    assert read_results(tmp_path / "out")["selection"]["n_selected"] == n_selected
    [last] = (tmp_path / "artifacts" / "warmup").glob("*/epoch=4/trainer_state.json")
    assert json.loads(last.read_text())["step"] == 4, "each epoch is one step over all its rows"


@pytest.mark.parametrize(
    ("overrides", "key"), [(["model=hf"], "model"), (["selector=less_t", "selection_model=hf"], "selection_model")]
)
def test_a_model_that_is_not_named_is_told_before_anything_else_is_fetched(tmp_path, overrides, key):
    done = run_py(tmp_path / "out", *overrides, "data=less_pool", f"cache_dir={tmp_path / 'cache'}")
    assert done.stderr.splitlines() == [
        f"Error: no model is named: set {key}.path to a local Hugging Face model folder, "
        f"or {key}.source.repo_id to a model of the hub"
    ]
    assert not (tmp_path / "cache").exists()


def write_less_pool(folder, n_per_source):
    for source in ("flan_v2", "cot", "dolly", "oasst1"):
        (folder / source).mkdir(parents=True)
        rows = [
            Row(source, f"{source}-{i}", (("user", f"{i}+1"), ("assistant", f"{i + 1}"))) for i in range(n_per_source)
        ]
        write_rows(folder / source / f"{source}_data.jsonl", rows)


def write_questions(path, n_per_subject, first=0):
    lines = [
        {
            "subject": subject,
            "question": f"Is {i} even?",
            "choices": ["yes", "no", "maybe", "never"],
            "answer": "AB"[i % 2],
        }
        for subject in ("anatomy", "world_religions")
        for i in range(first, first + n_per_subject)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_papers_recipe_runs_on_a_tiny_llama(model_folder, tmp_path):
    write_less_pool(tmp_path / "data", 650)
    write_questions(tmp_path / "dev.jsonl", 5)
    write_questions(tmp_path / "test.jsonl", 3, first=10)
    cfg = compose_from(
        "selector=less",
        "model=llama2_7b",
        f"model.path={model_folder}",
        f"data.path={tmp_path / 'data'}",
        f"target.path={tmp_path / 'dev.jsonl'}",
        f"benchmark.path={tmp_path / 'test.jsonl'}",
        f"artifacts_dir={tmp_path / 'artifacts'}",
        "logger=none",
        "micro_batch_size=64",
    )
    (tmp_path / "run").mkdir()
    run(cfg, tmp_path / "run")
    results = read_results(tmp_path / "run")
    assert results["selection"]["n_pool"] == 2600
    assert results["selection"]["n_selected"] == 130
    assert list(results["metrics"]["accuracy"]["tuned"]["by_subtask"]) == ["anatomy", "world_religions"]
    warmup = tmp_path / "artifacts" / "warmup" / results["stages"]["warmup"]["artifacts"]["warmup"]["key"]
    states = [json.loads((warmup / f"epoch={epoch}" / "trainer_state.json").read_text()) for epoch in (1, 2, 3, 4)]
    assert [state["step"] for state in states] == [2, 4, 6, 8]
    # Eight steps, one of them the rise: 0, 1, 6/7, 5/7, ... of 2e-5, two an epoch.
    expected = [2e-5 * (first + second) / 14 for first, second in ((0, 7), (6, 5), (4, 3), (2, 1))]
    assert [state["mean_learning_rate"] for state in states] == pytest.approx(expected)
    adapter = json.loads((warmup / "epoch=4" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (128, 512, 0.1)
    assert set(adapter["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    store = json.loads(next((tmp_path / "artifacts" / "pool_gradients").glob("*/manifest.json")).read_text())
    assert (store["proj_dim"], store["checkpoints"], len(store["example_ids"])) == (8192, [1, 2, 3, 4], 2600)
