import warnings

import pytest
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

from lessexp.processes import ALONE, Team
from lessexp.training.trainer import Engine, make_trainer, without_idle_warnings


@pytest.fixture
def make(tmp_path):
    def make_with(team=ALONE, strategy="ddp", **settings):
        engine = Engine("cpu", team, strategy)
        return make_trainer(engine=engine, loggers=[], log_folder=tmp_path, **settings)

    return make_with


def test_a_process_alone_trains_without_a_strategy_for_several(make):
    trainer = make(max_epochs=3)
    assert (trainer.world_size, trainer.max_epochs) == (1, 3)
    assert not isinstance(trainer.strategy, DDPStrategy)


@pytest.mark.parametrize(("strategy", "expected"), [("ddp", DDPStrategy), ("fsdp", ModelParallelStrategy)])
def test_several_processes_share_each_step(make, monkeypatch, strategy, expected):
    for name, value in {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    trainer = make(Team(rank=1, size=4, local_rank=1, local_size=2), strategy)
    assert isinstance(trainer.strategy, expected)
    assert (trainer.num_nodes, trainer.num_devices, trainer.world_size) == (2, 2, 4)


def test_a_model_is_spread_where_several_processes_are_to(make):
    team = Team(rank=0, size=2, local_rank=0, local_size=2)
    assert Engine("cpu", team, "fsdp").spreads_model
    assert not Engine("cpu", team, "ddp").spreads_model
    assert not Engine("cpu", ALONE, "fsdp").spreads_model


def test_advice_that_does_not_fit_is_kept_back_and_other_warnings_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with without_idle_warnings():
            warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
            warnings.warn("the disk is full", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["the disk is full"]
