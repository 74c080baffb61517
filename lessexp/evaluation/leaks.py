"""Test questions that also stand in the target, the solved examples or the pool.

Questions are compared by the word n-grams they share, whatever the script, case and spacing. Punctuation counts as
words, so that formulas and brackets tell questions apart. A question shorter than one n-gram must be a whole
text of the other side. Only the questions' n-grams are held, as numbers; the other side is streamed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import regex
from jaxtyping import UInt64

from lessexp.data.rows import Row
from lessexp.data.scripts import UNSPACED
from lessexp.errors import UserError

# Scripts written without spaces give one word a character.
_WORDS = regex.compile(rf"{UNSPACED}|[[\p{{L}}\p{{M}}\p{{N}}]--{UNSPACED}]++|[^\s\p{{L}}\p{{M}}\p{{N}}]", regex.V1)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # multiplier of the rolling hash


class LeakError(UserError, ValueError):
    """Test questions among what the model may learn from or is shown; the message names them."""


@dataclass(frozen=True)
class Leak:
    """A text that holds a test question.

    Attributes:
        found_in: id of the text.
        question: id of the test question.
        share: of the question's n-grams, how many are in the text.
    """

    found_in: str
    question: str
    share: float


def _hashes(text: str, ngram: int) -> UInt64[np.ndarray, " n"]:
    """Distinct hashes of a text's n-grams; of all its words together if there are fewer than ``ngram``."""
    words = _WORDS.findall(text.lower())
    # Python's own hash differs between processes; only a collision of 64-bit numbers could show it.
    numbers = np.fromiter((hash(word) & 0xFFFFFFFFFFFFFFFF for word in words), dtype=np.uint64, count=len(words))
    length = min(ngram, len(words))
    if not length:
        return numbers
    rolled = np.full(len(words) - length + 1, length, dtype=np.uint64)
    for offset in range(length):
        rolled = (rolled ^ numbers[offset : offset + len(rolled)]) * _ODD
        rolled ^= rolled >> np.uint64(29)
    return np.unique(rolled)


class QuestionIndex:
    """The n-grams of test questions.

    Args:
        questions: texts by id.
        ngram: words.
        min_share: of a question's n-grams, from which on a text is said to hold it.
    """

    def __init__(self, questions: Mapping[str, str], *, ngram: int, min_share: float):
        self._ids = list(questions)
        self._ngram = ngram
        self._min_share = min_share
        hashed = [_hashes(text, ngram) for text in questions.values()]
        self._sizes = np.array([len(hashes) for hashes in hashed], dtype=np.int64)
        hashes = np.concatenate([*hashed, np.empty(0, dtype=np.uint64)])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._owner = np.repeat(np.arange(len(hashed), dtype=np.int32), self._sizes)[order]

    def leaks(self, texts: Iterable[tuple[str, Iterable[str]]]) -> Iterator[Leak]:
        """The questions that each text holds.

        Args:
            texts: id and parts (messages) of each; a short question must be a whole part.
        """
        for text_id, parts in texts:
            found = np.unique(np.concatenate([*(_hashes(part, self._ngram) for part in parts), self._hashes[:0]]))
            first = np.searchsorted(self._hashes, found, side="left")
            last = np.searchsorted(self._hashes, found, side="right")
            hit = last > first
            if not hit.any():
                continue
            owners = np.concatenate([self._owner[a:b] for a, b in zip(first[hit], last[hit], strict=True)])
            questions, counts = np.unique(owners, return_counts=True)
            for question, share in zip(questions, counts / self._sizes[questions], strict=True):
                if share >= self._min_share:
                    yield Leak(text_id, self._ids[question], float(share))


def is_held_out(rows: Iterable[Row], target: Iterable[Row]) -> bool:
    """Whether test rows are anything else than rows of the target; where they are not, nothing is held out."""
    return not {row.messages for row in rows} <= {row.messages for row in target}


def refuse_leaks(leaks: Iterable[Leak], *, what: str) -> None:
    """Raise if there is a leak.

    Args:
        leaks: what was found.
        what: the texts that were searched, for the message.

    Raises:
        LeakError: naming the first few.
    """
    found = list(leaks)
    if found:
        shown = ", ".join(f"'{leak.found_in}' holds '{leak.question}'" for leak in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise LeakError(f"{what} are also test questions: {shown}{more}; take them out of one of the two files")
