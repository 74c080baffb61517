from collections.abc import Callable
from pathlib import Path

import pytest

from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import attach_lora
from lessexp.training.fit import fit
from lessexp.training.module import TrainingSettings
from lessexp.training.trainer import Engine
from tests.conftest import LORA

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=4,
    learning_rate=5e-3,
    schedule="linear",
    warmup_ratio=0.1,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    max_grad_norm=1.0,
)


@pytest.fixture
def fresh_model(model_folder: Path) -> Callable:
    from dataclasses import replace

    def make(dropout: float = 0.0):
        model = load_causal_lm(model_folder, dtype="float32", device="cpu")
        return attach_lora(model, replace(LORA, dropout=dropout), seed=0)

    return make


@pytest.fixture
def train(tokenized, tokenizer, tmp_path) -> Callable:
    """Train on the twelve rows with all that a test does not care about filled in."""

    def run(model, settings=SETTINGS, **changes):
        arguments = dict(
            micro_batch_size=2,
            pad_token_id=tokenizer.pad_token_id,
            seed=7,
            log_prefix="warmup",
            engine=Engine("cpu"),
            loggers=[],
            log_folder=tmp_path,
        )
        fit(model, tokenized, settings, **(arguments | changes))
        return model

    return run
