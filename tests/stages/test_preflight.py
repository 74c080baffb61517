import shutil
from dataclasses import replace

import pytest

from lessexp.data.rendering import prompt_ids
from lessexp.data.rows import Row, write_rows
from lessexp.data.target import EmptyTargetError
from lessexp.errors import MissingFileError, UserError
from lessexp.evaluation.leaks import LeakError
from lessexp.models.linear_layers import NoSuchLayerError
from lessexp.models.source import ModelUnavailableError
from lessexp.stages.configuration import ExperimentError
from lessexp.training.foreign_adapter import ForeignAdapterError
from lessexp.training.foreign_checkpoint import ForeignCheckpointError
from tests.conftest import CHAT_TEMPLATE, make_rows, write_lines

STEPS = "proxy.steps=[{_target_: lessexp.proxies.layer_drop.drop_layers, _partial_: true, sparsity: 0.5}]"


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["fraction=0"], ExperimentError, "fraction should be greater than 0, got 0"),
        (["fraction=1.5"], ExperimentError, "fraction should be less than or equal to 1, got 1.5"),
        (["warmup.fraction=-0.1"], ExperimentError, "warmup.fraction should be greater than or equal to 0, got -0.1"),
        (["warmup.fraction=0", "warmup.checkpoints=[1]"], ExperimentError, r"of the checkpoints \[0\]"),
        (["max_length=5"], ExperimentError, "target example 'target-000': no token of its answer"),
        (["fraction=abc"], ExperimentError, "fraction should be a valid number, got 'abc'"),
        (
            ["warmup.training.schedule=polynomial"],
            ExperimentError,
            "must be one of linear, cosine, constant, got 'polynomial'",
        ),
        (
            ["+finetune.training.foo=1"],
            ExperimentError,
            "finetune.training.foo is not a setting",
        ),
        (["~lora.rank"], ExperimentError, "lora.rank is missing; its option, or the command line"),
        (["datastore.dtype=int3"], ExperimentError, "datastore.dtype must be one of float32, .*int1, got 'int3'"),
        (["device=cuda:77"], ExperimentError, "device=cuda:77, but torch finds no such device; use device=cpu"),
        (["device=cuda:x"], ExperimentError, "device=cuda:x, but torch finds no such device"),
        (["device=xla"], ExperimentError, "device=xla, but torch finds no such device"),
        (["device=nonsense"], ExperimentError, "device=nonsense, but torch finds no such device"),
        (["device=meta"], ExperimentError, "device=meta holds no values; use device=cpu"),
        (["benchmark.path=/nowhere"], MissingFileError, "benchmark.path: '/nowhere' matches no file"),
        (
            ["benchmark=reasoning_gym"],
            ExperimentError,
            "benchmark.families: .*target.families.* the options chosen do not go together",
        ),
        (
            ["datastore.also=[{dtype:int3}]"],
            ExperimentError,
            r"datastore\.also\.0\.dtype must be one of .*int1, got 'int3'",
        ),
        (["projection.nonzeros=0"], ExperimentError, "projection cannot be made .*nonzeros should be .*, got 0"),
        (["gradients.tokens_per_batch=0"], ExperimentError, "should be greater than or equal to 1 or 'auto', got 0"),
        (["warmup.path=/nowhere"], ExperimentError, "warmup.path=/nowhere holds no folder epoch=1.*or warmup=import"),
        (["warmup=import"], ExperimentError, "warmup=import needs warmup.path="),
        (["warmup=import", "warmup.path=/nowhere"], ForeignCheckpointError, "warmup.path=/nowhere is no folder"),
        (["warmup.checkpoints=[1,3]"], ExperimentError, r"checkpoints=\[1, 3\] must name .* the checkpoints \[1, 2\]"),
        (["warmup.checkpoints=[]"], ExperimentError, r"checkpoints=\[\] must name one or more"),
        (
            ["proxy=svd", "proxy.sparsity=1"],
            ExperimentError,
            r"proxy\.sparsity should be less than 1, got 1",
        ),
        (["proxy=svd", "proxy.adapter_from=me"], ExperimentError, "must be one of target, proxy, got 'me'"),
        (["proxy=layer_drop", "proxy.adapter_from=target"], ExperimentError, "set proxy.adapter_from=proxy"),
        (
            ["proxy=svd", "proxy.adapter_from=proxy", STEPS],
            ExperimentError,
            r"proxy\.steps and proxy\.factors: .*empty",
        ),
        (["proxy=layer_drop", "alignment=first_order"], ExperimentError, "only low-rank proxies can be aligned"),
        (["proxy=svd", "alignment=first_order"], ExperimentError, "n_held_out=32 must be at least 3 and leave a row"),
        (["space=equivalent"], ExperimentError, "Adam's moments of its adapter alone; set gradients=sgd"),
        (["space=factor", "gradients=sgd"], ExperimentError, "space=factor needs a low-rank proxy"),
        (["space=equivalent", "gradients=sgd", "projection=identity"], ExperimentError, "over an adapter's"),
        (
            ["trainer=fsdp", "trainer.processes=2", "model.quantization=nf4"],
            ExperimentError,
            "trainer=fsdp cannot spread",
        ),
        (
            ["warmup.training.batch_size=12", "warmup.training.epochs=1"],
            ExperimentError,
            r"warmup: its only step is the first of the schedule's rise, .*; set warmup\.training\.warmup_ratio=0 or",
        ),
        (
            ["finetune.training.batch_size=12", "finetune.training.schedule=constant"],
            ExperimentError,
            "finetune: its only step is the first of the schedule's rise, where the learning rate is 0",
        ),
        (["trainer.strategy=zero"], ExperimentError, "trainer.strategy must be one of ddp, fsdp, got 'zero'"),
        (["model.quantization=int3"], ModelUnavailableError, "model.quantization must be null, int8 or nf4, got int3"),
        (["model.dtype=fp32"], ModelUnavailableError, "model.dtype must be float32, .* or float64, got fp32"),
        (["model.dtype=float8_e4m3fn"], ModelUnavailableError, "model.dtype must be .*, got float8_e4m3fn"),
        (
            ["lora.target_modules=[q_proj,embed_tokens]"],
            NoSuchLayerError,
            r"lora\.target_modules: model\.embed_tokens is of type Embedding; choose linear layers",
        ),
        (["lora.target_modules=[lm_head]"], NoSuchLayerError, "lm_head is of type Linear; .* before the output layer"),
        (["lora.target_modules=[all-linear]"], NoSuchLayerError, "ends in 'all-linear'; choose from q_proj, k_proj"),
        (["lora.target_modules=[q_porj,k_proj]"], NoSuchLayerError, "ends in 'q_porj'; choose from q_proj, k_proj"),
        (["lora.target_modules=all-linear"], ExperimentError, "lora.target_modules should be a valid list"),
        (
            ["space=equivalent", "gradients=sgd", "space.layers=[q_proj,q_porj]"],
            NoSuchLayerError,
            r"space\.layers: no layer's name ends in 'q_porj'; choose from q_proj",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_computed(make_experiment, overrides, error, message):
    with pytest.raises(error, match=message):
        make_experiment(*overrides)


@pytest.mark.parametrize("target", ["reasoning_gym", "bbh"])
@pytest.mark.parametrize("max_length", [40, 39, 1])
def test_answers_as_long_as_all_the_model_may_read_are_refused(make_experiment, tmp_path, target, max_length):
    asked = [f"target={target}"]
    if target == "bbh":
        dev = {"task": "t", "input": "Is it?", "target": "no", "shot": 0, "task_prompt": "Say.", "cot": "No."}
        asked.append(f"target.path={write_lines(tmp_path / 'dev.jsonl', dev)}")
        asked.append(f"benchmark.path={write_lines(tmp_path / 'test.jsonl', dev | {'input': 'Was it?'})}")
    changes = ["benchmark.max_new_tokens=40", f"evaluation.max_length={max_length}"]
    message = rf"benchmark\.max_new_tokens=40 leaves nothing of evaluation\.max_length={max_length} for the question"
    with pytest.raises(ExperimentError, match=message):
        make_experiment("selector=random", *asked, *changes)
    make_experiment("selector=random", *asked, *changes, "selector.stages=[select]")


def prompt_lengths(experiment):
    spoken = {"tokenizer": experiment.model.tokenizer, "chat_format": experiment.model.chat_format}
    return sorted(len(prompt_ids(row.messages[:-1], "", **spoken)) for row in experiment.benchmark.rows())


def test_prompts_that_lose_their_start_are_announced_and_refused_if_all_do(make_experiment, capsys):
    settings = ["selector=random", "target=reasoning_gym", "benchmark.rows_per_family=3", "benchmark.max_new_tokens=9"]
    lengths = prompt_lengths(make_experiment(*settings))
    assert "lose their start" not in capsys.readouterr().out
    some = lengths[len(lengths) // 2]
    make_experiment(*settings, f"evaluation.max_length={some + 9}", "target_max_length=400", run="some")
    n_cut = sum(length > some for length in lengths)
    assert 0 < n_cut < 6
    assert f"warning: {n_cut} of 6 test prompts lose their start" in capsys.readouterr().out
    with pytest.raises(ExperimentError, match=r"6 of 6 test prompts lose their start.*raise evaluation\.max_length"):
        longer = "benchmark.max_new_tokens=390"  # each row fits with its own answer
        make_experiment(*settings, longer, "evaluation.max_length=400", "target_max_length=400", run="all")


def test_what_only_later_stages_need_is_not_asked_for_without_them(make_experiment):
    unfit = ["selector=random", "fraction=0.1", "benchmark.path=/nowhere"]
    assert make_experiment(*unfit, "selector.stages=[select]").n_selected == 2
    with pytest.raises(MissingFileError, match="/nowhere"):
        make_experiment(*unfit, "selector.stages=[select,evaluate]")


@pytest.mark.parametrize(
    "override",
    ["fraction=2", "warmup.fraction=2", "warmup.checkpoints=[9]", "data.paths=[empty.jsonl]", "model.dtype=fp32"],
)
def test_what_takes_no_model_is_checked_before_one_is_looked_for(make_experiment, override, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "config.json").write_text("{}")  # the folder of a model without weights and tokenizer
    with pytest.raises(UserError) as refusal:
        make_experiment("model.path=nowhere", override)
    assert "nowhere" not in str(refusal.value)


def test_a_proxy_needs_weights_that_are_not_rounded(make_experiment):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ExperimentError, match="a proxy is made from weights"):
        make_experiment("model.quantization=nf4", "proxy=svd")


def test_a_key_that_must_be_given_is_named(make_experiment):
    with pytest.raises(ExperimentError, match=r"data\.paths is not set"):
        make_experiment("data.paths=???")


def test_an_empty_target_is_refused(make_experiment, tmp_path):
    make_experiment()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(EmptyTargetError, match=r"empty\.jsonl holds no row"):
        make_experiment(f"target.path={tmp_path / 'empty.jsonl'}")


def test_a_target_row_without_a_label_is_an_error_that_names_it(make_experiment, tmp_path):
    long = Row("sums", "too-long", (("user", "word " * 300), ("assistant", "yes")), "toy", "sums")
    write_rows(tmp_path / "long.jsonl", [*make_rows(3, target=True), long])
    with pytest.raises(ExperimentError, match="target example 'too-long': no token of its answer"):
        make_experiment(f"target.path={tmp_path / 'long.jsonl'}")


def test_a_subtask_must_not_take_the_name_of_a_column(make_experiment, tmp_path):
    rows = [replace(row, subtask="score") for row in make_rows(3, target=True)]
    write_rows(tmp_path / "named.jsonl", rows)
    with pytest.raises(ExperimentError, match=r"subtask 'score' is the name of a column of scores\.parquet"):
        make_experiment(f"target.path={tmp_path / 'named.jsonl'}")


def test_a_target_row_among_other_test_rows_is_refused_by_name(make_experiment, tmp_path):
    target = make_rows(5, prefix="target", target=True)
    write_rows(tmp_path / "test.jsonl", [*make_rows(7, prefix="test", target=True)[4:]])
    with pytest.raises(LeakError, match="target rows are also test questions: 'target-004' holds 'test-004'"):
        make_experiment(f"benchmark.path={tmp_path / 'test.jsonl'}")
    write_rows(tmp_path / "same.jsonl", target[:3])  # nothing but target rows: asked for as such
    make_experiment(f"benchmark.path={tmp_path / 'same.jsonl'}")


def test_tests_that_are_all_solved_examples_are_refused(make_experiment, tmp_path):
    problem = {"question": "2 and 2?", "cot": "Add.", "answer": "4"}
    path = write_lines(tmp_path / "problems.jsonl", problem)
    with pytest.raises(ExperimentError, match="every test question is one of the solved examples too"):
        make_experiment("target=gsm8k", f"target.path={path}", f"benchmark.path={path}", "benchmark.max_new_tokens=9")


def test_a_pool_without_answers_is_refused(make_experiment, tmp_path):
    rows = [replace(row, messages=(("user", "word " * 300), ("assistant", "yes"))) for row in make_rows(24)]
    write_rows(tmp_path / "long.jsonl", rows)
    with pytest.raises(ExperimentError, match="no pool row has an answer within max_length=200"):
        make_experiment(f"data.paths=[{tmp_path / 'long.jsonl'}]")


@pytest.mark.parametrize("faulty", ["target", "pool"])
def test_rows_that_a_template_fails_on_are_not_said_to_be_too_long(make_experiment, model_folder, tmp_path, faulty):
    model = shutil.copytree(model_folder, tmp_path / "model")
    fault = "{% if ('target' in messages[0]['content']) == IS_TARGET %}{{ 1 // 0 }}{% endif %}"
    template = fault.replace("IS_TARGET", str(faulty == "target").lower()) + CHAT_TEMPLATE
    (model / "chat_template.jinja").write_text(template)
    target = replace(make_rows(1, prefix="target", target=True)[0], messages=(("user", "target?"), ("assistant", "4")))
    write_rows(tmp_path / "one.jsonl", [target])
    given = [f"model.path={model}", "chat_format=model", f"target.path={tmp_path / 'one.jsonl'}"]
    with pytest.raises(ExperimentError) as refusal:
        make_experiment(*given)
    sentence = str(refusal.value)
    assert f"{'target example' if faulty == 'target' else 'no pool row can be learnt from;'} " in sentence
    assert "template fails (ZeroDivisionError: " in sentence and "chat_format=tulu" in sentence
    assert "max_length" not in sentence


def test_an_imported_adapter_of_other_settings_is_refused_with_the_key_to_set(make_experiment, trainer_run):
    given = ["warmup=import", f"warmup.path={trainer_run}"]
    with pytest.raises(ForeignAdapterError, match=r"r is 4, the run has lora\.rank=16; set lora\.rank=4"):
        make_experiment(*given)
    with pytest.raises(ExperimentError, match=r"checkpoints=\[3\] must name .* \[1, 2\]"):
        make_experiment(*given, "lora.rank=4", "lora.alpha=8", "warmup.checkpoints=[3]")
