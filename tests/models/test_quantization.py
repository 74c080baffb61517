import logging

import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models import quantization
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.models.lora import attach_lora, lora_parameters
from lessexp.models.source import ModelUnavailableError
from tests.conftest import LORA, build_model, perturb_adapter

# QLoRA, arXiv:2305.14314, appendix E.
NF4_LEVELS = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


@pytest.fixture(scope="module")
def wide_folder(tokenizer, tmp_path_factory):
    """The tiny model in twice its width, so that each row of a weight fills whole blocks of 64, as nf4 needs."""
    folder = tmp_path_factory.mktemp("wide")
    build_model(len(tokenizer), width=64).save_pretrained(folder)
    return folder


@pytest.fixture
def load(model_folder, wide_folder):
    """Loads the tiny model rounded, or unrounded as ``before`` rounding; skips where bitsandbytes is missing."""

    def load(name, dtype="float32", before=None):
        if name is not None:
            pytest.importorskip("bitsandbytes")
        folder = wide_folder if "nf4" in (name, before) else model_folder
        return load_causal_lm(folder, dtype=dtype, device="cpu", quantization=name)

    return load


def with_adapter(model):
    return perturb_adapter(attach_lora(model, LORA, seed=0)).eval()


def attention_weight(model):
    """The first layer's q projection, multiplied out."""
    layer = model.model.layers[0].self_attn.q_proj
    return layer(torch.eye(layer.in_features)).T


def one_at_a_time(model, batch):
    """Gradients of each example by autograd, from its row of the batch's losses."""
    parameters = lora_parameters(model)
    rows = [
        torch.autograd.grad(per_example_loss(model, batch)[index], list(parameters.values()))
        for index in range(len(batch.example_ids))
    ]
    return {name: torch.stack(grads) for name, grads in zip(parameters, zip(*rows, strict=True), strict=True)}


def worst_error(found, expected):
    """Largest relative error of one example's gradient of one parameter."""
    assert found.keys() == expected.keys()
    errors = [(found[name] - expected[name]).flatten(1).norm(dim=1) for name in expected]
    norms = [expected[name].flatten(1).norm(dim=1) for name in expected]
    assert min(norm.min() for norm in norms) > 1e-6
    return max((error / norm).max().item() for error, norm in zip(errors, norms, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [None, "int8", "nf4"])
def test_lora_gradients_are_float32_and_equal_autograd_over_every_kind_of_base(load, batch, name, dtype):
    model = with_adapter(load(name, dtype))
    assert model.dtype == getattr(torch, dtype)
    assert {parameter.dtype for parameter in lora_parameters(model).values()} == {torch.float32}
    batched = per_example_gradients(model, batch)
    assert {grad.dtype for grad in batched.values()} == {torch.float32}
    # The same batch went forward, so even in bfloat16 the same numbers reach each adapter; only their sum over
    # tokens is taken otherwise. Had it been taken in bfloat16, the error would be near 4e-3.
    assert worst_error(batched, one_at_a_time(model, batch)) < 1e-5


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        (None, "bfloat16", 0.03),  # 8 bits of precision, and sums of another order through two layers
        ("nf4", "bfloat16", 0.03),
        ("nf4", "float32", 1e-4),  # the rounded weights are constants, multiplied in float32
        ("int8", "float32", 0.05),  # which input features stay unrounded is decided for a batch as a whole
    ],
)
def test_examples_of_a_batch_get_the_gradients_they_get_alone(load, tokenized, batch, name, dtype, tolerance):
    model = with_adapter(load(name, dtype))
    alone = [one_at_a_time(model, collate([row], pad_token_id=1)) for row in tokenized[: len(batch.example_ids)]]
    expected = {name: torch.cat([grads[name] for grads in alone]) for name in alone[0]}
    assert worst_error(per_example_gradients(model, batch), expected) < tolerance


def test_nf4_rounds_blocks_of_64_weights_to_the_levels_of_the_paper(load):
    blocks = attention_weight(load(None, before="nf4")).reshape(-1, 64)
    levels = torch.tensor(NF4_LEVELS)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(levels).abs().argmin(dim=-1)
    rounded = attention_weight(load("nf4")).reshape(-1, 64) / largest
    # Scales are stored in 8 bits themselves.
    torch.testing.assert_close(rounded, levels[nearest], rtol=0.02, atol=1e-6)


def test_int8_rounds_each_row_of_a_weight_to_127_steps_of_its_largest(load):
    weight = attention_weight(load(None))
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    # Weights are rounded to float16 first, which can move one to the next step.
    error = attention_weight(load("int8")) / step - weight / step
    assert error.abs().max() < 0.5 + 127 * 2**-11
    assert error.abs().max() > 0.4


def test_embeddings_norms_and_output_layer_keep_the_models_type(load):
    model = load("nf4", "bfloat16")
    kept = [model.get_input_embeddings(), model.get_output_embeddings(), model.model.layers[0].input_layernorm]
    assert {layer.weight.dtype for layer in kept} == {torch.bfloat16}
    assert model.model.layers[1].mlp.down_proj.weight.dtype == torch.uint8


def test_a_pass_without_gradients_leaves_later_gradients_as_they_were(load, batch, monkeypatch):
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    expected = per_example_gradients(with_adapter(load("nf4")), batch)
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)  # as on a CPU for which weights are repacked
    model = with_adapter(load("nf4"))
    with torch.no_grad():
        per_example_loss(model, batch)
    for name, grad in per_example_gradients(model, batch).items():
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=0)


def test_8_bit_layers_do_not_log_at_every_call(load, batch, caplog):
    model = load("int8", "bfloat16")
    with caplog.at_level(logging.WARNING):
        per_example_loss(model, batch)
    assert not caplog.records


def test_4_bit_blocks_that_run_over_rows_are_refused_on_a_cpu(model_folder):
    pytest.importorskip("bitsandbytes")
    assert load_causal_lm(model_folder, dtype="float32", device="cpu", quantization="int8")
    with pytest.raises(ModelUnavailableError, match=r"multiple of 64, and model\.layers\.0\.\S+ has 32; set .*int8"):
        load_causal_lm(model_folder, dtype="float32", device="cpu", quantization="nf4")


def test_an_unknown_name_lists_what_there_is(model_folder):
    with pytest.raises(ModelUnavailableError, match=r"model\.quantization must be null, int8 or nf4, got int3"):
        load_causal_lm(model_folder, dtype="float32", device="cpu", quantization="int3")


def test_without_bitsandbytes_the_error_says_what_to_install(model_folder, monkeypatch):
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelUnavailableError, match=r"quantization=nf4 needs .*pip install 'lessexp\[gpu\]'"):
        load_causal_lm(model_folder, dtype="float32", device="cpu", quantization="nf4")
    assert load_causal_lm(model_folder, dtype="float32", device="cpu", quantization=None).dtype == torch.float32
