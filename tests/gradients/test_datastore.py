import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessexp.gradients.codecs import CODECS
from lessexp.gradients.datastore import (
    DatastoreWriter,
    GradientDatastore,
    NoDirectionError,
    main,
    require_directions,
    rows_per_shard_of,
)
from lessexp.gradients.manifest import DatastoreError, Manifest
from lessexp.wholeness import DamageError
from tests.hostile import changed, damaged, files_under, json_values, lying_safetensors


def manifest(n=10, **changes):
    fields = dict(
        example_ids=[f"row-{i}" for i in range(n)],
        checkpoints=[1, 2],
        proj_dim=6,
        dtype="float32",
        rows_per_shard=4,
        provenance={"seed": 3, "projection": {"proj_dim": 6}},
    )
    return Manifest(**(fields | changes))


def features(checkpoint, n=10):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(checkpoint)) * torch.logspace(-6, 3, n)[:, None]


def fill(root, made=None, values=features):
    made = made or manifest()
    writer = DatastoreWriter(root, made)
    for checkpoint in made.checkpoints:
        rows = values(checkpoint, len(made.example_ids))
        for shard in writer.missing_shards(checkpoint):
            held = made.shard_rows(shard)
            writer.write_shard(checkpoint, shard, rows[held.start : held.stop])
    return writer.finish()


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Relative to the row's largest: 24, 11 and 8 bits of mantissa, and half a step of the integer formats.
@pytest.mark.parametrize(
    ("dtype", "relative"),
    [("float32", 1e-6), ("float16", 2**-11), ("bfloat16", 2**-8), ("int8", 0.5 / 127), ("int4", 0.5 / 7)],
)
def test_rows_come_back_whatever_their_size(tmp_path, dtype, relative):
    store = fill(tmp_path, manifest(dtype=dtype))
    for checkpoint in store.checkpoints:
        wanted = features(checkpoint)
        error = (store.rows(checkpoint, 0, 10) - wanted).abs().amax(1) / wanted.abs().amax(1)
        assert error.max() <= relative * 1.001


def test_any_range_of_rows_can_be_read(tmp_path):
    store = fill(tmp_path)
    whole = store.rows(2, 0, 10)
    for start in range(11):
        for stop in range(start, 11):
            assert torch.equal(store.rows(2, start, stop), whole[start:stop])
    held = [list(positions) for positions, _, _ in store.cosine_blocks(2, torch.ones(6, 1))]
    assert held == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4", "int1"])
def test_cosines_are_those_of_the_stored_rows(tmp_path, dtype):
    store = fill(tmp_path, manifest(dtype=dtype))
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))
    rows = store.rows(1, 0, 10).double()
    expected = rows @ vectors.double() / rows.norm(dim=1, keepdim=True)
    blocks = list(store.cosine_blocks(1, vectors))
    found, lengths = (torch.cat([block[part] for block in blocks]) for part in (1, 2))
    torch.testing.assert_close(lengths.double(), rows.norm(dim=1), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)  # float32


def test_one_bit_keeps_the_signs(tmp_path):
    store = fill(tmp_path, manifest(dtype="int1"))
    assert torch.equal(store.rows(1, 0, 10).sign(), features(1).sign())


def test_a_flipped_byte_is_found_and_the_shard_named(tmp_path, capsys):
    fill(tmp_path)
    assert main(["verify", str(tmp_path)]) == 0
    assert "6 shards are as they were written" in capsys.readouterr().out
    path = tmp_path / "checkpoint=2" / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (tmp_path / "checkpoint=1" / "shard-00002.safetensors").unlink()
    message = main(["verify", str(tmp_path)])
    assert "checkpoint=1/shard-00002.safetensors, checkpoint=2/shard-00001.safetensors" in message


def test_verifying_what_is_no_store_says_so(tmp_path):
    assert "no finished gradient store" in main(["verify", str(tmp_path)])


def test_an_unknown_dtype_lists_the_known_ones(tmp_path):
    with pytest.raises(DatastoreError, match=r"datastore\.dtype must be one of float32, bfloat16, float16, int8"):
        DatastoreWriter(tmp_path, manifest(dtype="int3"))


def test_a_range_outside_the_store_is_refused(tmp_path):
    with pytest.raises(IndexError, match="rows 8:11 are not within the 10 rows"):
        fill(tmp_path).rows(1, 8, 11)


