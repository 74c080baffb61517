import errno
import os

import pytest
from omegaconf import OmegaConf

from lessexp.errors import MissingFileError
from lessexp.stages.storage import StorageError, refusals_explained


def refused(tmp_path, error):
    """What becomes of an error in a run with these folders, the run's within that of the artifacts."""
    cfg = OmegaConf.create({"artifacts_dir": str(tmp_path / "artifacts"), "cache_dir": str(tmp_path / "cache")})
    with refusals_explained(cfg, tmp_path / "artifacts" / "run"):
        raise error


@pytest.mark.parametrize(
    ("inside", "key"),
    [("artifacts/3f2a/shard", "artifacts_dir"), ("cache/pools", "cache_dir"), ("artifacts/run/a", "hydra.run.dir")],
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_the_sentence_names_file_reason_and_the_key_of_the_innermost_folder(tmp_path, inside, key, code):
    path = tmp_path / inside
    with pytest.raises(StorageError) as refusal:
        refused(tmp_path, OSError(code, os.strerror(code), str(path)))
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path}: {os.strerror(code)}; ") and "\n" not in sentence
    assert f"set {key}" in sentence and "run again" in sentence
    assert ("make room" in sentence) == (code in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(("inside", "key"), [("artifacts/warmup", "artifacts_dir"), ("cache/pools/a", "cache_dir")])
def test_a_file_in_place_of_a_folder_is_named_with_its_key(tmp_path, inside, key):
    (tmp_path / inside.partition("/")[0]).write_text("")
    with pytest.raises(OSError) as met:
        (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    sentence = f"{inside}: Not a directory; a file stands where a folder belongs; set {key} to a folder, and run again"
    with pytest.raises(StorageError, match=sentence):
        refused(tmp_path, met.value)


def test_without_a_file_all_keys_are_named(tmp_path):
    with pytest.raises(StorageError, match=r"a file of the run: No space left .* set artifacts_dir, cache_dir, hydra"):
        refused(tmp_path, OSError(errno.ENOSPC, "full"))


def test_a_file_elsewhere_has_no_key(tmp_path):
    with pytest.raises(StorageError, match=r"pool\.jsonl: Permission denied; get permission for it"):
        refused(tmp_path, PermissionError(errno.EACCES, "no", str(tmp_path / "pool.jsonl")))


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none", "a"),
        NotADirectoryError(errno.ENOTDIR, "no folder", "/elsewhere/a"),
        MissingFileError("a: no such file"),
        ValueError("other"),
    ],
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as passed:
        refused(tmp_path, error)
    assert passed.value is error
