"""The pieces of a half-built artifact, shards and epochs: each says where it belongs and what it held when written.

    checkpoint=1/shard-00000.safetensors   ``seal`` in its metadata: hash of the store's record, its place, its tensors
    epoch=1/sha256.json                    the folder's own name, and the hash of each of its files

A piece that was damaged, or moved to the place of another, is found before a stopped run resumes from it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lessexp.errors import UserError
from lessexp.files import hashes_of, read_json, write_json

PLAN = "manifest.partial.json"
MANIFEST = "manifest.json"
SEAL_FILE = "sha256.json"
_SEAL = "seal"
_KNOWN_AT_THE_END = ("excluded", "sha256")


def store_hash(manifest: Mapping[str, Any]) -> str:
    """Hash of what a store's manifest says before the store is finished."""
    fields = {name: value for name, value in manifest.items() if name not in _KNOWN_AT_THE_END}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def seal_of(store: str, place: str, content: bytes) -> dict[str, str]:
    """The metadata that seal a shard.

    Args:
        store: its `store_hash`.
        place: the shard's path within the store.
        content: of the file, with or without the seal.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    header.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps([store, place, header], sort_keys=True).encode())
    digest.update(memoryview(content)[start:])
    return {_SEAL: digest.hexdigest()}


def seal_folder(folder: Path, place: str) -> None:
    """Record the name that a folder is to have and the hashes of the files in it."""
    write_json(folder / SEAL_FILE, {"place": place, "sha256": _hashes_in(folder)})


def damaged_pieces(folder: Path) -> list[str]:
    """Paths, within a half-built artifact, of the shards and epochs that are not as they were written.

    Shards are compared with the store's record. If it is missing or damaged, `DatastoreWriter` compares them once it
    has written the record anew.
    """
    damaged = []
    if record := next((folder / name for name in (PLAN, MANIFEST) if (folder / name).exists()), None):
        try:
            store = store_hash(read_json(record))
            places = [shard.relative_to(folder).as_posix() for shard in folder.glob("checkpoint=*/shard-*.safetensors")]
            damaged += [place for place in sorted(places) if not _has_seal(folder / place, store, place)]
        except UserError:
            damaged.append(record.name)
    epochs = sorted([*folder.glob("epoch=*"), *folder.glob("epochs/epoch=*")])
    named = (epoch for epoch in epochs if epoch.name.removeprefix("epoch=").isdigit())
    return damaged + [epoch.relative_to(folder).as_posix() for epoch in named if not is_sealed(epoch)]


def is_sealed(folder: Path) -> bool:
    """Whether a folder holds what `seal_folder` saw, under the name that it was to have."""
    try:
        record = read_json(folder / SEAL_FILE)
        return record == {"place": folder.name, "sha256": _hashes_in(folder)}
    except (UserError, OSError):
        return False


def _hashes_in(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL_FILE)
    return hashes_of(files, within=folder)


def _has_seal(path: Path, store: str, place: str) -> bool:
    try:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return header["__metadata__"] == seal_of(store, place, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
