import re

import pytest

from lessexp.data.rows import Row
from lessexp.selection.copies import AllDiffer, ExactCopies, NearCopies, without_copies


def row(name, question, answer="yes"):
    return Row("data", name, (("user", question), ("assistant", answer)))


WORDS = [f"word{i}" for i in range(100)]


def originals(copies, rows):
    return {one.example_id: copies.original_of(one) for one in rows}


def test_without_the_option_copies_stay():
    assert originals(AllDiffer(), [row("a", "x"), row("b", "x")]) == {"a": None, "b": None}


def test_exact_copies_differ_in_name_case_and_white_space_only():
    rows = [row("a", "What is  it?"), row("b", "what is\nit?"), row("c", "what is it"), row("d", "What is it?", "no")]
    assert originals(ExactCopies(), rows) == {"a": None, "b": "a", "c": None, "d": None}


def test_where_a_message_ends_is_part_of_it():
    rows = [row("a", "one two", "three"), row("b", "one", "two three")]
    assert originals(ExactCopies(), rows) == {"a": None, "b": None}


def near():
    return NearCopies(similarity=0.8, ngram=3, n_hashes=256, seed=0)


def test_near_copies_share_most_of_their_ngrams():
    text = " ".join(WORDS)
    one_changed = " ".join([*WORDS[:50], "other", *WORDS[51:]])  # 3 of 98 n-grams: similarity about 0.94
    half_changed = " ".join([*WORDS[:50], *(f"else{i}" for i in range(50))])  # about a third
    rows = [row("a", text), row("b", one_changed), row("c", half_changed), row("d", text.upper())]
    assert originals(near(), rows) == {"a": None, "b": "a", "c": None, "d": "a"}


def test_text_without_spaces_is_compared_by_characters():
    text = "".join(chr(0x4E00 + 7 * i % 997) for i in range(200))
    rows = [row("a", text, ""), row("b", text[:-1] + "甲", ""), row("c", text[::-1], "")]
    assert originals(near(), rows)["b"] == "a"
    assert originals(near(), rows)["c"] is None


CHINESE = "请用三句话说明为什么海水是咸的，并举一个日常生活中的例子来帮助小学生理解盐是怎样从岩石流进大海的"
OTHER_CHINESE = "写一首关于秋天的短诗，要求押韵，每行七个字，最后一行要提到月亮和远方的朋友，并解释诗中的比喻"
THAI = "กรุณาอธิบายว่าทำไมน้ำทะเลจึงมีรสเค็มและยกตัวอย่างจากชีวิตประจำวันเพื่อให้เด็กเข้าใจได้ง่ายขึ้น"
OTHER_THAI = "เขียนบทกวีสั้นเกี่ยวกับฤดูใบไม้ร่วงโดยให้บรรทัดสุดท้ายกล่าวถึงดวงจันทร์และเพื่อนที่อยู่แดนไกล"


@pytest.mark.parametrize(
    ("text", "changed", "other"),
    [
        (CHINESE, CHINESE.replace("小学", "中学"), OTHER_CHINESE),
        (THAI, THAI.replace("เด็ก", "ครู"), OTHER_THAI),
        (f"GPT {CHINESE} 2024", f"GPT {CHINESE} 2025", f"GPT {OTHER_CHINESE} 2024"),
    ],
    ids=["Chinese", "Thai", "mixed"],
)
def test_scripts_without_spaces_between_words_are_compared_by_characters(text, changed, other):
    rows = [row("a", text, "好的。"), row("b", changed, "好的。"), row("c", other, "好的。")]
    assert originals(near(), rows) == {"a": None, "b": "a", "c": None}


@pytest.mark.parametrize("text", ["The cat's 2 toys, été_x: 한국어 문장 हिन्दी", "a b"])
def test_words_of_other_scripts_are_those_between_spaces_and_punctuation(text):
    words = re.findall(r"[^\W_]+|\S", f"{text}\nyes".casefold())
    expected = {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}
    assert near()._ngrams(row("a", text)) == expected


def test_of_several_originals_the_first_remembered_is_named():
    def changed(start, stop):
        return " ".join([*WORDS[:start], *(f"other{i}" for i in range(start, stop)), *WORDS[stop:]])

    # Each shares 92 of 104 n-grams with the copy (0.88), and 86 of 110 with each other (0.78).
    first, second, copy = row("z", changed(0, 6)), row("a", changed(94, 100)), row("copy", " ".join(WORDS))
    for one, other in ((first, second), (second, first)):
        copies = NearCopies(similarity=0.83, ngram=3, n_hashes=1024, seed=0)
        names = originals(copies, [one, other, copy])
        assert names == {one.example_id: None, other.example_id: None, "copy": one.example_id}


def test_odd_texts_do_no_harm():
    rows = [row("a", "", ""), row("b", "\ud800", ""), row("c", "x" * 10_000, ""), row("d", "\x00")]
    assert originals(near(), rows)["c"] is None
    assert originals(ExactCopies(), rows) == dict.fromkeys("abcd")


@pytest.mark.parametrize(("k", "chosen", "passed_over"), [(2, ["a", "c"], {"b": "a"}), (9, ["a", "c", "e"], None)])
def test_a_budget_is_filled_with_rows_that_differ(k, chosen, passed_over):
    rows = [row("a", "x"), row("b", "x"), row("c", "y"), row("d", "y"), row("e", "z")]
    found, original_of = without_copies(rows, ExactCopies(), k=k)
    assert found == chosen
    assert original_of == (passed_over or {"b": "a", "d": "c"})
