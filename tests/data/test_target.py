import json

import pytest

from lessexp.data.bbh import read_bbh
from lessexp.data.gsm8k import read_gsm8k
from lessexp.data.multiple_choice import read_questions
from lessexp.data.rows import Row, RowError, write_rows
from lessexp.data.target import EmptyTargetError, few_shot_target, jsonl_target
from lessexp.data.tydiqa import read_tydiqa
from lessexp.errors import MissingFileError
from tests.conftest import prompts, write_lines

MESSAGES = (("user", "?"), ("assistant", "!"))


def test_target_rows_carry_task_and_subtask(tmp_path):
    rows = [Row("dolly", "a", MESSAGES, "toy", "sums"), Row("dolly", "b", MESSAGES, "toy", "words")]
    write_rows(tmp_path / "target.jsonl", [*rows, Row("dolly", "c", MESSAGES)])
    assert jsonl_target(str(tmp_path / "target.jsonl")) == [*rows, Row("dolly", "c", MESSAGES, "dolly", "dolly")]


def test_target_rows_come_from_a_folder_a_pattern_or_several_files(tmp_path):
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.jsonl", [Row(name, name, MESSAGES, name, name)])
    expected = [Row(name, name, MESSAGES, name, name) for name in ("a", "b")]
    files = [str(tmp_path / f"{name}.jsonl") for name in ("a", "b")]
    for path in (str(tmp_path), str(tmp_path / "*.jsonl"), files):
        assert jsonl_target(path) == expected
    with pytest.raises(MissingFileError, match=r"target\.path: .*c\.jsonl' matches no file$"):
        jsonl_target(str(tmp_path / "c.jsonl"))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_target_without_rows_is_refused_naming_its_key(tmp_path, content):
    path = tmp_path / "target.jsonl"
    path.write_text(content)
    with pytest.raises(EmptyTargetError, match=r"target\.path: .*target\.jsonl"):
        jsonl_target(str(path))


def test_a_missing_target_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        jsonl_target(str(tmp_path / "nowhere.jsonl"))


def test_a_subtask_that_is_no_string_is_refused_naming_its_line(tmp_path):
    path = tmp_path / "target.jsonl"
    path.write_text(json.dumps(Row("dolly", "a", MESSAGES).to_json() | {"subtask": 3}))
    with pytest.raises(RowError, match=r"target\.jsonl, line 1: 'task' and 'subtask' must be strings"):
        jsonl_target(str(path))


def build(task, read, path, **settings):
    settings = dict(per_subtask=9, n_context=0, subtasks=None) | settings
    return few_shot_target(read, task=task, path=path, repo_id="unused", prompts=prompts(task), **settings)


def test_each_subject_of_mmlu_is_a_subtask_and_the_letter_is_the_answer(tmp_path):
    question = {"question": "Who?", "choices": ["me", "you", "they", "none"], "answer": "C"}
    path = write_lines(tmp_path / "dev.jsonl", *(question | {"subject": subject} for subject in ("law", "art")))
    header = "The following are multiple choice questions (with answers) about {}.\n\n"
    text = header + "Who?\nA. me\nB. you\nC. they\nD. none\nAnswer:"
    assert build("mmlu", read_questions, path) == [
        Row("mmlu", f"mmlu-dev-0000{index}", (("user", text.format(subject)), ("assistant", "C")), "mmlu", subject)
        for index, subject in enumerate(("law", "art"))
    ]


def bbh_shots(task, n):
    shared = {"task": task, "task_prompt": f"Do {task}."}
    return [
        shared | {"input": f"{task} {i}?", "cot": f"Think {i}. So the answer is {i}.", "target": str(i)}
        for i in range(n)
    ]


def test_each_bbh_row_has_the_other_examples_of_its_task_before_it_and_its_reasoning_to_learn(tmp_path):
    path = write_lines(tmp_path / "dev.jsonl", *bbh_shots("sorting", 3), *bbh_shots("dates", 2))
    rows = build("bbh", read_bbh, path, per_subtask=3, n_context=2)
    assert [row.subtask for row in rows] == ["sorting"] * 3 + ["dates"] * 2  # subtasks of unequal size
    assert rows[1].messages == (
        (
            "user",
            "Do sorting.\n\nQ: sorting 0?\nA: Think 0. So the answer is 0.\n\n"
            "Q: sorting 2?\nA: Think 2. So the answer is 2.\n\nQ: sorting 1?\nA:",
        ),
        ("assistant", "Think 1. So the answer is 1."),
    )
    assert "dates 1?" in rows[3].messages[0][1] and "sorting" not in rows[3].messages[0][1]


def test_the_first_example_of_each_language_is_the_target_of_tydiqa(tmp_path):
    shared = {"context": "Oulu is a town.", "question": "What is Oulu?"}
    lines = [
        shared | {"lang": language, "id": "1", "shot": shot, "answers": [f"{language} {shot}"]}
        for language in ("finnish", "korean")
        for shot in (1, 0)
    ]
    for index, line in enumerate(lines):
        line["id"] = str(index)
    rows = build("tydiqa", read_tydiqa, write_lines(tmp_path / "dev.jsonl", *lines), per_subtask=1)
    assert [(row.subtask, row.messages[-1][1]) for row in rows] == [("finnish", "finnish 0"), ("korean", "korean 0")]
    assert rows[0].messages[0][1].endswith("Passage: Oulu is a town.\nQuestion: What is Oulu?\nAnswer:")
    only = build("tydiqa", read_tydiqa, str(tmp_path / "dev.jsonl"), per_subtask=2, subtasks=["korean"])
    assert [row.messages[-1][1] for row in only] == ["korean 0", "korean 1"]


def test_a_gsm8k_row_ends_its_reasoning_with_the_answer(tmp_path):
    line = {"question": "2 hens lay 3 eggs each. How many?", "cot": "2 * 3 = 6", "answer": "6"}
    (row,) = build("gsm8k", read_gsm8k, write_lines(tmp_path / "dev.jsonl", line))
    assert row.messages == (("user", f"Q: {line['question']}\nA:"), ("assistant", "2 * 3 = 6\nThe answer is 6."))


def test_an_empty_file_of_examples_is_refused(tmp_path):
    with pytest.raises(EmptyTargetError, match="holds no example"):
        build("gsm8k", read_gsm8k, write_lines(tmp_path / "dev.jsonl", ""))
