"""MMLU (Hendrycks et al., arXiv:2009.03300): few-shot accuracy over the four letters."""

from collections.abc import Callable, Sequence

import torch

from lessexp.data.few_shot import Exercise, Templates
from lessexp.data.multiple_choice import LETTERS
from lessexp.data.rows import Row
from lessexp.data.tokenize import IGNORED_LABEL, TokenizedRow, collate, sort_by_length, split_by_tokens
from lessexp.evaluation.base import Examinee, Prediction, Reader
from lessexp.evaluation.few_shot import FewShotExam
from lessexp.models.causal_lm import answer_logits


class MMLUBenchmark:
    """Test questions after solved development questions of the same subject.

    The prediction is the letter with the highest probability as the first token of the answer.

    Args:
        read: reader of the questions, ``(path, *, repo_id, split)``.
        path: local file of test questions; ``None``: the hub.
        dev_path: local file of development questions; ``None``: the hub.
        repo_id: the hub's name of the data set.
        task: name of the benchmark.
        prompts: words of the prompts.
        subtasks: only these subjects; ``None``: all.
        n_shots: solved questions before each test question.
        limit: at most so many questions of a subject, drawn by ``seed``; ``None``: all.
        seed: of the draw.
        ngram: see `lessexp.evaluation.leaks.QuestionIndex`.
    """

    metric = "accuracy"

    def __init__(
        self,
        read: Callable[..., list[Exercise]],
        *,
        path: str | None,
        dev_path: str | None,
        repo_id: str,
        task: str,
        prompts: Templates,
        subtasks: Sequence[str] | None,
        n_shots: int,
        limit: int | None,
        seed: int,
        ngram: int,
    ):
        self._exam = FewShotExam(
            tests=read(path, repo_id=repo_id, split="test"),
            shots=read(dev_path, repo_id=repo_id, split="dev"),
            task=task,
            subtasks=subtasks,
            n_shots=n_shots,
            prompts=prompts,
            limit=limit,
            seed=seed,
            ngram=ngram,
        )
        self.left_out = self._exam.left_out

    def rows(self) -> list[Row]:
        """The questions with their solved examples, one subtask a subject."""
        return self._exam.rows()

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """See `lessexp.evaluation.few_shot.FewShotExam.fit`; an answer is one token."""
        return self._exam.fit(rows, reader, max_length=max_length, max_new_tokens=1)

    def questions(self) -> dict[str, str]:
        """The questions with their choices, by example id."""
        return self._exam.questions()

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """The likeliest letter for each question; score 1 if it is the right one."""
        letter_ids = {row.example_id: self._letter_ids(examinee, row) for row in rows}
        asked = [_ending_in_a_letter(name, texts[0], examinee.max_length) for name, texts in letter_ids.items()]
        device = next(examinee.model.parameters()).device
        answers: dict[str, str] = {}
        for group in split_by_tokens(sort_by_length(asked), examinee.tokens_per_batch):
            batch = collate(group, pad_token_id=examinee.tokenizer.pad_token_id).to(device)
            with torch.no_grad():
                logits = answer_logits(examinee.model, batch).float().cpu()
            for name, scores in zip(batch.example_ids, logits, strict=True):
                worth = [scores[text[-1]].item() for text in letter_ids[name]]
                answers[name] = LETTERS[worth.index(max(worth))]
            examinee.advance(len(group))
        predictions = []
        for row in rows:
            answer, reference = answers[row.example_id], self._exam.item(row).exercise.answers[0]
            predictions.append(Prediction(row.example_id, row.subtask, answer, reference, float(answer == reference)))
        return predictions

    def _letter_ids(self, examinee: Examinee, row: Row) -> list[list[int]]:
        """The prompt with each letter; a letter may merge with what stands before it, so whole texts are tokenised."""
        cue = self._exam.item(row).templates.cue
        prompt = examinee.chat_format.prompt(row.messages[:-1]) + (f"{cue} " if cue else "")
        return examinee.tokenizer(
            [prompt + letter for letter in LETTERS],
            add_special_tokens=examinee.chat_format.add_special_tokens,
            verbose=False,
        )["input_ids"]


def _ending_in_a_letter(example_id: str, text: list[int], max_length: int) -> TokenizedRow:
    """The text as a row whose only label is its last token, so that the logits before it are those computed."""
    text = text[-max_length:]
    return TokenizedRow(example_id, text, [IGNORED_LABEL] * (len(text) - 1) + text[-1:])
