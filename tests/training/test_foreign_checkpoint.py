import json
import shutil
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lessexp.errors import UserError
from lessexp.training.foreign_checkpoint import (
    ForeignCheckpointError,
    LightningFile,
    TrainerFolder,
    config_file_of,
    content_hash,
    find_checkpoints,
)
from lessexp.training.safe_load import UnsafeFileError
from tests.hostile import changed, json_values


@pytest.fixture
def run(trainer_run, tmp_path):
    """A copy of the Trainer's folder, to be changed."""
    return shutil.copytree(trainer_run, tmp_path / "trainer")


def test_the_trainers_folders_are_found_and_its_other_files_never_opened(run):
    for never in ("training_args.bin", "scheduler.pt", "rng_state.pth"):
        (run / "checkpoint-3" / never).write_bytes(b"not to be opened")
    (run / "runs").mkdir()
    first, second = find_checkpoints(run)
    assert (first.path.name, second.path.name) == ("checkpoint-3", "checkpoint-6")
    names = {file.name for file in first.files}
    assert names == {"adapter_model.safetensors", "optimizer.pt", "trainer_state.json"}
    assert first.progress().step == 3
    assert list(first.progress().logged_rates) == [1, 2, 3]
    assert first.adapter().keys() == load_file(first.path / "adapter_model.safetensors").keys()
    assert [found.path for found in find_checkpoints(run / "checkpoint-6")] == [second.path]


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model_fsdp.bin"])
def test_adapters_that_torch_saved_are_read_under_their_public_names(run, name):
    folder = run / "checkpoint-3"
    expected = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    spelled = {key.replace(".lora_A.", ".lora_A.default."): tensor for key, tensor in expected.items()}
    torch.save(spelled, folder / name)
    adapter = TrainerFolder(folder).adapter()
    assert adapter.keys() == expected.keys()
    assert all(torch.equal(adapter[key], expected[key]) for key in expected)
    torch.save(spelled | {"base_model.x.lora_A.weight": Fraction(1)}, folder / name)
    with pytest.raises(UnsafeFileError, match=r"holds an object of fractions\.Fraction"):
        TrainerFolder(folder).adapter()


def test_two_adapters_in_one_file_are_refused(run):
    tensors = {f"base_model.q_proj.lora_A.{name}.weight": torch.zeros(2) for name in ("default", "other")}
    (run / "checkpoint-3" / "adapter_model.safetensors").unlink()
    torch.save(tensors, run / "checkpoint-3" / "adapter_model.bin")
    with pytest.raises(ForeignCheckpointError, match=r"two adapters, with base_model\.q_proj\.lora_A\.weight in both"):
        TrainerFolder(run / "checkpoint-3").adapter()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, r"checkpoint-3 holds no optimizer state \(optimizer\.pt, .*save_only_model=False"),
        (lambda folder: (folder / "global_step3").mkdir(), "DeepSpeed wrote its optimizer state in shards"),
        (lambda folder: (folder / "optimizer_0").mkdir(), "FSDP wrote its optimizer state in shards"),
    ],
)
def test_a_checkpoint_without_a_whole_optimizer_state_is_refused(run, prepare, message):
    (run / "checkpoint-3" / "optimizer.pt").unlink()
    prepare(run / "checkpoint-3")
    with pytest.raises(ForeignCheckpointError, match=message):
        find_checkpoints(run)


def test_training_without_an_adapter_is_refused(run):
    (run / "checkpoint-3" / "adapter_model.safetensors").unlink()
    with pytest.raises(ForeignCheckpointError, match=r"checkpoint-3 holds no adapter .* only LoRA training"):
        find_checkpoints(run)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ForeignCheckpointError, match="nowhere is no folder"):
        find_checkpoints(tmp_path / "nowhere")
    with pytest.raises(ForeignCheckpointError, match=r"holds neither folders with optimizer\.pt .* nor \.ckpt files$"):
        find_checkpoints(tmp_path)
    (tmp_path / "epoch=1").mkdir()
    with pytest.raises(ForeignCheckpointError, match="are this program's own: leave warmup=import out"):
        find_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"state_dict": {}, "global_step": 3}, "has no 'optimizer_states'; save .* save_weights_only=False"),
        ({"state_dict": {}, "global_step": 3, "optimizer_states": [{}, {}]}, "the states of 2 optimizers; one is"),
        ([1, 2], "has no 'state_dict'"),
    ],
)
def test_a_lightning_file_without_one_optimizer_is_refused(tmp_path, saved, message):
    torch.save(saved, tmp_path / "last.ckpt")
    [found] = find_checkpoints(tmp_path)
    with pytest.raises(ForeignCheckpointError, match=rf"last\.ckpt {message}|last\.ckpt holds {message}"):
        found.optimizer_state()


