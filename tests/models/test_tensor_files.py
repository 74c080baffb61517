import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from lessexp.errors import DamagedFileError, MissingFileError
from lessexp.models.tensor_files import read_tensors, tensor_names
from tests.hostile import damaged, lying_safetensors

CONTENT = save({"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)})


@given(st.one_of(damaged(CONTENT), lying_safetensors(["a.weight", "b"]), st.binary()))
def test_any_bytes_are_tensors_or_are_refused_naming_the_file(tmp_path, content):
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(content)
    try:
        tensors = read_tensors(path)
    except DamagedFileError as error:
        assert str(error).startswith(f"{path}: not a whole safetensors file")
        assert len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
        assert sorted(tensor_names(path)) == sorted(tensors)
    path.write_bytes(CONTENT)
    assert torch.equal(read_tensors(path)["a.weight"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("size", [0, 7, 8, 20, len(CONTENT) - 1])
def test_a_file_cut_short_is_refused(tmp_path, size):
    (tmp_path / "cut.safetensors").write_bytes(CONTENT[:size])
    for read in (read_tensors, tensor_names):
        with pytest.raises(DamagedFileError, match=r"cut\.safetensors"):
            read(tmp_path / "cut.safetensors")


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.safetensors: no such file"):
        read_tensors(tmp_path / "nowhere.safetensors")
    with pytest.raises(DamagedFileError, match=str(tmp_path)):
        read_tensors(tmp_path)
