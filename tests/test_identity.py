import datetime
import fractions
import functools
import importlib
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lessexp.evaluation.bbh import score
from lessexp.identity import Hashed, IdentityError, identity_of, key_of, source_hash
from lessexp.selection.top_k import budget
from lessexp.training.module import TrainingSettings


@dataclass(frozen=True)
class Store:
    version: ClassVar[int] = 1
    rows: tuple[str, ...]
    settings: dict
    place: str = field(default="here", compare=False)


class Judge:
    def __init__(self, stop, rule=len):
        self.stop = stop
        self.rule = rule

    @functools.cached_property
    def kept(self):
        return self.stop


class Versioned(Store):
    version: ClassVar[int] = 2


STORE = Store(("a", "b"), {"seed": 0})


@pytest.mark.parametrize(
    "other",
    [
        Store(("b", "a"), {"seed": 0}),
        Store(("a", "b"), {"seed": 1}),
        Store(("a", "b"), {"seed": 0.5}),
        Store(("ab",), {"seed": 0}),
        Versioned(("a", "b"), {"seed": 0}),
    ],
)
def test_another_field_version_or_order_is_another_key(other):
    assert key_of(other) != key_of(STORE)


def test_a_field_that_does_not_count_in_comparisons_is_no_part_of_the_key():
    assert key_of(replace(STORE, place="there")) == key_of(STORE)


def test_an_object_is_its_class_and_state_and_not_what_it_has_cached():
    judge, before = Judge(["\n"]), key_of(Judge(["\n"]))
    assert judge.kept and key_of(judge) == before
    assert len({key_of(one) for one in (judge, Judge(["\n\n"]), Judge(["\n"], rule=sum))}) == 3


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (datetime.date(2024, 7, 26), datetime.date(2024, 7, 27)),
        (fractions.Fraction(1, 3), fractions.Fraction(2, 3)),
        (np.arange(3), np.arange(1, 4)),
        (torch.tensor([1.0]), torch.tensor([2.0])),
        (torch.tensor([1.0]), torch.tensor([[1.0]])),
        (re.compile("a"), re.compile("a", re.IGNORECASE)),
        (frozenset("ab"), frozenset("abc")),
        (b"a", b"b"),
        (functools.partial(budget, 0.5), functools.partial(budget, 0.6)),
        (Judge("a").__init__, Judge("b").__init__),
        (float, int),
    ],
)
def test_values_of_libraries_are_told_apart(value, other):
    assert identity_of(value) == identity_of(value)
    assert identity_of(value) != identity_of(other)


def test_a_path_and_what_cannot_be_told_are_refused():
    with pytest.raises(IdentityError, match="a key cannot hold the path"):
        identity_of({"file": Path("rows.jsonl")})
    with pytest.raises(IdentityError, match="give the class an attribute 'identity'"):
        identity_of(x for x in "ab")


def test_code_of_others_and_of_benchmarks_counts_by_its_source_and_ours_by_versions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "judging").mkdir()
    (tmp_path / "judging" / "__init__.py").write_text("")
    (tmp_path / "judging" / "words.py").write_text("def equal(a, b):\n    return a == b\n")
    (tmp_path / "judging" / "judge.py").write_text(
        "from judging.words import equal\n\ndef score(a):\n    return equal(a, 1)\n"
    )

    def hashed():
        for name in [name for name in sys.modules if name.startswith("judging")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        return source_hash(importlib.import_module("judging.judge").score)

    before = hashed()
    (tmp_path / "judging" / "words.py").write_text("def equal(a, b):\n    return a in b\n")
    assert before and hashed() != before
    assert source_hash(score) and source_hash(TrainingSettings) is None
    assert source_hash(len) is None and source_hash(np.zeros) is None


def test_a_large_value_is_named_by_a_hash():
    assert Hashed(["row"] * 9).identity == Hashed(["row"] * 9).identity != Hashed(["row"] * 8).identity
    assert len(Hashed(["row"] * 9).identity) == 16
