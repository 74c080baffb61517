"""The messages of a row, and which of their forms can be read."""

from collections.abc import Mapping
from typing import Any

from lessexp.data.columns import decoded_list, layout_overrides, listed
from lessexp.data.record_files import Place, RowError

ROLES = ("system", "user", "assistant")
CALLS = ("tool_calls", "function_call")  # what an assistant's message may hold in place of a text


LARGEST_TEXT = 2**24  # characters: millions of tokens, more than any model is trained on, and tokens take far more room


def check_text(text: str, what: str, where: str) -> None:
    """Refuse half a character, which no file can hold, and a text that memory may not hold once it is tokenised.

    Raises:
        RowError: naming ``where`` and ``what`` holds it.
    """
    if len(text) > LARGEST_TEXT:
        raise RowError(f"{where}: {what} holds {len(text):,} characters, more than the {LARGEST_TEXT:,} of a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{where}: {what} is no valid Unicode ({error.reason})") from error


def parse_message(message: Any, where: str) -> tuple[str, str]:
    """Role and text of a message; text in parts is joined, and the text beside tool calls may be missing.

    Raises:
        RowError: naming ``where`` and what is wrong.
    """
    if not isinstance(message, Mapping):
        raise RowError(f"{where}: each message must be an object with 'role' and 'content'")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise RowError(f"{where}: unknown role {role!r:.80}; it must be one of {', '.join(ROLES)}")
    if isinstance(content, list):
        content = _joined(content, role, where)
    if content is None and role == "assistant" and any(message.get(call) for call in CALLS):
        content = ""
    if not isinstance(content, str):
        raise RowError(f"{where}: the 'content' of a {role} message must be a string, it is {content!r:.80}")
    check_text(content, f"the 'content' of a {role} message", where)
    return role, content


def _joined(parts: list[Any], role: str, where: str) -> str:
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RowError(f"{where}: a part of the content of a {role} message is not text: {part!r:.80}")
    return "".join(part["text"] for part in parts)


def messages_of(record: Mapping[str, Any], where: str, *, is_target: bool) -> list[Any]:
    """The messages of a record, not parsed yet.

    Raises:
        RowError: there are none; the columns of other layouts and the settings that read them are named.
    """
    if "messages" not in record:
        raise RowError(f"{where}: there is no column 'messages'; {_layout_remedy(record, where, is_target)}")
    messages = decoded_list(record["messages"])
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{where}: field 'messages' must be a non-empty list, it is {messages!r:.80}")
    return messages


def _layout_remedy(record: Mapping[str, Any], where: str, is_target: bool) -> str:
    """What to do about a row in the layout of another program."""
    found = f"the columns are {listed(name for name in record if name not in ('dataset', 'id'))}"
    if is_target or not isinstance(where, Place):
        return f"{found}; give each row 'messages'"
    overrides = layout_overrides(record)
    lists = [name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if overrides is None and lists:
        return f"{found}; write the list in '{lists[0]}' alone, as `jq .{lists[0]} FILE > rows.json` does"
    overrides = overrides or "data/columns=... (conversations, instruction_input_output, ...)"
    return f"{found}; set data=hf data.path={where.file} {overrides}"


def says_more(message: Mapping[str, Any]) -> bool:
    """Whether a message holds more than its role and a text."""
    # Arrow gives every message the fields of any, empty ones too.
    others = (value for name, value in message.items() if name not in ("role", "content"))
    return not isinstance(message.get("content"), str) or any(value is not None for value in others)
