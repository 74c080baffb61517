"""Conversations and prompts to token ids: what a model is taught and what it is asked pass through here alone."""

from transformers import PreTrainedTokenizerBase

from lessexp.data.chat_format import ChatFormat, Messages, Segment
from lessexp.data.control_tokens import control_tokens

Offsets = list[tuple[int, int]]
"""First character of each token and the one after its last."""


def conversation_ids(
    messages: Messages, *, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> tuple[list[Segment], list[int], Offsets]:
    """A whole conversation: its segments, and the ids and offsets of the tokens of their joined text.

    Raises:
        ChatFormatError: the format cannot express the conversation, or the tokenizer cannot read its text.
    """
    control = control_tokens(tokenizer)
    is_spelled = any(control.are_spelled_in(content) for _, content in messages)
    segments = chat_format.segments(control.hidden(messages) if is_spelled else messages)
    text = "".join(segment.text for segment in segments)
    return segments, *_encoded(text, tokenizer, chat_format, is_spelled=is_spelled)


def prompt_ids(
    messages: Messages, beginning: str, *, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> list[int]:
    """What a model reads before it answers.

    Args:
        messages: up to the user's last.
        beginning: the first words of the answer, which the model is given.
        tokenizer: the model's.
        chat_format: over this tokenizer.

    Raises:
        ChatFormatError: as `conversation_ids`.
    """
    control = control_tokens(tokenizer)
    is_spelled = any(map(control.are_spelled_in, [beginning, *(content for _, content in messages)]))
    if is_spelled:
        messages, beginning = control.hidden(messages), control.hidden_in(beginning)
    ids, _ = _encoded(chat_format.prompt(messages) + beginning, tokenizer, chat_format, is_spelled=is_spelled)
    return ids


def _encoded(
    text: str, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, *, is_spelled: bool
) -> tuple[list[int], Offsets]:
    if is_spelled:
        return control_tokens(tokenizer).encode(text, add_special_tokens=chat_format.add_special_tokens)
    encoded = tokenizer(
        text,
        add_special_tokens=chat_format.add_special_tokens,
        split_special_tokens=False,  # the format's own end tokens must end answers, whatever the tokenizer's files say
        return_offsets_mapping=True,
        truncation=False,
        verbose=False,
    )
    return encoded["input_ids"], encoded["offset_mapping"]
