from fractions import Fraction

import pytest

from lessexp.evaluation.gsm8k import final_number, score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * 9 = 18\nThe answer is 18.", "18"),
        ("She makes $18 every day, 7 days a week: $1,260.50", "1260.50"),
        ("The answer is $70,000.\n\nQ: 5 hens? The answer is 5.", "70000"),
        ("The answer is 3 x 7 = 21.", "21"),
        ("4 and 4\n#### 8\nQuestion: Ann has 6 pens.", "8"),
        ("4 and 4 are 8\nQ: Ann has 6 pens. The answer is 6.", "8"),
        ("the answer is: -$5", "-5"),
        ("It falls to \N{MINUS SIGN}4.25 degrees", "-4.25"),
        ("10-5", "5"),
        ("10\N{MINUS SIGN}5", "5"),
        ("(12)-4", "4"),
        ("It falls to -4 degrees", "-4"),
        ("The answer is .5 of it. It is not 3", "0.5"),
        ("the answer is 18.00", "18"),
        ("The answer is:\n  **42**  \n", "42"),
        ("The answer is 12 500.", "12500"),
        ("The answer is 1\N{NARROW NO-BREAK SPACE}250\N{NARROW NO-BREAK SPACE}000.", "1250000"),
        ("of 2024 365 days", "365"),
        ("The answer is 5/8.", "0.625"),
        (r"Thus \boxed{\frac{1}{4}}, out of 9.", "0.25"),
        (r"\boxed{1{,}250}", "1250"),
        (r"The answer is \$1\,250.", "1250"),
        ("The answer is 6/0", "0"),
        ("1, 2, 3", "3"),
        ("The answer is many. 5 hens", "5"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_the_final_number_is_found(text, expected):
    whole, _, part = expected.partition(".")
    found = final_number(text)
    if len(expected) > 4000:  # more digits than Python converts
        assert found == 10 ** len(expected) - 1
    else:
        assert found == Fraction(f"{whole}.{part}" if part else whole)


@pytest.mark.parametrize("text", ["", "none", "The answer is many."])
def test_a_text_may_end_without_a_number(text):
    assert final_number(text) is None


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The answer is 1,000.", "1000", 1.0),
        ("The answer is 1000.", "1,000", 1.0),
        ("so it is $18.0", "18", 1.0),
        ("THE ANSWER IS 3/6", "0.5", 1.0),
        ("The answer is 17.", "18", 0.0),
        ("The answer is 5.", "-5", 0.0),
        ("The answer is 1.8.", "18", 0.0),
        ("no idea", "18", 0.0),
    ],
)
def test_numbers_are_compared_by_value(answer, reference, expected):
    assert score(answer, [reference]) == {"exact_match": expected}
