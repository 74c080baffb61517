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
