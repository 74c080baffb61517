from itertools import count

import pytest

from lessexp.data.messages import check_text, messages_of, parse_message, says_more
from lessexp.data.record_files import Place, RowError

CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TEXT = {"type": "text", "text": "2+2?"}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "2+2?"}, "2+2?"),
        ({"role": "user", "content": [TEXT, TEXT | {"image": None}]}, "2+2?2+2?"),
        ({"role": "user", "content": "2+2?", "name": "ann"}, "2+2?"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, ""),
        ({"role": "assistant", "function_call": CALL}, ""),
        ({"role": "assistant", "content": "I look.", "tool_calls": [CALL]}, "I look."),
    ],
)
def test_a_message_has_a_role_and_a_text(message, text):
    assert parse_message(message, "here") == (message["role"], text)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("2+2?", "each message must be an object"),
        ({"role": "tool", "content": "3"}, "unknown role 'tool'; it must be one of system, user, assistant"),
        ({"content": "3"}, "unknown role None"),
        ({"role": ["user"], "content": "3"}, "unknown role"),
        ({"role": "user", "content": [TEXT, {"type": "image_url"}]}, "a part of the content of a user message is not"),
        ({"role": "user", "content": ["2+2?"]}, "a part of the content of a user message is not text: '2"),
        ({"role": "assistant", "content": None}, "the 'content' of a assistant message must be a string, it is None"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "must be a string, it is None"),
        ({"role": "user", "content": None, "tool_calls": [CALL]}, "must be a string, it is None"),
        ({"role": "user", "content": "\ud83d"}, "no valid Unicode"),
        ({"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}, "no valid Unicode"),
    ],
)
def test_a_message_that_cannot_be_read_is_refused_with_its_reason(message, complaint):
    with pytest.raises(RowError, match=f"^here: .*{complaint}"):
        parse_message(message, "here")


def test_messages_may_be_a_text_of_json_as_in_a_cell():
    assert messages_of({"messages": ' [{"role": "user"}]'}, "here", is_target=False) == [{"role": "user"}]
    for value in ("[{'role': 'user'}]", "[]", "", None, {"role": "user"}, []):
        with pytest.raises(RowError, match="field 'messages' must be a non-empty list, it is "):
            messages_of({"messages": value}, "here", is_target=False)


def test_a_row_of_another_layout_names_the_command_that_reads_its_file():
    where = Place("alpaca.csv, row 1", file="alpaca.csv", line=1)
    alpaca = {"dataset": "made up", "instruction": "Add.", "input": "", "output": "7", "id": "made up"}
    with pytest.raises(RowError) as refused:
        messages_of(alpaca, where, is_target=False)
    assert str(refused.value) == (
        "alpaca.csv, row 1: there is no column 'messages'; the columns are instruction, input, output; "
        "set data=hf data.path=alpaca.csv data/columns=instruction_input_output"
    )
    with pytest.raises(RowError, match=r"the columns are text; set data=hf data.path=alpaca.csv data/columns=\.\.\. "):
        messages_of({"text": "?"}, where, is_target=False)
    with pytest.raises(
        RowError, match=r"columns are version, data; write the list in 'data' alone, as `jq .data FILE >"
    ):
        messages_of({"version": 1, "data": [alpaca]}, where, is_target=False)
    for place, is_target in ((where, True), ("pool[3]", False)):  # there is no data=hf for them
        with pytest.raises(RowError, match=r"columns are instruction, input, output; give each row 'messages'$"):
            messages_of(alpaca, place, is_target=is_target)
    many = {f"line\nbreak {n}": n for n, _ in zip(count(), range(99), strict=False)}
    with pytest.raises(RowError) as refused:
        messages_of(many, where, is_target=False)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_fields_that_are_empty_say_nothing_more():
    plain = {"role": "user", "content": "?"}
    assert not says_more(plain) and not says_more(plain | {"name": None})
    assert says_more(plain | {"weight": 0}) and says_more({"role": "user", "content": [TEXT]})


def test_half_a_character_is_refused():
    check_text("👍🏽", "it", "here")
    with pytest.raises(RowError, match="here: it is no valid Unicode"):
        check_text("\ud83d", "it", "here")
