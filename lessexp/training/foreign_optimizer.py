"""Adam's moments by public parameter name, from the optimizer state that another trainer saved.

Such a state is what ``torch.optim.Optimizer.state_dict`` returns: ``state`` by parameter and ``param_groups``.
PyTorch numbers the parameters group by group, in the order in which the optimizer was given them; FSDP names them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lessexp.errors import UserError
from lessexp.models.lora import AdapterMismatchError, check_names, public_name_of_saved
from lessexp.training.checkpoint import can_be, fault_of_moment

# What the states of other optimizers hold, and whose they are.
_OTHERS = {
    "state1": "an optimizer of bitsandbytes (8-bit Adam, say)",
    "__bnb_optimizer_quant_state__": "an optimizer of bitsandbytes (8-bit Adam, say)",
    "exp_avg_sq_row": "Adafactor",
    "exp_avg_sq_col": "Adafactor",
    "RMS": "Adafactor",
    "max_exp_avg_sq": "Adam with amsgrad",
    "mu_product": "NAdam",
    "exp_inf": "Adamax",
    "momentum_buffer": "SGD with momentum",
    "square_avg": "RMSprop",
    "sum": "Adagrad",
}
_ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")
_WANTED = "only torch.optim.Adam and AdamW, whose next step Γ is, can be imported"
# Parameters that the Hugging Face Trainer decays by nothing (`Trainer.get_decay_parameter_names`).
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


class ForeignOptimizerError(UserError, ValueError):
    """Optimizer state from which Γ cannot be computed for this adapter."""


@dataclass(frozen=True)
class AdamState:
    """What Γ needs of an optimizer.

    Attributes:
        exp_avg: first moments by public parameter name, in the model's order.
        exp_avg_sq: second moments alike.
        step: optimizer steps taken.
        betas: decay rates of the moments.
        eps: Adam's ε.
        next_learning_rate: which the scheduler, if any, had set for the step to come.
    """

    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    step: int
    betas: tuple[float, float]
    eps: float
    next_learning_rate: float


def read_adam_state(saved: Any, shapes: Mapping[str, torch.Size], *, source: str) -> AdamState:
    """Moments, step and settings of a saved state, checked against the adapter's parameters.

    Numbered parameters are told apart by their order. It is the model's own: an optimizer gets what
    ``named_parameters()`` yields, which walks modules as their classes registered them; peft puts its layers in
    the places of those they wrap. So the same model with the same target modules yields the same order here as
    there, also where all A matrices are of one shape. The Trainer makes two groups of it, decayed or not,
    each in that order. Shapes are compared all the same: they tell another model or other target modules.

    Args:
        saved: what ``state_dict()`` returned.
        shapes: of the adapter's parameters by public name, in the model's order.
        source: the file, for messages.

    Raises:
        ForeignOptimizerError: another optimizer's state, one that does not fit the adapter, or numbers that Adam
            cannot have.
    """
    try:
        return _adam_state(saved, shapes, source)
    except UserError:
        raise
    # Whatever else a file holds in the places of moments, groups and settings.
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ForeignOptimizerError(
            f"{source} is no optimizer's state_dict() ({type(error).__name__}: {error!s:.80}); {_WANTED}"
        ) from error


def _adam_state(saved: Any, shapes: Mapping[str, torch.Size], source: str) -> AdamState:
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= saved.keys():
        raise ForeignOptimizerError(
            f"{source} is no optimizer's state_dict(): it has no 'state' and 'param_groups'; save "
            "optimizer.state_dict() itself"
        )
    state, groups = saved["state"], [group for group in saved["param_groups"] if len(group["params"])]
    _check_algorithm(state, groups, source)
    keys = _keys_by_name(state, groups, shapes, source)
    _check_moments(state, keys, shapes, source)
    settings = groups[0]
    return AdamState(
        exp_avg={name: state[keys[name]]["exp_avg"] for name in shapes},
        exp_avg_sq={name: state[keys[name]]["exp_avg_sq"] for name in shapes},
        step=_common_step({name: float(state[keys[name]]["step"]) for name in shapes}, source),
        betas=tuple(float(beta) for beta in settings["betas"]),
        eps=float(settings["eps"]),
        next_learning_rate=float(settings["lr"]),
    )


def _check_algorithm(state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], source: str) -> None:
    if not state or not groups:
        raise ForeignOptimizerError(f"{source} holds no moments; the optimizer must have taken a step")
    for values in state.values():
        for key in values:
            if key in _OTHERS:
                raise ForeignOptimizerError(f"{source} is the state of {_OTHERS[key]} (it holds '{key}'); {_WANTED}")
        if missing := [key for key in _ADAM_KEYS if key not in values]:
            raise ForeignOptimizerError(f"{source} holds {sorted(values)} and no '{missing[0]}'; {_WANTED}")
    for group in groups:
        if missing := [key for key in ("lr", "betas", "eps", "amsgrad") if key not in group]:
            raise ForeignOptimizerError(f"{source}: a parameter group has no '{missing[0]}'; {_WANTED}")
        if group["amsgrad"]:
            raise ForeignOptimizerError(f"{source} is the state of Adam with amsgrad; {_WANTED}")
        if group.get("maximize"):
            raise ForeignOptimizerError(f"{source}: the optimizer has maximize=True; the loss must be minimised")
        if group.get("weight_decay") and not group.get("decoupled_weight_decay", True):
            raise ForeignOptimizerError(
                f"{source}: Adam with weight_decay={group['weight_decay']} mixes the weights into its moments; "
                "train with AdamW"
            )
        for key in ("lr", "betas", "eps"):
            plain = _plain(group[key])
            if bad := [number for number in (plain if key == "betas" else [plain]) if not can_be(key, float(number))]:
                raise ForeignOptimizerError(f"{source}: {key} cannot be {bad[0]} in Adam; {_WANTED}")
            if plain != _plain(groups[0][key]):
                raise ForeignOptimizerError(
                    f"{source}: {key} is {groups[0][key]} in one parameter group and {group[key]} in another; "
                    "one value for all is needed"
                )


def _plain(value: Any) -> Any:
    """Lists and tuples compare alike, whoever wrote them."""
    return tuple(value) if isinstance(value, list | tuple) else float(value)


def _keys_by_name(
    state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], shapes: Mapping[str, torch.Size], source: str
) -> dict[str, Any]:
    """The key that each parameter's state has in the file."""
    listed = [key for group in groups for key in group["params"]]
    if all("param_names" in group for group in groups):
        named = zip(listed, [name for group in groups for name in group["param_names"]], strict=True)
        return _unique({key: name for key, name in named if key in state}, shapes, source)
    if all(isinstance(key, str) for key in listed):
        return _unique({key: key for key in listed if key in state}, shapes, source)
    sizes = [len(group["params"]) for group in groups]
    if len(listed) != len(shapes):
        # An optimizer that was given the whole model lists the frozen parameters too; they have no state.
        sizes = [size for group in groups if (size := sum(key in state for key in group["params"]))]
        listed = [key for key in listed if key in state]
    if len(listed) != len(shapes):
        raise ForeignOptimizerError(
            f"{source} holds the moments of {len(listed)} parameters, the adapter has {len(shapes)}; "
            "was another model or were other lora.target_modules trained?"
        )
    keys = dict(zip(_names_in_order(sizes, list(shapes), source), listed, strict=True))
    if missing := [name for name, key in keys.items() if key not in state]:
        raise ForeignOptimizerError(f"{source} lacks the moments of {len(missing)} parameters, first {missing[0]}")
    return keys


