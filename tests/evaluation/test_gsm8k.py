from decimal import Decimal

import pytest

from lessexp.evaluation.gsm8k import final_number, score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * 9 = 18\nThe answer is 18.", "18"),
        ("She makes $18 every day, 7 days a week: $1,260.50", "1260.50"),
        ("The answer is $70,000.\n\nQ: 5 hens? The answer is 5.", "70000"),
        ("the answer is: -$5", "-5"),
        ("10-5", "5"),
        ("(12)-4", "4"),
        ("It falls to -4 degrees", "-4"),
        ("The answer is .5 of it, not 3", "0.5"),
        ("the answer is 18.00", "18"),
        ("1, 2, 3", "3"),
    ],
)
def test_the_final_number_is_found(text, expected):
    assert final_number(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "none", "The answer is many. 5 hens"])
def test_a_text_may_end_without_a_number(text):
    assert final_number(text) == (Decimal(5) if "hens" in text else None)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The answer is 1,000.", "1000", 1.0),
        ("The answer is 1000.", "1,000", 1.0),
        ("so it is $18.0", "18", 1.0),
        ("The answer is 17.", "18", 0.0),
        ("no idea", "18", 0.0),
    ],
)
def test_numbers_are_compared_by_value(answer, reference, expected):
    assert score(answer, [reference]) == {"exact_match": expected}
