from dataclasses import replace

import pytest

from lessexp.data.few_shot import Exercise, TemplateError, Templates, by_subtask, few_shot_row, of_subtasks
from lessexp.data.rows import RowError

TEMPLATES = Templates(
    header="Do {kind}.",
    question="Q: {question}",
    answer="{answer}!",
    solved="{question} A: {answer}",
    cue="So:",
    separator=" | ",
    stop=(),
    by_subtask={"words": {"header": "", "cue": "Thus:"}},
)


def exercise(name, subtask="sums", answers=("yes",)):
    fields = {"kind": subtask, "question": f"{name}? {{braces}}", "answer": answers[0] if answers else ""}
    return Exercise(name, subtask, fields, answers, content=name, where=f"file, line {name}")


def test_a_prompt_is_header_solved_examples_and_question_and_fields_may_hold_braces():
    row = few_shot_row(exercise("c"), [exercise("a"), exercise("b")], task="toy", templates=TEMPLATES).row(2)
    shots = "Q: a? {braces} A: yes! | Q: b? {braces} A: yes!"
    assert row.messages == (("user", f"Do sums. | {shots} | Q: c? {{braces}}"), ("assistant", "So: yes!"))
    assert (row.dataset, row.example_id, row.task, row.subtask) == ("toy", "toy-c", "toy", "sums")


def test_fewer_examples_are_the_last_ones():
    made = few_shot_row(exercise("c"), [exercise("a"), exercise("b")], task="toy", templates=TEMPLATES)
    assert "a?" not in made.row(1).messages[0][1] and "b?" in made.row(1).messages[0][1]
    assert made.row(0).messages[0][1] == "Do sums. | Q: c? {braces}"


def test_a_subtask_may_have_words_of_its_own():
    row = few_shot_row(exercise("c", "words"), [], task="toy", templates=TEMPLATES).row(0)
    assert row.messages == (("user", "Q: c? {braces}"), ("assistant", "Thus: yes!"))


@pytest.mark.parametrize("template", ["{nothing}", "{", "{}"])
def test_a_template_that_cannot_be_filled_is_refused_naming_what_there_is(template):
    with pytest.raises(TemplateError, match=r"file, line c: .*kind, question, answer"):
        few_shot_row(exercise("c"), [], task="toy", templates=replace(TEMPLATES, question=template))


def test_subtasks_are_chosen_by_name_and_only_the_chosen_need_answers():
    exercises = [exercise("a"), exercise("b", "words", answers=()), exercise("c")]
    assert [found.exercise_id for found in of_subtasks(exercises, ["sums"])] == ["a", "c"]
    with pytest.raises(RowError, match="file, line b: the question has no answer"):
        of_subtasks(exercises, None)
    with pytest.raises(RowError, match="no subtask 'dates'; the data have sums, words"):
        of_subtasks(exercises, ["dates"])


def test_the_first_of_each_subtask_are_taken():
    exercises = [exercise("a"), exercise("b", "words"), exercise("c"), exercise("d")]
    found = by_subtask(exercises, at_most=2)
    assert {name: [one.exercise_id for one in kept] for name, kept in found.items()} == {
        "sums": ["a", "c"],
        "words": ["b"],
    }
