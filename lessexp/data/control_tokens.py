"""Control tokens (``<|im_end|>``, ``</s>``): those that a message spells out are text, the chat format's own are not.

A tokenizer finds control tokens by their spelling, whoever wrote it. So a spelling in a message is replaced by an alias
before the conversation is rendered; what is spelled after that is the format's own. A copy of the tokenizer knows the
format's control tokens by other aliases and reads every spelling as text. Aliases are as long as what they stand for,
so offsets stay right, and the copy cuts the text where the tokenizer would.
"""

import re
import secrets
from collections.abc import Mapping
from functools import cached_property, lru_cache

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from lessexp.data.chat_format import ChatFormatError, Messages

_PRIVATE = range(0x100000, 0x10FFFE)  # characters that Unicode gives no meaning; random ones cannot be foreseen


def _aliases(spellings: list[str]) -> dict[str, str]:
    return {text: "".join(chr(secrets.choice(_PRIVATE)) for _ in text) for text in spellings}


def _any_of(texts: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _replaced(text: str, pattern: re.Pattern[str], by: Mapping[str, str]) -> str:
    return pattern.sub(lambda match: by[match[0]], text)


class ControlTokens:
    """The control tokens of a tokenizer: its special tokens; other added tokens, such as ``<think>``, are text.

    Args:
        tokenizer: a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        named = set(tokenizer.all_special_tokens)
        self._ids = {
            token.content: token_id
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token.content and (token.special or token.content in named)
        }
        spellings = sorted(self._ids, key=len, reverse=True)  # as a tokenizer does, take the longest
        self._spelled = _any_of(spellings)
        self._alias_in_text = _aliases(spellings)
        self._alias_of_own = _aliases(spellings)
        self._spelling_of = {alias: spelling for spelling, alias in self._alias_in_text.items()}
        self._hidden = _any_of(list(self._spelling_of))

    def are_spelled_in(self, text: str) -> bool:
        """Whether a text spells out a control token."""
        return self._spelled.search(text) is not None

    def hidden(self, messages: Messages) -> Messages:
        """The messages with aliases for the control tokens that they spell out."""
        return [(role, self.hidden_in(content)) for role, content in messages]

    def hidden_in(self, text: str) -> str:
        """A text with aliases for the control tokens that it spells out."""
        return _replaced(text, self._spelled, self._alias_in_text)

    def encode(self, rendered: str, *, add_special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and character offsets of a conversation that was rendered from `hidden` messages.

        Raises:
            ChatFormatError: the tokenizer cannot tell a control token from its spelling.
        """
        n_own = len(self._spelled.findall(rendered))
        text = _replaced(rendered, self._spelled, self._alias_of_own)
        text = _replaced(text, self._hidden, self._spelling_of)
        encoding = self._copy.encode(text, add_special_tokens=add_special_tokens)
        own = {self._copy.token_to_id(alias): self._ids[text] for text, alias in self._alias_of_own.items()}
        control = {*own, *self._ids.values()} - {self._tokenizer.unk_token_id}
        found = [
            token_id
            for token_id, is_added in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if token_id in control and not is_added
        ]
        if len(found) != n_own or not own.keys() >= set(found):
            spelled = ", ".join(sorted({self._spelling_of[alias] for alias in self._hidden.findall(rendered)}))
            raise ChatFormatError(
                f"its text spells out {spelled}, which this model's tokenizer cannot read as text; change the text"
            )
        return [own.get(token_id, token_id) for token_id in encoding.ids], encoding.offsets

    @cached_property
    def _copy(self) -> Tokenizer:
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        tokens = {token.content: token for token in self._tokenizer.added_tokens_decoder.values()}
        copy.add_special_tokens([tokens[text] for text in self._ids])  # some may be special by their name alone
        copy.add_tokens(
            [
                AddedToken(
                    alias,
                    special=False,
                    **{name: getattr(tokens[text], name) for name in ("normalized", "lstrip", "rstrip", "single_word")},
                )
                for text, alias in self._alias_of_own.items()
            ]
        )
        copy.encode_special_tokens = True
        return copy


@lru_cache(maxsize=4)
def control_tokens(tokenizer: PreTrainedTokenizerBase) -> ControlTokens:
    """The control tokens of a tokenizer, found once."""
    return ControlTokens(tokenizer)
