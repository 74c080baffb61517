"""Checkpoints as other trainers lay them out, opened file by file.

    checkpoint-105/  adapter_model.safetensors (or .bin)     the Hugging Face Trainer, also under FSDP, and
                     adapter_config.json                     plain torch.save beside an adapter
                     optimizer.pt (or .bin, .pth)
                     trainer_state.json                      the Trainer's alone
    any-name.ckpt                                            PyTorch Lightning

Whatever else lies there (``training_args.bin``, ``scheduler.pt``, random states) is never opened.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lessexp.errors import UserError
from lessexp.files import read_json, sha256_of_all
from lessexp.models.lora import public_name_of_saved
from lessexp.models.tensor_files import read_tensors
from lessexp.training.foreign_adapter import CONFIG_FILE
from lessexp.training.safe_load import load_tensors

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin", "pytorch_model_fsdp.bin")
_OPTIMIZER_FILES = ("optimizer.pt", "optimizer.bin", "optimizer.pth")
_STATE_FILE = "trainer_state.json"


class ForeignCheckpointError(UserError, ValueError):
    """A folder or file that is no checkpoint which can be imported."""


@dataclass(frozen=True)
class Progress:
    """How far training was.

    Attributes:
        step: optimizer steps as the trainer counts them; ``None`` if it keeps no count of its own.
        logged_rates: learning rate by the step at which it was logged.
    """

    step: int | None
    logged_rates: Mapping[int, float]


@runtime_checkable
class ForeignCheckpoint(Protocol):
    """One checkpoint of another trainer."""

    path: Path

    @property
    def files(self) -> list[Path]:
        """All files that are read."""

    @property
    def optimizer_source(self) -> str:
        """Where the optimizer's state lies, for messages."""

    def progress(self) -> Progress:
        """How far training was."""

    def optimizer_state(self) -> Any:
        """What the optimizer's ``state_dict()`` returned."""

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's tensors by public name."""


class TrainerFolder:
    """A folder with an adapter and an optimizer's state: the Hugging Face Trainer's, or saved by hand.

    Raises:
        ForeignCheckpointError: one of the two is missing.
    """

    def __init__(self, path: Path):
        self.path = path
        optimizer_file, adapter_file = _first(path, _OPTIMIZER_FILES), _first(path, _ADAPTER_FILES)
        _refuse_broken_links([path / _STATE_FILE])
        if optimizer_file is None:
            if any(path.glob("global_step*")):
                reason = "DeepSpeed wrote its optimizer state in shards, which cannot be imported"
            elif any(folder.is_dir() for folder in path.glob("optimizer*")):
                reason = "FSDP wrote its optimizer state in shards; train with fsdp_state_dict_type=FULL_STATE_DICT"
            else:
                reason = "it must have been saved too (save_only_model=False)"
            raise ForeignCheckpointError(f"{path} holds no optimizer state ({', '.join(_OPTIMIZER_FILES)}): {reason}")
        if adapter_file is None:
            raise ForeignCheckpointError(
                f"{path} holds no adapter ({', '.join(_ADAPTER_FILES)}); only LoRA training can be imported"
            )
        self._optimizer_file: Path = optimizer_file
        self._adapter_file: Path = adapter_file

    @property
    def files(self) -> list[Path]:
        """Adapter, optimizer state, and the Trainer's log if there is one."""
        state_file = self.path / _STATE_FILE
        return [self._adapter_file, self._optimizer_file, *([state_file] if state_file.exists() else [])]

    @property
    def optimizer_source(self) -> str:
        """The optimizer's file."""
        return str(self._optimizer_file)

    def progress(self) -> Progress:
        """From the Trainer's log.

        Raises:
            ForeignCheckpointError: the log is not laid out as the Trainer's.
        """
        path = self.path / _STATE_FILE
        if not path.exists():
            return Progress(None, {})
        state = read_json(path)
        try:
            entries = [entry for entry in state["log_history"] if "learning_rate" in entry]
            logged = {int(entry["step"]): float(entry["learning_rate"]) for entry in entries}
            return Progress(int(state["global_step"]), logged)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ForeignCheckpointError(
                f"{path}: not the log of a Hugging Face Trainer ({type(error).__name__}: {error!s:.80}); copy it again"
            ) from error

    def optimizer_state(self) -> Any:
        """As in the file."""
        return load_tensors(self._optimizer_file)

    def adapter(self) -> dict[str, Tensor]:
        """From safetensors, or from the pickle-free part of a ``torch.save`` file."""
        file = self._adapter_file
        return _lora_tensors(read_tensors(file) if file.suffix == ".safetensors" else load_tensors(file), file)


