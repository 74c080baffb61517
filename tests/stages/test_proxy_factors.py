from lessexp.identity import key_of
from lessexp.proxies.compression import read_compression

TINY = ["selector=iprox", "proxy=svd", "proxy.rank_multiple=4", "model.dtype=float32", "alignment.n_held_out=5"]


def test_the_arithmetic_that_is_forecast_is_what_building_records(make_experiment):
    aligning = ("alignment=first_order", "alignment.n_rows=8", "alignment.settings.epochs=1")
    experiment = make_experiment(*TINY, *aligning)
    for kind, artifact in experiment.proxy.artifacts.items():
        built = experiment.runtime.get(artifact)
        n_parameters = experiment.whole_selection_model.load().num_parameters()
        assert built.record["flops"] == artifact.flops(n_parameters, experiment.proxy.shapes) > 0, kind
        assert read_compression(built.folder).factors


def test_the_factors_to_start_from_are_a_part_of_aligned_ones(make_experiment):
    aligned, other = (
        make_experiment(*TINY, "alignment=first_order", *more).proxy.artifacts["aligned_proxy"]
        for more in ([], ["proxy.sparsity=0.3"])
    )
    assert key_of(aligned) != key_of(other)
