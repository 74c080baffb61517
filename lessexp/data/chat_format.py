"""Conversations as text, in segments that say where the loss lies.

A chat format turns messages into a list of `Segment`; joined, they are the text the model reads.
The loss lies on what the assistant says and on what ends its turn, nowhere else.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from lessexp.errors import UserError

Messages = Sequence[tuple[str, str]]


class ChatFormatError(UserError, ValueError):
    """A conversation that the format cannot express."""


@dataclass(frozen=True)
class Segment:
    """A piece of the rendered conversation."""

    text: str
    in_loss: bool


@runtime_checkable
class ChatFormat(Protocol):
    """What tokenisation and generation need to know of a format."""

    name: str
    add_special_tokens: bool
    """Whether the tokenizer adds its own start token to the text."""

    def segments(self, messages: Messages) -> list[Segment]:
        """The whole conversation."""

    def prompt(self, messages: Messages) -> str:
        """The conversation up to the point where the assistant is to answer."""


class TuluFormat:
    """Plain text tags, as in the released LESS run: ``<|user|>``, ``<|assistant|>``, ``<|system|>``.

    Contents are stripped. The loss lies on the assistant's content, the end-of-sequence token and
    the line break after it.
    """

    name = "tulu"
    add_special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        if tokenizer.eos_token is None:
            raise ChatFormatError("chat_format=tulu ends answers with the tokenizer's eos token; it has none")
        self._end_of_answer = tokenizer.eos_token

    def segments(self, messages: Messages) -> list[Segment]:
        """The whole conversation."""
        segments = []
        for role, content in messages:
            segments.append(Segment(f"<|{role}|>\n", in_loss=False))
            if role == "assistant":
                segments.append(Segment(f"{content.strip()}{self._end_of_answer}\n", in_loss=True))
            else:
                segments.append(Segment(f"{content.strip()}\n", in_loss=False))
        return segments

    def prompt(self, messages: Messages) -> str:
        """The conversation up to the point where the assistant is to answer."""
        return "".join(segment.text for segment in self.segments(messages)) + "<|assistant|>\n"


class PlainFormat:
    """Contents alone, without tags, for base models. The loss lies on the assistant's content and the eos token.

    Args:
        tokenizer: of the model.
        separator: between messages.
    """

    name = "plain"
    add_special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, separator: str):
        if tokenizer.eos_token is None:
            raise ChatFormatError("chat_format=plain ends answers with the tokenizer's eos token; it has none")
        self._end_of_answer = tokenizer.eos_token
        self._separator = separator

    def segments(self, messages: Messages) -> list[Segment]:
        """The whole conversation."""
        segments = []
        for index, (role, content) in enumerate(messages):
            if index:
                segments.append(Segment(self._separator, in_loss=False))
            said = role == "assistant"
            segments.append(Segment(content.strip() + (self._end_of_answer if said else ""), in_loss=said))
        return [segment for segment in segments if segment.text]

    def prompt(self, messages: Messages) -> str:
        """The conversation up to the point where the assistant is to answer."""
        return "".join(segment.text for segment in self.segments(messages)) + self._separator


class TemplateFormat:
    """The tokenizer's own chat template.

    The assistant's turns are found by rendering the conversation with a marker in the place of each
    answer, so no part is tokenised twice and no template needs to be annotated. The result is
    checked against the template's own rendering.

    Args:
        tokenizer: of the model.
        date: that a template is told which asks for today's, as Llama 3.2's does (``YYYY-MM-DD``). From the clock, the
            same rows would be other texts tomorrow.
    """

    name = "model"
    add_special_tokens = False  # the template writes its own start token

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, date: str):
        if not tokenizer.chat_template:
            raise ChatFormatError("chat_format=model needs a tokenizer with a chat template; use chat_format=tulu")
        self._tokenizer = tokenizer
        try:
            template = tokenizer.get_chat_template()
        except ValueError as error:
            raise ChatFormatError("the tokenizer has several chat templates, none of them called 'default'") from error
        self._template = _dated(template, date)

    def _render(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        try:
            return self._tokenizer.apply_chat_template(
                chat, chat_template=self._template, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateSyntaxError as error:
            raise ChatFormatError(
                f"the tokenizer's chat template is no valid template ({error}, line {error.lineno}); mend it, or use "
                "chat_format=tulu"
            ) from error
        except TemplateError as error:
            raise ChatFormatError(
                f"the tokenizer's chat template refuses this conversation: {error}; use chat_format=tulu"
            ) from error
        # A template is a program: it may add text to a number, divide by zero or call itself without end.
        except Exception as error:
            raise ChatFormatError(
                f"the tokenizer's chat template fails ({type(error).__name__}: {error}); mend it, or use "
                "chat_format=tulu"
            ) from error

    def segments(self, messages: Messages) -> list[Segment]:
        """The conversation up to the end of its last answer.

        Raises:
            ChatFormatError: the template changes or leaves out what the assistant said.
        """
        messages = [(role, content.strip()) for role, content in messages]
        while messages and messages[-1][0] != "assistant":
            messages.pop()
        answers = [content for role, content in messages if role == "assistant"]
        if not answers:
            raise ChatFormatError("the conversation has no assistant message")
        markers = [f"ANSWER{index}{os.urandom(8).hex()}" for index in range(len(answers))]
        remaining = iter(markers)
        marked = [(role, next(remaining) if role == "assistant" else content) for role, content in messages]
        context = _split_at(self._render(marked), markers)
        if context is None or "".join(_interleave(context, answers)) != self._render(messages):
            raise ChatFormatError(
                "the tokenizer's chat template changes or leaves out an assistant message of this "
                "conversation; use chat_format=tulu"
            )
        end_of_answer = context[-1]
        segments = [Segment(context[0], in_loss=False)]
        for answer, following in zip(answers, context[1:], strict=True):
            end = self._common_start(end_of_answer, following)
            if end_of_answer and not end:
                raise ChatFormatError(
                    "the tokenizer's chat template ends its answers in different ways; use chat_format=tulu"
                )
            segments.append(Segment(answer + end, in_loss=True))
            segments.append(Segment(following[len(end) :], in_loss=False))
        return [segment for segment in segments if segment.text]

    def _common_start(self, first: str, second: str) -> str:
        # In whole tokens: by characters, "</s>" and the "<|user|>" of a next turn would share their "<".
        encoded = [
            self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) for text in (first, second)
        ]
        end = 0
        for ours, theirs, (_, stop) in zip(
            encoded[0]["input_ids"], encoded[1]["input_ids"], encoded[0]["offset_mapping"], strict=False
        ):
            if ours != theirs:
                break
            end = stop
        return first[:end]

    def prompt(self, messages: Messages) -> str:
        """The conversation up to the point where the assistant is to answer."""
        stripped = [(role, content.strip()) for role, content in messages]
        return self._render(stripped, add_generation_prompt=True)


_CLOCK = re.compile(r"""\bstrftime_now\(\s*(["'])(.*?)\1\s*\)""")


def _dated(template: str, date: str) -> str:
    """A template with a fixed date in the places where it asks for today's.

    Raises:
        ChatFormatError: ``date`` is none, or the template asks in a way that this cannot be seen.
    """
    try:
        day = datetime.strptime(date, "%Y-%m-%d")
    except (TypeError, ValueError) as error:
        raise ChatFormatError(f"chat_format.date must be a date like 2024-07-26, got {date!r:.40}") from error
    fixed = _CLOCK.sub(lambda found: json.dumps(day.strftime(found[2])), template)
    if re.search(r"\bstrftime_now\b(?!\s+is\s+(?:not\s+)?defined)", fixed):
        raise ChatFormatError(
            "the tokenizer's chat template takes the date from the clock by a computed format, so rows would differ "
            "from day to day; write the format into the template, or use chat_format=tulu"
        )
    return fixed


def _split_at(text: str, markers: Sequence[str]) -> list[str] | None:
    """The pieces of ``text`` around ``markers``, or ``None`` if one is missing or out of order."""
    pieces = []
    for marker in markers:
        before, found, text = text.partition(marker)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _interleave(context: Sequence[str], answers: Sequence[str]) -> list[str]:
    pieces = [context[0]]
    for answer, following in zip(answers, context[1:], strict=True):
        pieces += [answer, following]
    return pieces
