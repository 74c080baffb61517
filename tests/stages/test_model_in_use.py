from dataclasses import replace

import torch

from lessexp.models.lora import lora_parameters


def test_it_is_what_its_files_type_and_rounding_are(make_experiment):
    identity = make_experiment().model.identity
    assert identity == make_experiment("selector=random").model.identity
    assert identity["dtype"] != make_experiment("model.dtype=float32").model.identity["dtype"]


def test_proxy_steps_are_taken_one_after_the_other(make_experiment):
    taken = []

    def step(name):
        return lambda model: taken.append(name) or model

    model = replace(make_experiment().model, proxy_steps=[step("first"), step("second")])
    model.load()
    assert taken == ["first", "second"]


def test_the_seed_draws_the_adapter(make_experiment):
    model = make_experiment().model
    first, same, other = (lora_parameters(model.load_with_adapter(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
