import pytest

from lessexp.data.gsm8k import read_gsm8k
from lessexp.data.tydiqa import read_tydiqa
from lessexp.evaluation import gsm8k, tydiqa
from lessexp.evaluation.base import Examinee
from lessexp.evaluation.few_shot import FewShotBenchmark
from lessexp.evaluation.generation import greedy_answers
from lessexp.evaluation.written_answer import WrittenAnswer
from tests.conftest import prompts, write_lines


@pytest.fixture
def examinee(lora_model, tokenizer, chat_format):
    return Examinee(lora_model, tokenizer, chat_format, 512, 512, lambda done: None)


def build(tmp_path, read, score, name, protocol, metric, tests, shots):
    return FewShotBenchmark(
        read,
        WrittenAnswer(score, metric=metric),
        path=write_lines(tmp_path / "test.jsonl", *tests),
        dev_path=write_lines(tmp_path / "dev.jsonl", *shots),
        repo_id="unused",
        task=name,
        prompts=prompts(name, protocol),
        subtasks=None,
        n_shots=1,
        max_new_tokens=7,
        limit=None,
        seed=0,
        ngram=13,
    )


def passage(language, index, answer):
    question = f"Question {index}?"
    return {"lang": language, "id": "0", "context": f"Text {index}.", "question": question, "answers": [answer]}


def test_answers_are_scored_row_by_row_by_all_metrics_and_cues_are_given_by_language(tmp_path, examinee, monkeypatch):
    tests = [passage("finnish", 1, "Oulu on"), passage("english", 2, "a town"), passage("finnish", 3, "Espoo")]
    shots = [passage("english", 8, "so"), passage("finnish", 9, "niin")]
    benchmark = build(tmp_path, read_tydiqa, tydiqa.score, "tydiqa", "released", "f1", tests, shots)
    asked = {}

    def answered(examinee, conversations, **settings):
        asked.update(settings, prompts=[messages[-1][1] for messages in conversations])
        return ["Turku on", "town.", "Espoo"]

    monkeypatch.setattr("lessexp.evaluation.written_answer.greedy_answers", answered)
    rows = benchmark.rows()
    predictions = benchmark.judge(examinee, rows)
    assert [found.score for found in predictions] == [0.5, 1.0, 1.0]
    assert [found.further_scores for found in predictions] == [{"exact_match": value} for value in (0.0, 1.0, 1.0)]
    assert [found.subtask for found in predictions] == ["finnish", "english", "finnish"]
    assert asked["cues"] == ["Vastaus:", "Answer:", "Vastaus:"]
    assert (asked["stop"], asked["max_new_tokens"]) == (("\n",), 7)
    assert "Kysymys: Question 9?\nVastaus: niin\n\nKappale: Text 1." in asked["prompts"][0]
    assert rows[0].messages[-1] == ("assistant", "Vastaus: Oulu on")


def test_the_model_itself_is_asked(tmp_path, examinee):
    tests = [{"question": f"{n} and {n}?", "cot": "Add.", "answer": str(2 * n)} for n in (1, 2, 3)]
    shots = [{"question": "7 and 7?", "cot": "Add.", "answer": "14"}]
    benchmark = build(tmp_path, read_gsm8k, gsm8k.score, "gsm8k", "paper", "exact_match", tests, shots)
    rows = benchmark.fit(benchmark.rows(), examinee, max_length=512)
    predictions = benchmark.judge(examinee, rows)
    assert [found.reference for found in predictions] == ["2", "4", "6"]
    stop = prompts("gsm8k", "paper").stop
    answers = greedy_answers(examinee, [row.messages[:-1] for row in rows], max_new_tokens=7, stop=stop)
    assert [found.answer for found in predictions] == answers
    assert len(set(answers)) > 1, "a model that always says the same would show nothing"
