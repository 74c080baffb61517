"""LESS-T: a model of another family, with another tokenizer, selects for the one that is trained."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import Qwen2Config, Qwen2ForCausalLM

from lessexp.data.rows import read_rows
from lessexp.gradients.datastore import GradientDatastore
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer
from lessexp.models.lora import lora_parameters
from lessexp.stages import finetune, gradients, select, warmup
from lessexp.stages.configuration import ExperimentError
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from tests.conftest import build_tokenizer


@pytest.fixture
def qwen_folder(tmp_path):
    """A tiny Qwen2 of another width, whose tokenizer has a smaller vocabulary."""
    tokenizer = build_tokenizer(vocab_size=270)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
    tokenizer.save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


def test_another_family_with_another_tokenizer_selects_by_its_own_reading(make_experiment, model_folder, qwen_folder):
    experiment = make_experiment("selector=less_t", "selection_model=hf", f"selection_model.path={qwen_folder}")
    for stage in (warmup, gradients, select, finetune):
        stage.run(experiment)

    assert len(load_tokenizer(qwen_folder)) < len(load_tokenizer(model_folder))
    for side, rows in (("pool", experiment.pool), ("target", experiment.target)):
        store = GradientDatastore.open(experiment.cfg.paths[f"{side}_gradients"])
        read = {
            name: {row.example_id: row.content_hash for row in experiment.tokenize(rows, model)[0]}
            for name, model in {"selects": experiment.selection_model, "is trained": experiment.model}.items()
        }
        hashes = dict(zip(store.ids, store.manifest.row_hashes, strict=True))
        assert hashes == read["selects"]
        assert not set(hashes.values()) & set(read["is trained"].values())

    adapter = read_checkpoint(checkpoints_in(Path(experiment.cfg.paths.warmup))[0]).parameters
    assert {block.shape[1] for name, block in adapter.items() if "q_proj" in name and "lora_A" in name} == {24}
    assert len(read_rows([experiment.run_folder / "selected.jsonl"])) == 6
    base = load_causal_lm(model_folder, dtype="float32", device="cpu")
    tuned = PeftModel.from_pretrained(base, experiment.run_folder / "adapter")
    assert all(parameter.abs().max() > 0 for parameter in lora_parameters(tuned).values())


def test_the_model_that_is_trained_cannot_be_the_other_one(make_experiment, model_folder):
    message = r"selector=less_t needs another model to select .* hf; set selection_model=\.\.\."
    with pytest.raises(ExperimentError, match=message):
        make_experiment("selector=less_t")
    with pytest.raises(ExperimentError, match=message):
        make_experiment("selector=less_t", "selection_model=hf", f"selection_model.path={model_folder}")
