import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from baselines.rds import PooledHiddenStates
from lessexp.data.rows import Row, read_rows, write_rows
from lessexp.data.tokenize import collate
from lessexp.gradients.datastore import GradientDatastore, NoDirectionError
from lessexp.identity import key_of
from lessexp.models.causal_lm import per_example_loss
from lessexp.pipeline import run
from lessexp.reports.results import read_results
from lessexp.stages import representations, select
from lessexp.stages.configuration import ExperimentError
from tests.conftest import make_rows
from tests.stages.conftest import compose_from

SELECTORS = ("rds", "rds_plus", "perplexity")
EXACT = ("model.dtype=float32", "datastore.dtype=float32")


def built(make_experiment, selector, *overrides, run="run"):
    experiment = make_experiment(f"selector={selector}", *overrides, run=run)
    representations.run(experiment)
    return experiment


def score_table(experiment):
    select.run(experiment)
    table = pyarrow.parquet.read_table(experiment.run_folder / "scores.parquet").to_pydict()
    columns = {name: values for name, values in table.items() if name not in ("example_id", "dataset")}
    return {name: row for name, *row in zip(table["example_id"], *columns.values(), strict=True)}


def selected_ids(experiment):
    return [row.example_id for row in read_rows([experiment.run_folder / "selected.jsonl"])]


def expected_feature(selector, model, row):
    """One row at a time, by the whole model, in float64 from its states on."""
    if selector == "perplexity":
        return per_example_loss(model, collate([row], pad_token_id=1))
    states = model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True).hidden_states[-1][0].double()
    if selector == "rds":
        return states[-1]
    return sum((place + 1) * state for place, state in enumerate(states)) / sum(range(1, len(states) + 1))


@pytest.mark.parametrize("selector", SELECTORS)
def test_stored_rows_are_each_examples_own_feature_and_the_subset_follows(make_experiment, selector):
    experiment = built(make_experiment, selector, *EXACT, "evaluation.tokens_per_batch=300")
    model = experiment.selection_model.load()
    sides = {"pool": experiment.tokenized_pool}
    if selector != "perplexity":
        sides["target"] = experiment.tokenize(experiment.target, experiment.selection_model)[0]
    for side, rows in sides.items():
        store = GradientDatastore.open(experiment.cfg.paths[f"{side}_representations"])
        found = store.rows(1, 0, len(rows))
        for row in rows:
            expected = expected_feature(selector, model, row)
            # float32; alone and in a padded batch matrix products have other shapes
            torch.testing.assert_close(
                found[store.ids.index(row.example_id)].double(), expected.double(), rtol=1e-3, atol=1e-4
            )
    scores = score_table(experiment)
    assert set(scores) == {row.example_id for row in experiment.pool}
    best = sorted(scores, key=lambda name: -scores[name][0])[:6]
    assert selected_ids(experiment) == best


def test_the_lowest_perplexity_comes_first_unless_the_sign_says_otherwise(make_experiment):
    experiment = built(make_experiment, "perplexity", *EXACT)
    model = experiment.selection_model.load()
    loss = {row.example_id: expected_feature("perplexity", model, row).item() for row in experiment.tokenized_pool}
    score_table(experiment)
    assert selected_ids(experiment) == sorted(loss, key=loss.get)[:6]
    highest = built(make_experiment, "perplexity", *EXACT, "selector.scorer.sign=1", run="highest")
    score_table(highest)
    assert selected_ids(highest) == sorted(loss, key=loss.get)[:-7:-1]
    assert not list((Path(experiment.cfg.artifacts_dir)).glob("target_*")), "no target's loss is of use"


def twins(tmp_path):
    """A target of one row a subtask, and a pool that holds both rows under other names."""
    target = [make_rows(9, prefix="target", target=True)[index] for index in (4, 7)]
    copies = [replace(row, example_id=f"twin-{row.subtask}", task=None, subtask=None) for row in target]
    rows = [row for row in make_rows(24) if row.messages not in {copy.messages for copy in copies}]
    write_rows(tmp_path / "twins.jsonl", [*rows[:11], copies[1], *rows[11:], copies[0]])
    write_rows(tmp_path / "twins_target.jsonl", target)
    return [f"data.paths=[{tmp_path / 'twins.jsonl'}]", f"target.path={tmp_path / 'twins_target.jsonl'}"]


