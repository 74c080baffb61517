import pytest

from lessexp.evaluation.leaks import Leak, LeakError, QuestionIndex, is_held_out, refuse_leaks
from tests.conftest import make_rows

LONG = "A train leaves the town of Oulu at noon, and (after 3 hours) it reaches a bridge over the wide river."
QUESTIONS = {"long": LONG, "short": "What is 3 + 4?", "zh": "一列火车中午从奥卢出发三小时后到达一座大桥"}


def words_of(text):
    """The slow way: letters and digits in runs, all else by itself, Chinese by the character."""
    words = [""]
    for character in text.lower():
        if character.isalnum() and character.isascii():
            words[-1] += character
        else:
            words += ["" if character.isspace() else character, ""]
    return [word for word in words if word]


def shares(question, parts, ngram):
    def ngrams(text):
        words = words_of(text)
        length = min(ngram, len(words))
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    wanted, found = ngrams(question), set().union(*map(ngrams, parts))
    return len(wanted & found) / len(wanted)


TEXTS = {
    "same": [LONG.upper().replace(" ", "\n ")],
    "inside": ["Solve this.", f"Here it is: {LONG} Good luck!"],
    "half": [LONG[:70] + " something else happens to it on that day"],
    "other": ["Nothing of the kind stands here, but it is a text of more than thirteen words, as you see."],
    "short": ["Sums", "what is 3 + 4?"],
    "short inside": ["Tell me, what is 3 + 4?"],
    "zh": ["请问:" + QUESTIONS["zh"]],
    "empty": [""],
}


@pytest.mark.parametrize("ngram", [5, 13])
def test_shares_equal_a_comparison_of_sets_of_word_tuples(ngram):
    index = QuestionIndex(QUESTIONS, ngram=ngram, min_share=1e-9)
    found = {(leak.found_in, leak.question): leak.share for leak in index.leaks(TEXTS.items())}
    expected = {
        (text, question): share
        for text, parts in TEXTS.items()
        for question, asked in QUESTIONS.items()
        if (share := shares(asked, parts, ngram))
    }
    assert found == pytest.approx(expected)
    assert 0 < found["half", "long"] < 1


def test_only_texts_that_hold_enough_of_a_question_are_leaks():
    index = QuestionIndex(QUESTIONS, ngram=13, min_share=1.0)
    assert {(leak.found_in, leak.question) for leak in index.leaks(TEXTS.items())} == {
        ("same", "long"),
        ("inside", "long"),
        ("short", "short"),
        ("zh", "zh"),
    }


def test_an_index_of_nothing_finds_nothing():
    assert list(QuestionIndex({}, ngram=13, min_share=0.5).leaks(TEXTS.items())) == []


def test_rows_of_the_target_alone_are_not_held_out():
    target, other = make_rows(5), make_rows(7, prefix="other")
    assert not is_held_out(target[:3], target)
    assert is_held_out(other, target)


def test_leaks_are_refused_by_name():
    refuse_leaks([], what="target rows")
    with pytest.raises(LeakError, match="target rows are also test questions: 'a' holds 'b'"):
        refuse_leaks([Leak("a", "b", 1.0)], what="target rows")
