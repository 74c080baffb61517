"""Greedy answers, many at a time."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from lessexp.data.chat_format import Messages
from lessexp.data.rendering import prompt_ids
from lessexp.data.rows import Row
from lessexp.errors import UserError
from lessexp.evaluation.base import Examinee, Reader


class NoRoomError(UserError, ValueError):
    """Answers as long as all the model may read."""


def cut_prompts(
    rows: Sequence[Row],
    reader: Reader,
    *,
    max_length: int,
    max_new_tokens: int,
    cues: Sequence[str] | None = None,
) -> list[str]:
    """Example ids of the rows whose prompt loses its start in `greedy_answers`, which has the same arguments."""
    room, spoken = max_length - max_new_tokens, {"tokenizer": reader.tokenizer, "chat_format": reader.chat_format}
    return [
        row.example_id
        for row, cue in zip(rows, cues or [""] * len(rows), strict=True)
        if len(prompt_ids(row.messages[:-1], cue, **spoken)) > room
    ]


class StopsAt(StoppingCriteria):
    """Ends an answer in which a stop string has appeared.

    Only the newest tokens of each answer are decoded. A token stands for a byte at least, so a string that ends with
    the newest token began at most as many tokens before as it has bytes; one more is decoded because some tokenizers
    leave out the space before the first.

    Args:
        stop: the strings.
        tokenizer: of the model.
        n_prompt: tokens of the padded prompts; what stands there ends nothing.
    """

    def __init__(self, stop: Sequence[str], tokenizer: PreTrainedTokenizerBase, n_prompt: int):
        self._stop = tuple(stop)
        self._tokenizer = tokenizer
        self._n_prompt = n_prompt
        self._n_newest = 1 + max(len(text.encode()) for text in stop)

    def __call__(self, input_ids: Int[Tensor, "batch length"], scores, **kwargs) -> Bool[Tensor, " batch"]:
        """Which answers have just ended."""
        newest = input_ids[:, max(self._n_prompt, input_ids.shape[1] - self._n_newest) :]
        texts = self._tokenizer.batch_decode(newest, skip_special_tokens=True)
        ended = [any(stop in text for stop in self._stop) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    return text[: min((text.index(string) for string in stop if string in text), default=len(text))]


def greedy_answers(
    examinee: Examinee,
    conversations: Sequence[Messages],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    cues: Sequence[str] | None = None,
) -> list[str]:
    """The model's answer to each conversation, without special tokens, in the order given.

    Prompts are sorted by length and padded on the left, so that all answers of a batch begin at the
    same position. An answer ends at the tokenizer's end token, at a stop string, which is not part of it, or after
    ``max_new_tokens``. Of a prompt that leaves no room for them in the examinee's ``max_length`` the start is cut off.

    Args:
        examinee: who answers.
        conversations: up to the user's last message.
        max_new_tokens: the longest answer.
        stop: strings that end an answer.
        cues: for each conversation, the words its answer begins with, which are given and not part of it.

    Raises:
        NoRoomError: no token of any prompt would have room.
    """
    tokenizer = examinee.tokenizer
    room = examinee.max_length - max_new_tokens
    if room < 1:
        raise NoRoomError(
            f"answers of {max_new_tokens} tokens leave nothing of evaluation.max_length={examinee.max_length} for the "
            "question; lower the one or raise the other"
        )
    prompts = [
        prompt_ids(messages, cue, tokenizer=tokenizer, chat_format=examinee.chat_format)[-room:]
        for messages, cue in zip(conversations, cues or [""] * len(conversations), strict=True)
    ]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    device = next(examinee.model.parameters()).device
    answers: dict[int, str] = {}
    while by_length:
        # The longest prompt decides how many fit.
        width = len(prompts[by_length[-1]]) + max_new_tokens
        n_fitting = max(1, examinee.tokens_per_batch // width)
        by_length, group = by_length[:-n_fitting], by_length[-n_fitting:]
        padded = tokenizer.pad(
            {"input_ids": [prompts[index] for index in group]}, padding_side="left", return_tensors="pt"
        ).to(device)
        n_prompt = padded["input_ids"].shape[1]
        with torch.no_grad():
            output = examinee.model.generate(
                **padded,
                max_new_tokens=max_new_tokens,
                # What the model's own generation settings might make of greedy decoding.
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([StopsAt(stop, tokenizer, n_prompt)] if stop else []),
            )
        decoded = tokenizer.batch_decode(output[:, n_prompt:], skip_special_tokens=True)
        answers |= {index: before_stop(text, stop).strip() for index, text in zip(group, decoded, strict=True)}
        examinee.advance(len(group))
    return [answers[index] for index in range(len(conversations))]