@pytest.mark.parametrize("selector", ["rds", "rds_plus"])
def test_pool_rows_that_equal_target_rows_come_first(make_experiment, tmp_path, selector):
    experiment = built(make_experiment, selector, *EXACT, *twins(tmp_path))
    scores = score_table(experiment)
    assert set(selected_ids(experiment)[:2]) == {"twin-sums", "twin-words"}
    own = [scores[f"twin-{name}"][1 + column] for column, name in enumerate(["sums", "words"])]
    assert own == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_order_of_the_pool_does_not_matter(make_experiment, tmp_path, selector):
    first = score_table(built(make_experiment, selector))
    shutil.rmtree(tmp_path / "artifacts")  # or its rows would be copied
    rows = make_rows(24)
    random.Random(0).shuffle(rows)
    write_rows(tmp_path / "shuffled.jsonl", rows)
    other = built(make_experiment, selector, f"data.paths=[{tmp_path / 'shuffled.jsonl'}]", run="other")
    assert score_table(other) == first


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_pool_of_one_row_and_any_alphabet(make_experiment, tmp_path, selector):
    row = Row("Zürich", "عربي", (("user", "Grüße, 世界 🎉"), ("assistant", "e\u0301\u200b\u2028 مرحبا")))
    write_rows(tmp_path / "one.jsonl", [row])
    write_rows(tmp_path / "odd.jsonl", [replace(row, example_id="目標", task="toy", subtask="Übung")])
    places = [f"data.paths=[{tmp_path / 'one.jsonl'}]", f"target.path={tmp_path / 'odd.jsonl'}"]
    experiment = built(make_experiment, selector, *places, "fraction=1.0", "finetune.training.epochs=2")
    assert list(score_table(experiment)) == selected_ids(experiment) == ["عربي"]


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", []),
        ("lora.rank=2", []),
        ("warmup.training.learning_rate=1e-3", []),
        ("gradients=sgd", []),
        ("proj_dim=32", []),
        ("evaluation.tokens_per_batch=64", []),
        ("influence=cosine_of_mean", []),
        ("aggregate=mean", []),
        ("max_length=199", []),  # which cuts no row
        ("max_length=43", ["pool", "target"]),
        ("chat_format=model", ["pool", "target"]),
        ("proxy=svd", ["pool", "target"]),
        ("model.dtype=float32", ["pool", "target"]),
        ("datastore.dtype=int8", ["pool", "target"]),
        ("selector=rds_plus", ["pool", "target"]),
        ("data.paths=[fewer.jsonl]", ["pool"]),
        ("target.path=other.jsonl", ["target"]),
    ],
)
def test_a_store_is_keyed_by_what_determines_it_and_by_nothing_else(
    make_experiment, tmp_path, monkeypatch, override, changed
):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "fewer.jsonl", make_rows(23))
    write_rows(tmp_path / "other.jsonl", make_rows(4, prefix="other", target=True))
    base, other = make_experiment("selector=rds"), make_experiment("selector=rds", override)
    keys = [{side: key_of(store) for side, store in made.representations.items()} for made in (base, other)]
    assert [side for side in ("pool", "target") if keys[0][side] != keys[1][side]] == changed


def test_losses_are_kept_in_float32_whatever_gradients_are_kept_in(make_experiment):
    experiment = built(make_experiment, "perplexity", "datastore.dtype=int4")
    manifest = GradientDatastore.open(experiment.cfg.paths.pool_representations).manifest
    assert (manifest.dtype, manifest.proj_dim) == ("float32", 1)


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_half_built_store_is_finished_to_the_same_bytes(make_experiment, selector):
    root = Path(built(make_experiment, selector).cfg.paths.pool_representations)
    whole = {path: path.read_bytes() for path in root.rglob("*") if path.name != "COMPLETE" and path.is_file()}
    for lost in ("COMPLETE", "manifest.json", "checkpoint=1/shard-00001.safetensors"):
        (root / lost).unlink()
    built(make_experiment, selector, "evaluation.tokens_per_batch=2048", run="second")
    assert {path: path.read_bytes() for path in whole} == whole