def _unique(saved_names: Mapping[Any, str], shapes: Mapping[str, torch.Size], source: str) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, saved_name in saved_names.items():
        name = public_name_of_saved(saved_name)
        if name in keys:
            raise ForeignOptimizerError(f"{source} holds two states for {name}; one adapter is needed")
        keys[name] = key
    try:
        check_names(keys, expected=list(shapes))
    except AdapterMismatchError as error:
        raise ForeignOptimizerError(f"{source}: moments: {error}") from error
    return keys


def _names_in_order(sizes: Sequence[int], names: Sequence[str], source: str) -> list[str]:
    """Names in the order of the file's numbers."""
    if len(sizes) == 1:
        return list(names)
    undecayed = [name for name in names if _NO_DECAY.search(name.lower())]
    decayed = [name for name in names if name not in set(undecayed)]
    if list(sizes) != [len(decayed), len(undecayed)]:
        raise ForeignOptimizerError(
            f"{source}: parameters lie in groups of {list(sizes)}, by number only; one group is needed, or the Hugging "
            "Face Trainer's two, or names (an optimizer made from model.named_parameters() saves them)"
        )
    return decayed + undecayed


def _check_moments(
    state: Mapping[Any, Any], keys: Mapping[str, Any], shapes: Mapping[str, torch.Size], source: str
) -> None:
    for name, shape in shapes.items():
        for kind in ("exp_avg", "exp_avg_sq"):
            moment = state[keys[name]][kind]
            if moment.shape != shape:
                raise ForeignOptimizerError(
                    f"{source}: {kind} of {name} has shape {tuple(moment.shape)}, the parameter {tuple(shape)}; was "
                    "another model or were other lora settings trained?"
                )
            if not moment.is_floating_point():
                raise ForeignOptimizerError(f"{source}: {kind} of {name} is {moment.dtype}, no floating-point numbers")
            if fault := fault_of_moment(kind, moment.float()):
                raise ForeignOptimizerError(
                    f"{source}: {kind} of {name} holds {fault}: the training diverged or the file is damaged; import "
                    "checkpoints of another training"
                )


def _common_step(steps: Mapping[str, float], source: str) -> int:
    latest = max(steps, key=lambda name: steps[name])
    if behind := [name for name, step in steps.items() if step != steps[latest]]:
        raise ForeignOptimizerError(
            f"{source}: {latest} has taken {steps[latest]:.0f} steps, {len(behind)} others fewer, first {behind[0]} "
            f"with {steps[behind[0]]:.0f}; all must have been trained together"
        )
    if not steps[latest].is_integer() or not 1 <= steps[latest] < 2**63:
        raise ForeignOptimizerError(f"{source}: has taken {steps[latest]:g} steps; Adam has moments after the first")
    return int(steps[latest])
