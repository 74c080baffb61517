"""Types of single settings: what a value may be, whatever setting it belongs to."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_LARGEST = 2**31 - 1  # beyond it sizes overflow in one library or another
_LARGEST_FLOAT = 3e38  # the optimizer reckons in float32
_LARGEST_PROJECTION = 2**20  # a row takes 2 MB in float16 then; the paper's has 8192 values
_MOST_EPOCHS = 10_000  # each has a checkpoint, and the rates of all its steps are computed beforehand


def _spelt(text: str) -> str:
    if not text or "\0" in text:
        raise PydanticCustomError("text", "should be a text without a NUL, and not empty")
    return text


Text = Annotated[str, AfterValidator(_spelt)]
Count = Annotated[int, Field(ge=1, le=_LARGEST)]
Epochs = Annotated[int, Field(ge=1, le=_MOST_EPOCHS)]
ProjDim = Annotated[int, Field(ge=1, le=_LARGEST_PROJECTION)]
Index = Annotated[int, Field(ge=0, le=_LARGEST)]
Positive = Annotated[float, Field(gt=0, le=_LARGEST_FLOAT, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Inside = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Dtype = Text
HeldOut = Annotated[int, Field(ge=3, le=_LARGEST)]
