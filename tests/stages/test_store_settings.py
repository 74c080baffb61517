from lessexp.settings.validation import validate
from lessexp.stages.store_settings import store_settings


def test_the_runs_own_way_comes_first_and_what_equals_it_is_not_listed_again(compose_config):
    cfg = compose_config("proj_dim=512", "datastore.also=[{proj_dim:64,dtype:int8},{proj_dim:512},{dtype:int8}]")
    found = [(store.projection.settings["proj_dim"], store.dtype) for store in store_settings(cfg)]
    assert found == [(512, "float16"), (64, "int8"), (512, "int8")]


def test_the_dimension_of_another_store_holds_though_the_projections_own_is_given(compose_config):
    cfg = compose_config("proj_dim=512", "projection.proj_dim=512", "datastore.also=[{proj_dim:64}]")
    validate(cfg)
    assert [store.projection.settings["proj_dim"] for store in store_settings(cfg)] == [512, 64]
