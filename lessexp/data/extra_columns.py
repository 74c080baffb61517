"""What rows hold besides the fields of the row format: carried along, read by no stage."""

import datetime
import decimal
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lessexp.data.messages import says_more
from lessexp.data.record_files import RowError


def extra_of(record: Mapping[str, Any], messages: list[Any], *, taken: Sequence[str], where: str) -> str | None:
    """What a row holds besides the fields of the format, as a JSON object; None if it holds nothing else.

    Dates, decimals and arrays become text and lists; what JSON cannot hold (bytes, images, NaN) becomes null.

    Args:
        record: as it was given.
        messages: of the record; they are kept if they hold more than roles and texts.
        taken: fields of the format.
        where: for the error message.

    Raises:
        RowError: the columns are nested too deep.
    """
    extra = {str(name): value for name, value in record.items() if name not in taken}
    if any(map(says_more, messages)):
        extra["messages"] = messages
    if not extra:
        return None
    try:
        return json.dumps(as_json(extra))
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"{where}: its other columns cannot be written as JSON ({error})") from error


def as_json(value: Any) -> Any:
    """A value as JSON can hold it, see `extra_of`."""
    if isinstance(value, Mapping):
        return {str(name): as_json(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(inside) for inside in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int) else None
