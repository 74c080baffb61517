"""Tensors in a safetensors file: read whole, or refused in a sentence that names the file."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lessexp.errors import DamagedFileError, MissingFileError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is no whole safetensors file, or holds a type that torch does not know.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    # safetensors looks up types by name, and takes sizes as the header gives them.
    except (OSError, SafetensorError, KeyError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFileError(f"{path}: not a whole safetensors file ({reason:.200}); copy it again") from error
