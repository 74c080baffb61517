import json
import shutil
import sys

import pytest
import torch

from lessexp.errors import DamagedFileError, UserError
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer
from lessexp.models.foreign_code import ForeignCodeError, refuse_foreign_code, weights_in_pickles
from lessexp.models.source import HubSnapshot, ModelUnavailableError
from lessexp.models.source import model_folder as folder_of_model

CODE = """
from pathlib import Path
Path({path!r}).write_text("run")
from transformers import LlamaConfig as Evil, LlamaForCausalLM as EvilModel, PreTrainedTokenizerFast as EvilTokenizer
"""


@pytest.fixture
def copied(model_folder, tmp_path):
    """The tiny model in a folder that a test may change, with code that would leave a file behind if it were run."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "evil.py").write_text(CODE.format(path=str(tmp_path / "escaped")))
    return folder


def change(path, **entries):
    record = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(record | entries))


def open_folder(folder):
    return folder_of_model(path=str(folder), source=HubSnapshot(None), cache_dir="unused", key="model")


@pytest.mark.parametrize("model_type", ["llama", "evil"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_folder_that_names_code_is_refused_by_file_and_nothing_is_run(copied, tmp_path, name, model_type):
    change(copied / "config.json", model_type=model_type)
    classes = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.EvilModel"}
    change(copied / name, auto_map=classes | {"AutoTokenizer": [None, "evil.EvilTokenizer"]})
    with pytest.raises(ForeignCodeError, match=rf"{name}: 'auto_map' names Python code .* never run"):
        open_folder(copied)
    # Even past that check, loading runs nothing.
    for load in (load_tokenizer, lambda folder: load_causal_lm(folder, dtype="float32", device="cpu")):
        try:
            load(copied)
        except UserError as error:
            assert str(copied) in str(error)
    assert not (tmp_path / "escaped").exists()
    assert not [module for module in sys.modules if module.endswith("evil")]


REFUSED = [
    (
        {"_attn_implementation": "someone/attention"},
        "'_attn_implementation' names 'someone/attention', which may be code",
    ),
    (
        {"attn_implementation": "someone/attention@main:name"},
        "'attn_implementation' names 'someone/attention@main:name'",
    ),
    ({"attn_implementation": {"": "sdpa", "text_config": "a/b"}}, "'attn_implementation' names 'a/b'"),
    ({"_attn_implementation_internal": "a/b"}, "'_attn_implementation_internal' names 'a/b'"),
    (
        {"_attn_implementation": "flash_attention_2"},
        ".* names 'flash_attention_2', .*; take the entry out, or set it to eager",
    ),
    ({"_attn_implementation": ["a/b"]}, r".* names \['a/b'\]"),
    ({"text_config": {"_attn_implementation": "a/b"}}, "'_attn_implementation' names 'a/b'"),
    ({"parts": [{"text_config": {"auto_map": {"AutoConfig": "evil.Evil"}}}]}, "'auto_map' names Python code"),
    ({"experts_implementation": "deepgemm"}, "'experts_implementation' names 'deepgemm'"),
    (
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        ".* weights are quantised already, .*model.quantization=",
    ),
    (
        {"text_config": {"quantization_config": {"load_in_4bit": True}}},
        "'quantization_config' says that the weights are",
    ),
    ({"compression_config": {"quant_method": "compressed-tensors"}}, "'compression_config' says that the weights are"),
    ({"configuration_files": ["config.4.0.0.json"]}, "'configuration_files' names other files of settings"),
    ({"transformers_weights": "adapter_model.bin"}, "'transformers_weights' names another file of weights"),
]


@pytest.mark.parametrize(("entries", "message"), REFUSED)
def test_settings_that_lead_to_code_or_files_elsewhere_are_refused_by_file_and_key(copied, entries, message):
    change(copied / "config.json", **entries)
    with pytest.raises(ForeignCodeError, match=rf"config\.json: {message}"):
        open_folder(copied)


@pytest.mark.parametrize(
    "entries",
    [
        {"_attn_implementation": "sdpa", "attn_implementation": None, "experts_implementation": "eager"},
        {"attn_implementation": {"": "eager", "text_config": "sdpa"}},
        {"quantization_config": None, "auto_map": {}, "_attn_implementation_autoset": True},
    ],
)
def test_settings_that_lead_nowhere_pass(copied, entries):
    change(copied / "config.json", **entries)
    assert open_folder(copied) == copied


def test_the_part_that_one_of_several_processes_has_saved_is_refused(copied):
    (copied / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"")
    with pytest.raises(ForeignCodeError, match=r"shard-00001-.*: the part of a model that one process has saved"):
        open_folder(copied)


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_a_folder_of_pickles_is_refused_by_file_and_nothing_is_run(copied, tmp_path, name):
    (copied / "model.safetensors").unlink()
    torch.save({"weight": Payload(tmp_path / "escaped")}, copied / name)
    with pytest.raises(ModelUnavailableError, match=rf"{name}, which may be a pickle; .* convert them"):
        open_folder(copied)
    assert weights_in_pickles(copied) == [name]
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        load_causal_lm(copied, dtype="float32", device="cpu")
    # Safetensors of another name do not open the door to the pickle beside them.
    (copied / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        load_causal_lm(open_folder(copied), dtype="float32", device="cpu")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../outside.safetensors", "/etc/passwd", 7, None])
def test_an_index_that_leads_to_pickles_or_out_of_the_folder_is_refused(copied, name):
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(ForeignCodeError, match=r"index\.json: weights lie in .* only \.safetensors files beside it"):
        open_folder(copied)


def test_an_index_without_a_map_and_an_adapter_in_the_place_of_a_model_are_refused(copied):
    (copied / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ForeignCodeError, match="'weight_map' must be an object"):
        open_folder(copied)
    (copied / "model.safetensors.index.json").unlink()
    change(copied / "adapter_config.json", base_model_name_or_path="elsewhere")
    with pytest.raises(ForeignCodeError, match=r"adapter_config\.json: this folder holds an adapter"):
        open_folder(copied)


def test_settings_that_are_no_json_are_refused_by_file(copied):
    (copied / "config.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"config\.json: not valid JSON"):
        open_folder(copied)


def test_an_ordinary_folder_passes(copied):
    refuse_foreign_code(copied)
    assert open_folder(copied) == copied
