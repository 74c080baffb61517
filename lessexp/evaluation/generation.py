"""Greedy answers, many at a time."""

from collections.abc import Sequence

import torch

from lessexp.evaluation.base import Examinee


def greedy_answers(
    examinee: Examinee, conversations: Sequence[Sequence[tuple[str, str]]], *, max_new_tokens: int
) -> list[str]:
    """The model's answer to each conversation, without special tokens, in the order given.

    Prompts are sorted by length and padded on the left, so that all answers of a batch begin at the
    same position. An answer ends at the tokenizer's end token or after ``max_new_tokens``.
    """
    tokenizer = examinee.tokenizer
    prompts = [
        tokenizer(examinee.chat_format.prompt(messages), add_special_tokens=examinee.chat_format.add_special_tokens)[
            "input_ids"
        ]
        for messages in conversations
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
            )
        new_tokens = output[:, padded["input_ids"].shape[1] :]
        decoded = tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
        answers |= {index: text.strip() for index, text in zip(group, decoded, strict=True)}
        examinee.advance(len(group))
    return [answers[index] for index in range(len(conversations))]
