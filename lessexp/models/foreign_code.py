"""Model folders that bring code or pickles are refused before anything in them is loaded.

transformers is told never to run such code; a folder that asks for it is refused all the same, for without it the
model may be another one than its authors meant. Settings that make transformers look for weights, kernels or further
settings elsewhere are refused for the same reason: what they lead to would not be checked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lessexp.errors import UserError
from lessexp.files import read_json

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
_QUANTIZED = (
    "says that the weights are quantised already, and such weights are not loaded; take the model as it was before "
    "(model.quantization=nf4 or int8 quantises it on loading)"
)
_REFUSED = {
    "auto_map": "names Python code that comes with the model, and such code is never run; take 'auto_map' out if "
    "transformers has this model itself, or choose another model",
    "quantization_config": _QUANTIZED,
    "compression_config": _QUANTIZED,
    "configuration_files": "names other files of settings; put the right one in this one's place",
    "transformers_weights": "names another file of weights; only model.safetensors, or the files that "
    "model.safetensors.index.json names, are loaded",
}
# Any other name stands for a package or a repository of the hub whose code would be run.
_IMPLEMENTATIONS = {
    "attn_implementation": ("eager", "sdpa"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}
INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_SHARDS_OF_PROCESSES = "shard-*-model-*.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")


class ForeignCodeError(UserError, ValueError):
    """A model folder that asks for code or files of others; the message names the file."""


def refuse_foreign_code(folder: Path) -> None:
    """Check what a model folder says about itself.

    Raises:
        ForeignCodeError: a file of settings names code, kernels or files, or says that the weights are quantised; the
            index names something else than safetensors beside it; or the folder holds an adapter, whose base model
            would be loaded from wherever it says.
        DamagedFileError: one of these files is no JSON object.
    """
    for path in [folder / name for name in _SETTINGS if (folder / name).is_file()]:
        for key, value in entries(read_json(path)):
            if key in _REFUSED and value:
                raise ForeignCodeError(f"{path}: '{key}' {_REFUSED[key]}")
            public = key.removeprefix("_").removesuffix("_internal")
            for name in _names(value) if public in _IMPLEMENTATIONS else ():
                if name not in _IMPLEMENTATIONS[public]:
                    raise ForeignCodeError(
                        f"{path}: '{key}' names {name!r:.80}, which may be code of others and is not loaded; take the "
                        f"entry out, or set it to {' or '.join(_IMPLEMENTATIONS[public])}"
                    )
    if (folder / _ADAPTER).is_file():
        raise ForeignCodeError(
            f"{folder / _ADAPTER}: this folder holds an adapter of another model; merge the two, or move the file away"
        )
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise ForeignCodeError(f"{folder / INDEX}: 'weight_map' must be an object; copy the model again")
        for name in shards.values():
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise ForeignCodeError(
                    f"{folder / INDEX}: weights lie in {name!r:.80}; only .safetensors files beside it are loaded"
                )
    for path in folder.glob(_SHARDS_OF_PROCESSES):  # transformers would take them in place of the others
        raise ForeignCodeError(f"{path}: the part of a model that one process has saved; save the model as a whole")


def entries(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """All keys and values of settings, those of settings inside them, too."""
    pending: list[Any] = [settings]
    while pending:
        inside = pending.pop()
        if isinstance(inside, dict):
            yield from inside.items()
            inside = inside.values()
        pending += [value for value in inside if isinstance(value, dict | list)]


def _names(implementation: Any) -> list[Any]:
    """What an entry names, for the whole model or for each of its parts."""
    named = implementation.values() if isinstance(implementation, dict) else [implementation]
    return [name for name in named if name is not None]


def weights_in_pickles(folder: Path) -> list[str]:
    """Names of the files in a folder that may be pickles."""
    return sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
