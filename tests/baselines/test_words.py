import random
import re
import string

import pytest

from baselines.words import whole_text, words, words_and_punctuation
from lessexp.data.rows import Row

ASCII_TEXTS = ["".join(random.Random(seed).choices(string.printable + "\0\x1c", k=400)) for seed in range(20)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("الْعَرَبِيَّةُ لغة", ["الْعَرَبِيَّةُ", "لغة"]),
        ("తెలుగు భాష", ["తెలుగు", "భాష"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("Größe, Straße!", ["grösse", "strasse"]),
        ("don't x_1", ["don", "t", "x_1"]),
    ],
)
def test_vowel_signs_and_other_marks_stay_with_their_word(text, expected):
    assert words(text) == expected


def test_scripts_without_spaces_give_one_word_a_character_with_its_marks():
    assert words("你好, world世界") == ["你", "好", "world", "世", "界"]
    assert words("カタカナとabc") == ["カ", "タ", "カ", "ナ", "と", "abc"]
    assert words("ກິນ") == ["ກິ", "ນ"]


def test_the_ways_to_type_one_word_agree():
    assert words("e\u0301te\u0301") == words("été") == words("ÉTÉ")
    assert words("ＡＢＣ") == ["abc"]
    assert words("می\u200cروم") == words("میروم")
    assert words("\u200fso\u00adft\ufeff") == ["soft"]


@pytest.mark.parametrize("text", ASCII_TEXTS)
def test_ascii_text_is_cut_as_by_wordpunct(text):
    assert words(text) == re.findall(r"\w+", text.lower())
    assert words_and_punctuation(text) == re.findall(r"\w+|[^\w\s]+", text.lower())


@pytest.mark.parametrize("text", [*ASCII_TEXTS, "".join(map(chr, range(128)))])
def test_ascii_text_is_cut_alike_beside_other_text(text):
    assert words(f"{text} é") == [*words(text), "é"]
    assert words_and_punctuation(f"{text} é") == [*words_and_punctuation(text), "é"]


def test_symbols_are_punctuation():
    assert words("🎉 1 + 1 = 2 ❤️") == ["1", "1", "2"]
    assert words_and_punctuation("🎉 1 + 1 == 2 ❤️\0") == ["🎉", "1", "+", "1", "==", "2", "❤\0"]


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b"])
def test_a_text_without_words_has_none(text):
    assert words(text) == words_and_punctuation(text) == []


def test_the_text_of_a_row_is_that_of_all_its_messages():
    row = Row("d", "id", (("system", "be"), ("user", "or not"), ("assistant", "to be")))
    assert words(whole_text(row)) == ["be", "or", "not", "to", "be"]
