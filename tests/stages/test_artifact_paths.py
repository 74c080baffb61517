import pytest

from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.experiment import Experiment


@pytest.mark.parametrize(
    ("overrides", "kinds"),
    [
        ((), {"warmup", "pool_gradients", "target_gradients"}),
        (("selector=rds",), {"pool_representations", "target_representations"}),
        (("selector=random",), set()),
    ],
)
def test_a_selector_is_told_where_that_lies_which_its_stages_build(compose_config, tmp_path, overrides, kinds):
    experiment = Experiment(compose_config(*overrides), tmp_path / "run")
    set_artifact_paths(experiment)
    paths = {kind: path for kind, path in experiment.cfg.paths.items() if path and kind != "run"}
    assert paths.keys() == kinds
    assert all(path.startswith(str(tmp_path / "artifacts" / kind)) for kind, path in paths.items())


def test_a_warmup_that_is_given_lies_where_it_is_given(compose_config, built_warmup, tmp_path):
    experiment = Experiment(compose_config(f"warmup.path={built_warmup}"), tmp_path / "run")
    set_artifact_paths(experiment)
    assert experiment.cfg.paths.warmup == str(built_warmup)
