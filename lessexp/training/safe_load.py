"""Files that other programs wrote with ``torch.save``, read without running any code in them."""

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from lessexp.errors import UserError


class UnsafeFileError(UserError, ValueError):
    """A file that holds more than tensors and plain values, or cannot be read at all."""


def load_tensors(path: Path) -> Any:
    """Tensors, numbers, strings and containers of them, on the CPU, read from disk when they are used.

    Raises:
        UnsafeFileError: naming the file and the class in it that would have to be run.
    """
    try:
        # Only the zip layout, which torch writes since 1.6, can be mapped into memory.
        return torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "something else than tensors and plain values"
        raise UnsafeFileError(
            f"{path} holds {what}; no code of a file is ever run, so save it again with tensors, numbers "
            "and text only (of an optimizer, its state_dict() alone)"
        ) from None
    # A damaged stream leads torch's unpickler to whatever its next byte happens to mean.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UnsafeFileError(f"{path} cannot be read: {reason}; copy it again") from None
