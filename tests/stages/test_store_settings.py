import pytest

from lessexp.stages.configuration import ExperimentError
from lessexp.stages.store_settings import store_settings


def test_the_runs_own_way_comes_first_and_what_equals_it_is_not_listed_again(compose_config):
    cfg = compose_config("proj_dim=512", "datastore.also=[{proj_dim:64,dtype:int8},{proj_dim:512},{dtype:int8}]")
    found = [(store.projection_fields["proj_dim"], store.dtype) for store in store_settings(cfg)]
    assert found == [(512, "float16"), (64, "int8"), (512, "int8")]


def test_other_keys_are_refused_by_name(compose_config):
    with pytest.raises(ExperimentError, match=r"datastore.also\[1\] has 'seed'; it may change proj_dim and dtype only"):
        store_settings(compose_config("datastore.also=[{dtype:int8},{seed:1}]"))
