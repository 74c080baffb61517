import pytest

from lessexp.evaluation.bbh import score, verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let's think. True and False is False. So the answer is False.", "False"),
        ("So the answer is (A).\n\nQ: And now? So the answer is (B).", "(A)"),
        ("The answer is: > ) }", "> ) }"),
        ("so The Answer Is  apple banana cat", "apple banana cat"),
        ("(C)", "(C)"),
        (" Yes.\n", "Yes"),
        ("So the answer is", ""),
        ("", ""),
    ],
)
def test_the_answer_stands_after_the_words_the_answer_is(text, expected):
    assert verdict(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("So the answer is (A).", "(A)", 1.0),
        ("So the answer is A.", "(A)", 0.0),
        ("So the answer is (B).", "(A)", 0.0),
        ("So the answer is ] ) }.", "] ) }", 1.0),
        ("So the answer is ] } ).", "] ) }", 0.0),
        ("", "(A)", 0.0),
    ],
)
def test_a_match_is_exact_where_brackets_are_the_answer(answer, reference, expected):
    assert score(answer, [reference]) == {"exact_match": expected}
