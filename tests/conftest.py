"""A tiny Llama and its tokenizer, built in code: no file is fetched, and a test takes milliseconds."""

import json
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from omegaconf import OmegaConf
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lessexp.data.chat_format import ChatFormat, TuluFormat
from lessexp.data.few_shot import Templates
from lessexp.data.rows import Row
from lessexp.data.tokenize import Batch, TokenizedRow, collate, tokenize_rows
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore
from lessexp.gradients.manifest import Manifest
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.stages.configuration import instantiate

os.environ.setdefault("WANDB_MODE", "offline")
# LESSEXP_FUZZ=100000 pytest -m hypothesis: so many inputs for each property, drawn anew each time.
_GENERATED = int(os.environ.get("LESSEXP_FUZZ", "0"))
settings.register_profile(
    "many" if _GENERATED else "few",
    max_examples=_GENERATED or 12,
    derandomize=not _GENERATED,
    deadline=timedelta(seconds=30),  # what takes a user's patience is as bad as a crash; a busy machine is slow, too
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
settings.load_profile("many" if _GENERATED else "few")
torch.set_num_threads(1)  # the tiny model's operations are too small to share

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATE = "2024-07-26"  # told to chat templates that ask for today's
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"))


def prompts(task: str, protocol: str = "paper") -> Templates:
    """Words of a benchmark's prompts, as shipped."""
    return instantiate(OmegaConf.load(Path(__file__).parents[1] / "conf" / "protocol" / f"{protocol}.yaml")[task])


def write_lines(path: Path, *records: dict | str) -> str:
    """A file of JSON lines; a string is written as it is."""
    texts = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_bytes("\n".join(texts).encode())
    return str(path)


def build_tokenizer(vocab_size: int = 320) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the answer to the question is the number of the other words"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=CHAT_TEMPLATE,
    )


def build_model(vocab_size: int, seed: int = 0, width: int = 32) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.2,  # wide enough that different rows get clearly different gradients
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A local Hugging Face model folder: config, safetensors weights, tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    build_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chat_format(tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    return TuluFormat(tokenizer)


def perturb_adapter(model: PeftModel, seed: int = 1) -> PeftModel:
    """Random adapter values: with B at zero, as LoRA starts, A would get no gradient."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora_parameters(model).values():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@pytest.fixture
def lora_model(model_folder: Path) -> PeftModel:
    """The tiny model with an adapter of random values, in evaluation mode."""
    model = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0)
    return perturb_adapter(model).eval()


def make_rows(n: int, *, prefix: str = "row", target: bool = False) -> list[Row]:
    """Rows of clearly different lengths, from two data sets in turn."""
    return [
        Row(
            dataset=("sums", "words")[index % 2],
            example_id=f"{prefix}-{index:03d}",
            messages=(
                ("user", f"What is {index} and the other {'word ' * (index % 5)}?"),
                ("assistant", f"the answer {index * 7} {'number ' * (index % 3)}"),
            ),
            task="toy" if target else None,
            subtask=("sums", "words")[index % 2] if target else None,
        )
        for index in range(n)
    ]


@pytest.fixture
def rows() -> list[Row]:
    return make_rows(12)


@pytest.fixture
def tokenized(rows: list[Row], tokenizer: PreTrainedTokenizerFast, chat_format: ChatFormat) -> list[TokenizedRow]:
    kept, dropped = tokenize_rows(rows, tokenizer=tokenizer, chat_format=chat_format, max_length=512)
    assert not dropped
    return kept


@pytest.fixture
def batch(tokenized: list[TokenizedRow], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Five rows of different lengths, padded."""
    return collate(tokenized[:5], pad_token_id=tokenizer.pad_token_id)


@pytest.fixture(scope="session")
def trainer_run(model_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory) -> Path:
    """A real run of the Hugging Face Trainer: six steps, ``checkpoint-3`` and ``checkpoint-6``. Not to be changed."""
    from transformers import Trainer, TrainingArguments

    folder = tmp_path_factory.mktemp("trainer")
    rows, _ = tokenize_rows(make_rows(12), tokenizer=tokenizer, chat_format=TuluFormat(tokenizer), max_length=512)

    def tensors(some: list[TokenizedRow]) -> dict[str, torch.Tensor]:
        batch = collate(some, pad_token_id=tokenizer.pad_token_id)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=6,
        per_device_train_batch_size=4,
        learning_rate=8e-3,
        lr_scheduler_type="linear",
        warmup_steps=2,
        save_steps=3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # the Trainer's own, which no user of this program sees
        model = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0)
        Trainer(model=model, args=arguments, train_dataset=rows, data_collator=tensors).train()
    return folder


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., GradientDatastore]:
    """Write features [n_ckpt, n, d] as a store in small shards."""

    def make(name: str, values: torch.Tensor, *, subtasks=None, warmup="abc", dtype="float32") -> GradientDatastore:
        n_checkpoints, n, proj_dim = values.shape
        manifest = Manifest(
            example_ids=[f"{name}-{i}" for i in range(n)],
            checkpoints=list(range(1, n_checkpoints + 1)),
            proj_dim=proj_dim,
            dtype=dtype,
            rows_per_shard=3,
            provenance={"warmup": warmup, "projection": {"proj_dim": proj_dim}},
            subtasks=subtasks,
        )
        writer = DatastoreWriter(tmp_path / name, manifest)
        for checkpoint in manifest.checkpoints:
            for shard in writer.missing_shards(checkpoint):
                held = manifest.shard_rows(shard)
                writer.write_shard(checkpoint, shard, values[checkpoint - 1, held.start : held.stop])
        return writer.finish()

    return make


@pytest.fixture
def warmup_folder(tmp_path: Path) -> Callable[[list[float]], Path]:
    """A warm-up folder with the mean learning rates given, and nothing else."""

    def make(rates: list[float]) -> Path:
        for epoch, rate in enumerate(rates, start=1):
            folder = tmp_path / "warmup" / f"epoch={epoch}"
            folder.mkdir(parents=True)
            state = dict(epoch=epoch, step=epoch, betas=[0.9, 0.999], eps=1e-8, mean_learning_rate=rate, seed=0)
            (folder / "trainer_state.json").write_text(json.dumps(state))
        return tmp_path / "warmup"

    return make
