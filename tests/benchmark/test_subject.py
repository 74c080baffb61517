from lessexp.benchmark.subject import adapted_model, batches, mixed_rows
from lessexp.data.rows import write_rows
from lessexp.models.lora import lora_parameters
from tests.conftest import make_rows


def test_rows_are_drawn_by_the_seed_and_generated_where_there_are_no_files(monkeypatch):
    monkeypatch.delenv("LESSEXP_DATA", raising=False)
    rows = mixed_rows(20, seed=0)
    assert len({row.example_id for row in rows}) == 20
    assert rows == mixed_rows(20, seed=0) != mixed_rows(20, seed=1)


def test_rows_come_from_the_folder_that_is_named(monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    write_rows(tmp_path / "train" / "a.jsonl", make_rows(30))
    monkeypatch.setenv("LESSEXP_DATA", str(tmp_path))
    assert {row.example_id for row in mixed_rows(5, seed=0)} <= {f"row-{i:03d}" for i in range(30)}


def test_the_model_stands_in_the_middle_of_a_warmup(model_folder, rows):
    subject = adapted_model(model_folder, rank=4)
    for name, parameter in lora_parameters(subject.model).items():
        assert subject.checkpoint.exp_avg[name].shape == parameter.shape
        assert parameter.abs().max() > 0
    batched = batches(rows, model_folder, max_length=200, tokens_per_batch=300)
    assert sum(len(batch.example_ids) for batch in batched) == len(rows)
