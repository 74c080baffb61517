import copy

import pytest
import torch
from torch import nn
from transformers import Trainer

from lessexp.training.foreign_optimizer import ForeignOptimizerError, read_adam_state

SHAPES = {
    "base_model.model.layers.0.q_proj.lora_A.weight": (2, 6),
    "base_model.model.layers.0.q_proj.lora_B.weight": (4, 2),
    "base_model.model.layers.0.down_proj.lora_A.weight": (2, 8),
    "base_model.model.layers.0.down_proj.lora_B.weight": (6, 2),
}


def parameters_like(shapes):
    """Parameters with gradients of their own, by name."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def shapes_of(parameters):
    return {name: parameter.shape for name, parameter in parameters.items()}


def stepped(groups, steps=3, **settings):
    optimizer = torch.optim.AdamW(groups, **settings)
    for _ in range(steps):
        optimizer.step()
    return optimizer


def assert_moments_are_each_parameters_own(read, optimizer, parameters):
    assert list(read.exp_avg) == list(parameters)
    for name, parameter in parameters.items():
        assert torch.equal(read.exp_avg[name], optimizer.state[parameter]["exp_avg"])
        assert torch.equal(read.exp_avg_sq[name], optimizer.state[parameter]["exp_avg_sq"])


@pytest.fixture
def parameters():
    return parameters_like(SHAPES)


@pytest.fixture
def saved(parameters):
    """A state by number, as ``torch.save(optimizer.state_dict())`` keeps it."""
    return copy.deepcopy(stepped(list(parameters.values()), lr=2e-3, betas=(0.8, 0.99), eps=1e-6).state_dict())


def test_numbered_states_belong_to_the_parameters_in_the_models_order(parameters):
    optimizer = stepped(list(parameters.values()), lr=2e-3, betas=(0.8, 0.99), eps=1e-6)
    read = read_adam_state(optimizer.state_dict(), shapes_of(parameters), source="optimizer.pt")
    assert_moments_are_each_parameters_own(read, optimizer, parameters)
    assert (read.step, read.betas, read.eps, read.next_learning_rate) == (3, (0.8, 0.99), 1e-6, 2e-3)


def test_frozen_parameters_that_the_optimizer_was_given_too_are_passed_over(parameters):
    adapter = list(parameters.values())
    frozen = nn.Parameter(torch.zeros(2, 6), requires_grad=False)
    optimizer = stepped([frozen, *adapter[:2], frozen.clone(), *adapter[2:]])
    read = read_adam_state(optimizer.state_dict(), shapes_of(parameters), source="optimizer.pt")
    assert_moments_are_each_parameters_own(read, optimizer, parameters)


def test_the_trainers_two_groups_are_put_back_in_the_models_order():
    parameters = parameters_like(
        {name: (2, 3) for part in ("q_norm", "proj", "k_norm", "out") for name in (f"base_model.{part}.lora_A.weight",)}
    )
    model = nn.Module()
    model.base_model = nn.Module()
    for name, parameter in parameters.items():
        layer = nn.Module()
        layer.lora_A = nn.Linear(3, 2, bias=False)
        layer.lora_A.weight = parameter
        setattr(model.base_model, name.split(".")[1], layer)
    decayed = Trainer.get_decay_parameter_names(None, model)
    assert 0 < len(decayed) < len(parameters)
    groups = [
        {"params": [p for n, p in model.named_parameters() if (n in decayed) is decays], "weight_decay": decay}
        for decays, decay in ((True, 0.1), (False, 0.0))
    ]
    optimizer = stepped(groups)
    read = read_adam_state(optimizer.state_dict(), shapes_of(parameters), source="optimizer.pt")
    assert_moments_are_each_parameters_own(read, optimizer, parameters)


def test_names_that_the_optimizer_kept_count_more_than_the_order(parameters):
    optimizer = stepped([{"params": list(reversed(parameters.items()))}])
    read = read_adam_state(optimizer.state_dict(), shapes_of(parameters), source="optimizer.pt")
    assert_moments_are_each_parameters_own(read, optimizer, parameters)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda name: name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."),
        lambda name: "_fsdp_wrapped_module." + name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
        lambda name: "module._orig_mod." + name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."),
    ],
)
def test_named_states_are_found_under_the_names_that_wrappers_make(parameters, spelling):
    optimizer = stepped(list(parameters.values()))
    saved = optimizer.state_dict()
    names = [spelling(name) for name in reversed(parameters)]  # in an order of their own
    state = {spelling(name): saved["state"][number] for number, name in enumerate(parameters)}
    named = {"state": state, "param_groups": [{**saved["param_groups"][0], "params": names}]}
    assert_moments_are_each_parameters_own(
        read_adam_state(named, shapes_of(parameters), source="optimizer.bin"), optimizer, parameters
    )


def put(key, value):
    """Set an entry of every parameter's state."""
    return lambda saved: [state.update({key: value}) for state in saved["state"].values()]


def alter(key, value):
    """Set one number in the moments of the third parameter."""
    return lambda saved: saved["state"][2][key].view(-1).__setitem__(0, value)


def in_type(dtype):
    return lambda saved: saved["state"][2].update(exp_avg_sq=saved["state"][2]["exp_avg_sq"].to(dtype))


def put_group(**values):
    return lambda saved: saved["param_groups"][0].update(values)


def split_group(saved):
    group = saved["param_groups"][0]
    saved["param_groups"] = [{**group, "params": [0, 1]}, {**group, "params": [2, 3]}]


def other_rate_for_half(saved):
    split_group(saved)
    saved["param_groups"][1]["lr"] = 1.0


