from fractions import Fraction

import pytest
import torch

from lessexp.training.safe_load import UnsafeFileError, load_tensors


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
