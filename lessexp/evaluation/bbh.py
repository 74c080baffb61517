"""BIG-Bench Hard (Suzgun et al., arXiv:2210.09261): exact match of the answer that a chain of thought ends with.

As in LESS's released evaluation the answer is the sentence after the first ``So the answer is``, without it the first
paragraph, and neither case nor punctuation counts. Two things are stricter here: the sign of a number counts, and where
an answer is nothing but punctuation (``dyck_languages``) it is compared as it is; there, any would match any.
"""

import re
import string
from collections.abc import Sequence

from lessexp.evaluation.conclusion import before_next_question, conclusion

_LATEX = re.compile(r"\\[a-z]+\{([^{}]*)\}")
_PUNCTUATION = re.compile(rf"(?!-\d)[{re.escape(string.punctuation)}“”‘’«»]")
_EMPHASIS = "*_`\"'“”‘’. "


def verdict(text: str) -> str:
    """The answer that a text ends with."""
    answer = before_next_question(text.strip())
    concluded = (conclusion(part) for part in (answer, text))
    return next((found for found in concluded if found is not None), answer.partition("\n\n")[0].strip())


def _normalised(answer: str) -> str:
    plain = _LATEX.sub(r"\1", answer).replace("−", "-").lower()
    return " ".join(_PUNCTUATION.sub("", plain).split())


def _brackets(answer: str) -> str:
    return "".join(answer.strip(_EMPHASIS).split())


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """``exact_match`` with one of the right answers."""
    given = verdict(answer)
    right = any(
        _normalised(given) == _normalised(reference)
        if _normalised(reference)
        else _brackets(given) == _brackets(reference)
        for reference in references
    )
    return {"exact_match": float(right)}
