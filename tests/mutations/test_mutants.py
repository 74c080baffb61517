"""The list of mutants cannot rot: what it names is there. ``python -m tests.mutations`` tries them."""

import ast
from collections import Counter

import pytest

from tests.mutations.mutants import ROOT, Mutant, mutants_of
from tests.mutations.trial import COPIED, verdict_on

MUTANTS = list(mutants_of())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_original_occurs_once_and_its_tests_exist(mutant):
    text = mutant.applied((ROOT / mutant.file).read_text())
    ast.parse(text)
    assert mutant.original != mutant.mutant
    assert mutant.file.split("/")[0] in COPIED
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).is_file(), test


def test_no_two_mutants_have_the_same_name():
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "killed"),
        ({"mutant": "return 1 + 1"}, "survived"),
        ({"original": "return 3"}, "snippet not found"),
        ({"tests": ("test_nowhere.py",)}, "not run"),
    ],
)
def test_the_verdict_is_that_of_the_tests(tmp_path, changes, verdict):
    """On a tree of one module, which is left as it was."""
    (tmp_path / "answer.py").write_text("def answer():\n    return 2\n")
    (tmp_path / "test_answer.py").write_text("from answer import answer\n\n\ndef test():\n    assert answer() == 2\n")
    fields = dict(name="a", file="answer.py", original="return 2", mutant="return 3", package="none")
    mutant = Mutant(**{**fields, "tests": ("test_answer.py",), **changes})
    assert verdict_on(mutant, tmp_path) == verdict
    assert (tmp_path / "answer.py").read_text() == "def answer():\n    return 2\n"
