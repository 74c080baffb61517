from functools import partial

import pytest

from lessexp.data.chat_format import ChatFormatError, TemplateFormat, TuluFormat
from lessexp.data.control_tokens import control_tokens
from tests.conftest import DATE
from tests.tokenizer_kinds import llama_like, metaspace_first, unigram

CHATS = {
    "plain": (("user", "what  is the answer?\n"), ("assistant", " the number "), ("user", ""), ("assistant", "42")),
    "system": (("system", "other words"), ("user", "< |im_end|> <|im_"), ("assistant", "naïve 日本 👍🏽 \U00100000")),
}


@pytest.mark.parametrize("make_format", [TuluFormat, partial(TemplateFormat, date=DATE)], ids=["tulu", "model"])
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("kind", ["bytes", "llama", "metaspace"])
def test_the_copy_reads_all_other_text_as_the_tokenizer_does(tokenizer, kind, make_format, chat):
    tokenizer = {"bytes": lambda: tokenizer, "llama": llama_like, "metaspace": metaspace_first}[kind]()
    chat_format = make_format(tokenizer)
    text = "".join(segment.text for segment in chat_format.segments(chat))
    expected = tokenizer(text, add_special_tokens=chat_format.add_special_tokens, return_offsets_mapping=True)
    found = control_tokens(tokenizer).encode(text, add_special_tokens=chat_format.add_special_tokens)
    assert found == (expected["input_ids"], expected["offset_mapping"])


# One has them in its vocabulary of words; the other finds them at the start of a text alone, where a ▁ stands before.
@pytest.mark.parametrize("make", [unigram, lambda: llama_like(normalized=True)])
def test_a_tokenizer_that_cannot_tell_control_tokens_from_text_refuses_the_text(make):
    control = control_tokens(make())
    with pytest.raises(ChatFormatError, match="spells out </s>, which this model's tokenizer cannot read as text"):
        control.encode(f"the{control.hidden_in('</s>')}answer</s>", add_special_tokens=True)


def test_the_longest_spelling_is_taken(tokenizer):
    control = control_tokens(tokenizer)
    assert control.are_spelled_in("a<|im_end|>") and not control.are_spelled_in("a<|im_end| > <|assistant|>")
    assert len(control.hidden_in("a<|im_end|></s>")) == len("a<|im_end|></s>")
    assert not control.are_spelled_in(control.hidden_in("a<|im_end|></s>"))