class LightningFile:
    """A ``.ckpt`` file of PyTorch Lightning, with one optimizer.

    Raises:
        ForeignCheckpointError: it is a folder.
    """

    def __init__(self, path: Path):
        if path.is_dir():
            raise ForeignCheckpointError(f"{path} is a folder; a checkpoint in shards cannot be imported, one file can")
        self.path = path

    def _loaded(self) -> dict[str, Any]:
        loaded = load_tensors(self.path)
        wanted = ("state_dict", "optimizer_states", "global_step")
        if missing := [key for key in wanted if not isinstance(loaded, dict) or key not in loaded]:
            raise ForeignCheckpointError(
                f"{self.path} has no '{missing[0]}'; save Lightning's checkpoint with save_weights_only=False"
            )
        return loaded

    @property
    def files(self) -> list[Path]:
        """The one file."""
        return [self.path]

    @property
    def optimizer_source(self) -> str:
        """The file."""
        return str(self.path)

    def progress(self) -> Progress:
        """Steps; Lightning logs no rates here.

        Raises:
            ForeignCheckpointError: the count is none.
        """
        step = self._loaded()["global_step"]
        if type(step) is not int:
            raise ForeignCheckpointError(f"{self.path}: 'global_step' must be a whole number, it is {step!r:.80}")
        return Progress(step, {})

    def optimizer_state(self) -> Any:
        """Of the only optimizer.

        Raises:
            ForeignCheckpointError: there is another number of them.
        """
        states = self._loaded()["optimizer_states"]
        if not isinstance(states, list):
            raise ForeignCheckpointError(f"{self.path}: 'optimizer_states' must be a list; save the checkpoint again")
        if len(states) != 1:
            raise ForeignCheckpointError(f"{self.path} holds the states of {len(states)} optimizers; one is needed")
        return states[0]

    def adapter(self) -> dict[str, Tensor]:
        """Those of the module's tensors that are an adapter's."""
        return _lora_tensors(self._loaded()["state_dict"], self.path)


def find_checkpoints(root: Path) -> list[ForeignCheckpoint]:
    """Checkpoints in a folder, in the order of their names; the folder itself may be the only one.

    A folder counts if it holds an optimizer's state or is called ``checkpoint-…``.

    Raises:
        ForeignCheckpointError: there is none, or one is incomplete.
    """
    if not root.is_dir():
        raise ForeignCheckpointError(f"warmup.path={root} is no folder; give the one that holds the checkpoints")
    if _first(root, _OPTIMIZER_FILES):
        return [TrainerFolder(root)]
    _refuse_broken_links([*root.glob("checkpoint-*"), *root.glob("*.ckpt")])
    folders = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir() and (folder.name.startswith("checkpoint-") or _first(folder, _OPTIMIZER_FILES))
    ]
    found = [*map(TrainerFolder, folders), *map(LightningFile, sorted(root.glob("*.ckpt")))]
    if not found:
        own = (
            "; its epoch=K folders are this program's own: leave warmup=import out"
            if any(root.glob("epoch=*/"))
            else ""
        )
        raise ForeignCheckpointError(
            f"warmup.path={root} holds neither folders with {' or '.join(_OPTIMIZER_FILES)} nor .ckpt files{own}"
        )
    return found


def config_file_of(checkpoint: ForeignCheckpoint, root: Path) -> Path | None:
    """The adapter's configuration: beside its weights, or beside all checkpoints."""
    beside = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    return _first(beside, (CONFIG_FILE,)) or _first(root, (CONFIG_FILE,))


def content_hash(checkpoint: ForeignCheckpoint) -> str:
    """Of all files that are read, as bytes."""
    return sha256_of_all(checkpoint.files)


def _refuse_broken_links(paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        if path.is_symlink() and not path.exists():
            raise ForeignCheckpointError(f"{path}: a link to what does not exist; mend it or delete it")


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    _refuse_broken_links(folder / name for name in names)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _lora_tensors(tensors: Any, source: Path) -> dict[str, Tensor]:
    """Those of an adapter, by public name; the frozen model's are left out."""
    adapter: dict[str, Tensor] = {}
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ForeignCheckpointError(f"{source} holds something else than tensors by name; save the adapter again")
    for saved_name, tensor in tensors.items():
        if ".lora_A." in saved_name or ".lora_B." in saved_name:
            name = public_name_of_saved(saved_name)
            if name in adapter:
                raise ForeignCheckpointError(f"{source} holds two adapters, with {name} in both; one is needed")
            adapter[name] = tensor
    return adapter
