import pytest

from lessexp.identity import key_of
from lessexp.stages import finetune, gradients, select, warmup
from lessexp.stages.experiment import Experiment
from lessexp.stages.preparation import preparation, usable_cores

STAGES = {"less": (warmup, gradients, select, finetune), "random": (select,)}


def test_a_core_is_a_process_unless_the_configuration_says_otherwise(compose_config):
    assert preparation(compose_config()).num_proc == usable_cores() >= 1
    assert preparation(compose_config("preparation.num_proc=3")).num_proc == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("selector", STAGES)
def test_a_pool_kept_in_files_gives_bit_for_bit_what_one_in_memory_gives(make_experiment, tmp_path, selector):
    def outcome(name: str, *overrides: str):
        given = [f"selector={selector}", f"artifacts_dir={tmp_path / name}", f"cache_dir={tmp_path / 'cache'}"]
        experiment: Experiment = make_experiment(*given, *overrides, run=f"run {name}")
        for stage in STAGES[selector]:
            stage.run(experiment)
        written = sorted(path for path in experiment.run_folder.rglob("*") if path.is_file())
        names = sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*"))
        return experiment, {path.relative_to(experiment.run_folder): path.read_bytes() for path in written}, names

    in_memory, expected, artifacts = outcome("memory")
    assert not (tmp_path / "cache").exists()
    in_files, found, same_artifacts = outcome("files", "preparation.in_memory_below=3", "preparation.num_proc=2")
    assert (tmp_path / "cache" / "pools" / "tokenized").exists()
    assert expected == found
    assert artifacts == same_artifacts
    assert key_of(in_files.warmup) == key_of(in_memory.warmup)
