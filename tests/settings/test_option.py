import pytest
from pydantic import TypeAdapter, ValidationError

from lessexp.settings.option import Option, arguments_of

OPTION = TypeAdapter(Option)


def takes_anything(**settings): ...


def takes_a_and_b(a, *, b=1): ...


def test_arguments_are_those_that_a_keyword_can_give():
    assert arguments_of(takes_anything) is None
    assert arguments_of(takes_a_and_b) == ["a", "b"]


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "builtins.dict", "anything": 1},
        {"_target_": "collections.Counter", "_partial_": True, "inside": [{"_target_": "builtins.dict", "a": 1}]},
        {"_target_": "fractions.Fraction", "numerator": 1, "denominator": {"free": {"of": "a schema"}}},
    ],
)
def test_what_a_callable_takes_may_be_set(node):
    assert OPTION.validate_python(node) == node


@pytest.mark.parametrize(
    ("node", "place"),
    [
        ({"_target_": "fractions.Fraction", "nominator": 1}, ["nominator"]),
        ({"_target_": "builtins.dict", "a": [{"_target_": "fractions.Fraction", "c": 1}]}, ["a", "0", "c"]),
        ({"_target_": "builtins.dict", "a": {"_target_": "no.such"}}, ["a", "_target_"]),
    ],
)
def test_what_it_does_not_take_is_an_error_wherever_it_stands(node, place):
    with pytest.raises(ValidationError) as caught:
        OPTION.validate_python(node)
    [error] = caught.value.errors()
    assert error["ctx"]["place"] == place
