import shutil

import pytest
import torch

from lessexp.gradients.datastore import DatastoreWriter
from lessexp.gradients.manifest import Manifest
from lessexp.pieces import damaged_pieces, is_sealed, seal_folder, store_hash
from lessexp.wholeness import DamageError


def begun(root, **changes):
    """A store of two checkpoints with two shards each, of which nothing is missing but the end."""
    fields = dict(
        example_ids=[f"row-{i}" for i in range(6)],
        checkpoints=[1, 2],
        proj_dim=4,
        dtype="float16",
        rows_per_shard=3,
        provenance={"seed": 3},
        row_hashes=[str(i) for i in range(6)],
    )
    writer = DatastoreWriter(root, Manifest(**(fields | changes)))
    for checkpoint in (1, 2):
        for shard in writer.missing_shards(checkpoint):
            generator = torch.Generator().manual_seed(10 * checkpoint + shard)
            writer.write_shard(checkpoint, shard, torch.randn(3, 4, generator=generator))
    return writer


def shard(root, checkpoint, number):
    return root / f"checkpoint={checkpoint}" / f"shard-0000{number}.safetensors"


def test_what_was_written_is_whole_before_and_after_the_store_is_finished(tmp_path):
    writer = begun(tmp_path)
    assert damaged_pieces(tmp_path) == []
    writer.finish()
    assert damaged_pieces(tmp_path) == []


def test_a_flipped_bit_anywhere_in_a_shard_is_found(tmp_path):
    begun(tmp_path)
    path = shard(tmp_path, 2, 1)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert damaged_pieces(tmp_path) == ["checkpoint=2/shard-00001.safetensors"], place
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert damaged_pieces(tmp_path) == ["checkpoint=2/shard-00001.safetensors"]


@pytest.mark.parametrize(("source", "place"), [((1, 0), (1, 1)), ((1, 1), (2, 1))])
def test_a_shard_in_the_place_of_another_is_found(tmp_path, source, place):
    begun(tmp_path)
    shutil.copy(shard(tmp_path, *source), shard(tmp_path, *place))
    assert damaged_pieces(tmp_path) == [f"checkpoint={place[0]}/shard-0000{place[1]}.safetensors"]


@pytest.mark.parametrize("changes", [{"provenance": {"seed": 4}}, {"row_hashes": list("abcdef")}])
def test_a_shard_of_another_store_of_the_same_shape_is_found(tmp_path, changes):
    begun(tmp_path / "one")
    begun(tmp_path / "other", **changes)
    shutil.copy(shard(tmp_path / "other", 1, 0), shard(tmp_path / "one", 1, 0))
    assert damaged_pieces(tmp_path / "one") == ["checkpoint=1/shard-00000.safetensors"]


def test_a_record_that_cannot_be_read_is_damaged_and_the_next_one_tells_of_the_shards(tmp_path):
    begun(tmp_path)
    record = tmp_path / "manifest.partial.json"
    record.write_text("[")
    assert damaged_pieces(tmp_path) == ["manifest.partial.json"]
    record.unlink()
    assert damaged_pieces(tmp_path) == []
    assert list(begun(tmp_path).missing_shards(1)) == [], "they are of this store"
    record.unlink()
    with pytest.raises(DamageError, match=r"damaged or missing: checkpoint=1/shard-00000\.safetensors, "):
        begun(tmp_path, provenance={"seed": 4})


def test_what_is_known_at_the_end_is_no_part_of_a_stores_hash():
    assert store_hash({"seed": 1, "excluded": {"a": "b"}}) == store_hash({"seed": 1}) != store_hash({"seed": 2})


def sealed(folder):
    folder.mkdir(parents=True)
    (folder / "adapter").write_bytes(b"weights")
    (folder / "moments").write_bytes(b"moments")
    seal_folder(folder, folder.name)
    return folder


def cut(folder):
    (folder / "moments").write_bytes(b"mom")


def lose(folder):
    (folder / "moments").unlink()


def add(folder):
    (folder / "more").write_bytes(b"")


def lose_the_seal(folder):
    (folder / "sha256.json").unlink()


@pytest.mark.parametrize("damage", [cut, lose, add, lose_the_seal])
def test_an_epoch_that_is_altered_is_found(tmp_path, damage):
    for above in (tmp_path, tmp_path / "epochs"):
        sealed(above / "epoch=1"), sealed(above / "epoch=2")
    assert damaged_pieces(tmp_path) == []
    damage(tmp_path / "epoch=2"), damage(tmp_path / "epochs" / "epoch=1")
    assert damaged_pieces(tmp_path) == ["epoch=2", "epochs/epoch=1"]


def test_an_epoch_in_the_place_of_another_is_found(tmp_path):
    shutil.copytree(sealed(tmp_path / "epoch=1"), tmp_path / "epoch=2")
    assert is_sealed(tmp_path / "epoch=1") and not is_sealed(tmp_path / "epoch=2")
