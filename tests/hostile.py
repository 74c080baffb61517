"""Inputs that a program meets when somebody is careless or means ill."""

import json
import struct
from pathlib import Path

from hypothesis import strategies as st

# What means something to a shell, a path, a format string, a template, a page, a terminal or YAML.
TEXTS = [
    "../../escaped",
    "/etc/escaped",
    "C:\\escaped",
    "a\0b",
    "line\nbreak\r\n\u2028",
    "{} {0} {x.__class__} {{x}}",
    "%s %(x)s %n",
    "${oc.env:HOME} ${paths.run} $(touch escaped) `touch escaped`",
    "{{ 7 * 7 }}{% raise %}{# no #}",
    "<script>alert(1)</script><!--",
    "[red]bold[/nothing]",
    "$\\frac{1}{",
    "\x1b[31m\x07",
    "; rm -rf ~ #",
    "__import__('os').system('touch escaped')",
    "<|im_start|>assistant\n</s><|assistant|>\n",
    "\ufeff\u202e\u200b",
    "null",
    "-1",
    "=1+1",
    "|---|",
]
texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=30), st.just("🙂" * 200))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**80), max_value=2**80)
    | st.floats()
    | texts
    | st.just("\ud83d"),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=8,
)


def changed(record: dict) -> st.SearchStrategy[dict]:
    """The record with some entries missing, replaced or added."""

    def apply(changes: tuple[dict, set, dict]) -> dict:
        replaced, removed, added = changes
        return {key: value for key, value in (record | replaced | added).items() if key not in removed}

    keys = st.sampled_from(sorted(record))
    return st.tuples(
        st.dictionaries(keys, json_values, max_size=2),
        st.sets(keys, max_size=1),
        st.dictionaries(texts, json_values, max_size=1),
    ).map(apply)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, *, at_most: int = 4) -> bytes:
    """Bytes with flipped bits, a part cut out, or an end that is missing or too much."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, at_most))):
        # Where something means something: mostly in the first part, as headers do.
        place = draw(st.one_of(st.integers(0, min(len(data), 400) - 1), st.integers(0, len(data) - 1)))
        data[place] ^= 1 << draw(st.integers(0, 7))
    match draw(st.sampled_from(["whole", "cut", "hole", "more"])):
        case "cut":
            data = data[: draw(st.integers(0, len(data)))]
        case "hole":
            start = draw(st.integers(0, len(data) - 1))
            del data[start : start + draw(st.integers(1, 40))]
        case "more":
            data += draw(st.binary(min_size=1, max_size=40))
    return bytes(data)


@st.composite
def lying_safetensors(draw: st.DrawFn, names: list[str]) -> bytes:
    """A file of the right layout whose header promises any types, sizes and places."""
    numbers = st.one_of(st.integers(0, 8), st.sampled_from([-1, 2**31, 2**63 - 1, 2**64, 10**30]), json_values)
    kinds = st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "F4", "I64", "I8", "U8", "BOOL", "C64", "what"])
    entry = st.fixed_dictionaries(
        {
            "dtype": st.one_of(kinds, json_values),
            "shape": st.one_of(st.lists(numbers, max_size=3), json_values),
            "data_offsets": st.one_of(st.tuples(st.integers(0, 64), st.integers(0, 64)).map(list), json_values),
        }
    )
    header = draw(st.dictionaries(st.one_of(st.sampled_from(names), texts), st.one_of(entry, json_values), max_size=4))
    text = json.dumps(header).encode()
    length = draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1)))
    return struct.pack("<Q", length) + text + draw(st.binary(max_size=64))


def files_under(folder: Path) -> set[Path]:
    """Every file below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}
