import pytest


def test_a_training_of_one_step_without_a_rise_is_no_fault(make_experiment):
    one_step = [f"{stage}.training.{key}" for stage in ("warmup", "finetune") for key in ("batch_size=12", "epochs=1")]
    make_experiment(*one_step, "warmup.training.warmup_ratio=0", "finetune.training.warmup_ratio=0")


@pytest.mark.parametrize(
    ("overrides", "is_announced"),
    [
        ([], True),
        (["warmup.training.warmup_ratio=0"], False),
        (["warmup.training.batch_size=4"], False),
        (["warmup.checkpoints=[2,3]"], False),
        (["warmup.checkpoints=[1]"], False),  # it counts alone
        (["selector=random"], False),
    ],
)
def test_a_checkpoint_that_weighs_nothing_is_announced(make_experiment, capsys, overrides, is_announced):
    make_experiment("warmup.training.batch_size=12", "warmup.training.epochs=3", *overrides)
    advice = "so checkpoint 1 weighs nothing; set warmup.training.warmup_ratio=0 or 'warmup.checkpoints=[2,3]'"
    assert (advice in capsys.readouterr().out) == is_announced


TWO_EPOCHS = "finetune.training.epochs=2"  # the first of two steps has a rate of 0


def notes_of(make_experiment, capsys, *overrides):
    make_experiment(*overrides)
    return [line for line in capsys.readouterr().out.splitlines() if " row" in line]


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        ([], []),
        (["fraction=0.1", TWO_EPOCHS], ["finetune: 2 of 24 rows, less than one batch of 4; each step takes all"]),
        (
            ["fraction=0.04", TWO_EPOCHS],
            [
                "select: fraction=0.04 of 24 rows is less than one row, so 1 row is taken",
                "finetune: 1 of 24 rows, less than",
            ],
        ),
        (["warmup.fraction=0.1"], ["warmup: 2 of 24 rows, less than one batch of 4; each step takes all"]),
        (
            ["warmup.fraction=0.01", "warmup.training.batch_size=1"],
            ["warmup: warmup.fraction=0.01 of 24 rows is less than one row, so 1 row is taken"],
        ),
        (["warmup.fraction=0"], []),
        (["selector=random", "warmup.fraction=0.01"], []),
        (["fraction=0.1", "selector.stages=[warmup,gradients,select]"], []),
        (
            ["selector=iprox", "proxy=svd", "alignment=first_order", "alignment.n_held_out=22"],
            ["alignment: 2 of 24 rows, less than one batch of 4; each step takes all"],
        ),
    ],
)
def test_shares_of_few_rows_are_announced_and_not_refused(make_experiment, capsys, overrides, notes):
    found = notes_of(make_experiment, capsys, *overrides)
    assert len(found) == len(notes)
    assert all(line.startswith(note) for line, note in zip(found, notes, strict=True))


def test_given_checkpoints_are_no_training_on_few_rows(make_experiment, built_warmup, capsys):
    assert not notes_of(make_experiment, capsys, f"warmup.path={built_warmup}", "warmup.fraction=0.01")
