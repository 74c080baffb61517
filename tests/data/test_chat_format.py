import copy

import pytest

from lessexp.data.chat_format import ChatFormat, ChatFormatError, PlainFormat, TemplateFormat, TuluFormat
from tests.conftest import DATE

CHATS = {
    "one turn": (("user", "2+2?"), ("assistant", "4")),
    "many turns": (
        ("system", "Do sums."),
        ("user", "2+2?"),
        ("assistant", "4"),
        ("user", "4"),
        ("assistant", "The same: 4"),
    ),
    "equal answers": (("user", "?"), ("assistant", "4"), ("user", "?"), ("assistant", "4"), ("assistant", "4")),
    "empty answer": (("user", "Say nothing."), ("assistant", "")),
    "text that looks like code": (
        ("user", r"{{ x }} {% if %} \1 (.*) $& ANSWER0 ANSWER1"),
        ("assistant", "<|im_end|>\n<|im_start|>assistant\n{{ messages }} \\g<0> [a-z]+ ANSWER1 {0} %s"),
        ("user", "<|assistant|>"),
        ("assistant", "{{ x }}"),
    ),
}
every_chat = pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())


def with_template(tokenizer, template):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def joined(segments):
    return "".join(segment.text for segment in segments)


def loss_texts(segments):
    return [segment.text for segment in segments if segment.in_loss]


def answers(chat):
    return [content for role, content in chat if role == "assistant"]


def applied(tokenizer, chat, **options):
    messages = [{"role": role, "content": content} for role, content in chat]
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def test_tulu_text_is_that_of_the_released_run(tokenizer):
    chat = (
        ("system", "Do sums."),
        ("user", " 2+2?\n"),
        ("assistant", "\t4 "),
        ("user", "Sure?"),
        ("assistant", "Yes."),
    )
    assert joined(TuluFormat(tokenizer).segments(chat)) == (
        "<|system|>\nDo sums.\n<|user|>\n2+2?\n<|assistant|>\n4</s>\n<|user|>\nSure?\n<|assistant|>\nYes.</s>\n"
    )


@every_chat
def test_tulu_loss_lies_on_content_eos_and_line_break(tokenizer, chat):
    assert loss_texts(TuluFormat(tokenizer).segments(chat)) == [f"{answer}</s>\n" for answer in answers(chat)]


def test_tulu_needs_an_eos_token(tokenizer):
    without_eos = copy.deepcopy(tokenizer)
    without_eos.eos_token = None
    with pytest.raises(ChatFormatError, match="eos token"):
        TuluFormat(without_eos)


def template_format(tokenizer):
    return TemplateFormat(tokenizer, date=DATE)


@pytest.mark.parametrize("asked", ["strftime_now('%d %b %Y')", 'strftime_now( "%d %b %Y" )'])
def test_a_template_that_asks_for_the_date_is_told_the_settings_and_not_the_clocks(tokenizer, asked):
    template = "{% if strftime_now is defined %}{{ " + asked + " }}{% endif %}" + tokenizer.chat_template
    dated = with_template(tokenizer, template)
    assert TemplateFormat(dated, date="2031-02-03").prompt((("user", "?"),)).startswith("03 Feb 2031<|im_start|>")
    assert joined(template_format(dated).segments(CHATS["one turn"])).startswith("26 Jul 2024<|im_start|>")


def test_a_date_that_is_none_and_a_clock_that_cannot_be_fixed_are_refused(tokenizer):
    with pytest.raises(ChatFormatError, match=r"chat_format\.date must be a date like 2024-07-26, got '26 July'"):
        TemplateFormat(tokenizer, date="26 July")
    hidden = with_template(tokenizer, "{% set f = '%Y' %}{{ strftime_now(f) }}" + tokenizer.chat_template)
    with pytest.raises(ChatFormatError, match="takes the date from the clock by a computed format"):
        template_format(hidden)


@every_chat
def test_template_text_is_what_the_tokenizer_renders(tokenizer, chat):
    assert joined(TemplateFormat(tokenizer, date=DATE).segments(chat)) == applied(tokenizer, chat)


@every_chat
def test_template_loss_lies_on_every_answer_and_the_end_of_its_turn(tokenizer, chat):
    expected = [f"{answer}<|im_end|>\n" for answer in answers(chat)]
    assert loss_texts(TemplateFormat(tokenizer, date=DATE).segments(chat)) == expected


def test_template_leaves_out_what_comes_after_the_last_answer(tokenizer):
    chat = CHATS["many turns"]
    expected = TemplateFormat(tokenizer, date=DATE).segments(chat)
    assert TemplateFormat(tokenizer, date=DATE).segments((*chat, ("user", "Sure?"), ("system", "Stop."))) == expected


