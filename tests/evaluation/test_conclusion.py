import time

import pytest

from lessexp.evaluation.conclusion import before_next_question, conclusion


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 and 3. So the answer is 5.", "5"),
        ("Whether the answer is a or b depends. So the answer is b.", "b"),
        ("The answer is (C). Q: And then? The answer is (A).", "(C)"),
        ("THE FINAL ANSWER IS: blue", "blue"),
        ("The answer is 1.5 metres. It was 7.", "1.5 metres"),
        ("The answer is\n\n  (D)!\nDone", "(D)"),
        ("3*4\n#### 12\nmore", "12"),
        (r"Hence \boxed{\frac{1}{2}} of 8.", r"\frac{1}{2}"),
        (r"So the answer is \boxed{7}, not 9.", "7"),
        ("So the answer is", ""),
        ("(C)", None),
        ("", None),
    ],
)
def test_the_first_conclusion_is_found(text, expected):
    assert conclusion(text) == expected


@pytest.mark.parametrize("asked", ["Q: and now?", "Question: and now?", "  question 2: and now?", "Problem 3:\nx"])
def test_another_question_ends_the_text(asked):
    assert before_next_question(f"It is 5.\n{asked}") == "It is 5."
    assert before_next_question(asked) == asked  # nothing stands before it


def test_long_texts_take_no_longer_than_their_length_does():
    started = time.perf_counter()
    for text in ("the " * 50_000, "\n" * 100_000, r"\boxed{" * 2_000, "So the answer is " * 10_000, "#" * 100_000):
        conclusion(text)
        before_next_question(text)
    assert time.perf_counter() - started < 5
