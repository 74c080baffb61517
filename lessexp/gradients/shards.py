"""The files of a gradient store's rows: each is checked against the manifest before it is read."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lessexp.gradients.manifest import DatastoreError, Manifest

# By the store's dtype: what safetensors calls the stored type, and how many values of a row share one.
STORED = {
    "float32": ("F32", 1),
    "bfloat16": ("BF16", 1),
    "float16": ("F16", 1),
    "int8": ("I8", 1),
    "int4": ("U8", 2),
    "int1": ("U8", 8),
}


def shard_path(root: Path, checkpoint: int, shard: int) -> Path:
    """Where a shard of the store in ``root`` lies."""
    return root / f"checkpoint={checkpoint}" / f"shard-{shard:05d}.safetensors"


@contextlib.contextmanager
def open_shard(root: Path, manifest: Manifest, checkpoint: int, shard: int) -> Iterator[Any]:
    """A shard's file, to be asked for ``rows``, ``scale`` and ``norm``.

    Raises:
        DatastoreError: naming the file, which is missing, damaged, or not of the shapes and types of the manifest.
    """
    path = shard_path(root, checkpoint, shard)
    try:
        with safe_open(path, framework="pt") as file:
            _check_layout(path, file, manifest, shard)
            yield file
    except FileNotFoundError as error:
        raise DatastoreError(f"{path}: no such file; {_advice(path)}") from error
    except (OSError, SafetensorError) as error:
        raise DatastoreError(f"{path}: not a whole safetensors file ({error!s:.200}); {_advice(path)}") from error


def _advice(shard: Path) -> str:
    return f"'python -m lessexp.wholeness repair {shard.parents[1]}' deletes it, and the next run computes it anew"


def _check_layout(path: Path, file: Any, manifest: Manifest, shard: int) -> None:
    stored_type, per_value = STORED[manifest.dtype]
    n_rows = len(manifest.shard_rows(shard))
    wanted = {
        "norm": ("F32", [n_rows]),
        "rows": (stored_type, [n_rows, math.ceil(manifest.proj_dim / per_value)]),
        "scale": ("F32", [n_rows]),
    }
    slices = {name: file.get_slice(name) for name in sorted(file.keys())}
    found = {name: (one.get_dtype(), list(one.get_shape())) for name, one in slices.items()}
    if found != wanted:
        holds, says = (
            "; ".join(f"{name} {kind}{shape}" for name, (kind, shape) in one.items()) for one in (found, wanted)
        )
        raise DatastoreError(f"{path}: holds {holds:.200}, the manifest says {says}; {_advice(path)}")
