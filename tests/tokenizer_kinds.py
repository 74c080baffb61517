"""Small tokenizers of other kinds than the byte-level one of `tests.conftest`."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.conftest import CHAT_TEMPLATE

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def llama_like(*, normalized: bool = False) -> PreTrainedTokenizerFast:
    """Spaces become ▁, one of which stands before every piece of text; its special tokens may be normalised, too."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _trained(bpe, trainers.BpeTrainer, normalized=normalized)


def metaspace_first() -> PreTrainedTokenizerFast:
    """Only the first word of the whole text gets a ▁ before it."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _trained(bpe, trainers.BpeTrainer)


def unigram() -> PreTrainedTokenizerFast:
    """Special tokens are words of its vocabulary."""
    return _trained(Tokenizer(models.Unigram()), trainers.UnigramTrainer, unk_token="<unk>")


def _trained(backend: Tokenizer, trainer: type, *, normalized: bool = False, **settings) -> PreTrainedTokenizerFast:
    trainer = trainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False, **settings)
    backend.train_from_iterator(["the answer to the question is <|im_end|> </s> <|im_start|>assistant"] * 4, trainer)
    saved = backend.to_str().replace('"normalized":false', f'"normalized":{str(normalized).lower()}')
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(saved),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=CHAT_TEMPLATE,
    )
