"""Gradient features on disk: immutable safetensors shards and a manifest that says what they are.

    manifest.json                         what was computed, from what; written last
    checkpoint=1/shard-00000.safetensors  ``rows`` [n, stored width], ``scale`` and ``norm`` [n] of consecutive examples

Each shard carries a seal (`lessexp.pieces`), compared before a stopped run resumes and when the store is finished.
A row's value is ``decoded rows * scale``, and ``norm`` is its length in units of the scale, so a cosine needs
no second look at the row. A row that has no direction (its gradient was zero or not finite) has scale 0
or NaN; the manifest lists it as excluded.

``python -m lessexp.gradients.datastore verify PATH`` checks every file against its hash in the manifest.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor

from lessexp.errors import MissingFileError, UserError
from lessexp.files import changed_files, remove, sha256_of, user_path, write_json, written_whole
from lessexp.gradients.codecs import CODECS, EncodedRows, encode
from lessexp.gradients.manifest import DatastoreError, Manifest, check_same, read_manifest
from lessexp.gradients.shards import open_shard, shard_path
from lessexp.pieces import MANIFEST, PLAN, seal_of, store_hash
from lessexp.wholeness import check_pieces


class NoDirectionError(UserError, ValueError):
    """A gradient that is zero or not finite; the message names the example."""


class DatastoreWriter:
    """Fills a store shard by shard; started again, it goes on after the last whole shard.

    Args:
        root: folder of the store.
        manifest: what it is going to hold.

    Raises:
        DatastoreError: ``root`` holds a store, or part of one, made under other settings.
        DamageError: ``root`` holds shards of a store whose record was lost, and they are of another store.
    """

    def __init__(self, root: Path, manifest: Manifest):
        if manifest.dtype not in CODECS:
            raise DatastoreError(f"datastore.dtype must be one of {', '.join(CODECS)}, got {manifest.dtype}")
        self.root = root
        self.manifest = manifest
        root.mkdir(parents=True, exist_ok=True)
        wanted = asdict(manifest)
        try:
            with contextlib.suppress(MissingFileError):
                check_same(root, found=_begun(root), wanted=wanted)
        except DatastoreError as error:
            raise DatastoreError(f"{error}; delete {root} to begin again") from error
        if not (root / PLAN).exists():
            write_json(root / PLAN, wanted)
            check_pieces(root)
        self._store = store_hash(wanted)
        self._remove_half_written()

    def _remove_half_written(self) -> None:
        """Delete what a killed process left beside the whole shards: our partial files and those of safetensors."""
        for pattern in ("*.partial", ".tmp*"):
            for file in self.root.glob(f"checkpoint=*/{pattern}"):
                remove(file)

    def missing_shards(self, checkpoint: int) -> Iterator[int]:
        """Shards of a checkpoint that are yet to be written, in order."""
        for shard in range(self.manifest.n_shards):
            if self.lacks(checkpoint, shard):
                yield shard

    def lacks(self, checkpoint: int, shard: int) -> bool:
        """Whether a shard is yet to be written."""
        return not shard_path(self.root, checkpoint, shard).exists()

    def write_shard(self, checkpoint: int, shard: int, features: Float[Tensor, "n proj_dim"]) -> None:
        """Encode and write one shard; raises as `write_encoded` does."""
        if features.shape[1] != self.manifest.proj_dim:
            raise ValueError(f"rows of {self.root} have width {self.manifest.proj_dim}, got {features.shape[1]}")
        self.write_encoded(checkpoint, shard, encode(features, self.manifest.dtype))

    def write_encoded(self, checkpoint: int, shard: int, rows: EncodedRows) -> None:
        """Write one shard; it appears whole or not at all.

        Raises:
            ValueError: ``rows`` are not as many as the shard's.
            DatastoreError: the file cannot be written, as on a full disk; nothing of it is left.
        """
        if len(rows.scale) != len(self.manifest.shard_rows(shard)):
            raise ValueError(f"shard {shard} holds {len(self.manifest.shard_rows(shard))} rows, got {len(rows.scale)}")
        path = shard_path(self.root, checkpoint, shard)
        path.parent.mkdir(exist_ok=True)
        seal = seal_of(self._store, self._name(path), save(vars(rows)))
        try:
            with written_whole(path) as partial:
                save_file(vars(rows), partial, metadata=seal)
        except (OSError, SafetensorError) as error:
            raise DatastoreError(
                f"{path}: cannot be written ({error}); make room or choose another artifacts_dir, and run again"
            ) from error

    def finish(self) -> "GradientDatastore":
        """Write the manifest, with the rows that have no direction, and open the store.

        Raises:
            DatastoreError: shards are missing or not of the manifest's layout.
            DamageError: shards are not as they were written.
        """
        check_pieces(self.root)
        excluded: dict[str, str] = {}
        sha256: dict[str, str] = {}
        for checkpoint in self.manifest.checkpoints:
            if missing := list(self.missing_shards(checkpoint)):
                raise DatastoreError(f"{self.root}: checkpoint {checkpoint} lacks shards {missing}")
            for shard in range(self.manifest.n_shards):
                with open_shard(self.root, self.manifest, checkpoint, shard) as file:
                    scale = file.get_tensor("scale")
                path = shard_path(self.root, checkpoint, shard)
                sha256[self._name(path)] = sha256_of(path)
                for offset in ((scale == 0) | scale.isnan()).nonzero()[:, 0].tolist():
                    kind = "zero" if scale[offset] == 0 else "not finite"
                    example_id = self.manifest.example_ids[self.manifest.shard_rows(shard)[offset]]
                    excluded.setdefault(example_id, f"its gradient is {kind} at checkpoint {checkpoint}")
        record = asdict(self.manifest) | {"excluded": excluded, "sha256": sha256}
        write_json(self.root / MANIFEST, record)
        (self.root / PLAN).unlink(missing_ok=True)
        return GradientDatastore(self.root, Manifest(**record))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def rows_per_shard_of(roots: Iterable[Path], *, otherwise: int) -> int:
    """Rows in each shard of the first of several stores that was begun before; no feature depends on the number.

    Args:
        roots: folders of stores, begun or not.
        otherwise: the number if none was begun.
    """
    for root in roots:
        with contextlib.suppress(MissingFileError, DatastoreError):  # `DatastoreWriter` names what is damaged
            return _begun(root)["rows_per_shard"]
    return otherwise


def _begun(root: Path) -> dict[str, Any]:
    """What a store that was begun, or finished before, was going to hold; raises as `read_manifest` does."""
    record = root / PLAN
    manifest = read_manifest(record if record.exists() else root / MANIFEST, dtypes=list(CODECS))
    return asdict(manifest) | {"excluded": {}, "sha256": {}}


class GradientDatastore:
    """A finished store. Rows come back in float32, whatever they are stored in."""

    def __init__(self, root: Path, manifest: Manifest):
        self.root = root
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str, *, provenance: Mapping[str, Any] | None = None) -> "GradientDatastore":
        """Open a store.

        Args:
            path: its folder.
            provenance: what the caller expects it to be made from, if it cares.

        Raises:
            DatastoreError: not a finished store, of another format, damaged, or made from something else;
                a field that differs is named with both values.
        """
        root = Path(path)
        try:
            manifest = read_manifest(root / MANIFEST, dtypes=list(CODECS))
        except FileNotFoundError as error:
            raise DatastoreError(f"{root}: no finished gradient store (there is no {MANIFEST})") from error
        if provenance is not None:
            check_same(root, found=manifest.provenance, wanted=dict(provenance))
        return cls(root, manifest)

    @property
    def ids(self) -> list[str]:
        """Example ids in row order."""
        return self.manifest.example_ids

    @property
    def checkpoints(self) -> list[int]:
        """Warm-up epochs, in order."""
        return self.manifest.checkpoints

    @property
    def excluded(self) -> dict[str, str]:
        """Reason by example id, for rows without a direction."""
        return self.manifest.excluded

    def rows(self, checkpoint: int, start: int, stop: int) -> Float[Tensor, "n proj_dim"]:
        """Rows ``start`` to ``stop`` of a checkpoint; those without a direction are NaN.

        Raises:
            IndexError: the range is not within the store.
            DatastoreError: a shard is missing or damaged.
        """
        if not 0 <= start <= stop <= len(self.ids):
            raise IndexError(f"rows {start}:{stop} are not within the {len(self.ids)} rows of {self.root}")
        pieces = []
        first_shard = start // self.manifest.rows_per_shard
        for shard in range(first_shard, self.manifest.n_shards):
            held = self.manifest.shard_rows(shard)
            if held.start >= stop:
                break
            piece = slice(max(start, held.start) - held.start, min(stop, held.stop) - held.start)
            with open_shard(self.root, self.manifest, checkpoint, shard) as file:
                stored, scale = file.get_slice("rows")[piece], file.get_slice("scale")[piece]
            scale = torch.where(scale == 0, torch.nan, scale)
            pieces.append(CODECS[self.manifest.dtype].decode(stored, self.manifest.proj_dim) * scale[:, None])
        return torch.cat(pieces) if pieces else torch.empty(0, self.manifest.proj_dim)

    def encoded(self, checkpoint: int, positions: Sequence[int]) -> EncodedRows:
        """The rows at ``positions`` as they lie on disk, to be copied into another store."""
        if not positions:
            return encode(torch.empty(0, self.manifest.proj_dim), self.manifest.dtype)
        pieces = []
        for shard, group in groupby(sorted(positions), key=lambda position: position // self.manifest.rows_per_shard):
            places = [position - self.manifest.shard_rows(shard).start for position in group]
            with open_shard(self.root, self.manifest, checkpoint, shard) as file:
                pieces.append([file.get_tensor(name)[places] for name in ("rows", "scale", "norm")])
        order = torch.tensor(positions).argsort().argsort()
        return EncodedRows(*(torch.cat(parts)[order] for parts in zip(*pieces, strict=True)))

    def cosine_blocks(
        self, checkpoint: int, vectors: Float[Tensor, "proj_dim m"]
    ) -> Iterator[tuple[range, Float[Tensor, "n m"], Float[Tensor, " n"]]]:
        """Products of every row, scaled to length one, with ``vectors``, shard by shard.

        Yields positions, products and the rows' lengths. Rows without a direction give NaN.
        """
        products = CODECS[self.manifest.dtype].products(vectors.contiguous())
        for shard in range(self.manifest.n_shards):
            with open_shard(self.root, self.manifest, checkpoint, shard) as file:
                stored, scale, norm = (file.get_tensor(name) for name in ("rows", "scale", "norm"))
            length = torch.where(scale > 0, norm, torch.nan)
            yield self.manifest.shard_rows(shard), products(stored) / length[:, None], length * scale

    def damaged_files(self) -> list[str]:
        """Paths within the store of shards that are missing or do not have the hash they were written with."""
        shards = range(self.manifest.n_shards)
        paths = [shard_path(self.root, checkpoint, shard) for checkpoint in self.checkpoints for shard in shards]
        # By the places that shards have, not by the names in a manifest, which may lead elsewhere.
        names = [path.relative_to(self.root).as_posix() for path in paths]
        return changed_files(self.root, {name: self.manifest.sha256.get(name) for name in names})


def require_directions(store: GradientDatastore) -> None:
    """Refuse a store with rows that have no direction, as a target's must not.

    Raises:
        NoDirectionError: naming the first such example.
    """
    if store.excluded:
        example_id, reason = next(iter(store.excluded.items()))
        raise NoDirectionError(
            f"target example '{example_id}': {reason}; remove it from the target, or look for a warm-up that diverged"
        )


def main(arguments: Sequence[str] | None = None) -> str | int:
    """``verify PATH``: 0 if every shard is as it was written, else a sentence that names those that are not."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.gradients.datastore")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("verify", help="check every shard against its hash").add_argument("path", type=user_path)
    path = parser.parse_args(arguments).path
    try:
        store = GradientDatastore.open(path)
    except DatastoreError as error:
        return str(error)
    if damaged := store.damaged_files():
        return f"{path}: damaged or missing: {', '.join(damaged)}; delete the folder's COMPLETE and these to rebuild"
    print(f"{path}: {len(store.checkpoints) * store.manifest.n_shards} shards are as they were written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
