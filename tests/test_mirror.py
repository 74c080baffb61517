import json
import shutil
import time
import urllib.request
import uuid
from dataclasses import replace

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from lessexp.artifacts import build_once
from lessexp.gradients.datastore import DatastoreWriter
from lessexp.mirror import Mirror, MirrorError, local_place
from lessexp.pieces import seal_folder
from lessexp.stages.shelf import Shelf
from tests.faults.conftest import place, undisturbed  # noqa: F401  (fixtures)
from tests.faults.program import SELECTION, selection
from tests.stages.conftest import SHRUNK
from tests.stages.test_shelf import Note, runtime_of
from tests.test_run import places, run_py  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def server():
    """An S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """The address of a new bucket; what ``fsspec`` needs to find it is in the environment."""
    credentials = {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in (credentials | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    address = f"s3://{uuid.uuid4()}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(address)
    return address


def there(url):
    """Names of the files under an address. They are not read: whoever writes there may remove one meanwhile."""
    store, root = fsspec.core.url_to_fs(url)
    store.invalidate_cache()
    return {path.removeprefix(f"{root}/") for path in store.find(root)}


def read_there(url, name):
    store, root = fsspec.core.url_to_fs(url)
    return store.cat_file(f"{root}/{name}")


def build(mirror, builder, said=None):
    folder = mirror.local / "warmup" / "key"
    announce = (lambda text: None) if said is None else said.append
    with mirror.kept([folder], announce):
        return build_once(folder, {"seed": 0}, builder, announce=announce)


def whole(folder):
    (folder / "piece").mkdir(exist_ok=True)
    (folder / "piece" / "weights").write_bytes(b"abc")
    return {"flops": 1}


def test_what_one_machine_builds_another_takes(bucket, tmp_path):
    said = []
    first = build(Mirror(bucket, tmp_path / "one"), whole)
    assert not first.reused
    assert there(bucket) == {f"warmup/key/{name}" for name in ("piece/weights", "key.json", "COMPLETE", "FILES.json")}
    second = build(Mirror(bucket, tmp_path / "two"), lambda folder: 1 / 0, said)
    assert second.reused and second.record == {"flops": 1}
    assert (second.folder / "piece" / "weights").read_bytes() == b"abc"
    assert said[0] == f"fetching 3 files of {bucket}/warmup/key/"


def test_another_machine_goes_on_with_what_was_whole(bucket, tmp_path):
    def stopped(folder):
        whole(folder)
        (folder / "other.partial").mkdir()
        (folder / "other.partial" / "weights").write_bytes(b"half")
        raise KeyboardInterrupt

    def goes_on(folder):
        assert sorted(path.name for path in folder.iterdir()) == ["key.json", "piece", "spent.json"]
        return {"flops": 2}

    with pytest.raises(KeyboardInterrupt):
        build(Mirror(bucket, tmp_path / "one"), stopped)
    assert not Mirror(bucket, tmp_path / "one").holds(tmp_path / "one" / "warmup" / "key")
    assert build(Mirror(bucket, tmp_path / "two"), goes_on).record == {"flops": 2}
    assert Mirror(bucket, tmp_path / "one").holds(tmp_path / "one" / "warmup" / "key")


def test_files_are_sent_while_others_are_still_built(bucket, tmp_path):
    def watched(folder):
        whole(folder)
        give_up = time.monotonic() + 60
        while "warmup/key/piece/weights" not in there(bucket):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        listed = {}
        while "piece/weights" not in listed:
            listed = json.loads(read_there(bucket, "warmup/key/FILES.json"))
        assert listed == {"piece/weights": 3, "key.json": (folder / "key.json").stat().st_size}
        shutil.rmtree(folder / "piece")
        return {"flops": 1}

    build(Mirror(bucket, tmp_path / "one", seconds=0.05), watched)
    assert "warmup/key/piece/weights" not in there(bucket), "what is removed here is removed there"


def test_a_file_that_was_cut_off_on_its_way_is_fetched_again(bucket, tmp_path):
    build(Mirror(bucket, tmp_path / "one"), whole)
    half = tmp_path / "two" / "warmup" / "key" / "piece" / "weights"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"a")
    build(Mirror(bucket, tmp_path / "two"), whole)
    assert half.read_bytes() == b"abc"


def test_a_file_of_the_same_size_but_another_content_is_fetched_again(bucket, tmp_path):
    build(Mirror(bucket, tmp_path / "one"), whole)
    other = tmp_path / "two" / "warmup" / "key" / "piece" / "weights"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"xyz")
    build(Mirror(bucket, tmp_path / "two"), whole)
    assert other.read_bytes() == b"abc"


def test_a_file_that_is_damaged_in_the_store_is_named_and_nothing_here_passes_as_finished(bucket, tmp_path):
    build(Mirror(bucket, tmp_path / "one"), whole)
    store, path = fsspec.core.url_to_fs(f"{bucket}/warmup/key/piece/weights")
    store.pipe_file(path, b"xyz")
    with pytest.raises(MirrorError, match=rf"^{bucket}/warmup/key/: damaged there; delete it"):
        build(Mirror(bucket, tmp_path / "two"), whole)
    assert not (tmp_path / "two" / "warmup" / "key" / "COMPLETE").exists()


def test_what_stopped_a_build_is_told_even_if_the_store_then_refuses(tmp_path, monkeypatch):
    mirror = Mirror(f"memory://{uuid.uuid4()}", tmp_path / "one")

    def refuse(*args):
        raise MirrorError("refused")

    def stopped(folder):
        whole(folder)
        monkeypatch.setattr(Mirror, "_put", refuse)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(mirror, stopped)


def test_an_artifact_that_was_built_here_alone_is_sent(bucket, tmp_path):
    note, runtime = Note(0, whole), runtime_of(tmp_path / "one")
    runtime.get(note)
    shelf = Shelf(tmp_path / "one", Mirror(bucket, tmp_path / "one"))
    assert replace(runtime, shelf=shelf).get(note).reused
    other = Shelf(tmp_path / "two", Mirror(bucket, tmp_path / "two"))
    assert not other.lacks(note) and other.lacks(Note(1, whole))


@pytest.fixture
def refuse(server):
    """Lets the server refuse everything from now on, and accept everything after the test."""

    def reset_auth(n_free):
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(
            urllib.request.Request(f"{server}/moto-api/reset-auth", str(n_free).encode(), headers, method="POST")
        )

    yield lambda: reset_auth(0)
    reset_auth("inf")


def test_a_store_that_refuses_is_named_before_anything_is_computed(bucket, refuse, tmp_path):
    refuse()
    with pytest.raises(MirrorError, match=rf"^{bucket}/warmup/key/FILES.json: refused \(.+\); check the credentials"):
        build(Mirror(bucket, tmp_path / "one"), lambda folder: pytest.fail("it was built"))


def test_a_store_that_begins_to_refuse_loses_nothing_that_was_built(bucket, refuse, server, tmp_path):
    def refused_meanwhile(folder):
        refuse()
        return whole(folder)

    mirror = Mirror(bucket, tmp_path / "one")
    with pytest.raises(MirrorError, match=rf"^{bucket}/warmup/key/.+: refused"):
        build(mirror, refused_meanwhile)
    assert (tmp_path / "one" / "warmup" / "key" / "COMPLETE").is_file()


def test_a_bucket_that_does_not_exist_is_named(bucket, tmp_path):
    with pytest.raises(MirrorError, match=r"^s3://not-there/warmup/key/FILES\.json: refused"):
        build(Mirror("s3://not-there", tmp_path / "one"), lambda folder: pytest.fail("it was built"))


@pytest.mark.parametrize(
    "content",
    [
        '{"../../x": 3}',
        '{"/x": 3}',
        '{"a": "b"}',
        "[1]",
        "no json",
        '{"a\\u0000": 1}',
        '{"a": 1, "a/b": 1}',
        '{"a/b": 1, "a//b": 1}',
    ],
)
def test_a_list_that_leads_elsewhere_or_is_none_is_refused(tmp_path, content):
    url = f"memory://{uuid.uuid4()}"
    store, path = fsspec.core.url_to_fs(f"{url}/warmup/key/FILES.json")
    store.pipe_file(path, content.encode())
    with pytest.raises(MirrorError, match=r"FILES\.json: damaged; delete it"):
        build(Mirror(url, tmp_path / "one"), whole)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], ["key.fetch.lock"])


def test_a_scheme_whose_library_is_missing_says_what_to_install(tmp_path, monkeypatch):
    def missing(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MirrorError, match=r"Install s3fs to access S3; pip install 'lessexp\[s3\]' or"):
        Mirror("s3://somewhere", tmp_path).holds(tmp_path / "warmup" / "key")


def test_a_run_on_another_machine_takes_all_that_a_first_one_left_in_the_store(bucket, places, tmp_path):  # noqa: F811
    for name in ("one", "two"):
        cache = {"LESSEXP_CACHE": str(tmp_path / f"cache-{name}")}
        done = run_py(tmp_path / name, *SHRUNK, *places, f"artifacts_dir={bucket}/all", **cache)
        assert done.returncode == 0, done.stderr
    said = done.stdout.replace("\n", " ")
    for kind in ("warmup", "pool_gradients", "target_gradients", "tuned_adapter", "base_answers"):
        assert f"{kind}: fetching " in said and f"{kind}: reusing " in said
    for file in ("scores.parquet", "selected.jsonl", "adapter/adapter_model.safetensors", "predictions.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_machine_that_is_lost_leaves_what_it_sent_and_another_ends_the_same(bucket, place, undisturbed):  # noqa: F811
    def send_often_and_write_slowly():
        kept, write = Mirror.kept, DatastoreWriter.write_encoded

        def write_slowly(*arguments):
            write(*arguments)
            time.sleep(0.5)

        Mirror.kept = lambda mirror, *arguments: kept(replace(mirror, seconds=0.05), *arguments)
        DatastoreWriter.write_encoded = write_slowly

    lost = place.start(SELECTION, artifacts=bucket, before=send_often_and_write_slowly)
    while not any("shard-00001" in name for name in there(bucket)):
        assert not lost.has_ended(), lost.printed
        time.sleep(0.05)
    lost.kill()
    assert not any(name.startswith("pool_gradients/") and "COMPLETE" in name for name in there(bucket))
    elsewhere = {"run_folder": place.folder / "elsewhere", "artifacts": bucket}
    other = place.run(SELECTION, f"cache_dir={place.folder / 'other cache'}", **elsewhere)
    assert other.exit_code == 0, other.printed
    assert "pool_gradients: fetching" in other.printed
    assert selection(place.folder / "elsewhere") == selection(undisturbed.run_folder)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("artifacts", "artifacts"),
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a", "/a"),
        ("file:/a", "/a"),
        ("local:///a", "/a"),
        ("s3://bucket/a", None),
        ("memory://a", None),
        ("/a/b:c", "/a/b:c"),
        ("/a/b%20c", "/a/b%20c"),
    ],
)
def test_the_address_of_a_file_is_a_folder_of_this_machine(address, path):
    assert local_place(address) == path


@pytest.mark.parametrize("address", ["file:rel", "file://rel/x", "file://~/x", "file://", "local://x"])
def test_the_address_of_a_file_on_another_machine_or_without_a_whole_path_is_refused(address):
    with pytest.raises(MirrorError, match=f"artifacts_dir={address}: give the whole path"):
        local_place(address)


def test_a_piece_that_is_damaged_in_the_store_is_built_anew(tmp_path):
    def epoch(folder):
        (folder / "epoch=1").mkdir()
        (folder / "epoch=1" / "weights").write_bytes(b"abc")
        seal_folder(folder / "epoch=1", "epoch=1")
        raise KeyboardInterrupt

    url, said = f"memory://{uuid.uuid4()}", []
    with pytest.raises(KeyboardInterrupt):
        build(Mirror(url, tmp_path / "one"), epoch)
    store, path = fsspec.core.url_to_fs(f"{url}/warmup/key/epoch=1/weights")
    store.pipe_file(path, b"xyz")
    again = build(Mirror(url, tmp_path / "two"), lambda folder: {"there": (folder / "epoch=1").exists()}, said)
    assert again.record == {"there": False}
    assert f"{url}/warmup/key/epoch=1: damaged there, so it is built anew" in said


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    url = f"memory://{uuid.uuid4()}"
    build(Mirror(url, tmp_path / "one"), whole)
    (tmp_path / "two" / "warmup" / "key" / "piece" / "weights").mkdir(parents=True)
    with pytest.raises(MirrorError, match=r"piece/weights: cannot be written \(Is a directory\); delete"):
        build(Mirror(url, tmp_path / "two"), whole)
