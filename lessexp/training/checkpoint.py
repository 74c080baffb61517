"""The folder of one epoch: what was trained, its Adam moments and what is needed to continue from them.

``epoch=K/`` holds ``adapter_model.safetensors`` and ``adapter_config.json`` (plain peft; a model's files where all
weights are trained), ``adam_moments.safetensors`` (``<parameter name>.exp_avg`` and ``.exp_avg_sq``),
``trainer_state.json``, and ``sha256.json`` (`lessexp.pieces`), compared before a stopped training resumes.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lessexp.errors import DamagedFileError, MissingFileError, UserError
from lessexp.files import read_json, sha256_of_all, written_whole
from lessexp.models.lora import WEIGHTS_FILE, AdapterMismatchError, check_names
from lessexp.models.tensor_files import read_tensors
from lessexp.pieces import SEAL_FILE, seal_folder
from lessexp.training.sharding import gathered
from lessexp.training.trained_part import ADAPTER, TrainedPart

_MOMENTS_FILE = "adam_moments.safetensors"
_STATE_FILE = "trainer_state.json"


class OptimizerStateError(ValueError):
    """Optimizer state that does not belong to the adapter."""


class DivergedError(UserError, ValueError):
    """Adam moments that are not finite, or negative where squares are; the message names file and parameter."""


class MissingEpochError(UserError, RuntimeError):
    """A finished training that lacks the checkpoint of an epoch; the message names it."""


@dataclass(frozen=True)
class TrainerState:
    """Where training stood when the checkpoint was written.

    Attributes:
        epoch: counts from 1, 0 before any training; the place in the order of steps where another trainer wrote the
            checkpoint.
        step: optimizer steps taken.
        betas: decay rates of the moments.
        eps: Adam's ε.
        mean_learning_rate: over the steps since the checkpoint before.
        seed: of the run; ``None`` where another trainer did not say.
    """

    epoch: int
    step: int
    betas: tuple[float, float]
    eps: float
    mean_learning_rate: float
    seed: int | None


@dataclass(frozen=True)
class EpochCheckpoint:
    """One epoch's checkpoint in memory; all tensors by public parameter name, in float32."""

    parameters: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    state: TrainerState


def epoch_folder(root: Path, epoch: int) -> Path:
    """Folder of an epoch's checkpoint."""
    return root / f"epoch={epoch}"


def moments_by_name(
    parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """First and second moments of every parameter.

    Raises:
        OptimizerStateError: the optimizer has not stepped this parameter.
    """
    exp_avg: dict[str, Tensor] = {}
    exp_avg_sq: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        if "exp_avg" not in state:
            raise OptimizerStateError(f"the optimizer holds no moments for {name}; it must have taken a step")
        exp_avg[name] = state["exp_avg"].detach()
        exp_avg_sq[name] = state["exp_avg_sq"].detach()
    return exp_avg, exp_avg_sq


def write_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainerState,
    *,
    part: TrainedPart = ADAPTER,
    writes: bool = True,
) -> None:
    """Write a checkpoint of a model in training; the folder appears whole or not at all.

    Args:
        folder: its place.
        model: in training. Where its parameters are spread over processes, all of them call this together.
        optimizer: that has taken a step.
        state: of the training.
        part: of the model that is trained.
        writes: whether this process is the one that writes.
    """
    parameters = part.parameters(model)
    held = (parameters, *moments_by_name(parameters, optimizer))
    tensors = [gathered(tensors, keep=writes) for tensors in held]
    if writes:
        save_checkpoint(folder, model, EpochCheckpoint(*tensors, state), part=part)


def save_checkpoint(
    folder: Path, model: nn.Module, checkpoint: EpochCheckpoint, *, part: TrainedPart = ADAPTER
) -> None:
    """Write a checkpoint that is in memory, beside what describes the model it belongs to."""
    moments = {f"{name}.exp_avg": tensor.cpu().contiguous() for name, tensor in checkpoint.exp_avg.items()}
    moments |= {f"{name}.exp_avg_sq": tensor.cpu().contiguous() for name, tensor in checkpoint.exp_avg_sq.items()}
    with written_whole(folder) as partial:
        partial.mkdir(parents=True)
        part.save(model, checkpoint.parameters, partial)
        save_file(moments, partial / _MOMENTS_FILE)
        (partial / _STATE_FILE).write_text(json.dumps(asdict(checkpoint.state), indent=2) + "\n", encoding="utf-8")
        seal_folder(partial, folder.name)


