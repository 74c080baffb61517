import pytest

from lessexp.data.reasoning_gym import reasoning_gym_rows
from lessexp.evaluation.base import Examinee
from lessexp.evaluation.reasoning_gym import ReasoningGymBenchmark

FAMILIES = {"chain_sum": {"min_terms": 3, "max_terms": 4, "min_digits": 3, "max_digits": 4}, "letter_counting": {}}
N_ROWS = 6


def build(seed=3000):
    return ReasoningGymBenchmark(
        FAMILIES, rows_per_family=N_ROWS, seed=seed, max_new_tokens=7, limit=None, limit_seed=0
    )


@pytest.fixture
def examinee(lora_model, tokenizer, chat_format):
    return Examinee(lora_model, tokenizer, chat_format, 512, 512, lambda done: None)


@pytest.fixture
def answer_with(monkeypatch):
    """Let the model give these answers; returns what it was asked."""

    def patch(answers):
        asked = {}

        def answered(examinee, conversations, *, max_new_tokens):
            asked.update(conversations=list(conversations), max_new_tokens=max_new_tokens)
            return answers

        monkeypatch.setattr("lessexp.evaluation.reasoning_gym.greedy_answers", answered)
        return asked

    return patch


def questions(rows):
    return {row.messages[0][1] for row in rows}


def test_problems_are_the_same_for_the_same_seed_and_others_for_another():
    assert build(seed=1).rows() == build(seed=1).rows()
    assert questions(build(seed=1).rows()).isdisjoint(questions(build(seed=100_000).rows()))


# Neighbours, and one whose distance is below the number of problems drawn.
@pytest.mark.parametrize("pool_seed", [2990, 2999, 3001])
def test_problems_are_held_out_from_a_pool_of_any_other_seed(pool_seed):
    pool = reasoning_gym_rows(FAMILIES, rows_per_family=2 * N_ROWS, seed=pool_seed, split="pool")
    assert questions(build(seed=3000).rows()).isdisjoint(questions(pool))


def test_right_answers_score_one_and_the_model_sees_the_questions_alone(examinee, answer_with):
    benchmark = build()
    rows = benchmark.rows()
    asked = answer_with([row.messages[-1][1] for row in rows])
    predictions = benchmark.judge(examinee, rows)
    assert [prediction.score for prediction in predictions] == [1.0] * 2 * N_ROWS
    assert asked == {"conversations": [(("user", row.messages[0][1]),) for row in rows], "max_new_tokens": 7}


def test_wrong_answers_score_below_one_row_by_row(examinee, answer_with):
    benchmark = build()
    rows = benchmark.rows()
    given = ["wrong" if index % 2 else row.messages[-1][1] for index, row in enumerate(rows)]
    answer_with(given)
    predictions = benchmark.judge(examinee, rows)
    assert [prediction.score == 1.0 for prediction in predictions] == [index % 2 == 0 for index in range(len(rows))]
    assert [prediction.answer for prediction in predictions] == given
    assert [(prediction.example_id, prediction.subtask, prediction.reference) for prediction in predictions] == [
        (row.example_id, row.subtask, row.messages[-1][1]) for row in rows
    ]


def test_a_subset_in_another_order_is_judged_against_its_own_answers(examinee, answer_with):
    benchmark = build()
    rows = benchmark.rows()[::-3]
    answer_with([row.messages[-1][1] for row in rows])
    assert all(prediction.score == 1.0 for prediction in benchmark.judge(examinee, rows))
