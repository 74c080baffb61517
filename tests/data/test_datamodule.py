import math
from types import SimpleNamespace

import pytest

from lessexp.data.datamodule import InstructionDataModule, epoch_order
from lessexp.data.tokenize import TokenizedRow
from lessexp.processes import ALONE, Team

SIZES = [(8, 4, 2), (10, 4, 2), (11, 4, 4), (9, 8, 4), (7, 3, 1), (4, 4, 4), (3, 128, 1), (1, 8, 16)]


def module_of(n_train=10, batch_size=4, micro_batch_size=2, seed=0, first_epoch=0, team=ALONE):
    rows = [TokenizedRow(f"row-{i}", [i] * (1 + i % 3), [-100] + [i] * (i % 3)) for i in range(n_train)]
    return InstructionDataModule(
        rows,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        pad_token_id=0,
        seed=seed,
        team=team,
        first_epoch=first_epoch,
    )


def micro_batches(module, current_epoch=0):
    module.trainer = SimpleNamespace(current_epoch=current_epoch)
    return list(module.train_dataloader())


def order(module, current_epoch=0):
    return [example_id for micro in micro_batches(module, current_epoch) for example_id in micro.batch.example_ids]


def test_every_epoch_is_a_permutation_of_its_own():
    seeds_and_epochs = [(seed, epoch) for seed in range(4) for epoch in range(4)]
    orders = [epoch_order(50, seed=seed, epoch=epoch) for seed, epoch in seeds_and_epochs]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == len(orders)
    assert orders == [epoch_order(50, seed=seed, epoch=epoch) for seed, epoch in seeds_and_epochs]


def test_the_loader_follows_the_order_of_its_epoch_however_it_is_split():
    expected = [f"row-{index}" for index in epoch_order(10, seed=3, epoch=2)]
    assert order(module_of(seed=3), current_epoch=2) == expected
    assert order(module_of(seed=3, batch_size=5, micro_batch_size=5), current_epoch=2) == expected
    assert order(module_of(seed=3), current_epoch=1) != expected


def test_a_resumed_run_repeats_the_order_it_would_have_had():
    assert order(module_of(first_epoch=2), current_epoch=1) == order(module_of(), current_epoch=3)


@pytest.mark.parametrize(("n_train", "batch_size", "micro_batch_size"), SIZES)
def test_an_epoch_holds_every_row_once_in_steps_of_the_size_they_claim(n_train, batch_size, micro_batch_size):
    module = module_of(n_train, batch_size, micro_batch_size)
    epoch = micro_batches(module)
    assert len(epoch) == len(module.sampler)
    assert sorted(order(module)) == sorted(row.example_id for row in module.rows)
    per_step = module.micro_batches_per_step
    steps = [epoch[start : start + per_step] for start in range(0, len(epoch), per_step)]
    assert len(steps) == module.steps_per_epoch
    sizes = [sum(len(micro.batch.example_ids) for micro in step) for step in steps]
    rest = n_train % batch_size
    assert sizes == [batch_size] * (n_train // batch_size) + [rest] * bool(rest)
    for step, size in zip(steps, sizes, strict=True):
        assert {micro.examples_in_step for micro in step} == {size}
        assert all(len(micro.batch.example_ids) <= micro_batch_size for micro in step)


def test_a_micro_batch_holds_the_tokens_of_its_rows():
    module = module_of()
    by_id = {row.example_id: row for row in module.rows}
    for micro in micro_batches(module):
        batch = micro.batch
        for example_id, ids, mask in zip(batch.example_ids, batch.input_ids, batch.attention_mask, strict=True):
            assert ids[mask.bool()].tolist() == by_id[example_id].input_ids


def test_no_row_at_all_is_refused():
    with pytest.raises(ValueError, match="no row to train on"):
        module_of(n_train=0)


def test_a_batch_may_end_with_a_smaller_micro_batch():
    module = module_of(micro_batch_size=3)
    assert module.micro_batches_per_step == 2
    sizes = [len(micro_batch) for micro_batch in module.sampler]
    assert sizes[:4] == [3, 1, 3, 1]
    assert len(module.sampler) == len(sizes)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("n_train", "batch_size", "micro_batch_size"), SIZES)
def test_processes_take_the_same_steps_and_each_row_once_between_them(n_train, batch_size, micro_batch_size, size):
    modules = [module_of(n_train, batch_size, micro_batch_size, team=Team(rank, size)) for rank in range(size)]
    [epochs] = [[micro_batches(module) for module in modules]]
    assert len({len(epoch) for epoch in epochs}) == 1
    assert len(epochs[0]) == len(modules[0].sampler)
    assert {module.steps_per_epoch for module in modules} == {module_of(n_train, batch_size).steps_per_epoch}
    per_step = modules[0].micro_batches_per_step
    alone = module_of(n_train, batch_size, batch_size)
    for number, whole in enumerate(micro_batches(alone)):
        own = [micro for epoch in epochs for micro in epoch[number * per_step : (number + 1) * per_step]]
        counted = [micro for micro in own if micro.examples_in_step != math.inf]
        assert {micro.examples_in_step for micro in counted} == {len(whole.batch.example_ids)}
        found = [example_id for micro in counted for example_id in micro.batch.example_ids]
        assert sorted(found) == sorted(whole.batch.example_ids)
