"""Fewer test rows: a draw from each subtask that no other subtask and no order of the file changes."""

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def limited(
    items: Iterable[T],
    *,
    limit: int | None,
    seed: int,
    subtask_of: Callable[[T], str],
    name_of: Callable[[T], str],
) -> list[T]:
    """At most ``limit`` items of each subtask, subtasks in name order; all, as they come, if ``limit`` is None.

    Args:
        items: test rows or what they are made of.
        limit: how many of a subtask.
        seed: of the draw.
        subtask_of: subtask of an item.
        name_of: name of an item, unique in its subtask.
    """
    if limit is None:
        return list(items)
    by_subtask: dict[str, list[T]] = {}
    for item in items:
        by_subtask.setdefault(subtask_of(item), []).append(item)
    drawn: list[T] = []
    for subtask in sorted(by_subtask):
        found = sorted(by_subtask[subtask], key=name_of)
        drawn += random.Random(f"{seed}:{subtask}").sample(found, min(limit, len(found)))
    return drawn
