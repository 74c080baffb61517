import multiprocessing
import time

import pytest
from omegaconf import OmegaConf

from lessexp.stages.run_folder import FolderCheck, claimed, error_file, failed_jobs, held, job_folder
from lessexp.stages.storage import StorageError


def test_a_folder_that_is_taken_gets_a_number_behind_its_name(tmp_path):
    names = [claimed(tmp_path / "outputs" / "12-00-00") for _ in range(3)]
    assert names == [str(tmp_path / "outputs" / name) for name in ("12-00-00", "12-00-00-2", "12-00-00-3")]


def test_a_configuration_claims_its_folder_once_however_often_it_is_asked(tmp_path):
    cfg = OmegaConf.create({"day": "tuesday", "dir": f"${{claimed:{tmp_path}/${{day}}}}"})
    assert cfg.dir == cfg.dir == str(tmp_path / "tuesday")
    assert OmegaConf.create({"dir": f"${{claimed:{tmp_path}/tuesday}}"}).dir == str(tmp_path / "tuesday-2")


def test_where_no_folder_can_be_made_the_key_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(StorageError, match=r"12-00-00: .*; set hydra\.run\.dir"):
        claimed(tmp_path / "outputs" / "12-00-00")


@pytest.mark.parametrize("start", ["on_run_start", "on_multirun_start"])
@pytest.mark.parametrize("name", ["outputs/run", "${claimed:outputs/run}"])
def test_a_run_or_sweep_without_a_folder_ends_in_one_sentence(tmp_path, monkeypatch, start, name):
    monkeypatch.chdir(tmp_path)

    def begin():
        config = OmegaConf.create({"hydra": {"run": {"dir": name}, "sweep": {"dir": name}}})
        getattr(FolderCheck(), start)(config=config)

    begin()
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["run"]
    (tmp_path / "outputs" / "run").rmdir()
    (tmp_path / "outputs").rmdir()
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(SystemExit, match=rf"Error: {tmp_path}/outputs/run: .*; set hydra\.run\.dir"):
        begin()


def claim_and_work(folder, named, meeting, claims, order):
    claims.put(claimed(named))
    meeting.wait()
    with held(folder, announce=lambda sentence: order.put("waits")):
        order.put("in")
        time.sleep(0.2)  # the others come while this one is there
        order.put("out")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_of_eight_processes_each_claims_its_own_folder_and_in_one_folder_they_take_turns(tmp_path):
    context = multiprocessing.get_context("fork")
    claims, order, meeting = context.SimpleQueue(), context.SimpleQueue(), context.Barrier(8)
    arguments = (tmp_path, tmp_path / "12-00-00", meeting, claims, order)
    processes = [context.Process(target=claim_and_work, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert len({claims.get() for _ in processes}) == 8
    events = []
    while not order.empty():
        events.append(order.get())
    assert [event for event in events if event != "waits"] == ["in", "out"] * 8
    assert "waits" in events


def test_a_jobs_folder_is_named_by_what_it_sets():
    assert job_folder("seed=0,selector=less") == "seed=0,selector=less"
    assert job_folder("data.paths=[/a/b.jsonl]") == "data.paths=[_a_b.jsonl]"
    assert job_folder("") == "run"


def test_long_names_of_jobs_fit_a_file_system_and_differ(tmp_path):
    names = [job_folder("lora.target_modules=[" + ",".join(["größe"] * 60) + f"],seed={seed}") for seed in (0, 1)]
    assert names[0] != names[1] and names[0].startswith("lora.target_modules=[größe,")
    for name in names:
        assert error_file(tmp_path / name).write_text("why\n") > 0
    assert failed_jobs(tmp_path) == dict.fromkeys(sorted(names), "why")
