"""Columns of foreign data sets to messages, one function for each usual layout.

Each takes a record and ``where`` it stands (data set, split and row, for errors), and by keyword the names of
the columns to read; it returns messages in the form that `lessexp.data.rows.parse_row` checks.

    prompt_completion          {"prompt": str, "completion": str}
    instruction_input_output   {"instruction": str, "input": str, "output": str}           (Alpaca)
    conversations              {"conversations": [{"from": "human", "value": str}, ...]}   (ShareGPT)
    messages                   {"messages": [{"role": "user", "content": str}, ...]}       (OpenAI)
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lessexp.data.record_files import RowError

Message = dict[str, Any]
ColumnMapping = Callable[..., list[Message]]
"""``(record, *, where)`` to messages, once the names of the columns are filled in."""

_LAYOUTS = {
    ("conversations",): "conversations",
    ("messages",): "messages",
    ("instruction", "input", "output"): "instruction_input_output",
    ("instruction", "output"): "instruction_input_output data.columns.input=null",
    ("instruction", "context", "response"): (
        "instruction_input_output data.columns.input=context data.columns.output=response"
    ),
    ("prompt", "completion"): "prompt_completion",
    ("prompt", "response"): "prompt_completion data.columns.completion=response",
    ("question", "answer"): "prompt_completion data.columns.prompt=question data.columns.completion=answer",
    ("input", "output"): "prompt_completion data.columns.prompt=input data.columns.completion=output",
}


def layout_overrides(columns: Iterable[str]) -> str | None:
    """The settings that read columns of a usual layout; None if they are of none."""
    found = set(columns)
    return next((f"data/columns={words}" for needed, words in _LAYOUTS.items() if found.issuperset(needed)), None)


def listed(columns: Iterable[str]) -> str:
    """Names of columns in one line of an error."""
    return f"{' '.join(', '.join(map(str, columns)).split()):.200}"


def decoded_list(value: Any) -> Any:
    """The list in a text of JSON, as a table's cell holds it; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):  # then it is no list
            return json.loads(value)
    return value


def cell(record: Mapping[str, Any], column: str, *, where: str) -> Any:
    """The value of a column.

    Raises:
        RowError: there is no such column; those that exist are listed, and the settings that read them.
    """
    if column not in record:
        overrides = layout_overrides(record)
        remedy = f"; set {overrides}" if overrides else ""
        raise RowError(f"{where}: there is no column '{column}'; the columns are {listed(record)}{remedy}")
    return record[column]


def _text(record: Mapping[str, Any], column: str, where: str) -> str:
    value = cell(record, column, where=where)
    if not isinstance(value, str):
        raise RowError(f"{where}, column '{column}': must be a string, it is {value!r:.80}")
    return value


def _exchange(
    record: Mapping[str, Any], system_column: str | None, question: str, answer: str, where: str
) -> list[Message]:
    """One question and its answer, after the system message where the row has one."""
    exchange = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if system_column is None or not cell(record, system_column, where=where):
        return exchange
    return [{"role": "system", "content": _text(record, system_column, where)}, *exchange]


def prompt_completion(
    record: Mapping[str, Any], *, where: str, prompt: str, completion: str, system: str | None
) -> list[Message]:
    """One column of questions and one of answers.

    Args:
        record: of the data set.
        where: names data set, split and row in errors.
        prompt: column of the user's message.
        completion: column of the assistant's message.
        system: column of the system message, which may be empty in a row; None: there is none.

    Raises:
        RowError: a column is missing, or its value is not a string.
    """
    return _exchange(record, system, _text(record, prompt, where), _text(record, completion, where), where)


def instruction_input_output(
    record: Mapping[str, Any], *, where: str, instruction: str, input: str | None, output: str, system: str | None
) -> list[Message]:
    """Instruction and its input, with an empty line between them, are the user's message.

    Args:
        record: of the data set.
        where: names data set, split and row in errors.
        instruction: column of the task.
        input: column of what the task is about, which may be empty in a row; None: there is none.
        output: column of the assistant's message.
        system: column of the system message, which may be empty in a row; None: there is none.

    Raises:
        RowError: a column is missing, or its value is not a string.
    """
    question = _text(record, instruction, where)
    if input is not None and cell(record, input, where=where):
        question = f"{question}\n\n{_text(record, input, where)}"
    return _exchange(record, system, question, _text(record, output, where), where)


def _turns(record: Mapping[str, Any], column: str, where: str) -> list[Mapping[str, Any]]:
    turns = decoded_list(cell(record, column, where=where))
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError(f"{where}, column '{column}': must be a list of turns, it is {turns!r:.80}")
    return turns


def conversations(
    record: Mapping[str, Any], *, where: str, column: str, speaker: str, text: str, roles: Mapping[str, str]
) -> list[Message]:
    """Turns that name their speaker.

    Args:
        record: of the data set.
        where: names data set, split and row in errors.
        column: of the turns.
        speaker: field of a turn that says who spoke.
        text: field of a turn that says what.
        roles: role of each speaker.

    Raises:
        RowError: the column is missing or holds something else, or a speaker has no role.
    """
    found = []
    for number, turn in enumerate(_turns(record, column, where), start=1):
        if not isinstance(turn.get(speaker), str) or turn[speaker] not in roles:
            raise RowError(
                f"{where}, column '{column}', turn {number}: '{speaker}' is {turn.get(speaker)!r:.80}, "
                f"which has no role; those that have are {', '.join(roles)} (data.columns.roles)"
            )
        if not isinstance(turn.get(text), str):
            raise RowError(
                f"{where}, column '{column}', turn {number}: '{text}' must be a string, it is {turn.get(text)!r:.80}"
            )
        found.append({"role": roles[turn[speaker]], "content": turn[text]})
    return found


def messages(record: Mapping[str, Any], *, where: str, column: str) -> list[Message]:
    """Messages as they are.

    Args:
        record: of the data set.
        where: names data set, split and row in errors.
        column: of the messages.

    Raises:
        RowError: the column is missing or holds something else.
    """
    return [dict(turn) for turn in _turns(record, column, where)]