def test_the_adapters_configuration_lies_beside_it_or_beside_all(run):
    first = TrainerFolder(run / "checkpoint-3")
    assert config_file_of(first, run) == run / "checkpoint-3" / "adapter_config.json"
    (run / "checkpoint-3" / "adapter_config.json").rename(run / "adapter_config.json")
    assert config_file_of(first, run) == run / "adapter_config.json"
    (run / "adapter_config.json").unlink()
    assert config_file_of(LightningFile(run / "last.ckpt"), run) is None


def test_the_hash_tells_files_that_are_read_from_others(run):
    first = TrainerFolder(run / "checkpoint-3")
    before = content_hash(first)
    (run / "checkpoint-3" / "scheduler.pt").write_bytes(b"other")
    assert content_hash(first) == before
    state = json.loads((run / "checkpoint-3" / "trainer_state.json").read_text())
    (run / "checkpoint-3" / "trainer_state.json").write_text(json.dumps(state | {"global_step": 4}))
    assert content_hash(first) != before


LOG = {"global_step": 3, "log_history": [{"step": 1, "learning_rate": 1e-3}, {"step": 1, "loss": 2.0}]}


@given(
    st.one_of(changed(LOG), json_values, changed(LOG["log_history"][0]).map(lambda one: LOG | {"log_history": [one]}))
)
def test_any_json_in_the_place_of_the_trainers_log_is_read_or_refused_by_name(trainer_run, tmp_path, record):
    folder = tmp_path / "checkpoint-3"
    if not folder.exists():
        shutil.copytree(trainer_run / "checkpoint-3", folder)
    (folder / "trainer_state.json").write_text(json.dumps(record))
    try:
        progress = TrainerFolder(folder).progress()
    except UserError as error:
        assert str(error).startswith(str(folder / "trainer_state.json"))
    else:
        assert isinstance(progress.step, int)


@pytest.mark.parametrize(
    "change", [{"global_step": "3"}, {"optimizer_states": 7}, {"state_dict": [1]}, {"state_dict": {".lora_A.": 1}}]
)
def test_a_lightning_file_with_something_else_in_its_places_is_refused_by_name(tmp_path, change):
    path = tmp_path / "a.ckpt"
    torch.save({"global_step": 3, "optimizer_states": [{}], "state_dict": {}} | change, path)
    found = LightningFile(path)
    with pytest.raises(ForeignCheckpointError, match=r"a\.ckpt"):
        found.progress(), found.optimizer_state(), found.adapter()


@pytest.mark.parametrize(
    "name",
    ["checkpoint-9", "last.ckpt", "checkpoint-3/trainer_state.json", "checkpoint-3/adapter_model.safetensors"],
)
def test_a_link_to_what_does_not_exist_is_named_and_not_passed_over(run, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(run / "gone")
    with pytest.raises(ForeignCheckpointError, match=f"{name}: a link to what does not exist; mend it or delete it"):
        find_checkpoints(run)


def test_other_names_and_links_that_lead_somewhere_count_as_before(run):
    (run / "notes").symlink_to(run / "gone")
    (run / "checkpoint-9.txt").write_text("mine")
    (run / "checkpoint-6").rename(run / "elsewhere")
    (run / "elsewhere").rename(run.parent / "elsewhere")
    (run / "checkpoint-6").symlink_to(run.parent / "elsewhere")
    assert [found.path.name for found in find_checkpoints(run)] == ["checkpoint-3", "checkpoint-6"]


def test_a_lightning_checkpoint_in_shards_is_refused(tmp_path):
    (tmp_path / "a.ckpt").mkdir()
    with pytest.raises(ForeignCheckpointError, match=r"a\.ckpt is a folder; a checkpoint in shards cannot be imported"):
        find_checkpoints(tmp_path)
