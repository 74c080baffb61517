import json
import shutil

import pytest

from lessexp.data.rows import write_rows
from lessexp.pipeline import run
from lessexp.stages import forecast as module
from lessexp.stages import warmup as warmup_stage
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.forecast import Forecaster, announce_forecast, bytes_a_row
from tests.conftest import build_model, make_rows


@pytest.fixture
def forecast(make_experiment):
    return lambda *overrides, run="run": Forecaster(make_experiment(*overrides, run=run)).forecast()


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("selector=rds",),
        ("selector=random",),
        ("selector=random", "finetune=full"),
        ("datastore.also=[{proj_dim:64}]",),
        ("selector=iprox", "proxy.rank_multiple=4", "proxy.probes.n_rows=6"),
    ],
)
def test_a_run_takes_about_what_was_forecast(forecast, compose_config, tmp_path, overrides):
    said = forecast(*overrides)
    folder = tmp_path / "real"
    folder.mkdir()
    run(compose_config(*overrides), folder)
    records = [json.loads(file.read_text()) for file in (folder / "stages").glob("*.json")]
    # Rows that a seed draws are longer or shorter than the mean, and a run writes its rows and tables besides.
    assert said.flops == pytest.approx(sum(record["flops"] for record in records), rel=0.15)
    files = [file for place in (tmp_path / "artifacts", folder) for file in place.rglob("*.safetensors")]
    assert said.bytes_written == pytest.approx(sum(file.stat().st_size for file in files), rel=0.25)


def test_what_is_there_costs_nothing(forecast, compose_config, tmp_path):
    before = forecast()
    folder = tmp_path / "real"
    folder.mkdir()
    run(compose_config(), folder)
    after = forecast(run="again")
    records = {file.stem: json.loads(file.read_text()) for file in (folder / "stages").glob("*.json")}
    saved = records["warmup"]["flops"] + records["gradients"]["flops"]
    assert before.flops - after.flops == pytest.approx(saved, rel=0.05)
    assert after.bytes_written < before.bytes_written / 4


