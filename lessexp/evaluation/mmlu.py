"""MMLU (Hendrycks et al., arXiv:2009.03300): few-shot accuracy over the four letters."""

import random
from collections.abc import Sequence

import torch

from lessexp.data.multiple_choice import LETTERS, Question, few_shot_prompt, read_questions
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee, Prediction


class MMLUBenchmark:
    """Test questions after solved development questions of the same subject.

    The prediction is the letter with the highest probability as the first token of the answer.

    Args:
        path: local file of test questions; ``None``: the hub.
        dev_path: local file of development questions; ``None``: the hub.
        repo_id: the hub's name of the data set.
        n_shots: solved questions before each test question.
        limit: at most so many questions of a subject, drawn by ``seed``; ``None``: all.
        seed: of the draw.
    """

    metric = "accuracy"

    def __init__(
        self,
        *,
        path: str | None,
        dev_path: str | None,
        repo_id: str,
        n_shots: int,
        limit: int | None,
        seed: int,
    ):
        shots: dict[str, list[Question]] = {}
        for question in read_questions(dev_path, repo_id=repo_id, split="dev"):
            shots.setdefault(question.subject, []).append(question)
        self.shots = {subject: questions[:n_shots] for subject, questions in shots.items()}
        self.questions = _draw(read_questions(path, repo_id=repo_id, split="test"), limit=limit, seed=seed)

    def rows(self) -> list[Row]:
        """The questions with their solved examples, one subtask a subject."""
        return [
            Row(
                dataset="mmlu",
                example_id=f"mmlu-{question.question_id}",
                messages=(
                    ("user", few_shot_prompt(question, self.shots.get(question.subject, []))),
                    ("assistant", question.answer),
                ),
                task="mmlu",
                subtask=question.subject,
            )
            for question in self.questions
        ]

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """The likeliest letter for each question; score 1 if it is the right one."""
        predictions = []
        for row in rows:
            answer = _likeliest_letter(examinee, row)
            reference = row.messages[-1][1]
            predictions.append(Prediction(row.example_id, row.subtask, answer, reference, float(answer == reference)))
            examinee.advance(1)
        return predictions


def _draw(questions: Sequence[Question], *, limit: int | None, seed: int) -> list[Question]:
    if limit is None:
        return list(questions)
    by_subject: dict[str, list[Question]] = {}
    for question in questions:
        by_subject.setdefault(question.subject, []).append(question)
    drawn = []
    for subject in sorted(by_subject):
        found = by_subject[subject]
        drawn += random.Random(f"{seed}:{subject}").sample(found, min(limit, len(found)))
    return drawn


def _likeliest_letter(examinee: Examinee, row: Row) -> str:
    prompt = examinee.chat_format.prompt(row.messages[:-1])
    tokenize = examinee.tokenizer
    add_special = examinee.chat_format.add_special_tokens
    # The letter may merge with what stands before it, so look at each whole text.
    texts = [tokenize(prompt + letter, add_special_tokens=add_special)["input_ids"] for letter in LETTERS]
    device = next(examinee.model.parameters()).device
    context = torch.tensor([texts[0][:-1][-examinee.max_length :]], device=device)
    with torch.no_grad():
        logits = examinee.model(input_ids=context, use_cache=False, logits_to_keep=1).logits[0, -1]
    return max(zip(LETTERS, texts, strict=True), key=lambda choice: logits[choice[1][-1]].item())[0]
