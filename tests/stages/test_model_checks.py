import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from lessexp.data.rows import Row, write_rows
from lessexp.models.causal_lm import load_tokenizer
from lessexp.models.source import ModelUnavailableError
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.experiment import Experiment
from tests.conftest import make_rows


@pytest.fixture
def changed_model(model_folder, tmp_path):
    """The tiny model in a folder of its own, after a change of its tokenizer's or its own settings."""

    def change(name, **entries):
        folder = tmp_path / "changed"
        if not folder.exists():
            shutil.copytree(model_folder, folder)
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | entries))
        return f"model.path={folder}"

    return change


def test_a_model_that_cannot_be_loaded_is_told_before_rows_are_tokenized(make_experiment, changed_model, monkeypatch):
    monkeypatch.setattr(Experiment, "tokenized_target", property(lambda self: pytest.fail("rows were tokenized")))
    with pytest.raises(ModelUnavailableError, match=r"the files of weights lack model\.layers\.2\."):
        make_experiment(changed_model("config.json", num_hidden_layers=4))
    with pytest.raises(ModelUnavailableError, match=r"its model cannot be loaded \(ValueError: .*`unheard-of`"):
        make_experiment(changed_model("config.json", model_type="unheard-of"))


def test_a_padding_token_that_the_model_has_no_embedding_of_is_refused(make_experiment, changed_model):
    with pytest.raises(ExperimentError, match=r"rows are padded with '\[PAD\]', token \d+, .*below \d+; set another"):
        make_experiment(changed_model("tokenizer_config.json", pad_token="[PAD]"))


@pytest.mark.parametrize("occurs", [True, False])
def test_a_token_beyond_the_embeddings_is_refused_if_a_row_holds_it(make_experiment, changed_model, tmp_path, occurs):
    model = changed_model("tokenizer_config.json")
    tokenizer = load_tokenizer(Path(model.removeprefix("model.path=")))
    tokenizer.add_tokens(["<new>"])  # an ordinary one: control tokens are text in rows
    tokenizer.save_pretrained(model.removeprefix("model.path="))
    rows = make_rows(24)
    if occurs:
        rows[7] = replace(rows[7], messages=(("user", "Say <new>"), ("assistant", "<new>")))
    write_rows(tmp_path / "pool.jsonl", rows)
    if occurs:
        with pytest.raises(
            ExperimentError, match=r"row 'row-007' holds '<new>', token \d+, and .*embeddings of tokens"
        ):
            make_experiment(model)
    else:
        assert make_experiment(model)


def test_rows_that_are_longer_than_computed_positions_are_announced(make_experiment, changed_model, capsys):
    make_experiment(changed_model("config.json", max_position_embeddings=20))
    said = [line for line in capsys.readouterr().out.splitlines() if "max_position_embeddings" in line]
    assert [line.split(" ")[1] for line in said] == ["max_length", "target_max_length", "evaluation.max_length"]
    assert all("was made for 20" in line for line in said)


def test_rows_that_are_longer_than_a_table_of_positions_are_refused(make_experiment, tokenizer, tmp_path):
    special = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=190, n_embd=32, n_layer=1, n_head=4, **special)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    long = Row("long", "long", (("user", "Go on"), ("assistant", "is " * 300)))
    write_rows(tmp_path / "pool.jsonl", [*make_rows(24), long])
    own = [f"model.path={tmp_path / 'gpt2'}", "lora.target_modules=[c_attn]"]
    with pytest.raises(ExperimentError, match=r"the model has 190 positions, rows have up to .*; set max_length=190"):
        make_experiment(*own)
    lengths = ["max_length=190", "target_max_length=190", "evaluation.max_length=190"]
    assert make_experiment(*own, *lengths)
    asked = ["target=reasoning_gym", "benchmark.rows_per_family=1"]  # answers have positions, too
    with pytest.raises(ExperimentError, match=r"the model has 190 positions, .*; set evaluation\.max_length=190"):
        make_experiment(*own, *lengths[:1], "target_max_length=190", "evaluation.max_length=600", *asked)
