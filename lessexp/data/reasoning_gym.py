"""Pools and targets from the reasoning-gym generators: offline, seeded, with known families."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lessexp.data.rows import Row
from lessexp.data.seeds import derived_seed
from lessexp.errors import UserError


class FamilyError(UserError, ValueError):
    """A family that does not exist or cannot give what was asked of it."""


@dataclass(frozen=True)
class Problem:
    """A generated row and what its family's scorer needs to judge an answer."""

    row: Row
    entry: dict[str, Any]


@cache
def _package():
    # Its generators warn while being imported (third-party syntax and deprecation warnings).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym
    return reasoning_gym


def family_dataset(family: str, settings: Mapping[str, Any], *, size: int, seed: int):
    """The reasoning-gym data set of one family; it also holds ``score_answer``.

    Raises:
        FamilyError: no such family, or settings it does not accept.
    """
    package = _package()
    if family not in package.factory.DATASETS:
        raise FamilyError(
            f"reasoning-gym has no family '{family}'; it has {', '.join(sorted(package.factory.DATASETS))}"
        )
    try:
        return package.create_dataset(family, size=size, seed=seed, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise FamilyError(f"reasoning-gym family '{family}' does not accept {dict(settings)}: {error}") from error


def generate_problems(
    families: Mapping[str, Mapping[str, Any]], *, rows_per_family: int, seed: int, split: str
) -> list[Problem]:
    """Distinct problems of every family, family by family.

    Args:
        families: settings of each family's generator by family name.
        rows_per_family: how many of each.
        seed: another seed gives other problems.
        split: first part of the ids, e.g. ``pool``.

    Raises:
        FamilyError: a family cannot give that many distinct problems.
    """
    problems: list[Problem] = []
    for family, settings in families.items():
        # Small families repeat themselves; draw spares so that enough distinct ones remain.
        # The package seeds problem i with seed + i, so the seeds 1 and 2 as such would share nearly all problems.
        package_seed = derived_seed(seed, "reasoning_gym", family)
        drawn = family_dataset(family, settings or {}, size=4 * rows_per_family, seed=package_seed)
        questions: set[str] = set()
        for entry in drawn:
            if len(questions) == rows_per_family:
                break
            if entry["question"] in questions:
                continue
            messages = (("user", entry["question"].strip()), ("assistant", str(entry["answer"])))
            example_id = f"{split}-{family}-{len(questions):05d}"
            questions.add(entry["question"])
            problems.append(Problem(Row(family, example_id, messages, "reasoning_gym", family), entry))
        if len(questions) < rows_per_family:
            raise FamilyError(
                f"reasoning-gym family '{family}' with {dict(settings or {})} gave only {len(questions)} "
                f"distinct problems, {rows_per_family} were wanted: widen its settings or ask for fewer"
            )
    return problems


def reasoning_gym_rows(
    families: Mapping[str, Mapping[str, Any]], *, rows_per_family: int, seed: int, split: str
) -> list[Row]:
    """The rows of `generate_problems` (same arguments); the family is the ``dataset`` of each row."""
    problems = generate_problems(families, rows_per_family=rows_per_family, seed=seed, split=split)
    return [problem.row for problem in problems]
