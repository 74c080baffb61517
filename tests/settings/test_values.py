import pytest
from pydantic import TypeAdapter, ValidationError

from lessexp.settings import values


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (values.Text, ["a", " "], ["", "a\0b", 1]),
        (values.Count, [1, 2**31 - 1], [0, 2**31, True, 1.0]),
        (values.Epochs, [1, 10_000], [0, 10_001]),
        (values.ProjDim, [1, 8192, 2**20], [0, 2**20 + 1]),
        (values.HeldOut, [3], [2]),
        (values.Share, [0.0, 1.0], [-0.1, 1.1, float("nan")]),
        (values.PositiveShare, [1.0], [0.0]),
        (values.Decay, [0.0], [1.0]),
        (values.Inside, [0.5], [0.0, 1.0]),
        (values.Positive, [1e-9], [0.0, float("inf")]),
    ],
)
def test_a_kind_takes_its_values_and_no_others(kind, good, bad):
    adapter = TypeAdapter(kind, config={"strict": True})
    assert [adapter.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