def swap(first, second):
    def change(saved):
        state = saved["state"]
        state[first], state[second] = state[second], state[first]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("state1", torch.zeros(2)), "is the state of an optimizer of bitsandbytes .8-bit Adam"),
        (put("exp_avg_sq_row", torch.zeros(2)), r"is the state of Adafactor .* only torch\.optim\.Adam and AdamW"),
        (put("max_exp_avg_sq", torch.zeros(2)), "is the state of Adam with amsgrad"),
        (put("momentum_buffer", torch.zeros(2)), "is the state of SGD with momentum"),
        (put_group(amsgrad=True), "is the state of Adam with amsgrad"),
        (lambda saved: saved["param_groups"][0].pop("amsgrad"), "a parameter group has no 'amsgrad'"),
        (lambda saved: [s.pop("exp_avg_sq") for s in saved["state"].values()], "no 'exp_avg_sq'; only torch"),
        (put_group(maximize=True), "maximize=True"),
        (put_group(decoupled_weight_decay=False, weight_decay=0.1), r"Adam with weight_decay=0\.1 mixes"),
        (split_group, r"groups of \[2, 2\], by number only"),
        (other_rate_for_half, r"lr is 0\.002 in one parameter group and 1\.0 in another"),
        (lambda saved: saved["state"].clear(), "holds no moments; the optimizer must have taken a step"),
        (lambda saved: saved["state"].pop(2), "lacks the moments of 1 parameters, first .*down_proj.lora_A"),
        (lambda saved: saved["param_groups"][0]["params"].pop(), "moments of 3 parameters, the adapter has 4"),
        (lambda saved: saved.pop("state"), r"is no optimizer's state_dict\(\)"),
        (
            lambda saved: saved["state"][1].update(step=torch.tensor(2.0)),
            r"3 steps, 1 others fewer, first .*q_proj.lora_B",
        ),
        (put("step", torch.tensor(0.0)), r"has taken 0 steps"),
        (put("step", torch.tensor(2.5)), r"has taken 2\.5 steps"),
        (put_group(betas=(1.0, 0.99)), r"betas cannot be 1\.0 in Adam"),
        (put_group(betas=(0.9, -0.1)), r"betas cannot be -0\.1 in Adam"),
        (put_group(eps=-1), r"eps cannot be -1\.0 in Adam"),
        (put_group(eps=float("nan")), r"eps cannot be nan in Adam"),
        (alter("exp_avg", float("nan")), r"exp_avg of .*down_proj.lora_A.weight holds NaN or infinite values"),
        (alter("exp_avg_sq", float("inf")), r"exp_avg_sq of .*down_proj.lora_A.weight holds NaN or infinite values"),
        (alter("exp_avg_sq", -1e-9), r"exp_avg_sq of .*down_proj.lora_A.weight holds negative values"),
        (in_type(torch.complex64), r"exp_avg_sq of .* is torch\.complex64, no floating-point numbers"),
        (swap(0, 2), r"exp_avg of .*q_proj.lora_A.weight has shape \(2, 8\), the parameter \(2, 6\)"),
    ],
)
def test_a_state_from_which_the_next_step_cannot_be_told_is_refused_by_name(saved, parameters, change, message):
    read_adam_state(saved, shapes_of(parameters), source="run/optimizer.pt")
    change(saved)
    with pytest.raises(ForeignOptimizerError, match=rf"(?s)run/optimizer\.pt.*{message}"):
        read_adam_state(saved, shapes_of(parameters), source="run/optimizer.pt")


def test_named_states_that_are_missing_unknown_or_double_are_named(saved, parameters):
    names = list(parameters)

    def named(spellings):
        state = dict(zip(spellings, saved["state"].values(), strict=False))
        return {"state": state, "param_groups": [{**saved["param_groups"][0], "params": list(state)}]}

    for spellings, message in (
        (names[1:], f"1 parameters are missing, the first is {names[0]}"),
        ([*names[:3], "base_model.lm_head.weight"], f"1 parameters are missing, the first is {names[3]}"),
        ([names[0], names[0].replace("lora_A", "lora_A.other"), *names[1:3]], f"two states for {names[0]}"),
    ):
        with pytest.raises(ForeignOptimizerError, match=message):
            read_adam_state(named(spellings), shapes_of(parameters), source="optimizer.bin")
    with pytest.raises(ForeignOptimizerError, match=f"1 parameters are unknown, the first is {names[3]}"):
        read_adam_state(named(names), shapes_of(dict(list(parameters.items())[:3])), source="optimizer.bin")


@pytest.mark.parametrize(
    "change",
    [
        {"state": 7},
        {"state": {0: None}},
        {"param_groups": None},
        {"param_groups": [{"params": 3}]},
        {"param_groups": [{}]},
        {"param_groups": [{"params": [0, 1, 2, 3], "lr": "x", "betas": (0.9, 0.99), "eps": 1e-8, "amsgrad": False}]},
        {"param_groups": [{"params": [0, 1, 2, 3], "lr": 0.1, "betas": None, "eps": 1e-8, "amsgrad": False}]},
        {"param_groups": [{"params": [[], {}, 2, 3], "lr": 0.1, "betas": (0, 0), "eps": 1e-8, "amsgrad": False}]},
    ],
)
def test_a_state_with_something_else_in_its_places_is_refused_by_file(parameters, saved, change):
    with pytest.raises(ForeignOptimizerError, match=r"optimizer\.pt"):
        read_adam_state(saved | change, shapes_of(parameters), source="optimizer.pt")
