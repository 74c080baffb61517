"""Mean negative log-likelihood of the right answer: the sensitive measure for small models."""

from collections.abc import Sequence

import torch

from lessexp.data.row_paths import files_named
from lessexp.data.rows import Row, read_rows
from lessexp.data.source import Paths
from lessexp.data.tokenize import collate, sort_by_length, split_by_tokens, tokenize_rows
from lessexp.evaluation.base import Examinee, Prediction, Reader, asked
from lessexp.evaluation.limit import limited
from lessexp.models.causal_lm import per_example_loss

ANSWER_NLL = "answer_nll"
"""Name of the metric."""


def answer_nll(examinee: Examinee, rows: Sequence[Row]) -> dict[str, float]:
    """Mean NLL of each row's answer tokens [nats per token] by example id.

    Args:
        examinee: whose likelihoods are taken.
        rows: each with a token of its answer within ``max_length``; any other is absent from what is returned.
    """
    tokenized, dropped = tokenize_rows(
        rows, tokenizer=examinee.tokenizer, chat_format=examinee.chat_format, max_length=examinee.max_length
    )
    examinee.advance(len(dropped))
    device = next(examinee.model.parameters()).device
    nll: dict[str, float] = {}
    for group in split_by_tokens(sort_by_length(tokenized), examinee.tokens_per_batch):
        batch = collate(group, pad_token_id=examinee.tokenizer.pad_token_id).to(device)
        with torch.no_grad():
            losses = per_example_loss(examinee.model, batch)
        nll |= zip(batch.example_ids, losses.tolist(), strict=True)
        examinee.advance(len(group))
    return {row.example_id: nll[row.example_id] for row in rows if row.example_id in nll}


class AnswerNLLBenchmark:
    """Rows of a file, judged by answer NLL alone.

    Args:
        path: files of target rows, see `lessexp.data.target.jsonl_target`.
        limit: at most so many rows of a subtask, drawn by ``seed``; ``None``: all.
        seed: of the draw.
    """

    metric = None

    def __init__(self, path: Paths, *, limit: int | None, seed: int):
        self.left_out: dict[str, str] = {}
        self._rows = limited(
            read_rows(files_named(path, key="benchmark.path"), is_target=True),
            limit=limit,
            seed=seed,
            subtask_of=lambda row: row.subtask,
            name_of=lambda row: row.example_id,
        )

    def rows(self) -> list[Row]:
        """The files' rows."""
        return list(self._rows)

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """The rows as they are: they have no solved examples."""
        return list(rows)

    def cut(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[str]:
        """None: a row too long for its answer is not judged."""
        return []

    def questions(self) -> dict[str, str]:
        """What the user says in each row."""
        return asked(self.rows())

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """Nothing: the answers' likelihood says it all."""
        return []

    def higher_is_better(self, metric: str) -> bool:
        """Never: a likely answer has a low NLL."""
        return False
