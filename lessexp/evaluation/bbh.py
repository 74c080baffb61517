"""BIG-Bench Hard (Suzgun et al., arXiv:2210.09261): exact match of the answer that a chain of thought ends with."""

import re
from collections.abc import Sequence

_VERDICT = re.compile(r"the answer is:?[ \t]*([^\n]*)", re.IGNORECASE)


def verdict(text: str) -> str:
    """What follows the first ``the answer is`` on its line, without the full stop; the whole text if there is none.

    The first, because a model that does not stop goes on with questions of its own.
    """
    found = _VERDICT.search(text)
    return (found[1] if found else text).strip().removesuffix(".").strip()


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """``exact_match``, character by character: in some tasks brackets and punctuation are the answer."""
    return {"exact_match": float(verdict(answer) in references)}
