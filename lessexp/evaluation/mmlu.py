"""MMLU (Hendrycks et al., arXiv:2009.03300): few-shot accuracy over the four letters."""

from collections.abc import Sequence

import torch

from lessexp.data.few_shot import FewShotRow
from lessexp.data.multiple_choice import LETTERS
from lessexp.data.rendering import prompt_ids
from lessexp.data.rows import Row
from lessexp.data.tokenize import IGNORED_LABEL, TokenizedRow, collate, sort_by_length, split_by_tokens
from lessexp.evaluation.base import Examinee, Prediction
from lessexp.models.causal_lm import answer_logits


class LikeliestLetter:
    """The answer is the letter with the highest probability as the first token."""

    metric = "accuracy"

    def judge(
        self, examinee: Examinee, rows: Sequence[Row], items: Sequence[FewShotRow], *, max_new_tokens: int
    ) -> list[Prediction]:
        """The likeliest letter for each question; score 1 if it is the right one."""
        cues = {row.example_id: item.templates.cue for row, item in zip(rows, items, strict=True)}
        letter_ids = {row.example_id: _letter_ids(examinee, row, cues[row.example_id]) for row in rows}
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
        for row, item in zip(rows, items, strict=True):
            answer, reference = answers[row.example_id], item.exercise.answers[0]
            predictions.append(Prediction(row.example_id, row.subtask, answer, reference, float(answer == reference)))
        return predictions


def _letter_ids(examinee: Examinee, row: Row, cue: str) -> list[list[int]]:
    """The prompt with each letter; a letter may merge with what stands before it, so whole texts are tokenised."""
    return [
        prompt_ids(
            row.messages[:-1],
            f"{cue} {letter}" if cue else letter,
            tokenizer=examinee.tokenizer,
            chat_format=examinee.chat_format,
        )
        for letter in LETTERS
    ]


def _ending_in_a_letter(example_id: str, text: list[int], max_length: int) -> TokenizedRow:
    """The text as a row whose only label is its last token, so that the logits before it are those computed."""
    text = text[-max_length:]
    return TokenizedRow(example_id, text, [IGNORED_LABEL] * (len(text) - 1) + text[-1:])
