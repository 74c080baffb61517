import pytest

from lessexp.artifacts import artifact_key
from lessexp.data.rows import Row, write_rows
from lessexp.data.target import EmptyTargetError
from lessexp.selection.top_k import BudgetError
from lessexp.stages.experiment import ExperimentError
from tests.conftest import make_rows

KINDS = ("warmup_fields", "pool_gradient_fields", "target_gradient_fields")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["fraction=0"], BudgetError, "fraction must be above 0 and at most 1, got 0"),
        (["fraction=1.5"], BudgetError, "got 1.5"),
        (["fraction=0.01"], BudgetError, "fraction=0.01 of 24 pool rows selects none"),
        (
            ["fraction=0.1"],
            ExperimentError,
            "selects 2 rows of 24, fewer than one batch of finetune.training.batch_size",
        ),
        (["warmup.fraction=0.1"], ExperimentError, "gives 2 of 24 rows, fewer than one batch of warmup.training"),
        (["warmup.fraction=0"], ExperimentError, "warmup.fraction must be above 0"),
        (["max_length=5"], ExperimentError, "no pool row has an answer within max_length=5"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_computed(make_experiment, overrides, error, message):
    with pytest.raises(error, match=message):
        make_experiment(*overrides)


def test_a_key_that_must_be_given_is_named(make_experiment):
    with pytest.raises(ExperimentError, match=r"data\.paths is not set"):
        make_experiment("data.paths=???")


def test_an_empty_target_is_refused(make_experiment, tmp_path):
    make_experiment()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(EmptyTargetError, match=r"empty\.jsonl holds no row"):
        make_experiment(f"target.path={tmp_path / 'empty.jsonl'}")


def test_a_target_row_without_a_label_is_an_error_that_names_it(make_experiment, tmp_path):
    long = Row("sums", "too-long", (("user", "word " * 300), ("assistant", "yes")), "toy", "sums")
    write_rows(tmp_path / "long.jsonl", [*make_rows(3, target=True), long])
    with pytest.raises(ExperimentError, match="target example 'too-long': no token of its answer"):
        make_experiment(f"target.path={tmp_path / 'long.jsonl'}")


def test_rows_cut_off_before_their_answer_are_not_usable(make_experiment, tmp_path):
    long = Row("sums", "long-000", (("user", "word " * 300), ("assistant", "yes")))
    write_rows(tmp_path / "longer.jsonl", [*make_rows(24), long])
    experiment = make_experiment(f"data.paths=[{tmp_path / 'longer.jsonl'}]")
    assert len(experiment.pool) == 25
    assert [row.example_id for row in experiment.tokenized_pool[1]] == ["long-000"]
    assert "long-000" not in {row.example_id for row in experiment.usable_pool}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", KINDS),
        ("lora.rank=2", KINDS),
        ("warmup.training.learning_rate=1e-3", KINDS),
        ("max_length=199", KINDS),
        ("chat_format=model", KINDS),
        ("proxy=svd", KINDS),
        ("gradients=sgd", ["pool_gradient_fields"]),
        ("proj_dim=32", ["pool_gradient_fields", "target_gradient_fields"]),
        ("datastore.dtype=float32", ["pool_gradient_fields", "target_gradient_fields"]),
        ("fraction=0.5", []),
        ("aggregate=mean", []),
        ("influence=cosine_of_mean", []),
        ("micro_batch_size=1", []),
        ("gradients.tokens_per_batch=64", []),
        ("finetune.training.epochs=2", []),
    ],
)
def test_an_artifact_is_keyed_by_what_determines_it_and_by_nothing_else(make_experiment, override, changed):
    base, other = make_experiment(), make_experiment(override)
    keys = {kind: [artifact_key(getattr(made, kind)) for made in (base, other)] for kind in KINDS}
    assert [kind for kind in KINDS if keys[kind][0] != keys[kind][1]] == list(changed)


def test_another_target_leaves_the_pools_artifacts_alone(make_experiment, tmp_path):
    base = make_experiment()
    write_rows(tmp_path / "other.jsonl", make_rows(4, prefix="other", target=True))
    other = make_experiment(f"target.path={tmp_path / 'other.jsonl'}")
    assert base.pool_gradient_fields == other.pool_gradient_fields
    assert base.target_gradient_fields != other.target_gradient_fields


def test_another_pool_changes_the_warmup(make_experiment, tmp_path):
    base = make_experiment()
    write_rows(tmp_path / "fewer.jsonl", make_rows(23))
    assert base.warmup_fields != make_experiment(f"data.paths=[{tmp_path / 'fewer.jsonl'}]").warmup_fields