def test_a_stopped_store_goes_on_and_ends_bit_for_bit_as_one_in_one_go(tmp_path):
    made = manifest()
    writer = DatastoreWriter(tmp_path / "stopped", made)
    writer.write_shard(1, 0, features(1)[:4])
    # Under our own name, and under the one that safetensors writes to before it renames.
    for name in ("shard-00001.partial", ".tmpUnEFpk"):
        (tmp_path / "stopped" / "checkpoint=1" / name).write_bytes(b"half")
    resumed = DatastoreWriter(tmp_path / "stopped", made)
    assert list(resumed.missing_shards(1)) == [1, 2]
    fill(tmp_path / "stopped")
    fill(tmp_path / "whole")
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_an_unfinished_store_cannot_be_opened_or_finished(tmp_path):
    writer = DatastoreWriter(tmp_path, manifest())
    with pytest.raises(DatastoreError, match="no finished gradient store"):
        GradientDatastore.open(tmp_path)
    with pytest.raises(DatastoreError, match=r"checkpoint 1 lacks shards \[0, 1, 2\]"):
        writer.finish()


def test_another_setting_is_refused_by_name_with_both_values(tmp_path):
    fill(tmp_path)
    with pytest.raises(DatastoreError, match="'seed' is 3 in the store, 4 was asked for"):
        GradientDatastore.open(tmp_path, provenance={"seed": 4, "projection": {"proj_dim": 6}})
    assert GradientDatastore.open(tmp_path, provenance={"seed": 3, "projection": {"proj_dim": 6}}).ids


def test_a_half_built_store_of_other_settings_is_refused(tmp_path):
    DatastoreWriter(tmp_path, manifest())
    with pytest.raises(DatastoreError, match='\'dtype\' is "float32" in the store, "float16" was asked for'):
        DatastoreWriter(tmp_path, manifest(dtype="float16"))


