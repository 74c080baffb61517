import json
import shutil

import pytest

from lessexp.errors import DamagedFileError
from lessexp.models.depth import refuse_more_layers_than_tensors

ENDLESS = 10**9


@pytest.fixture
def changed(model_folder, tmp_path):
    """The tiny model with other settings; a dictionary is put into the one of its name."""
    folder = shutil.copytree(model_folder, tmp_path / "model")

    def change(**entries):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | entries))
        return folder

    return change


@pytest.mark.parametrize(
    "entries",
    [
        {"num_hidden_layers": ENDLESS},
        {"num_hidden_layers": 1e9},
        {"n_layer": ENDLESS},
        {"text_config": {"num_layers": ENDLESS}},
        {"parts": [{"decoder_layers": 22}]},
    ],
)
def test_more_layers_than_tensors_are_refused_by_file_and_key(changed, entries):
    with pytest.raises(DamagedFileError, match=r"config\.json: '\w+layers?' is .*, but .* hold 21 tensors; copy"):
        refuse_more_layers_than_tensors(changed(**entries))


def test_tensors_are_counted_in_the_index_of_weights_in_several_files(changed):
    folder = changed(num_hidden_layers=3)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    for n_tensors in (3, 2):
        names = {f"tensor_{number}": "model-00001-of-00001.safetensors" for number in range(n_tensors)}
        index.write_text(json.dumps({"weight_map": names}))
        if n_tensors == 3:
            refuse_more_layers_than_tensors(folder)
    with pytest.raises(DamagedFileError, match=r"'num_hidden_layers' is 3, .* hold 2 tensors"):
        refuse_more_layers_than_tensors(folder)


def test_what_counts_no_layers_may_be_large(changed):
    refuse_more_layers_than_tensors(
        changed(max_position_embeddings=ENDLESS, layers_block_type=["a"] * 30, max_window_layers=28)
    )
