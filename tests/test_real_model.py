"""The real model and real rows: slow, and the rows only where LESSEXP_DATA names a folder of them."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch

from lessexp.data.chat_format import TemplateFormat, TuluFormat
from lessexp.data.rows import read_rows
from lessexp.data.tokenize import IGNORED_LABEL, collate, tokenize_rows
from lessexp.evaluation.base import Examinee
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer, per_example_loss
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.stages.configuration import instantiate
from lessexp.stages.experiment import Experiment
from tests.conftest import DATE, perturb_adapter
from tests.stages.conftest import compose_from

pytestmark = pytest.mark.slow
MMLU_FILES = {"path": "test.jsonl", "dev_path": "dev.jsonl"}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """SmolLM2-135M-Instruct as the default configuration fetches it."""
    return Experiment(compose_from(), tmp_path_factory.mktemp("run")).model.folder


@pytest.fixture(scope="module")
def smol_tokenizer(folder):
    return load_tokenizer(folder)


def real_rows(name):
    data = os.environ.get("LESSEXP_DATA")
    if not data:
        pytest.skip("LESSEXP_DATA names no folder of real rows")
    return read_rows([Path(data) / "train" / name])


def test_the_model_answers(folder, smol_tokenizer):
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    prompt = TemplateFormat(smol_tokenizer, date=DATE).prompt([("user", "What is the capital of France?")])
    encoded = smol_tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    output = model.generate(**encoded, max_new_tokens=8, do_sample=False)
    answer = smol_tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."


def test_batched_gradients_of_the_real_model_equal_autograd(folder, smol_tokenizer):
    rows = read_rows_for_gradients(smol_tokenizer)
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    lora = LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules=TARGETS)
    model = perturb_adapter(attach_lora(model, lora, seed=0)).eval()
    batched = per_example_gradients(model, collate(rows, pad_token_id=smol_tokenizer.pad_token_id))
    parameters = lora_parameters(model)
    for index, row in enumerate(rows):
        loss = per_example_loss(model, collate([row], pad_token_id=smol_tokenizer.pad_token_id)).sum()
        alone = torch.autograd.grad(loss, list(parameters.values()))
        for name, grad in zip(parameters, alone, strict=True):
            error = (batched[name][index] - grad).norm() / grad.norm()
            assert error < 1e-4, name  # float32 through thirty layers


def read_rows_for_gradients(tokenizer):
    from tests.conftest import make_rows

    rows, _ = tokenize_rows(make_rows(3), tokenizer=tokenizer, chat_format=TuluFormat(tokenizer), max_length=128)
    return rows


@pytest.mark.parametrize("make_format", [TuluFormat, partial(TemplateFormat, date=DATE)], ids=["tulu", "model"])
@pytest.mark.parametrize("name", ["oasst1.jsonl", "dolly.jsonl", "flan_v2.jsonl", "cot.jsonl"])
def test_labels_of_real_rows_are_the_answers_and_nothing_else(smol_tokenizer, make_format, name):
    rows = real_rows(name)[:1500]
    chat_format = make_format(smol_tokenizer)
    kept, dropped = tokenize_rows(rows, tokenizer=smol_tokenizer, chat_format=chat_format, max_length=100_000)
    assert len(dropped) <= len(rows) // 100, dropped[0]
    by_id = {row.example_id: row for row in rows}
    end = {"tulu": "<|im_end|>\n", "model": "<|im_end|>\n"}[chat_format.name]
    for tokens in kept:
        labelled = [label for label in tokens.labels if label != IGNORED_LABEL]
        said = [content.strip() + end for role, content in by_id[tokens.example_id].messages if role == "assistant"]
        assert smol_tokenizer.decode(labelled) == "".join(said)


N_QUESTIONS = int(os.environ.get("LESSEXP_MMLU_QUESTIONS", "500"))


def test_batched_mmlu_of_the_real_model_equals_a_loop_over_single_questions(folder, smol_tokenizer):
    if not (data := os.environ.get("LESSEXP_DATA")):
        pytest.skip("LESSEXP_DATA names no folder of real rows")
    places = [f"benchmark.{key}={Path(data) / 'eval' / 'mmlu' / file}" for key, file in MMLU_FILES.items()]
    benchmark = instantiate(compose_from("target=mmlu", "benchmark.limit=20", *places).benchmark)
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    chat_format = TuluFormat(smol_tokenizer)
    examinee = Examinee(model, smol_tokenizer, chat_format, 512, 4096, lambda done: None)
    # Spread over the subjects; every prompt fits, the longest with fewer examples.
    rows = benchmark.fit(benchmark.rows()[:: max(1, 1140 // N_QUESTIONS)][:N_QUESTIONS], examinee, max_length=512)
    predictions = {found.example_id: found.answer for found in benchmark.judge(examinee, rows)}
    letters = [smol_tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ABCD"]
    n_close = 0
    for row in rows:
        context = smol_tokenizer(chat_format.prompt(row.messages[:-1]))["input_ids"][-511:]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context])).logits[0, -1][letters]
        first, second = logits.topk(2).values.tolist()
        if first - second < 1e-3:  # float32 through thirty layers may turn a tie
            n_close += 1
            continue
        assert predictions[row.example_id] == "ABCD"[int(logits.argmax())], row.example_id
    assert n_close <= len(rows) // 20