def test_a_grown_pool_computes_its_new_rows_alone_whatever_the_seed(make_experiment, tmp_path, monkeypatch):
    computed = []
    compute = PooledHiddenStates.compute

    def counting(self, batch):
        computed.extend(batch.example_ids)
        return compute(self, batch)

    monkeypatch.setattr(PooledHiddenStates, "compute", counting)
    small = built(make_experiment, "rds", *EXACT)
    assert len(computed) == 24 + 5
    computed.clear()
    write_rows(tmp_path / "more.jsonl", [*make_rows(24)[3:], *make_rows(30)[24:]])
    grown = built(make_experiment, "rds", *EXACT, "seed=1", f"data.paths=[{tmp_path / 'more.jsonl'}]", run="grown")
    assert sorted(computed) == [f"row-{i:03d}" for i in range(24, 30)]
    old, new = (GradientDatastore.open(made.cfg.paths.pool_representations) for made in (small, grown))
    for name in ("row-003", "row-023"):
        places = [store.ids.index(name) for store in (old, new)]
        assert torch.equal(old.rows(1, places[0], places[0] + 1), new.rows(1, places[1], places[1] + 1))


def test_a_proxy_gives_other_representations(make_experiment):
    plain = built(make_experiment, "rds", *EXACT)
    proxy = built(make_experiment, "rds", *EXACT, "proxy=svd", "proxy.rank_multiple=1", run="proxy")
    first, second = (GradientDatastore.open(made.cfg.paths.pool_representations) for made in (plain, proxy))
    assert torch.cosine_similarity(first.rows(1, 0, 24), second.rows(1, 0, 24)).max() < 0.999


def test_a_target_row_without_a_direction_is_named_before_the_pool_is_computed(make_experiment, monkeypatch, tmp_path):
    monkeypatch.setattr(
        PooledHiddenStates,
        "compute",
        lambda self, batch: torch.full((len(batch.example_ids), self.proj_dim), torch.nan),
    )
    with pytest.raises(
        NoDirectionError, match=r"target example 'target-00.': its representation is zero or not finite"
    ):
        built(make_experiment, "rds")
    assert not (tmp_path / "artifacts" / "pool_representations").exists()


def test_rds_plus_takes_turns_unless_the_command_line_says_otherwise():
    assert compose_from("selector=rds").aggregate._target_.endswith("max_of_subtask_means")
    assert compose_from("selector=rds_plus").aggregate._target_.endswith("round_robin")
    assert compose_from("selector=rds_plus", "aggregate=mean").aggregate._target_.endswith(".mean")
    poolings = [
        compose_from(f"selector={name}").selector.representations.features.pooling._target_
        for name in ("rds", "rds_plus")
    ]
    assert poolings == ["baselines.rds.last_token", "baselines.rds.position_weighted_mean"]


def test_a_run_reports_the_stage_and_a_second_run_reuses_it(compose_config, tmp_path):
    results = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        run(compose_config("selector=rds_plus"), tmp_path / name)
        results.append(read_results(tmp_path / name))
    stage = results[0]["stages"]["representations"]
    assert set(results[0]["stages"]) == {"representations", "select", "finetune", "evaluate"}
    assert set(stage["artifacts"]) == {"pool_representations", "target_representations"}
    assert stage["flops"] == sum(artifact["flops"] for artifact in stage["artifacts"].values()) > 0
    assert stage["bytes_written"] > 0
    again = results[1]["stages"]["representations"]
    assert again["flops"] == 0 and all(artifact["reused"] for artifact in again["artifacts"].values())
    assert not (tmp_path / "artifacts" / "warmup").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["selector.representations.dtype=int3"], "selector.representations.dtype must be one of .*int1, got 'int3'"),
        (["selection_model=hf", "selection_model.dtype=fp32"], "model.dtype must be float32, .* got fp32"),
        (["selection_model=hf", "selection_model.quantization=int3"], "quantization must be null, .* got int3"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(make_experiment, model_folder, overrides, message):
    given = [f"selection_model.path={model_folder}"] if "selection_model=hf" in overrides else []
    with pytest.raises((ExperimentError, RuntimeError), match=message):
        make_experiment("selector=rds", *overrides, *given)
