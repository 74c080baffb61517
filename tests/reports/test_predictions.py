from lessexp.reports.predictions import read_predictions
from tests.conftest import write_lines


def line(model, name, subtask, score):
    return {"model": model, "example_id": name, "subtask": subtask, "answer": model, "reference": "1", "score": score}


def test_answers_to_one_question_meet_and_subtasks_take_turns(tmp_path):
    scores = {"a": (0, 1), "b": (1, 0), "c": (1, 1), "d": (0.25, 0.5)}
    subtasks = {"a": "sums", "b": "sums", "c": "sums", "d": "words"}
    lines = [line("base", name, subtasks[name], base) for name, (base, _) in scores.items()]
    lines += [line("tuned", name, subtasks[name], tuned) for name, (_, tuned) in reversed(scores.items())]
    file = tmp_path / "predictions.jsonl"
    write_lines(file, *lines)
    found = read_predictions(file, {"a": "1 + 0?"}, n_listed=3)
    assert [one.example_id for one in found.listed] == ["a", "d", "b"]
    assert (found.n_questions, found.n_higher, found.n_lower) == (4, 2, 1)
    first, second, _ = found.listed
    assert (first.question, first.base, first.base_score, first.tuned_score) == ("1 + 0?", "base", 0, 1)
    assert (second.question, second.tuned_score) == (None, 0.5)


def test_a_benchmark_may_ask_for_no_answers(tmp_path):
    (tmp_path / "predictions.jsonl").touch()
    assert read_predictions(tmp_path / "predictions.jsonl", {}, n_listed=3).listed == []
