"""GSM8K (Cobbe et al., arXiv:2110.14168): exact match of the number that a chain of thought ends with."""

import re
from collections.abc import Sequence
from decimal import Decimal

_VERDICT = re.compile(r"the answer is(.*)", re.IGNORECASE | re.DOTALL)
# A minus sign right after a digit or bracket is a subtraction, not a sign.
_NUMBER = re.compile(r"(?:(?<![\d)])-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def final_number(text: str) -> Decimal | None:
    """The first number after the first ``The answer is``; without these words, the last one of the text.

    Dollar signs and commas within numbers are left out; ``None`` if there is no number.
    """
    text = text.replace("$", "")
    found = _VERDICT.search(text)
    numbers = _NUMBER.findall(found[1] if found else text)
    if not numbers:
        return None
    return Decimal(numbers[0 if found else -1].replace(",", ""))


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """``exact_match`` of the numbers, so that 18, 18.0 and $18 agree."""
    number = final_number(answer)
    right = number is not None and any(number == final_number(reference) for reference in references)
    return {"exact_match": float(right)}
