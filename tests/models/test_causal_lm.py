import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessexp.data.tokenize import IGNORED_LABEL, collate
from lessexp.models.causal_lm import answer_logits, load_causal_lm, load_tokenizer, per_example_loss
from lessexp.models.source import ModelUnavailableError
from tests.hostile import damaged


@pytest.fixture
def model(model_folder):
    return load_causal_lm(model_folder, dtype="float32", device="cpu")


def test_answer_logits_are_the_models_own_at_the_answer_positions(model, batch):
    everywhere = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = everywhere[:, :-1][batch.labels[:, 1:] != IGNORED_LABEL]
    # The same numbers out of a smaller matrix product.
    torch.testing.assert_close(answer_logits(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_the_head_is_left_as_it_was(model, batch):
    answer_logits(model, batch)
    assert model(input_ids=batch.input_ids).logits.shape[:2] == batch.input_ids.shape


def test_loss_is_the_mean_over_each_examples_own_answer_tokens(model, tokenized, tokenizer):
    together = per_example_loss(model, collate(tokenized, pad_token_id=tokenizer.pad_token_id))
    for index, row in enumerate(tokenized):
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        nll = [-logits[position - 1, label] for position, label in enumerate(row.labels) if label != IGNORED_LABEL]
        # float32 model, float64 reference
        torch.testing.assert_close(together[index].double(), torch.stack(nll).mean(), rtol=1e-5, atol=1e-5)


def test_the_losses_of_a_batch_do_not_mix(model, tokenized, tokenizer):
    rows = tokenized[:6]
    whole = per_example_loss(model, collate(rows, pad_token_id=tokenizer.pad_token_id))
    alone = torch.cat([per_example_loss(model, collate([row], pad_token_id=tokenizer.pad_token_id)) for row in rows])
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-6)


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_token(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"pad_token": "</s>"', '"pad_token": null'))
    loaded = load_tokenizer(tmp_path)
    assert loaded.pad_token == loaded.eos_token


def test_a_model_loads_in_the_dtype_asked_for_and_in_evaluation_mode(model_folder):
    model = load_causal_lm(model_folder, dtype="bfloat16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert not model.training


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@settings(max_examples=max(4, settings.default.max_examples // 100))  # a model takes long to load
@given(data=st.data())
def test_any_bytes_in_a_models_files_load_or_are_refused_by_folder(model_folder, tmp_path, name, data):
    folder = tmp_path / "model"
    if not folder.exists():
        shutil.copytree(model_folder, folder)
    (folder / name).write_bytes(data.draw(damaged((model_folder / name).read_bytes())))
    try:
        load_causal_lm(folder, dtype="float32", device="cpu") if "model" in name else load_tokenizer(folder)
    except ModelUnavailableError as error:
        assert str(error).startswith(str(folder))


def test_a_config_that_does_not_fit_the_weights_is_refused_by_folder(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = (folder / "config.json").read_text()
    for changed in ("{}", "[]", "{", config.replace('"hidden_size": 32', '"hidden_size": "32"')):
        (folder / "config.json").write_text(changed)
        with pytest.raises(ModelUnavailableError, match="its model cannot be loaded"):
            load_causal_lm(folder, dtype="float32", device="cpu")
