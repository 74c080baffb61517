from lessexp.stages import proxy
from tests.stages.conftest import read_json


def test_the_run_folder_gets_a_record_of_each_layer(make_experiment, tmp_path):
    settings = ["selector=iprox", "proxy.rank_multiple=4", "proxy.probes.n_rows=6"]
    record = proxy.run(make_experiment(*settings))["artifacts"]["proxy"].record
    report = read_json(tmp_path / "run" / "proxy.json")
    assert record["n_layers"] == record["n_replaced"] == len(report["layers"]) == 14
    assert record["sparsity"] == report["sparsity"] and record["flops"] > 0 and record["n_rows"] == 6
    assert all(0 < layer["error"] < 1 and layer["n_positions"] > layer["rank"] > 0 for layer in report["layers"])


def test_without_factors_there_is_nothing_to_do(make_experiment):
    assert proxy.run(make_experiment("selector=iprox", "proxy=layer_drop")) == {"artifacts": {}}
