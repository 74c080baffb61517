"""Tensors in a safetensors file: read whole, or refused in a sentence that names the file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lessexp.errors import DamagedFileError, MissingFileError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU; raises as `tensor_names` does."""
    with _refused_by_name(path):
        return load_file(path)


def tensor_names(path: Path) -> list[str]:
    """Names of a file's tensors; no tensor is read.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is no whole safetensors file, or holds a type that torch does not know.
    """
    with _refused_by_name(path), safe_open(path, framework="pt") as file:
        return list(file.keys())


@contextlib.contextmanager
def _refused_by_name(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    # safetensors looks up types by name, and takes sizes as the header gives them.
    except (OSError, SafetensorError, KeyError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFileError(f"{path}: not a whole safetensors file ({reason:.200}); copy it again") from error