def read_checkpoint(folder: Path, *, part: TrainedPart = ADAPTER) -> EpochCheckpoint:
    """Read what `write_checkpoint` wrote.

    Raises:
        MissingFileError: a file of the checkpoint is missing.
        DamagedFileError: a file is not whole or does not hold what it must.
        AdapterMismatchError: moments and parameters have not the same names, or other shapes.
        DivergedError: a moment is none that a training which goes well has.
    """
    parameters = part.read(folder)
    moments = read_tensors(folder / _MOMENTS_FILE)
    check_names(moments, expected=[f"{name}.{kind}" for name in parameters for kind in ("exp_avg", "exp_avg_sq")])
    for name, moment in moments.items():
        parameter = parameters[name.rpartition(".")[0]]
        if moment.shape != parameter.shape or not moment.is_floating_point():
            raise AdapterMismatchError(
                f"{folder / _MOMENTS_FILE}: {name} is {moment.dtype} of shape {tuple(moment.shape)}, its parameter has "
                f"{tuple(parameter.shape)}"
            )
        if fault := fault_of_moment(name.rpartition(".")[2], moment):
            raise DivergedError(
                f"{folder / _MOMENTS_FILE}: {name} holds {fault}: the file is damaged or the training diverged; lower "
                "its learning rate"
            )
    return EpochCheckpoint(
        parameters=parameters,
        exp_avg={name: moments[f"{name}.exp_avg"] for name in parameters},
        exp_avg_sq={name: moments[f"{name}.exp_avg_sq"] for name in parameters},
        state=read_trainer_state(folder),
    )


def fault_of_moment(kind: str, moment: Tensor) -> str | None:
    """What makes a moment useless: Γ takes the square root of ``exp_avg_sq`` and divides by it.

    Args:
        kind: ``exp_avg`` or ``exp_avg_sq``.
        moment: its values.
    """
    if not moment.isfinite().all():
        return "NaN or infinite values"
    return "negative values" if kind == "exp_avg_sq" and (moment < 0).any() else None


def copy_trained(folder: Path, destination: Path) -> None:
    """Copy what was trained, without what only a training that goes on needs."""
    shutil.copytree(folder, destination, ignore=shutil.ignore_patterns(_MOMENTS_FILE, _STATE_FILE, SEAL_FILE))


def read_trainer_state(folder: Path) -> TrainerState:
    """The state alone, without any tensor.

    Raises:
        MissingFileError: there is none.
        DamagedFileError: an entry is missing, unknown or no number that it can be.
    """
    path = folder / _STATE_FILE
    record = read_json(path)
    if strange := {one.name for one in fields(TrainerState)} ^ record.keys():
        raise DamagedFileError(f"{path}: '{min(strange):.80}' is missing or unknown; copy the checkpoint again")
    numbers = {name: value for name, value in record.items() if name != "betas"}
    betas = record["betas"]
    if not isinstance(betas, list) or len(betas) != 2:
        raise DamagedFileError(f"{path}: 'betas' must be two numbers, it is {betas!r:.80}")
    for name, value in [*numbers.items(), *(("betas", beta) for beta in betas)]:
        if not can_be(name, value):
            raise DamagedFileError(f"{path}: '{name}' cannot be {value!r:.80}; copy the checkpoint again")
    rates = {name: float(record[name]) for name in ("eps", "mean_learning_rate")}  # JSON writes 0 for 0.0 elsewhere
    return TrainerState(**{**record, **rates, "betas": (float(betas[0]), float(betas[1]))})


def can_be(name: str, value: Any) -> bool:
    """Whether a number is one that the entry of the state may have."""
    if name == "seed" and value is None:
        return True
    if name in ("epoch", "step", "seed"):
        return type(value) is int and (name == "seed" or 0 <= value < 2**63)
    if type(value) not in (int, float):
        return False
    return 0 <= value < 1 if name == "betas" else 0 <= value <= sys.float_info.max


def checkpoint_hash(folder: Path) -> str:
    """Hash of all that determines Γ: the adapter and the moments, as bytes, and Adam's step, betas and ε.

    Raises:
        MissingFileError: a file of the checkpoint is missing.
        DamagedFileError: the trainer's state does not hold what it must.
    """
    paths = [folder / name for name in (WEIGHTS_FILE, _MOMENTS_FILE)]
    for path in (*paths, folder / _STATE_FILE):
        if not path.is_file():
            raise MissingFileError(
                f"{path}: no such file; a warm-up checkpoint holds {WEIGHTS_FILE}, {_MOMENTS_FILE}, {_STATE_FILE}"
            )
    state = read_trainer_state(folder)
    of_adam = json.dumps([state.step, state.betas, state.eps])
    return hashlib.sha256(f"{sha256_of_all(paths)} {of_adam}".encode()).hexdigest()


def epoch_of(folder: Path) -> int:
    """The epoch of a checkpoint's folder."""
    return int(folder.name.removeprefix("epoch="))


def checkpoints_in(root: Path) -> list[Path]:
    """The epoch folders under ``root``, first epoch first."""
    folders = [folder for folder in root.glob("epoch=*") if folder.name.removeprefix("epoch=").isdigit()]
    return sorted(folders, key=epoch_of)


def contiguous(checkpoints: Sequence[Path]) -> list[Path]:
    """The checkpoints of epoch 1 and the epochs that follow it without a gap."""
    return [folder for epoch, folder in enumerate(checkpoints, start=1) if epoch_of(folder) == epoch]


def require_epochs(root: Path, epochs: int) -> None:
    """Refuse a finished training in which the checkpoint of an epoch is missing.

    Args:
        root: holds the ``epoch=K`` folders.
        epochs: counted from 1.

    Raises:
        MissingEpochError: naming the first that is missing.
    """
    there = contiguous(checkpoints_in(root))
    if len(there) < epochs:
        raise MissingEpochError(
            f"{epoch_folder(root, len(there) + 1)}: missing, though the training is marked as complete; delete {root}, "
            "and in an object store too, to train it anew"
        )
