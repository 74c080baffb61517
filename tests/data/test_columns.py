import json
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lessexp.data.columns import (
    _LAYOUTS,
    cell,
    conversations,
    instruction_input_output,
    layout_overrides,
    messages,
    prompt_completion,
)
from lessexp.data.rows import RowError
from lessexp.stages.configuration import instantiate
from tests.hostile import changed, json_values
from tests.stages.conftest import compose_from

WHERE = "data set 'x', split 'train', row 7"
ANSWERED = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
BRIEFLY = {"role": "system", "content": "Be brief."}
ROLES = {"system": "system", "human": "user", "gpt": "assistant"}

asked = partial(prompt_completion, where=WHERE, prompt="q", completion="a", system=None)
alpaca = partial(
    instruction_input_output, where=WHERE, instruction="instruction", input="input", output="output", system="system"
)
sharegpt = partial(conversations, where=WHERE, column="conversations", speaker="from", text="value", roles=ROLES)
openai = partial(messages, where=WHERE, column="messages")


def test_a_prompt_is_asked_and_a_completion_answers():
    assert asked({"q": "2+2?", "a": "4", "s": "Be brief."}) == ANSWERED
    with_system = partial(asked, system="s")
    assert with_system({"q": "2+2?", "a": "4", "s": "Be brief."}) == [BRIEFLY, *ANSWERED]


@pytest.mark.parametrize(
    ("extra", "question", "system"),
    [
        ({"input": "3 and 4", "system": ""}, "Add.\n\n3 and 4", []),
        ({"input": "", "system": None}, "Add.", []),
        ({"input": None, "system": "Be brief."}, "Add.", [BRIEFLY]),
    ],
)
def test_an_instruction_is_followed_by_its_input_where_there_is_one(extra, question, system):
    found = alpaca({"instruction": "Add.", "output": "7"} | extra)
    assert found == [*system, {"role": "user", "content": question}, {"role": "assistant", "content": "7"}]


def test_a_data_set_may_have_no_column_of_inputs():
    found = partial(alpaca, input=None, system=None)({"instruction": "2+2?", "output": "4"})
    assert found == ANSWERED


def test_speakers_become_roles():
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "2+2?"},
        {"from": "gpt", "value": "4", "weight": None},
    ]
    assert sharegpt({"conversations": turns}) == [BRIEFLY, *ANSWERED]


def test_messages_stay_as_they_are_and_may_be_the_text_of_a_table():
    parts = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
    given = [BRIEFLY, {"role": "user", "content": parts, "name": "ann"}, ANSWERED[1] | {"weight": 0}]
    assert openai({"messages": given}) == openai({"messages": json.dumps(given)}) == given


@pytest.mark.parametrize(
    ("columns", "overrides"),
    [
        (["prompt", "completion", "score"], "prompt_completion"),
        (["instruction", "input", "output"], "instruction_input_output"),
        (["instruction", "output"], "instruction_input_output data.columns.input=null"),
        (["conversations", "id"], "conversations"),
        (["messages", "prompt"], "messages"),
    ],
)
def test_columns_of_a_usual_layout_are_known_by_the_settings_that_read_them(columns, overrides):
    assert layout_overrides(columns) == f"data/columns={overrides}"
    with pytest.raises(RowError, match=f"there is no column 'text'; the columns are .*; set data/columns={overrides}$"):
        cell(dict.fromkeys(columns), "text", where=WHERE)


def test_the_settings_that_are_named_for_a_layout_read_it():
    names = {"instruction": "?", "input": "3", "output": "!", "context": "3", "response": "!", "prompt": "?"}
    names |= {"completion": "!", "question": "?", "answer": "!", "conversations": [], "messages": []}
    for needed in _LAYOUTS:
        override = layout_overrides(needed)
        columns = compose_from("data=hf", *override.split()).data.columns
        instantiate(columns)({name: names[name] for name in needed}, where=WHERE)
    assert layout_overrides(["text"]) is None


@pytest.mark.parametrize(
    ("mapping", "record", "complaint"),
    [
        (asked, {"question": "?", "a": "!"}, "there is no column 'q'; the columns are question, a"),
        (asked, {"q": None, "a": "!"}, "column 'q': must be a string, it is None"),
        (asked, {"q": "?", "a": ["!"]}, r"column 'a': must be a string, it is \['!'\]"),
        (alpaca, {"instruction": "?", "input": 3, "output": "!"}, "column 'input': must be a string, it is 3"),
        (alpaca, {"instruction": "?", "input": "", "output": "!"}, "there is no column 'system'"),
        (sharegpt, {"conversations": "?"}, "column 'conversations': must be a list of turns, it is '?'"),
        (
            sharegpt,
            {"conversations": [{"from": "bing", "value": "!"}]},
            "column 'conversations', turn 1: 'from' is 'bing', which has no role",
        ),
        (
            sharegpt,
            {"conversations": [{"from": "gpt", "value": None}]},
            "column 'conversations', turn 1: 'value' must be a string",
        ),
        (openai, {"messages": ["?"]}, r"column 'messages': must be a list of turns"),
        (openai, {"messages": "[{"}, r"column 'messages': must be a list of turns, it is '\[{'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_naming_its_place_and_column(mapping, record, complaint):
    with pytest.raises(RowError, match=f"^{WHERE}(:|,) {complaint}"):
        mapping(record)


TURN = {"from": "human", "value": "2+2?"}
MESSAGE = {"role": "user", "content": [{"type": "text", "text": "2+2?"}]}
MAPPINGS = {
    "prompt_completion": (partial(asked, system="s"), {"q": "2+2?", "a": "4", "s": "Be brief."}),
    "alpaca": (alpaca, {"instruction": "Add.", "input": "3 and 4", "output": "7", "system": ""}),
    "sharegpt": (sharegpt, {"conversations": [TURN]}),
    "openai": (openai, {"messages": [MESSAGE]}),
}


@pytest.mark.parametrize("kind", MAPPINGS)
@given(data=st.data())
def test_any_record_becomes_messages_or_is_refused_naming_its_place(kind, data):
    mapping, record = MAPPINGS[kind]
    if isinstance(turns := next(iter(record.values())), list):
        record = {next(iter(record)): data.draw(st.lists(changed(turns[0]), max_size=2))}
    try:
        made = mapping(data.draw(changed(record)))
    except RowError as error:
        assert str(error).startswith(WHERE)
    else:
        assert kind == "openai" or all(set(message) == {"role", "content"} for message in made)


@given(speaker=json_values)
@example(speaker=[])
@example(speaker={})
def test_a_speaker_of_any_kind_has_a_role_or_is_refused(speaker):
    turns = {"conversations": [{"from": speaker, "value": "?"}]}
    if isinstance(speaker, str) and speaker in ROLES:
        assert sharegpt(turns) == [{"role": ROLES[speaker], "content": "?"}]
    else:
        with pytest.raises(RowError, match="has no role"):
            sharegpt(turns)
