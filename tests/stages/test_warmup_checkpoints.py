import json

import pytest

from lessexp.identity import key_of
from lessexp.stages.warmup_checkpoints import GivenCheckpoints, chosen_folders, folder_of
from lessexp.training.checkpoint import checkpoints_in


def other_moments(folder):
    (folder / "adam_moments.safetensors").write_bytes(b"other")


def other_state(**entries):
    def change(folder):
        file = folder / "trainer_state.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))

    return change


@pytest.mark.parametrize(
    "change",
    [other_moments, other_state(step=9), other_state(betas=[0.8, 0.999]), other_state(eps=1e-6)],
    ids=["moments", "step", "betas", "eps"],
)
def test_given_checkpoints_are_known_by_the_three_inputs_of_gamma(built_warmup, change):
    before = GivenCheckpoints(built_warmup).identity
    assert list(before) == ["1", "2"]
    change(built_warmup / "epoch=1")
    after = GivenCheckpoints(built_warmup).identity
    assert before["2"] == after["2"] and before["1"] != after["1"]


def test_the_weight_of_a_checkpoint_is_read_afresh_and_no_part_of_it(built_warmup):
    before = GivenCheckpoints(built_warmup).identity
    other_state(mean_learning_rate=0.5)(built_warmup / "epoch=1")
    assert GivenCheckpoints(built_warmup).identity == before


def test_checkpoints_lie_where_the_user_says_or_where_they_are_built(make_experiment, built_warmup):
    given, trained = make_experiment(f"warmup.path={built_warmup}"), make_experiment()
    assert folder_of(given.warmup, given.shelf) == built_warmup
    assert folder_of(trained.warmup, trained.shelf) == trained.shelf.folder(trained.warmup)
    first, second = checkpoints_in(built_warmup)
    assert chosen_folders(built_warmup, None) == {1: first, 2: second}
    assert chosen_folders(built_warmup, [2]) == {2: second}


def test_each_kind_of_warmup_has_a_key_of_its_own(make_experiment, built_warmup, trainer_run):
    imported = ("warmup=import", f"warmup.path={trainer_run}", "lora.rank=4", "lora.alpha=8")
    settings = [(), ("warmup.fraction=0",), (f"warmup.path={built_warmup}",), imported]
    assert len({key_of(make_experiment(*given).warmup) for given in settings}) == 4
