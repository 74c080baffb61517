r"""Words of a text in any script, for selectors that compare texts by the words they share.

A word is a run of letters, combining marks, digits and underscores. Python's ``\w`` leaves the marks out and so cuts
Bengali, Tamil or vowelled Arabic words at their vowel signs. Scripts written without spaces (Chinese, Japanese, Thai,
Lao, Khmer, Burmese) give one word for each character with its marks.

Texts are compared in Unicode's compatibility form (NFKC) without case, so that ``é`` typed as one character or as two
and full-width ``Ａ`` and ``a`` agree. Invisible characters (joiners, direction marks, soft hyphens, variation
selectors) are left out. On ASCII text all of this comes to ``\w+`` of the lower-case text.
"""

import re
import unicodedata

import regex

from lessexp.data.rows import Row
from lessexp.data.scripts import UNSPACED

_IN_WORDS = r"[\p{L}\p{M}\p{N}_]"
_WORD = rf"[{_IN_WORDS}--{UNSPACED}]++|[{_IN_WORDS}&&{UNSPACED}]\p{{M}}*+"
_WORDS = regex.compile(_WORD, regex.V1)
# What separates records in ASCII is white space to Python, but not to the regex package.
_WORDS_AND_PUNCTUATION = regex.compile(rf"{_WORD}|[^\p{{L}}\p{{M}}\p{{N}}_\s\x1c-\x1f]++", regex.V1)
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Variation_Selector}]++", regex.V1)

# The same for ASCII, where the standard library is twice as fast.
_ASCII_WORDS = re.compile(r"\w+")
_ASCII_WORDS_AND_PUNCTUATION = re.compile(r"\w+|[^\w\s]+")


def whole_text(row: Row) -> str:
    """All messages of a row, whoever said them."""
    return "\n".join(content for _, content in row.messages)


def _comparable(text: str) -> str:
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).casefold())


def words(text: str) -> list[str]:
    """The words of a text in the order they come; punctuation and symbols are left out."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return _WORDS.findall(_comparable(text))


def words_and_punctuation(text: str) -> list[str]:
    """The words of a text, and the runs of punctuation and symbols between them, in the order they come."""
    if text.isascii():
        return _ASCII_WORDS_AND_PUNCTUATION.findall(text.lower())
    return _WORDS_AND_PUNCTUATION.findall(_comparable(text))
