import pytest

from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.schedule import epoch_mean_rates
from tests.training.conftest import SETTINGS


def test_every_epoch_leaves_a_checkpoint_with_its_step_and_mean_rate(fresh_model, train, tmp_path):
    root = tmp_path / "warmup"
    train(fresh_model(), checkpoint_root=root)
    states = [read_checkpoint(folder).state for folder in checkpoints_in(root)]
    assert [state.epoch for state in states] == [1, 2, 3]
    assert [state.step for state in states] == [3, 6, 9]  # twelve rows, four a step
    expected = epoch_mean_rates(schedule="linear", learning_rate=5e-3, warmup_ratio=0.1, epochs=3, steps_per_epoch=3)
    assert [state.mean_learning_rate for state in states] == pytest.approx(expected)
    assert {(state.betas, state.eps, state.seed) for state in states} == {(SETTINGS.betas, SETTINGS.eps, 7)}