def test_a_later_format_is_refused(tmp_path):
    fill(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(DatastoreError, match="format_version is 99"):
        GradientDatastore.open(tmp_path)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_rows_without_a_direction_are_listed_and_read_as_nan(tmp_path, bad):
    def values(checkpoint, n):
        rows = features(checkpoint, n)
        if checkpoint == 2:
            rows[5] = 0.0
            rows[5, 1] = bad
        return rows

    store = fill(tmp_path, values=values)
    kind = "zero" if bad == 0 else "not finite"
    assert store.excluded == {"row-5": f"its gradient is {kind} at checkpoint 2"}
    assert store.rows(2, 5, 6).isnan().all()
    assert store.rows(2, 0, 5).isfinite().all()
    with pytest.raises(NoDirectionError, match="target example 'row-5'"):
        require_directions(store)


def test_a_shard_of_the_wrong_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shard 2 holds 2 rows, got 4"):
        DatastoreWriter(tmp_path, manifest()).write_shard(1, 2, features(1)[:4])


def read_all(root):
    """Everything that a store is ever asked for."""
    store = GradientDatastore.open(root, provenance={"seed": 3, "projection": {"proj_dim": 6}})
    for checkpoint in store.checkpoints:
        assert store.rows(checkpoint, 0, len(store.ids)).shape == (len(store.ids), store.manifest.proj_dim)
        store.encoded(checkpoint, range(len(store.ids)))
        for _ in store.cosine_blocks(checkpoint, torch.ones(store.manifest.proj_dim, 1)):
            pass
    return store


def read_or_refuse(root, path, content):
    """Put ``content`` in the place of a store's file; it is read or refused by name, and nothing is written."""
    kept, before = path.read_bytes(), files_under(root)
    path.write_bytes(content)
    try:
        store = read_all(root)
    except DatastoreError as error:
        assert str(error).startswith(str(root))
        assert len(str(error)) < 800
        return False
    else:
        if content != kept and path.suffix == ".safetensors":
            assert store.damaged_files() == [str(path.relative_to(root))]
        return True
    finally:
        path.write_bytes(kept)
        assert files_under(root) == before


@pytest.mark.parametrize("positions", [[5, 0, 9, 3], [2, 8, 1], [7, 7]])
def test_rows_to_copy_come_in_the_order_they_are_asked_for(tmp_path, positions):
    store = fill(tmp_path)
    encoded = store.encoded(2, positions)
    found = CODECS["float32"].decode(encoded.rows, 6) * encoded.scale[:, None]
    assert torch.equal(found, store.rows(2, 0, 10)[positions])


@pytest.mark.parametrize("dtype", sorted(CODECS))
def test_no_rows_are_copied_as_no_rows_of_the_stored_kind(tmp_path, dtype):
    fill(tmp_path, manifest(dtype=dtype))
    store = GradientDatastore.open(tmp_path)
    none, one = store.encoded(1, []), store.encoded(1, [0])
    for part in ("rows", "scale", "norm"):
        assert getattr(none, part).shape == (0, *getattr(one, part).shape[1:])
        assert getattr(none, part).dtype == getattr(one, part).dtype


@pytest.mark.parametrize("dtype", ["float16", "int4", "int1"])
@given(data=st.data())
def test_any_bytes_in_the_place_of_a_shard_are_read_or_refused_by_its_name(tmp_path, dtype, data):
    if not (tmp_path / "manifest.json").exists():
        fill(tmp_path, manifest(dtype=dtype))
    path = tmp_path / "checkpoint=2" / "shard-00001.safetensors"
    read_or_refuse(
        tmp_path, path, data.draw(st.one_of(damaged(path.read_bytes()), lying_safetensors(["rows", "scale", "norm"])))
    )


@given(data=st.data())
def test_any_json_in_the_place_of_the_manifest_is_read_or_refused(tmp_path, data):
    path = tmp_path / "manifest.json"
    if not path.exists():
        fill(tmp_path)
    record = json.loads(path.read_text())
    texts = st.one_of(changed(record), json_values).map(json.dumps).map(str.encode)
    read_or_refuse(tmp_path, path, data.draw(st.one_of(texts, damaged(path.read_bytes()))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rows_per_shard", 0),
        ("rows_per_shard", True),
        ("proj_dim", 2**63),
        ("proj_dim", 7),
        ("checkpoints", [1, 1]),
        ("checkpoints", ["../1"]),
        ("checkpoints", [3]),
        ("dtype", "float64"),
        ("example_ids", ["a"]),
        ("example_ids", "abcdefghij"),
        ("subtasks", ["a"]),
        ("provenance", None),
        ("sha256", []),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, field, value):
    fill(tmp_path)
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert not read_or_refuse(tmp_path, tmp_path / "manifest.json", json.dumps(record | {field: value}).encode())
    missing = {key: kept for key, kept in record.items() if key != field}
    assert not read_or_refuse(tmp_path, tmp_path / "manifest.json", json.dumps(missing).encode())


def test_a_missing_shard_is_refused_by_its_name(tmp_path):
    store = fill(tmp_path)
    (tmp_path / "checkpoint=1" / "shard-00002.safetensors").unlink()
    with pytest.raises(DatastoreError, match=r"shard-00002\.safetensors: no such file; '.* repair .*' deletes"):
        store.rows(1, 8, 9)


def test_verifying_opens_no_file_that_a_manifest_names_outside_the_store(tmp_path, capsys):
    fill(tmp_path / "store")
    (tmp_path / "outside").write_text("x")
    path = tmp_path / "store" / "manifest.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"sha256": record["sha256"] | {"../outside": "0"}}))
    assert main(["verify", str(tmp_path / "store")]) == 0
    assert "6 shards are as they were written" in capsys.readouterr().out


def test_a_damaged_plan_of_a_half_built_store_is_refused_by_name(tmp_path):
    DatastoreWriter(tmp_path, manifest())
    (tmp_path / "manifest.partial.json").write_text("{")
    with pytest.raises(DatastoreError, match=r"manifest\.partial\.json: not valid JSON .* delete"):
        DatastoreWriter(tmp_path, manifest())


def test_a_store_that_was_begun_says_how_many_rows_its_shards_have(tmp_path):
    folders = [tmp_path / name for name in ("new", "begun", "finished")]
    assert rows_per_shard_of(folders, otherwise=9) == 9
    fill(folders[2], manifest(rows_per_shard=5))
    assert rows_per_shard_of(folders, otherwise=9) == 5
    DatastoreWriter(folders[1], manifest())
    assert rows_per_shard_of(folders, otherwise=9) == 4
    (folders[1] / "manifest.partial.json").write_text("{")
    assert rows_per_shard_of(folders, otherwise=9) == 5, "the writer names what is damaged"


def test_a_store_of_other_settings_that_was_finished_before_is_refused_with_advice(tmp_path):
    fill(tmp_path)
    with pytest.raises(DatastoreError, match=r"was asked for; delete .* to begin again"):
        DatastoreWriter(tmp_path, manifest(checkpoint_hashes={"1": "a", "2": "b"}))


def test_a_shard_that_was_damaged_is_never_vouched_for(tmp_path):
    writer = DatastoreWriter(tmp_path, manifest(checkpoints=[1]))
    for shard in range(3):
        writer.write_shard(1, shard, features(1)[4 * shard : 4 * shard + 4])
    path = tmp_path / "checkpoint=1" / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamageError, match=r"damaged or missing: checkpoint=1/shard-00001\.safetensors; '.* repair"):
        writer.finish()
    assert not (tmp_path / "manifest.json").exists()
