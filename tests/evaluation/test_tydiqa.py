import re
import string
from collections import Counter

import pytest

from lessexp.evaluation.tydiqa import f1, normalised, score


def squad_f1_and_exact_match(answer, reference):
    """SQuAD v1.1 by its description, a step a line."""

    def plain(text):
        text = text.lower()
        for sign in string.punctuation:
            text = text.replace(sign, "")
        text = re.sub(r"\b(a|an|the)\b", " ", text)
        return text.split()

    ours, theirs = plain(answer), plain(reference)
    shared = 0
    remaining = list(theirs)
    for word in ours:
        if word in remaining:
            remaining.remove(word)
            shared += 1
    if shared == 0:
        return 0.0, float(ours == theirs)
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall), float(ours == theirs)


TEXTS = [
    "the Town of Oulu",
    "town of oulu.",
    "Oulu, a town",
    "Oulu Oulu Oulu",
    "an",
    "",
    "U.S.",
    "us",
    "1,000 (one thousand)",
    "1000",
    "anthem of the theatre",
    "well-known",
]


@pytest.mark.parametrize("reference", TEXTS)
@pytest.mark.parametrize("answer", TEXTS)
def test_scores_of_ascii_text_equal_squads(answer, reference):
    expected = squad_f1_and_exact_match(answer, reference)
    found = score(answer, [reference])
    assert (found["f1"], found["exact_match"]) == pytest.approx(expected)


def test_the_reference_that_gives_the_most_counts_for_each_metric():
    assert score("Oulu", ["a town", "Oulu", "Oulu town"]) == {"f1": 1.0, "exact_match": 1.0}
    assert score("Oulu town", ["Espoo", "Oulu"])["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("في عام 2005،", "في عام 2005"),  # Arabic comma
        ("১৯৭১ সালে।", "১৯৭১ সালে"),  # Bengali danda
        ("«Война и мир»", "война и мир"),  # guillemets, capital
        ("１９８０年", "1980年"),  # full-width digits
        ("e\u0301tat", "\u00e9tat"),  # one character or two
        ("హైదరాబాద్.", "హైదరాబాద్"),  # vowel signs are not punctuation
    ],
)
def test_punctuation_and_forms_of_any_script_do_not_count(answer, reference):
    assert score(answer, [reference]) == {"f1": 1.0, "exact_match": 1.0}


def test_vowel_signs_make_words_differ():
    assert score("కలం", ["కాలం"]) == {"f1": 0.0, "exact_match": 0.0}


def test_scripts_without_spaces_are_compared_by_the_character():
    assert normalised("東京 tower") == "東 京 tower"
    assert f1("東京都", "東京") == pytest.approx(0.8)
    assert Counter(normalised("서울 특별시").split()) == Counter(["서울", "특별시"])  # Korean has spaces
