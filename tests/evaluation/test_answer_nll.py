import pytest
import torch

from lessexp.data.rows import Row, write_rows
from lessexp.data.tokenize import IGNORED_LABEL, tokenize_row
from lessexp.evaluation.answer_nll import AnswerNLLBenchmark, answer_nll
from lessexp.evaluation.base import Examinee
from tests.conftest import make_rows

MAX_LENGTH = 512
# float32 sums in another order; values are of order 1 to 10.
TOLERANCE = 1e-5


@pytest.fixture
def examine(lora_model, tokenizer, chat_format):
    def build(tokens_per_batch=256, max_length=MAX_LENGTH, advance=lambda done: None):
        return Examinee(lora_model, tokenizer, chat_format, max_length, tokens_per_batch, advance)

    return build


def nll_of_one_row(examinee, row):
    """The slow and obvious way: all logits of the row alone, a Python loop over its answer tokens."""
    tokenized = tokenize_row(
        row, tokenizer=examinee.tokenizer, chat_format=examinee.chat_format, max_length=examinee.max_length
    )
    with torch.no_grad():
        logits = examinee.model(input_ids=torch.tensor([tokenized.input_ids])).logits[0]
    log_probabilities = logits.double().log_softmax(dim=-1)
    answer = [position for position, label in enumerate(tokenized.labels) if label != IGNORED_LABEL]
    return -sum(log_probabilities[at - 1, tokenized.labels[at]].item() for at in answer) / len(answer)


def test_nll_equals_a_loop_over_the_answer_tokens_of_each_row_alone(examine, rows):
    examinee = examine()
    expected = {row.example_id: nll_of_one_row(examinee, row) for row in rows}
    assert max(expected.values()) > 1.1 * min(expected.values())
    assert answer_nll(examinee, rows) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 100_000])
def test_nll_does_not_depend_on_the_batch_size(examine, rows, tokens_per_batch):
    assert answer_nll(examine(tokens_per_batch), rows) == pytest.approx(answer_nll(examine(), rows), rel=TOLERANCE)


def test_rows_come_back_in_the_order_given_and_all_are_counted_as_progress(examine, rows):
    finished = []
    nll = answer_nll(examine(100, advance=finished.append), rows[::-1])
    assert list(nll) == [row.example_id for row in rows[::-1]]
    assert sum(finished) == len(rows) and len(finished) > 1


def test_a_row_whose_answer_is_cut_off_is_absent_but_counted(examine, rows):
    long_question = Row("sums", "long", (("user", "word " * 400), ("assistant", "4")), "toy", "sums")
    finished = []
    nll = answer_nll(examine(max_length=200, advance=finished.append), [long_question, *rows])
    assert list(nll) == [row.example_id for row in rows]
    assert sum(finished) == len(rows) + 1


def test_benchmark_reads_the_rows_of_its_file_and_judges_nothing(examine, tmp_path):
    rows = make_rows(5, target=True)
    write_rows(tmp_path / "held_out.jsonl", rows)
    benchmark = AnswerNLLBenchmark(str(tmp_path / "held_out.jsonl"), limit=None, seed=0)
    assert benchmark.metric is None
    assert benchmark.rows() == rows
    assert benchmark.judge(examine(), rows) == []


def test_a_limit_draws_rows_of_each_subtask_by_the_seed(tmp_path):
    rows = make_rows(12, target=True)
    write_rows(tmp_path / "held_out.jsonl", rows)
    drawn = [AnswerNLLBenchmark(str(tmp_path / "held_out.jsonl"), limit=2, seed=seed).rows() for seed in (0, 0, 1)]
    assert [row.subtask for row in drawn[0]] == ["sums", "sums", "words", "words"]
    assert drawn[0] == drawn[1] != drawn[2]
