import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lessexp.data.rows import Row, write_rows
from lessexp.identity import key_of
from lessexp.stages.configuration import ExperimentError, instantiate
from lessexp.stages.preparation import pool_counts
from tests.conftest import build_tokenizer, make_rows

KINDS = ("warmup", "pool_gradients", "target_gradients")


def keys(experiment):
    """What names one artifact of each kind, stored the run's own way."""
    of = (experiment.warmup, experiment.pool_gradients[0], experiment.target_gradients[0])
    return dict(zip(KINDS, map(key_of, of), strict=True))


def test_rows_cut_off_before_their_answer_are_not_usable(make_experiment, tmp_path):
    long = Row("sums", "long-000", (("user", "word " * 300), ("assistant", "yes")))
    write_rows(tmp_path / "longer.jsonl", [*make_rows(24), long])
    experiment = make_experiment(f"data.paths=[{tmp_path / 'longer.jsonl'}]")
    assert len(experiment.pool) == 25
    assert list(experiment.unusable) == ["long-000"]
    assert "long-000" not in {row.example_id for row in experiment.usable_pool}


def test_target_rows_may_be_longer_than_those_of_the_pool(make_experiment, tmp_path):
    long = replace(make_rows(1, target=True)[0], messages=(("user", "word " * 300), ("assistant", "yes")))
    write_rows(tmp_path / "long.jsonl", [long])
    target = f"target.path={tmp_path / 'long.jsonl'}"
    with pytest.raises(ExperimentError, match=r"'row-000': no token of its answer .* target_max_length"):
        make_experiment(target)
    [row], dropped = make_experiment(target, "target_max_length=800", "evaluation.max_length=800").tokenized_target
    assert len(row.input_ids) > 200
    assert not dropped


def test_loggers_write_into_the_run_folder_whatever_started_the_run(make_experiment, tmp_path):
    [make_logger] = instantiate(make_experiment("logger=csv").cfg.logger.loggers)
    assert Path(make_logger(stage="select").log_dir) == tmp_path / "run" / "csv" / "select"


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", KINDS),
        ("lora.rank=2", KINDS),
        ("warmup.training.learning_rate=1e-3", KINDS),
        ("max_length=43", KINDS),
        ("max_length=199", []),  # which cuts no row
        ("target_max_length=46", ["target_gradients"]),
        ("evaluation.max_length=199", []),
        ("chat_format=model", KINDS),
        ("proxy=svd", ["pool_gradients", "target_gradients"]),
        ("proxy=layer_drop", KINDS),
        ("space=lora", []),
        ("model.quantization=nf4", KINDS),
        ("gradients=sgd", ["pool_gradients"]),
        ("proj_dim=32", ["pool_gradients", "target_gradients"]),
        ("datastore.also=[{proj_dim:32}]", []),
        ("datastore.dtype=float32", ["pool_gradients", "target_gradients"]),
        ("fraction=0.5", []),
        ("aggregate=mean", []),
        ("influence=cosine_of_mean", []),
        ("micro_batch_size=1", []),
        ("selector=random", []),
        ("gradients.tokens_per_batch=64", []),
        ("finetune.training.epochs=2", []),
    ],
)
def test_an_artifact_is_keyed_by_what_determines_it_and_by_nothing_else(make_experiment, override, changed):
    if "quantization" in override:
        pytest.importorskip("bitsandbytes")
    base, other = make_experiment(), make_experiment(override)
    before, after = map(keys, (base, other))
    assert [kind for kind in KINDS if before[kind] != after[kind]] == list(changed)


def test_with_dropout_the_micro_batches_draw_the_numbers_so_they_are_in_the_key(make_experiment):
    first, second = (make_experiment("lora.dropout=0.1", f"micro_batch_size={size}") for size in (1, 2))
    assert key_of(first.warmup) != key_of(second.warmup)


def test_a_selecting_model_of_its_own_leaves_out_what_either_cannot_read(make_experiment, model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "bytes")
    build_tokenizer(vocab_size=260).save_pretrained(tmp_path / "bytes")  # a token a byte, so rows are longer
    long = Row("sums", "long-000", (("user", "the number " * 18), ("assistant", "yes")))
    write_rows(tmp_path / "longer.jsonl", [*make_rows(24), long])
    data = f"data.paths=[{tmp_path / 'longer.jsonl'}]"
    assert not make_experiment(data).unusable
    trained = ["selector=random", "selection_model=hf", f"selection_model.path={model_folder}"]
    both = make_experiment(data, *trained, f"model.path={tmp_path / 'bytes'}")
    assert list(both.unusable) == ["long-000"]
    assert len(both.usable_pool) == len(both.tokenized_pool) == 24


def test_another_target_leaves_the_pools_artifacts_alone(make_experiment, tmp_path):
    base = make_experiment()
    write_rows(tmp_path / "other.jsonl", make_rows(4, prefix="other", target=True))
    other = make_experiment(f"target.path={tmp_path / 'other.jsonl'}")
    before, after = map(keys, (base, other))
    assert [kind for kind in KINDS if before[kind] != after[kind]] == ["target_gradients"]


def test_given_checkpoints_stand_for_all_that_trained_them(make_experiment, built_warmup, tmp_path):
    given = f"warmup.path={built_warmup}"
    base, other_training, other_seed = (
        make_experiment(given, *more) for more in ([], ["warmup.fraction=0.9"], ["seed=1"])
    )
    assert key_of(base.warmup) == key_of(other_training.warmup) == key_of(other_seed.warmup)
    assert base.cfg.paths.warmup == str(built_warmup)
    (built_warmup / "COMPLETE").unlink()  # it vouches for the files
    (built_warmup / "epoch=2" / "adapter_model.safetensors").write_bytes(b"other")
    assert key_of(make_experiment(given).warmup) != key_of(base.warmup)


def test_a_hugging_face_data_set_is_a_pool_like_any_other(make_experiment, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "toy").mkdir()
    turns = [[{"from": "human", "value": f"{i}?"}, {"from": "gpt", "value": f"{i}!"}] for i in range(24)]
    lines = [json.dumps({"conversations": conversation}) + "\n" for conversation in turns]
    (tmp_path / "toy" / "train.jsonl").write_text("".join(lines))
    given = ["data=hf", "data/columns=conversations", f"data.path={tmp_path / 'toy'}", "data.counts={toy: 25}"]
    experiment = make_experiment(*given)
    given = json.dumps({"conversations": turns[7]})
    assert experiment.pool[7] == Row("toy", "toy-train-7", (("user", "7?"), ("assistant", "7!")), extra=given)
    counts = pool_counts(experiment.pool, experiment.cfg)
    assert counts["differences"] == {"toy": {"expected": 25, "found": 24}}


def test_the_weights_of_a_model_that_selects_for_itself_are_hashed_once(make_experiment, monkeypatch):
    hashed = []
    monkeypatch.setattr("lessexp.models.source.sha256_of", lambda path: hashed.append(path.name) or path.name)
    experiment = make_experiment()
    for model in (experiment.model, experiment.selection_model, experiment.whole_selection_model):
        assert key_of(model.model)
    assert len(hashed) == len(set(hashed))


def test_another_pool_changes_the_warmup(make_experiment, tmp_path):
    base = make_experiment()
    write_rows(tmp_path / "fewer.jsonl", make_rows(23))
    assert key_of(base.warmup) != key_of(make_experiment(f"data.paths=[{tmp_path / 'fewer.jsonl'}]").warmup)