def test_text_that_closes_the_conversation_does_not_stretch_the_end_of_earlier_turns(tokenizer):
    # As in Phi-3: the end of the text and the tag of the next turn begin with the same character.
    closing = tokenizer.chat_template + "{% if not add_generation_prompt %}</s>{% endif %}"
    segments = TemplateFormat(with_template(tokenizer, closing), date=DATE).segments(CHATS["many turns"])
    assert loss_texts(segments)[0] == "4<|im_end|>\n"
    assert loss_texts(segments)[1].startswith("The same: 4<|im_end|>\n")


@pytest.mark.parametrize(
    "content",
    [
        "{{ message['content'] | upper }}",
        "{{ message['content'].split('</think>')[-1] }}",
        "{{ message['content'][:3] }}",
        "{{ message['content'] }}{{ message['content'] }}",
        "{% if message['role'] != 'assistant' %}{{ message['content'] }}{% endif %}",
    ],
    ids=["upper case", "without thoughts", "cut", "twice", "left out"],
)
def test_a_template_that_changes_an_answer_is_refused(tokenizer, content):
    template = "{% for message in messages %}[{{ message['role'] }}]" + content + "</s>{% endfor %}"
    chat = (("user", "2+2?"), ("assistant", "<think>easy</think>four"))
    with pytest.raises(ChatFormatError, match="changes or leaves out"):
        TemplateFormat(with_template(tokenizer, template), date=DATE).segments(chat)


def test_the_words_of_a_template_that_refuses_a_conversation_are_passed_on(tokenizer):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
        + tokenizer.chat_template
    )
    refusing = TemplateFormat(with_template(tokenizer, template), date=DATE)
    for render in (refusing.segments, refusing.prompt):
        with pytest.raises(ChatFormatError, match="no system role here"):
            render(CHATS["many turns"])
    assert refusing.segments(CHATS["one turn"])


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("{{ messages[0]['content'] + 1 }}", "fails \\(TypeError: .*; mend it, or use chat_format=tulu"),
        ("{{ 1 // 0 }}", "fails \\(ZeroDivisionError: "),
        ("{{ 10.0 ** 1000 }}", "fails \\(OverflowError: "),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "fails \\(RecursionError: "),
        ("{% for %}", "is no valid template \\(.*, line 1\\); mend it, or use chat_format=tulu"),
        ("{{ messages[7]['content'] }}", "refuses this conversation: .*; use chat_format=tulu"),
    ],
)
def test_a_template_that_fails_is_named_as_the_fault(tokenizer, fault, complaint):
    failing = TemplateFormat(with_template(tokenizer, fault + tokenizer.chat_template), date=DATE)
    for render in (failing.segments, failing.prompt):
        with pytest.raises(ChatFormatError, match=complaint):
            render(CHATS["one turn"])


def test_a_conversation_without_an_answer_is_refused(tokenizer):
    with pytest.raises(ChatFormatError, match="no assistant message"):
        TemplateFormat(tokenizer, date=DATE).segments((("system", "Do sums."), ("user", "2+2?")))


def test_a_tokenizer_without_a_template_is_refused_naming_the_other_format(tokenizer):
    with pytest.raises(ChatFormatError, match="chat_format=tulu"):
        TemplateFormat(with_template(tokenizer, None), date=DATE)


def plain_format(tokenizer):
    return PlainFormat(tokenizer, separator="\n")


def test_plain_text_has_no_tags_and_its_loss_lies_on_content_and_eos(tokenizer):
    segments = plain_format(tokenizer).segments((*CHATS["many turns"][:3], ("user", " Sure? "), ("assistant", "Yes")))
    assert joined(segments) == "Do sums.\n2+2?\n4</s>\nSure?\nYes</s>"
    assert loss_texts(segments) == ["4</s>", "Yes</s>"]
    assert PlainFormat(tokenizer, separator=" ").prompt((("user", "Answer:"),)) == "Answer: "


def test_plain_needs_an_eos_token(tokenizer):
    without_eos = copy.deepcopy(tokenizer)
    without_eos.eos_token = None
    with pytest.raises(ChatFormatError, match="eos token"):
        plain_format(without_eos)


@every_chat
@pytest.mark.parametrize("kind", [TuluFormat, template_format, plain_format])
def test_what_training_reads_begins_with_the_prompt_and_the_answer(tokenizer, kind, chat):
    chat_format = kind(tokenizer)
    assert isinstance(chat_format, ChatFormat)
    turns = [index for index, (role, _) in enumerate(chat) if role == "assistant"]
    for turn in turns:
        read = joined(chat_format.segments(chat[: turn + 1]))
        assert read.startswith(chat_format.prompt(chat[:turn]) + chat[turn][1])
