import ast
import re

import pytest

from lessexp.data.paraphrase import FORMS, paraphrased_rows
from lessexp.data.reasoning_gym import FamilyError, generate_problems, reasoning_gym_rows
from tests.stages.conftest import compose_from

FAMILIES = {name: dict(settings) for name, settings in compose_from("data=reasoning_gym").data.families.items()}
ARGUMENTS = dict(rows_per_family=12, seed=7, split="pool")


@pytest.fixture(scope="module")
def problems():
    return generate_problems(FAMILIES, **ARGUMENTS)


@pytest.fixture(scope="module")
def rows():
    return paraphrased_rows(FAMILIES, **ARGUMENTS)


def words(text):
    return set(re.findall(r"[a-zäöü]{4,}", text.lower()))


def test_problems_answers_and_ids_are_those_of_the_plain_pool(rows):
    plain = reasoning_gym_rows(FAMILIES, **ARGUMENTS)
    assert [(row.example_id, row.dataset, row.messages[1]) for row in rows] == [
        (row.example_id, row.dataset, row.messages[1]) for row in plain
    ]
    assert all(row.messages[0] != other.messages[0] for row, other in zip(rows, plain, strict=True))


def test_forms_follow_from_the_seed_and_all_of_them_occur(rows, problems):
    assert rows == paraphrased_rows(FAMILIES, **ARGUMENTS)
    for family, forms in FORMS.items():
        entries = {p.row.example_id: p.entry for p in problems if p.row.dataset == family}
        used = {
            place
            for row in rows
            if row.dataset == family
            for place, form in enumerate(forms)
            if form(entries[row.example_id]) == row.messages[0][1]
        }
        assert used == set(range(len(forms))), family


@pytest.mark.parametrize("family", ["chain_sum", "word_sequence_reversal"])
def test_a_wanted_family_shares_no_telling_word_with_the_targets_wording(family, problems):
    for problem in problems:
        if problem.row.dataset == family:
            own = words(" ".join(map(str, problem.entry["metadata"].get("words", []))))
            asked = words(problem.entry["question"]) - own
            for form in FORMS[family]:
                assert not asked & words(form(problem.entry))


def test_sums_say_the_same_as_their_expression(problems):
    for problem in problems:
        if problem.row.dataset == "chain_sum":
            story, german, column, code = (form(problem.entry) for form in FORMS["chain_sum"])
            signed = re.sub(r"Then (\d+) is paid in", r"+\1", re.sub(r"Then (\d+) is taken out", r"-\1", story))
            spoken = german.replace("plus ", "+").replace("minus ", "-")
            added = code.replace("x = ", "").replace("x += ", "+").replace("x -= ", "-")
            for text in (signed, spoken, column.replace("--------", "").replace(" ", ""), added):
                total = sum(int(number) for number in re.findall(r"[+-]?\d+", text))
                assert total == int(problem.entry["answer"]), text


def test_reversals_hold_every_word_in_its_order(problems):
    for problem in problems:
        if problem.row.dataset == "word_sequence_reversal":
            listed = problem.entry["metadata"]["words"]
            cards, spanish, lines, code = (form(problem.entry) for form in FORMS["word_sequence_reversal"])
            assert " | ".join(listed) in cards and " ".join(listed) in spanish
            assert re.findall(r"^\d+\) (.+)$", lines, re.M) == listed
            assert ast.literal_eval(re.search(r"\[.*?\]", code)[0]) == listed
            assert ", ".join(reversed(listed)) == problem.entry["answer"]


def test_a_family_without_other_forms_is_named():
    with pytest.raises(FamilyError, match="no other form of family 'sudoku'; there are of calendar_arithmetic"):
        paraphrased_rows({"sudoku": {}}, **ARGUMENTS)
