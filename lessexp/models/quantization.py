"""The frozen weights in 8 or 4 bits (bitsandbytes), so that a model of several times the size fits a device.

Only the linear layers of the blocks are rounded; embeddings, norms and the output layer keep the model's
floating-point type. The adapter and its gradients are float32 as over any other model, and what flows back to an
adapter goes through the rounded weights.
"""

import logging
from collections.abc import Callable, Mapping

import torch
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from lessexp.models.source import ModelUnavailableError


def _int8(_dtype: torch.dtype) -> BitsAndBytesConfig:
    """LLM.int8() (Dettmers et al., arXiv:2208.07339): one scale for each row of a weight and for each token.

    Input features that exceed the paper's threshold anywhere in a batch are multiplied in floating point for the
    whole batch, so an example's gradient depends a little on which others share its batch.
    """
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's 4-bit NormalFloat with doubly quantised scales (Dettmers et al., arXiv:2305.14314)."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


_QUANTIZATIONS: Mapping[str, Callable[[torch.dtype], BitsAndBytesConfig]] = {"int8": _int8, "nf4": _nf4}


def quantization_config(name: str | None, *, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How transformers is to load the weights.

    Args:
        name: of the format, or ``None`` for weights as they are.
        dtype: the model's floating-point type, in which rounded weights are multiplied.

    Raises:
        ModelUnavailableError: there is no such format, or bitsandbytes is not installed.
    """
    if name is None:
        return None
    if name not in _QUANTIZATIONS:
        raise ModelUnavailableError(f"model.quantization must be null, {' or '.join(_QUANTIZATIONS)}, got {name}")
    if not is_bitsandbytes_available():
        raise ModelUnavailableError(
            f"model.quantization={name} needs a recent bitsandbytes; install it with pip install 'lessexp[gpu]'"
        )
    return _QUANTIZATIONS[name](dtype)


def refuse_blocks_over_rows(model: nn.Module) -> None:
    """Refuse 4-bit weights on a CPU whose blocks of one scale each run on from row to row.

    bitsandbytes 0.50 multiplies such weights out with the wrong scales on CPUs with AVX-512.

    Raises:
        ModelUnavailableError: the inputs of a layer do not fill whole blocks.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.weight.device.type == "cpu" and hasattr(layer.weight, "quant_state"):
            block = layer.weight.quant_state.blocksize
            if layer.in_features % block:
                raise ModelUnavailableError(
                    f"model.quantization=nf4 on a CPU needs layers whose inputs are a multiple of {block}, and {name} "
                    f"has {layer.in_features}; set model.quantization=int8 or null"
                )


def prepare_for_gradients(model: nn.Module) -> None:
    """Undo two habits of bitsandbytes layers; other layers are left alone."""
    # 8-bit layers would log, at every call, that they round from float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for layer in model.modules():
        # On some CPUs a pass without gradients would repack 4-bit weights for good into a layout
        # that has no backward pass: later gradients would silently miss these layers.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
