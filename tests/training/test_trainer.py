import warnings

import pytest
from pytorch_lightning.strategies import DDPStrategy

from lessexp.processes import ALONE, Team
from lessexp.training.trainer import make_trainer, without_idle_warnings


@pytest.fixture
def make(tmp_path):
    return lambda **settings: make_trainer(device="cpu", loggers=[], log_folder=tmp_path, **settings)


def test_a_process_alone_trains_without_a_strategy_for_several(make):
    trainer = make(team=ALONE, max_epochs=3)
    assert (trainer.world_size, trainer.max_epochs) == (1, 3)
    assert not isinstance(trainer.strategy, DDPStrategy)


def test_several_processes_share_each_step(make, monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    trainer = make(team=Team(rank=1, size=4, local_rank=1, local_size=2))
    assert isinstance(trainer.strategy, DDPStrategy)
    assert (trainer.num_nodes, trainer.num_devices, trainer.world_size) == (2, 2, 4)


def test_advice_that_does_not_fit_is_kept_back_and_other_warnings_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with without_idle_warnings():
            warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
            warnings.warn("the disk is full", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["the disk is full"]
