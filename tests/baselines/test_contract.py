"""What every selector that needs no model keeps, in the settings it ships with: each file in ``conf/selector``."""

import random
import tracemalloc
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lessexp.data.rows import Row
from lessexp.selection.base import Selector
from lessexp.stages.configuration import instantiate
from tests.conftest import make_rows

OPTIONS = Path(__file__).parents[2] / "conf" / "selector"
SCORERS = {file.stem: OmegaConf.load(file).get("scorer") for file in sorted(OPTIONS.glob("*.yaml"))}
NAMES = [name for name, scorer in SCORERS.items() if scorer and "${paths." not in OmegaConf.to_yaml(scorer)]
DRAWN = [name for name in NAMES if "seed" in SCORERS[name]]
POOL = make_rows(30)
TARGET = make_rows(7, prefix="target", target=True)


def build(name, seed=0):
    cfg = OmegaConf.create({"seed": seed, "fraction": 0.1})
    cfg.selector = OmegaConf.load(OPTIONS / f"{name}.yaml")
    return instantiate(cfg.selector.scorer)


@pytest.fixture(params=NAMES)
def selector(request):
    return build(request.param)


def row(name, prompt, answer, subtask=None):
    task = None if subtask is None else "toy"
    return Row("odd", name, (("user", prompt), ("assistant", answer)), task=task, subtask=subtask)


TEXTS = {
    "emoji": "🎉👩‍👩‍👧 ❤️ 1️⃣",
    "right to left": "مرحبا بالعالم \u200fשלום\u200e עולם",
    "lone combining marks": "\u0301\u0947 \u09be\u20e3",
    "nul": "\0a\0 \0",
    "no space": "世界สวัสดี",
    "separators": "a\u2028b\u0085c\x1cd",
    "empty": "",
    "blank": " \n\t ",
    "long": "word " * 2000,
    "unbroken": "x" * 10_000,
}
ODD_POOL = [row(name, text, text) for name, text in TEXTS.items()]
ODD_TARGET = [row(f"target {name}", text, text, subtask=name) for name, text in TEXTS.items()]
CASES = {
    "usual": (POOL, TARGET),
    "pool of one row": (POOL[:1], TARGET),
    "target of one row": (POOL, TARGET[:1]),
    "odd texts": (POOL + ODD_POOL, TARGET + ODD_TARGET),
    "only odd texts": (ODD_POOL, ODD_TARGET),
    "nothing but empty messages": ([row("a", "", ""), row("b", "", "")], [row("t", "", "", subtask="s")]),
    "no word shared": ([row("a", "one", "two")], [row("t", "three", "four", subtask="s")]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_row_gets_one_finite_score_a_subtask_in_pool_order(selector, case):
    pool, target = CASES[case]
    scores = selector.score(pool, target)
    assert isinstance(selector, Selector)
    assert scores.example_ids == [row.example_id for row in pool]
    assert scores.subtasks == list(dict.fromkeys(row.subtask for row in target))
    assert scores.by_subtask.shape == (len(pool), len(scores.subtasks))
    assert scores.by_subtask.dtype == torch.float32
    assert scores.by_subtask.isfinite().all()
    assert scores.by_checkpoint is None and not scores.excluded


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_scores(name):
    torch.manual_seed(1)
    first = build(name, seed=3).score(POOL, TARGET)
    torch.manual_seed(2)
    assert torch.equal(build(name, seed=3).score(POOL, TARGET).by_subtask, first.by_subtask)


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_gives_other_scores(name):
    first, second = (build(name, seed=seed).score(POOL, TARGET).by_subtask for seed in (0, 1))
    assert not torch.equal(first, second)


def test_shuffling_the_pool_shuffles_the_scores(selector):
    pool = POOL + ODD_POOL
    shuffled = random.Random(0).sample(pool, len(pool))
    scores = selector.score(pool, TARGET)
    in_old_order = selector.score(shuffled, TARGET).in_order_of(scores.example_ids)
    assert in_old_order.example_ids == scores.example_ids
    assert torch.equal(in_old_order.by_subtask, scores.by_subtask)


def test_the_order_of_target_rows_does_not_matter(selector):
    scores = selector.score(POOL, TARGET).by_subtask
    turned = selector.score(POOL, TARGET[::-1])
    columns = [turned.subtasks.index(name) for name in ("sums", "words")]
    # Sums in another order differ in the last bits of float32.
    torch.testing.assert_close(turned.by_subtask[:, columns], scores, rtol=1e-5, atol=1e-5)


def test_memory_does_not_grow_with_pool_times_target(selector):
    pool = [row(f"pool-{index}", "one two", "three") for index in range(400)]
    many = [row(f"target-{index}", "two", "three", subtask="s") for index in range(410)]
    few = many[:10]
    peaks = []
    for target in (few, many):
        tracemalloc.start()
        selector.score(pool, target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # One byte for each pair of rows would already be more.
    assert peaks[1] - peaks[0] < len(pool) * (len(many) - len(few))
