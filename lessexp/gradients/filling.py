"""One pass over rows that fills several gradient stores, going on after the last whole shard."""

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lessexp.artifacts import identity_in, library_versions
from lessexp.data.tokenize import TokenizedRow
from lessexp.errors import UserError
from lessexp.gradients.codecs import EncodedRows, encode, interleave
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore
from lessexp.gradients.memory import Batches, Features
from lessexp.interruption import finishing_pieces
from lessexp.processes import ALONE, Team
from lessexp.wholeness import COMPLETE, check_whole, read_complete

_SHARDS_IN_FLIGHT = 2  # written in the background while the next is computed; bounds memory


class Donor:
    """A finished store, made the same way over other rows, whose rows may be copied.

    Args:
        store: its manifest must hold row hashes.
    """

    def __init__(self, store: GradientDatastore):
        self.store = store

    @cached_property
    def _position(self) -> dict[str, int]:
        return {row_hash: position for position, row_hash in enumerate(self.store.manifest.row_hashes)}

    def holds(self, row_hash: str) -> bool:
        """Whether a row of this hash is there."""
        return row_hash in self._position

    def copies(self, checkpoint: int, row_hashes: Sequence[str]) -> EncodedRows:
        """Rows as they lie on disk."""
        return self.store.encoded(checkpoint, [self._position[row_hash] for row_hash in row_hashes])


def checked(donors: Iterable[Donor], *, announce: Callable[[str], None]) -> list[Donor]:
    """Those of the stores that hold what was written; ``announce`` gets a sentence on any other."""
    found = []
    for donor in donors:
        with _passed_over(announce):
            check_whole(donor.store.root)
            found.append(donor)
    return found


def donors_of(
    folder: Path,
    identity: Mapping[str, Any],
    checkpoint_hashes: Mapping[str, str],
    *,
    free: Collection[str],
    announce: Callable[[str], None],
) -> list[Donor]:
    """Finished stores beside one to be filled that differ from it in nothing but their rows and further checkpoints.

    Stores that libraries of other versions built give no rows, so that a store never holds those of two versions.

    Args:
        folder: of the store to be filled.
        identity: what determines it.
        checkpoint_hashes: its manifest's.
        free: fields in which a store may differ; rows and checkpoints are compared by the manifests' hashes.
        announce: gets a sentence on each store that cannot be read.
    """
    found = []
    for complete in sorted(folder.parent.glob(f"*/{COMPLETE}")):
        other = complete.parent
        with _passed_over(announce):
            if other == folder or _but(identity_in(other), free) != _but(identity, free):
                continue
            store = GradientDatastore.open(other)
            is_current = read_complete(other).get("versions") == library_versions()
            if is_current and checkpoint_hashes.items() <= store.manifest.checkpoint_hashes.items():
                found.append(Donor(store))
    return found


@contextlib.contextmanager
def _passed_over(announce: Callable[[str], None]) -> Iterator[None]:
    """Do without a source of rows that is damaged: they are computed in place of being copied."""
    try:
        yield
    except UserError as error:
        announce(f"no rows are copied from a damaged store: {error}")


def _but(fields: Mapping[str, Any], free: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in free}


class StoreInProgress:
    """A store to be filled, and those it may copy from.

    Args:
        writer: of the store.
        donors: the first that holds a row gives it.
    """

    def __init__(self, writer: DatastoreWriter, donors: Sequence[Donor] = ()):
        self.writer = writer
        self.donors = list(donors)

    def donor_of(self, row_hash: str) -> Donor | None:
        """The donor that gives this row, if any."""
        return next((donor for donor in self.donors if donor.holds(row_hash)), None)

    def write(
        self, checkpoint: int, shard: int, fresh: Sequence[int], features: Float[Tensor, "_n proj_dim"] | None
    ) -> None:
        """Write a shard from what was computed for the places ``fresh`` and copies for the others."""
        manifest = self.writer.manifest
        hashes = manifest.of_shard(shard, manifest.row_hashes) if self.donors else []
        pieces = [] if features is None else [(list(fresh), encode(features, manifest.dtype))]
        by_donor: dict[Donor, list[int]] = {}
        for place in set(range(len(hashes))) - set(fresh):
            by_donor.setdefault(self.donor_of(hashes[place]), []).append(place)
        for donor, places in by_donor.items():
            pieces.append((places, donor.copies(checkpoint, [hashes[place] for place in places])))
        self.writer.write_encoded(checkpoint, shard, interleave(pieces))


