"""GSM8K (Cobbe et al., arXiv:2110.14168): exact match of the number that a chain of thought ends with.

As in open-instruct's evaluation, which LESS's follows, this is the last number of the answer. Of a text that goes on
after ``The answer is ...`` or GSM8K's own ``#### ...`` it is the last one of that sentence.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from lessexp.evaluation.conclusion import before_next_question, conclusion

_LEFT_OUT = re.compile(r"\$|\{,\}|\\[,!]")  # dollars, and LaTeX's thousands
_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_SPACED = r"\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\d)"  # thousands
# A minus sign right after a digit or bracket is a subtraction, not a sign.
_NUMBER = re.compile(rf"(?:(?<![\d)])-)?(?:(?<!\d){_SPACED}(?:\.\d+)?|\d[\d,]*(?:\.\d+)?|\.\d+)")
_RATIO = re.compile(rf"({_NUMBER.pattern})(?:/([1-9]\d*))?")


def final_number(text: str) -> Fraction | None:
    """The last number of what a text concludes, or of all of it before another question; ``None`` without a number.

    Dollar signs and thousands separators are left out, and ``3/4`` is one number.
    """
    text = _FRACTION.sub(r"\1/\2", _LEFT_OUT.sub("", text).replace("−", "-"))
    for part in (before_next_question(text), text):
        for span in (conclusion(part), part):
            if span and (found := _RATIO.findall(span)):
                numerator, denominator = found[-1]
                return Fraction(Decimal(re.sub(r"[,\s]", "", numerator))) / Fraction(Decimal(denominator or 1))
    return None


def score(answer: str, references: Sequence[str]) -> dict[str, float]:
    """``exact_match`` of the numbers, so that 18, 18.0 and $18 agree."""
    number = final_number(answer)
    right = number is not None and any(number == final_number(reference) for reference in references)
    return {"exact_match": float(right)}