def test_rows_that_are_copied_cost_nothing(forecast, compose_config, tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    warmup = run(compose_config("selector.stages=[warmup,gradients]"), folder).cfg.paths.warmup
    write_rows(tmp_path / "grown.jsonl", make_rows(30))
    given = [f"warmup.path={warmup}", f"data.paths=[{tmp_path / 'grown.jsonl'}]", "selector.stages=[warmup,gradients]"]
    grown = ("warmup.training.epochs=4", *given)  # which are not those of the checkpoints given
    said = forecast(*grown, run="grown")
    (tmp_path / "again").mkdir()
    run(compose_config(*grown), tmp_path / "again")
    record = json.loads((tmp_path / "again" / "stages" / "gradients.json").read_text())
    assert said.flops == pytest.approx(record["flops"]) != 0


def test_the_room_that_a_stopped_run_has_filled_is_not_needed_again(forecast, make_experiment):
    before = forecast().bytes_written
    experiment = make_experiment(run="half")
    [store] = experiment.pool_gradients
    folder = experiment.shelf.folder(store)
    folder.mkdir(parents=True)
    (folder / "shard").write_bytes(bytes(1000))
    assert before - forecast(run="again").bytes_written == pytest.approx(1000 * module._SPARE, abs=1)
    (folder / "shard").write_bytes(bytes(10**7))
    without_it = before - forecast(run="once more").bytes_written
    row = bytes_a_row(store.projection.settings["proj_dim"], store.dtype)
    n_stored = len(experiment.tokenized_pool) * experiment.cfg.warmup.training.epochs
    assert without_it == pytest.approx(n_stored * row * module._SPARE, abs=1)


def test_two_epochs_of_the_final_training_are_counted_while_they_last(forecast, make_experiment):
    [warmup] = warmup_stage.run(make_experiment("warmup.training.epochs=2"))["artifacts"].values()
    n_bytes = sum(file.stat().st_size for file in warmup.folder.rglob("*.safetensors"))
    said = forecast("finetune.training.epochs=3", run="again")
    assert said.bytes_in_passing == pytest.approx(n_bytes, rel=0.25)
    assert forecast("selector.stages=[warmup]", run="without").bytes_in_passing == 0


def test_more_rows_checkpoints_and_dimensions_take_more_in_proportion(forecast):
    warmup = forecast("selector.stages=[warmup]", run="warmup")
    half = forecast("warmup.checkpoints=[2]", "selector.stages=[gradients]", "proj_dim=1024", run="half")
    whole = forecast("selector.stages=[gradients]", "proj_dim=1024", run="whole")
    wide = forecast("selector.stages=[gradients]", "proj_dim=2048", run="wide")
    flops, written = warmup.flops, warmup.bytes_written
    assert whole.flops - flops == pytest.approx(2 * (half.flops - flops))
    assert whole.bytes_written - written == pytest.approx(2 * (half.bytes_written - written), rel=1e-3)
    assert wide.bytes_written - written == pytest.approx(2 * (whole.bytes_written - written), rel=0.02)
    assert wide.flops == whole.flops


@pytest.mark.parametrize(
    ("dtype", "n"), [("float32", 4096), ("float16", 2048), ("int8", 1024), ("int4", 512), ("int1", 128)]
)
def test_a_stored_row_takes_its_values_a_scale_and_a_norm(dtype, n):
    assert bytes_a_row(1024, dtype) == n + 8


def test_memory_grows_with_the_batch_and_with_the_model(forecast, tokenizer, tmp_path):
    small, large = (forecast(f"gradients.tokens_per_batch={n}", run=f"run-{n}") for n in (2_000, 200_000))
    assert large.memory_bytes > small.memory_bytes
    build_model(len(tokenizer), width=64).save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    wide = forecast("gradients.tokens_per_batch=2_000", f"model.path={tmp_path / 'wide'}", run="wide")
    assert wide.memory_bytes > small.memory_bytes


def test_speed_is_that_of_what_was_built_here_and_of_a_trial_without(forecast, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "trial_speed", lambda device: 5e9)
    assert forecast().flops_a_second == 5e9
    # A process of four did 3e9 a second.
    built = [(2.0, 1, 2e9), (4.0, 4, 48e9), (10.0, 1, 80e9), (0.1, 1, 1e15), (9.0, 1, 0)]
    for number, (seconds, processes, flops) in enumerate(built):
        folder = tmp_path / "artifacts" / "warmup" / str(number)
        folder.mkdir(parents=True)
        complete = {"seconds": seconds, "processes": processes, "record": {"flops": flops}, "sha256": {}}
        (folder / "COMPLETE").write_text(json.dumps(complete))
    found = forecast(run="later")
    assert found.flops_a_second == 3e9
    assert found.seconds == found.flops / 3e9


@pytest.mark.parametrize(
    "record",
    [
        "",
        {},
        [1],
        {"seconds": "9", "record": {}, "sha256": {}},
        {"seconds": 9, "record": [], "sha256": {}},
        {"seconds": 9, "record": {"flops": "a"}, "sha256": {}},
        {"seconds": 9, "record": {"flops": 1}, "sha256": {}, "processes": 0},
    ],
)
def test_a_neighbour_that_is_damaged_says_nothing_of_the_speed(forecast, tmp_path, monkeypatch, record):
    monkeypatch.setattr(module, "trial_speed", lambda device: 5e9)
    folder = tmp_path / "artifacts" / "pool_gradients" / "neighbour"
    folder.mkdir(parents=True)
    (folder / "COMPLETE").write_text(json.dumps(record))
    assert forecast().flops_a_second == 5e9


def test_a_trial_finds_a_speed():
    assert module.trial_speed("cpu") > 1e8


def test_a_run_that_the_disk_will_not_hold_is_stopped_before_it_starts(make_experiment, monkeypatch, capsys):
    experiment = make_experiment()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(ExperimentError, match=r"the run will write .* has room for 1.0 kB; set artifacts_dir"):
        announce_forecast(experiment)
    assert capsys.readouterr().out.startswith("forecast: ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 seconds"), (119, "119 seconds"), (150, "2 minutes"), (9000, "2 hours"), (3e5, "3 days")],
)
def test_times_are_said_in_a_unit_that_fits(seconds, text):
    assert module._duration(seconds) == text
