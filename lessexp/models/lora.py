"""The LoRA adapter. This file alone fixes which parameters are trained, under which names, in which order.

A parameter's name is the one it has in ``adapter_model.safetensors``, e.g.
``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight``; the order is the model's own.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lessexp.errors import UserError
from lessexp.models.linear_layers import linear_layers
from lessexp.models.tensor_files import read_tensors

_ADAPTER = "default"
WEIGHTS_FILE = "adapter_model.safetensors"


class AdapterMismatchError(UserError, ValueError):
    """An adapter that does not fit the model; the message names the parameter."""


@dataclass(frozen=True)
class LoraSettings:
    """What determines an adapter (Hu et al., arXiv:2106.09685).

    Attributes:
        rank: inner dimension r.
        alpha: the update is scaled by alpha / rank.
        dropout: on the adapter's input, in training only.
        target_modules: ends of the names of the linear layers that get an adapter.
    """

    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]


def attach_lora(model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> PeftModel:
    """Freeze the model and add a fresh float32 adapter that leaves its outputs and its mode as they are.

    Args:
        model: changed in place. In evaluation mode, dropout is off in the adapter too.
        settings: shape of the adapter.
        seed: of A's initial values; the global generator of the CPU is left as it was.

    Raises:
        NoSuchLayerError: no layer has any of the target names, or one is no linear layer before the output layer.
        AdapterMismatchError: it takes no adapter for another reason.
    """
    layers = list(linear_layers(model, settings.target_modules, key="lora.target_modules").values())
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
        bias="none",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers),  # GPT-2 keeps its weights transposed
        task_type="CAUSAL_LM",
    )
    # Layers of our own that act as linear ones get the same adapter as nn.Linear; quantised ones have peft's own.
    linear_alikes = {
        type(layer) for layer in layers if not isinstance(layer, nn.Linear) and hasattr(layer, "in_features")
    }
    config._register_custom_module(dict.fromkeys(linear_alikes, LoraLinear))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type .*lessexp")
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config).train(model.training)
        except ValueError as error:
            raise AdapterMismatchError(f"lora.target_modules={list(settings.target_modules)}: {error}") from error


def _public_name(name: str) -> str:
    return name.replace(f".{_ADAPTER}.", ".")


_WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"}


def public_name_of_saved(name: str) -> str:
    """The public name of a parameter as another trainer may have written it.

    Parts that wrappers put in (FSDP, activation checkpointing, torch.compile), what stands before peft's
    ``base_model`` (``module.`` of DDP, the attribute of a LightningModule) and the adapter's own name are left out.
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    if "base_model" in parts:
        parts = parts[parts.index("base_model") :]
    if len(parts) >= 3 and parts[-3] in ("lora_A", "lora_B"):
        del parts[-2]
    return ".".join(parts)


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters by public name, in the model's order."""
    return {
        _public_name(name): parameter
        for name, parameter in model.named_parameters()
        if f".{_ADAPTER}." in name and ("lora_A" in name or "lora_B" in name)
    }


def lora_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The adapter's linear layers A and B (``y = W x + alpha / rank * B A x``) by public name, in the model's order."""
    return {
        f"{name}.{part}": getattr(module, part)[_ADAPTER]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and _ADAPTER in module.lora_A
        for part in ("lora_A", "lora_B")
    }


def save_adapter(model: PeftModel, folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write an adapter so that plain ``peft`` loads it.

    Args:
        model: with an adapter of this shape.
        folder: gets the files.
        tensors: the adapter's values by public name.
    """
    model.peft_config[_ADAPTER].save_pretrained(folder)
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(values, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors by public name; raises as `read_tensors` does."""
    return read_tensors(folder / WEIGHTS_FILE)


def copy_into(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the adapter's parameters; raises as `copy_values` does."""
    copy_values(lora_parameters(model), tensors)


def copy_values(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Set parameters.

    Raises:
        AdapterMismatchError: a name is missing or unknown, or a shape differs.
    """
    check_names(tensors, expected=list(parameters))
    for name, parameter in parameters.items():
        if tensors[name].shape != parameter.shape:
            raise AdapterMismatchError(
                f"{name}: shape {tuple(tensors[name].shape)} in the file, {tuple(parameter.shape)} in the model"
            )
        with torch.no_grad():
            parameter.copy_(tensors[name])


def check_names(names: Collection[str], *, expected: Sequence[str]) -> None:
    """Compare parameter names.

    Raises:
        AdapterMismatchError: naming the first one that is missing or unknown.
    """
    if missing := [name for name in expected if name not in names]:
        raise AdapterMismatchError(f"{len(missing)} parameters are missing, the first is {missing[0]}")
    if unknown := [name for name in names if name not in set(expected)]:
        raise AdapterMismatchError(f"{len(unknown)} parameters are unknown, the first is {unknown[0]}")
