import pytest

from lessexp.evaluation.bbh import score, verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let's think. True and False is False. So the answer is False.", "False"),
        ("So the answer is (A).\n\nQ: And now? So the answer is (B).", "(A)"),
        ("It is (A).\nQ: And now?\nA: So the answer is (B).", "(B)"),
        ("The answer is: > ) }", "> ) }"),
        ("(C)", "(C)"),
        ("It is red.\n\nAnd blue.", "It is red."),
        ("So the answer is", ""),
        ("", ""),
    ],
)
def test_the_answer_is_the_conclusion_or_else_the_first_paragraph(text, expected):
    assert verdict(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("So the answer is (A).", "(A)"),
        ("So the answer is A.", "(A)"),
        ("so the answer is  YES ", "Yes"),
        ("So the answer is (C). Q: Which one is it?", "(C)"),
        ("So the answer is (C).A: yes", "(C)"),
        ("So the answer is **(D)**.", "(D)"),
        ("So the answer is 'invalid'.", "invalid"),
        ("So the answer is “plausible”.", "plausible"),
        ("The right answer is (E).", "(E)"),
        ("The answer is: (F)", "(F)"),
        ("So the answer is\n(G).", "(G)"),
        ("So the answer is (A)。", "(A)"),
        (r"Hence $\boxed{\text{(B)}}$", "(B)"),
        ("So the answer is apple  banana\tcat.", "apple banana cat"),
        ("So the answer is 04/19/1969.", "04/19/1969"),
        ("So the answer is \N{MINUS SIGN}48.", "-48"),
        ("So the answer is ] ) }.", "] ) }"),
        ("So the answer is `])}`.", "] ) }"),
        (" Yes.\n", "Yes"),
    ],
)
def test_neither_case_nor_punctuation_nor_emphasis_counts(answer, reference):
    assert score(answer, [reference]) == {"exact_match": 1.0}
    assert score(answer, ["something else", reference]) == {"exact_match": 1.0}


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("So the answer is (B).", "(A)"),
        ("So the answer is ] } ).", "] ) }"),
        ("So the answer is .", "] ) }"),
        ("So the answer is 48.", "-48"),
        ("So the answer is -48.", "48"),
        ("So the answer is cat banana apple.", "apple banana cat"),
        ("The options are (A) and (B).", "(B)"),
        ("So the answer is (A) or (B).", "(A)"),
        ("", "(A)"),
        ("", "] ) }"),
    ],
)
def test_another_answer_is_wrong(answer, reference):
    assert score(answer, [reference]) == {"exact_match": 0.0}
