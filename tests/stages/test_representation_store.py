from lessexp.identity import key_of


def test_a_store_is_built_from_its_fields_alone_and_found_again(make_experiment):
    experiment = make_experiment("selector=rds")
    stores = list(experiment.representations.values())
    assert [store.kind for store in stores] == ["target_representations", "pool_representations"]
    assert [experiment.runtime.get(store).reused for store in stores] == [False, False]
    again = make_experiment("selector=rds", run="again")
    assert all(again.runtime.get(store).reused for store in again.representations.values())
    assert key_of(stores[0]) != key_of(stores[1])
