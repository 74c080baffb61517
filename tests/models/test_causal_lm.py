import json
import re
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

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


def test_a_tokenizer_that_has_nothing_to_pad_with_is_refused(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"pad_token": None, "eos_token": None}))
    with pytest.raises(ModelUnavailableError, match=r"neither a padding token nor an end token; name one of them in"):
        load_tokenizer(tmp_path)


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


@pytest.fixture
def rewritten(model_folder, tmp_path):
    """The tiny model with other tensors in its file, and other settings."""

    def rewrite(change, **settings):
        folder = shutil.copytree(model_folder, tmp_path / "rewritten", dirs_exist_ok=True)
        tensors = change(load_file(model_folder / "model.safetensors"))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((model_folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return folder

    return rewrite


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def renamed(old, new):
    return lambda tensors: {re.sub(old, new, name, count=1): tensor for name, tensor in tensors.items()}


def unchanged(tensors):
    return tensors


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (without("lm_head"), {}, r"the files of weights lack lm_head\.weight; copy the model again"),
        (without("layers.1."), {}, r"lack model\.layers\.1\.input_layernorm\.weight, .* and 6 more; copy"),
        (unchanged, {"num_hidden_layers": 4}, r"lack model\.layers\.2\.input_layernorm\.weight, .* and 15 more"),
        (without(""), {}, r"lack lm_head\.weight, model\.embed_tokens\.weight, .* and 18 more"),
        (renamed("^", "_orig_mod."), {}, r"its tensors' names begin with '_orig_mod\.', .*; save the model inside"),
        (renamed("^", "module."), {}, r"names begin with 'module\.', which a wrapper"),
        (renamed(r"proj\.weight$", "proj.qweight"), {}, r"lack .*proj\.weight.* and hold .*qweight .* in their place"),
        (unchanged, {"num_hidden_layers": 1}, r"hold model\.layers\.1\.input_.*, which a model of this config"),
        (unchanged, {"vocab_size": 100}, r"lm_head\.weight has the shape \(\d+, 32\) in the files .* \(100, 32\) by"),
        (
            lambda tensors: tensors | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)},
            {},
            r"hold model\.layers\.0\.self_attn\.q_proj\.bias, which a model of this config\.json lacks; correct",
        ),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_name(rewritten, device, change, settings, message):
    folder = rewritten(change, **settings)
    with pytest.raises(ModelUnavailableError, match=message) as refusal:
        load_causal_lm(folder, dtype="float32", device=device)
    assert str(refusal.value).startswith(f"{folder}: ") and "\n" not in str(refusal.value)


def with_buffers_of_old(tensors):
    names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.attn.masked_bias")
    return tensors | {name: torch.zeros(4) for name in names}


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (without("lm_head"), {"tie_word_embeddings": True}),
        (renamed("^model.", ""), {}),
        (with_buffers_of_old, {}),
    ],
    ids=["tied embeddings", "names of the model without its head", "buffers of older versions"],
)
def test_what_files_may_lack_or_hold_loads_with_the_values_of_the_file(rewritten, model, change, settings):
    loaded = load_causal_lm(rewritten(change, **settings), dtype="float32", device="cpu")
    expected = dict(model.named_parameters())
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert loaded.get_output_embeddings().weight.shape == expected["lm_head.weight"].shape


def test_a_model_on_meta_has_its_shapes_and_reads_no_weight(model_folder, model):
    empty = load_causal_lm(model_folder, dtype="float32", device="meta")
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert {name: parameter.shape for name, parameter in empty.named_parameters()} == shapes
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "settings",
    [{"model_type": "unheard-of"}, {"_attn_implementation": "flash_attention_7"}, {"hidden_size": "wide"}],
)
def test_a_model_that_transformers_cannot_make_is_refused_by_folder(rewritten, device, settings):
    folder = rewritten(unchanged, **settings)
    with pytest.raises(ModelUnavailableError, match="its model cannot be loaded") as refusal:
        load_causal_lm(folder, dtype="float32", device=device)
    assert str(refusal.value).startswith(f"{folder}: ") and "\n" not in str(refusal.value)


def test_a_config_that_does_not_fit_the_weights_is_refused_by_folder(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = (folder / "config.json").read_text()
    for changed in ("{}", "[]", "{", config.replace('"hidden_size": 32', '"hidden_size": "32"')):
        (folder / "config.json").write_text(changed)
        with pytest.raises(ModelUnavailableError, match="its model cannot be loaded"):
            load_causal_lm(folder, dtype="float32", device="cpu")
