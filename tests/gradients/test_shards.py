import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lessexp.gradients.codecs import CODECS, encode
from lessexp.gradients.manifest import DatastoreError, Manifest
from lessexp.gradients.shards import STORED, open_shard, shard_path


def manifest(dtype, proj_dim=13):
    return Manifest(["a", "b", "c"], [1], proj_dim, dtype, 2, {})


def write(root, dtype, **changes):
    encoded = vars(encode(torch.ones(2, 13), dtype)) | changes
    path = shard_path(root, 1, 0)
    path.parent.mkdir(exist_ok=True)
    save_file(encoded, path)
    return path


@pytest.mark.parametrize("dtype", CODECS)
def test_every_codec_stores_the_types_and_widths_that_are_expected(tmp_path, dtype):
    path = write(tmp_path, dtype)
    kind, per_value = STORED[dtype]
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice("rows")
        assert (rows.get_dtype(), rows.get_shape()) == (kind, [2, math.ceil(13 / per_value)])
    with open_shard(tmp_path, manifest(dtype), 1, 0) as file:
        assert len(file.get_tensor("scale")) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": torch.ones(3)},
        {"scale": torch.ones(2, dtype=torch.float64)},
        {"rows": torch.ones(2, 12)},
        {"norm": torch.ones(2, 1)},
        {"more": torch.ones(1)},
    ],
)
def test_a_shard_of_another_layout_is_refused_with_both(tmp_path, changes):
    path = write(tmp_path, "float32", **changes)
    with (
        pytest.raises(
            DatastoreError, match=r"holds .* the manifest says norm F32\[2\]; rows F32\[2, 13\]; scale"
        ) as refused,
        open_shard(tmp_path, manifest("float32"), 1, 0),
    ):
        pass
    assert str(refused.value).startswith(str(path))


def test_the_last_shard_may_hold_fewer_rows_but_no_other_may(tmp_path):
    write(tmp_path, "float32").rename(shard_path(tmp_path, 1, 1))
    with pytest.raises(DatastoreError, match="shard-00001"), open_shard(tmp_path, manifest("float32"), 1, 1):
        pass