def needs_computing(row_hash: str, stores: Sequence[StoreInProgress]) -> bool:
    """Whether any of the stores cannot copy the row of this hash."""
    return not all(store.donors and store.donor_of(row_hash) for store in stores)


def tokens_to_compute(
    lengths: Int[np.ndarray, " n"], row_hashes: Sequence[str], donors: Sequence[Sequence[Donor]]
) -> int:
    """Tokens of the rows that need computing.

    Args:
        lengths: of the rows.
        row_hashes: of the same rows.
        donors: of each store to be filled with them.
    """
    return sum(
        length
        for length, row_hash in zip(lengths.tolist(), row_hashes, strict=True)
        if not all(any(donor.holds(row_hash) for donor in of_store) for of_store in donors)
    )


@contextlib.contextmanager
def _in_background() -> Iterator[Callable[..., None]]:
    """Yields a function that runs ``task(*arguments)`` in one other thread; a failure is raised at a later call."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        running: deque[Future] = deque()

        def submit(task: Callable[..., None], *arguments) -> None:
            while len(running) >= _SHARDS_IN_FLIGHT:
                running.popleft().result()
            running.append(executor.submit(task, *arguments))

        yield submit
        while running:
            running.popleft().result()


def fill_stores(
    stores: Sequence[StoreInProgress],
    rows: Sequence[TokenizedRow],
    features_at: Callable[[int], Features],
    *,
    split: Callable[[Tensor], Sequence[Tensor]],
    batches: Batches,
    advance: Callable[[int], None],
    team: Team = ALONE,
) -> list[GradientDatastore]:
    """Compute the shards that are missing in any of the stores, and finish them.

    Processes deal the missing shards among them; where one of them was lost, the next run deals what it left.

    Args:
        stores: over the same rows in the same shards and checkpoints.
        rows: in the stores' order.
        features_at: features at a checkpoint, those of all stores side by side.
        split: takes them apart, in the order of the stores.
        batches: how rows become batches.
        advance: told how many more rows are done at a checkpoint.
        team: of processes that each call this over stores in the same folders.

    Returns:
        The finished stores.

    Raises:
        Stopped: a signal came; the shard that was being computed then is written.
    """
    manifest = stores[0].writer.manifest
    missing = {
        checkpoint: [shard for shard in range(manifest.n_shards) if _lacking(stores, checkpoint, shard)]
        for checkpoint in manifest.checkpoints
    }
    team.meet()  # all have seen what is missing before anything is added

    def advance_all(n_rows: int) -> None:
        advance(n_rows * team.size)  # the others come about as far

    for checkpoint, shards in missing.items():
        features_here = cache(lambda checkpoint=checkpoint: features_at(checkpoint))
        advance(len(manifest.example_ids) - sum(len(manifest.shard_rows(shard)) for shard in shards))
        with finishing_pieces("shard") as stop_if_asked, _in_background() as submit:
            for shard in team.share(shards):
                lacking = _lacking(stores, checkpoint, shard)
                held = manifest.of_shard(shard, rows)
                fresh = [place for place, row in enumerate(held) if needs_computing(row.content_hash, lacking)]
                advance_all(len(held) - len(fresh))
                parts: Sequence[Tensor | None] = [None] * len(stores)
                if fresh:
                    computed = batches.compute(features_here(), [held[place] for place in fresh], advance=advance_all)
                    parts = split(computed)
                for store, part in zip(stores, parts, strict=True):
                    if store in lacking:
                        submit(store.write, checkpoint, shard, fresh, part)
                stop_if_asked()
    team.meet()
    if team.is_leader:
        for store in stores:
            store.writer.finish()
    team.meet()
    return [GradientDatastore.open(store.writer.root) for store in stores]


def _lacking(stores: Sequence[StoreInProgress], checkpoint: int, shard: int) -> list[StoreInProgress]:
    return [store for store in stores if store.writer.lacks(checkpoint, shard)]
