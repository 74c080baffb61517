"""Where the answer stands in a text that reasons first, and perhaps goes on with questions of its own."""

import re

_SENTENCE = r"(?:(?!\.(?!\d)|[!?](?=\s|$)|[。\n]).)*"
_CONCLUSIONS = [
    re.compile(rf"{words}\s*({_SENTENCE})", re.IGNORECASE)
    for words in (r"\bso the answer is\b:?", r"(?:####|\bthe (?:\w+ )?answer is\b:?)")
]
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_NEXT_QUESTION = re.compile(r"\n[ \t]*(?:q|question|problem)[ \t]*\d*[ \t]*:", re.IGNORECASE)


def before_next_question(text: str) -> str:
    """The text up to a line that asks another question."""
    return _NEXT_QUESTION.split(text, maxsplit=1)[0]


def conclusion(text: str) -> str | None:
    """The rest of the sentence after the first ``So the answer is``, or after other words or marks of this kind.

    These are ``The answer is``, also with an adjective, GSM8K's ``####`` and LaTeX's ``boxed``, which counts
    inside the sentence, too. ``None`` if there is none of them. A full stop between digits ends no sentence.
    """
    found = next((match for pattern in _CONCLUSIONS if (match := pattern.search(text))), None)
    boxed = _BOXED.search(found[1] if found else text)
    if boxed:
        return boxed[1].strip()
    return found[1].strip() if found else None
