"""The records of a ``datasets.Dataset`` as plain values."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_AT_ONCE = 1024  # decoded to Python objects; some MB


def dataset_records(dataset: "Dataset") -> Iterator[dict[str, Any]]:
    """Records in the order of the data set; values are those of ``dataset[i]``, but for images and sound.

    These stay as Arrow holds them: nothing but text is decoded.
    """
    from datasets import Json

    def decoded(value: Any, feature: Any) -> Any:
        if value is None:
            return None
        if isinstance(feature, Json):  # how a column of mixed types is stored
            return json.loads(value)
        if isinstance(feature, dict):
            return {name: decoded(inside, feature[name]) for name, inside in value.items()}
        if isinstance(value, list):
            return [decoded(inside, feature.feature) for inside in value]
        return value

    columns = {name: feature for name, feature in dataset.features.items() if "Json" in repr(feature)}
    for table in dataset.with_format("arrow").iter(_ROWS_AT_ONCE):
        for record in table.to_pylist():
            yield record | {name: decoded(record[name], feature) for name, feature in columns.items()}
