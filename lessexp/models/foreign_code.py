"""Model folders that bring code or pickles are refused before anything in them is loaded.

transformers is told never to run such code; a folder that asks for it is refused all the same, for without it the
model may be another one than its authors meant.
"""

from pathlib import Path

from lessexp.errors import UserError
from lessexp.files import read_json

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")


class ForeignCodeError(UserError, ValueError):
    """A model folder that asks for code or files of others; the message names the file."""


def refuse_foreign_code(folder: Path) -> None:
    """Check what a model folder says about itself.

    Raises:
        ForeignCodeError: a file of settings names code, the index names something else than safetensors beside it, or
            the folder holds an adapter, whose base model would be loaded from wherever it says.
        DamagedFileError: one of these files is no JSON object.
    """
    for path in [folder / name for name in _SETTINGS if (folder / name).is_file()]:
        if "auto_map" in read_json(path):
            raise ForeignCodeError(
                f"{path}: 'auto_map' names Python code that comes with the model, and such code is never run; take "
                "'auto_map' out if transformers has this model itself, or choose another model"
            )
    if (folder / _ADAPTER).is_file():
        raise ForeignCodeError(
            f"{folder / _ADAPTER}: this folder holds an adapter of another model; merge the two, or move the file away"
        )
    if (folder / _INDEX).is_file():
        shards = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise ForeignCodeError(f"{folder / _INDEX}: 'weight_map' must be an object; copy the model again")
        for name in shards.values():
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise ForeignCodeError(
                    f"{folder / _INDEX}: weights lie in {name!r:.80}; only .safetensors files beside it are loaded"
                )


def weights_in_pickles(folder: Path) -> list[str]:
    """Names of the files in a folder that may be pickles."""
    return sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
