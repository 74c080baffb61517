"""The ``adapter_config.json`` of another trainer, compared with the run's own adapter settings."""

import json
from pathlib import Path
from typing import Any

from lessexp.errors import UserError
from lessexp.files import read_json
from lessexp.models.lora import LoraSettings

CONFIG_FILE = "adapter_config.json"

# Entries that leave the parameters and what they compute alone, or that are compared below or by parameter names.
_HARMLESS = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
# Initial values that leave the base model's weights as they were; the others (PiSSA, OLoRA, CorDA, LoftQ) change them.
_INITIAL_VALUES = (True, False, "gaussian", "orthogonal", "eva")


class ForeignAdapterError(UserError, ValueError):
    """An adapter of another kind than the run's; the message names the setting."""


def check_adapter_config(path: Path, lora: LoraSettings) -> None:
    """Check that an adapter is the run's kind: plain LoRA of its rank, alpha and target modules.

    Which layers a pattern in ``target_modules`` means is left to the names of the parameters.

    Raises:
        ForeignAdapterError: naming the setting that differs, and the key to set or what cannot be imported.
    """
    config = read_json(path)
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ForeignAdapterError(f"{path}: peft_type is {kind}; only LORA can be imported")
    if config.get("bias", "none") != "none":
        raise ForeignAdapterError(f"{path}: bias is '{config['bias']}'; only adapters with bias='none' can be imported")
    for key, value in config.items():
        if value and key not in _HARMLESS:
            raise ForeignAdapterError(f"{path}: {key} is {json.dumps(value):.100}; only plain LoRA can be imported")
    if (initial := config.get("init_lora_weights", True)) not in _INITIAL_VALUES:
        raise ForeignAdapterError(
            f"{path}: init_lora_weights is '{initial}', which trains on changed weights of the base model; "
            "only adapters on the base model as it is can be imported"
        )
    if missing := [key for key in ("r", "lora_alpha", "target_modules") if key not in config]:
        raise ForeignAdapterError(f"{path}: has no '{missing[0]}', so it is no configuration of LoRA; copy it again")
    _check_value(path, "r", config["r"], "lora.rank", lora.rank)
    _check_value(path, "lora_alpha", config["lora_alpha"], "lora.alpha", lora.alpha)
    targets = config["target_modules"]
    if not isinstance(targets, str):
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise ForeignAdapterError(f"{path}: target_modules must be a text or a list of texts, got {targets!r:.80}")
        endings = sorted({target.rsplit(".", 1)[-1] for target in targets})
        if set(endings) != set(lora.target_modules):
            shown = ",".join(endings)
            raise ForeignAdapterError(
                f"{path}: target_modules are {endings}, the run has lora.target_modules={list(lora.target_modules)}; "
                f"set 'lora.target_modules=[{shown}]'"
            )


def _check_value(path: Path, name: str, found: Any, key: str, wanted: Any) -> None:
    if found != wanted:
        raise ForeignAdapterError(f"{path}: {name} is {found}, the run has {key}={wanted}; set {key}={found}")
