from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessexp.training.safe_load import UnsafeFileError, load_tensors
from tests.hostile import damaged


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_values_are_read_in_both_layouts_of_torch(tmp_path, zipped):
    written = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
    torch.save(written, tmp_path / "optimizer.pt", _use_new_zipfile_serialization=zipped)
    assert load_tensors(tmp_path / "optimizer.pt") == written


def test_a_file_with_an_object_of_a_class_is_refused_by_the_classs_name_and_never_run(tmp_path):
    torch.save({"args": Fraction(1, 2)}, tmp_path / "optimizer.pt")
    with pytest.raises(UnsafeFileError, match=r"optimizer\.pt holds an object of fractions\.Fraction; no code"):
        load_tensors(tmp_path / "optimizer.pt")


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "optimizer.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnsafeFileError, match=r"optimizer\.pt"):
        load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(UnsafeFileError, match=r"optimizer\.pt cannot be read"):
        load_tensors(path)


@pytest.mark.parametrize("zipped", [True, False])
@given(data=st.data())
def test_any_bytes_are_values_or_are_refused_naming_the_file(tmp_path, zipped, data):
    path = tmp_path / "optimizer.pt"
    written = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    torch.save(written, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        load_tensors(path)
    except UnsafeFileError as error:
        assert str(path) in str(error)


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_is_not_run(tmp_path, zipped):
    torch.save({"state": Payload(tmp_path / "escaped")}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFileError, match=r"a\.pt holds an object of"):
        load_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "escaped").exists()
