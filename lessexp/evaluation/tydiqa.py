"""TydiQA (Clark et al., arXiv:2003.05002): overlap of a written answer with the right ones, as SQuAD v1.1 measures it.

SQuAD's normalisation (lower case, no ASCII punctuation, no English articles, single spaces) is kept to the letter on
ASCII text. For other text it is extended: letters are compared in Unicode's compatibility form, all of Unicode's
punctuation is left out (the Arabic comma, the Bengali danda, guillemets), and in scripts written without spaces each
character is a word. Nothing is stemmed and no other language's articles are left out.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

import regex

from lessexp.data.scripts import UNSPACED

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNSPACED = regex.compile(rf"({UNSPACED}\p{{M}}*)")


def normalised(text: str) -> str:
    """The words of an answer, joined by single spaces."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(
        character
        for character in text
        if character not in string.punctuation and not unicodedata.category(character).startswith("P")
    )
    text = _ARTICLES.sub(" ", text)
    return " ".join(_UNSPACED.sub(r" \1 ", text).split())


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of words, counted with repeats, that answer and reference have in common."""
    words, wanted = normalised(answer).split(), normalised(reference).split()
    common = (Counter(words) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """``f1`` and ``exact_match`` with that reference which gives the most."""
    return {
        "f1": max(f1(answer, reference) for reference in references),
        "exact_match": float(any(normalised(answer) == normalised(reference) for reference in references)),
    }
