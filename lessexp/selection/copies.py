"""Copies among the rows that are about to be selected, so that a budget is not spent on one row twice."""

import hashlib
import re
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import regex

from lessexp.data.rows import Row
from lessexp.data.scripts import UNSPACED

_UNSPACED = regex.compile(UNSPACED)
_PIECES = regex.compile(rf"{UNSPACED}|(?:(?!{UNSPACED}).)+", regex.DOTALL)


@runtime_checkable
class Copies(Protocol):
    """Remembers rows, best first, and recognises those that copy an earlier one."""

    def original_of(self, row: Row) -> str | None:
        """Id of the earlier row that this one copies; None if it is new, and then it is remembered."""


class AllDiffer:
    """Every row is new."""

    def original_of(self, row: Row) -> str | None:
        """None."""
        return None


class ExactCopies:
    """Rows with the same messages, whatever their ids and data sets; case and white space aside."""

    def __init__(self):
        self._seen: dict[str, str] = {}

    def original_of(self, row: Row) -> str | None:
        """Id of the earlier row with the same messages."""
        text = "\x1e".join(f"{role}\x1f{' '.join(content.casefold().split())}" for role, content in row.messages)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        original = self._seen.setdefault(key, row.example_id)
        return None if original == row.example_id else original


class NearCopies:
    """Rows that share most of their word n-grams, by MinHash (Broder 1997) and locality-sensitive hashing.

    Scripts without spaces between words (Chinese, Thai) are cut at every character, as is a text without any space.

    Args:
        similarity: Jaccard similarity of n-gram sets from which a row counts as a copy.
        ngram: words.
        n_hashes: of a MinHash; the similarity is known to about ``1 / sqrt(n_hashes)``.
        seed: of the hash functions.
    """

    def __init__(self, *, similarity: float, ngram: int, n_hashes: int, seed: int):
        from datasketch import MinHashLSH  # takes seconds to import, and only this option needs it

        self.ngram = ngram
        self.n_hashes = n_hashes
        self.seed = seed
        self._index = MinHashLSH(threshold=similarity, num_perm=n_hashes)
        self._position: dict[str, int] = {}

    def _ngrams(self, row: Row) -> set[str]:
        text = "\n".join(content for _, content in row.messages).casefold()
        words = re.findall(r"[^\W_]+|\S", text) if re.search(r"\s", text.strip()) else list(text)
        if _UNSPACED.search(text):
            words = [piece for word in words for piece in _PIECES.findall(word)]
        return {" ".join(words[i : i + self.ngram]) for i in range(max(1, len(words) - self.ngram + 1))}

    def original_of(self, row: Row) -> str | None:
        """Id of an earlier row that is alike; of several, the first remembered."""
        from datasketch import MinHash

        sketch = MinHash(num_perm=self.n_hashes, seed=self.seed)
        sketch.update_batch([ngram.encode("utf-8", "surrogatepass") for ngram in self._ngrams(row)])
        if alike := self._index.query(sketch):
            return min(alike, key=self._position.__getitem__)
        self._position[row.example_id] = len(self._position)
        self._index.insert(row.example_id, sketch)
        return None


def without_copies(best_first: Iterable[Row], copies: Copies, *, k: int) -> tuple[list[str], dict[str, str]]:
    """Ids of the ``k`` best rows that are no copies, and that of the original for each copy passed over."""
    chosen: list[str] = []
    original_of: dict[str, str] = {}
    for row in best_first:
        if len(chosen) == k:
            break
        if (original := copies.original_of(row)) is None:
            chosen.append(row.example_id)
        else:
            original_of[row.example_id] = original
    return chosen, original_of
