"""Every setting with its type, its range and, if a file may leave it out, its default.

Groups mirror the folders of ``conf/``. A group whose option is a class or a function is an `Option`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lessexp.settings.option import Benchmark, Option, error_at
from lessexp.settings.values import (
    Count,
    Decay,
    Dtype,
    Epochs,
    HeldOut,
    Index,
    Inside,
    NonNegative,
    Positive,
    PositiveShare,
    ProjDim,
    Share,
    Text,
)


def _unset() -> Any:
    """A setting of some options only; it may be absent, but not null."""
    return Field(default=None, exclude=True)


class Group(BaseModel):
    """A group of settings; unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(Group):
    """A causal language model."""

    name: Text
    path: Text | None = None
    source: Option
    dtype: Dtype = "bfloat16"
    quantization: Text | None = None


class Lora(Group):
    """The adapter."""

    rank: Count
    alpha: Count
    dropout: Decay
    target_modules: Annotated[list[Text], Field(min_length=1)]


class Training(Group):
    """A training run, see `lessexp.training.module.TrainingSettings`."""

    epochs: Epochs
    batch_size: Count
    learning_rate: Positive
    schedule: Text
    warmup_ratio: Share
    betas: Annotated[list[Decay], Field(min_length=2, max_length=2)]
    eps: NonNegative
    weight_decay: NonNegative
    max_grad_norm: Positive


class Warmup(Group):
    """Where the checkpoints come from at which gradients are taken."""

    path: Text | None = None
    importer: Option | None = None
    learning_rates: list[NonNegative] | None = Field(default=None, exclude=True)
    checkpoints: list[int] | None = None
    fraction: Share
    training: Training


class Finetune(Group):
    """Final training."""

    tuning: Option
    training: Training


class Gradients(Group):
    """Which gradients are compared, and in which batches they are computed."""

    direction: Option
    target_direction: Option
    tokens_per_batch: Count | Literal["auto"] = "auto"


class Influence(Group):
    """How one target row and one pool row are compared."""

    subtask_vector: Option
    row_weights: Option


class Representations(Group):
    """Features that need no gradient."""

    rows_of: list[Literal["pool", "target"]]
    dtype: Dtype
    features: Option


class Selector(Group):
    """What scores the pool, and which stages a run has."""

    name: Text
    fraction: PositiveShare | None = None
    stages: list[Text] = ["select", "finetune", "evaluate", "report"]
    scorer: Option
    representations: Representations = _unset()
    selection_model_must_differ: bool = _unset()


class Probes(Group):
    """Pool rows that the model reads while a proxy is made."""

    n_rows: Count
    seed: Index
    tokens_per_batch: Count


class Proxy(Group):
    """The stand-in that selects for the model."""

    steps: list[Option] = []
    factors: Option = _unset()
    sparsity: Inside = _unset()
    rank_multiple: Count = _unset()
    layers: list[Text] = _unset()
    adapter_from: Text = _unset()
    probes: Probes = _unset()


class Alignment(Group):
    """Training of a proxy's factors."""

    factor_gradients: Option | None = None
    settings: Option = _unset()
    n_rows: Count = _unset()
    n_held_out: HeldOut = _unset()
    proj_dim: ProjDim = _unset()
    seed: Index = _unset()


class Bootstrap(Group):
    """Confidence intervals."""

    n_resamples: Count
    confidence: Inside


class Leaks(Group):
    """When a pool row counts as holding a test question."""

    ngram: Count
    pool_share: Share


class Evaluation(Group):
    """How models are judged."""

    max_length: Count
    max_new_tokens: Count
    tokens_per_batch: Count
    bootstrap: Bootstrap
    leaks: Leaks


def _some_change(node: Any) -> Any:
    if not isinstance(node, dict) or not node or node.keys() - OtherStore.model_fields:
        raise PydanticCustomError("change", "should be a group with a proj_dim, a dtype or both")
    return node


class OtherStore(Group):
    """What another store of the same gradients has in place of the run's own values."""

    proj_dim: ProjDim = _unset()
    dtype: Dtype = _unset()


class Datastore(Group):
    """How gradients are stored."""

    dtype: Dtype
    rows_per_shard: Count
    also: list[Annotated[OtherStore, BeforeValidator(_some_change)]] = []


class PoolSample(Group):
    """A random part of the pool in place of all of it."""

    n_rows: Count | None = None
    seed: Index = 0


class Preparation(Group):
    """How a pool is read and tokenised."""

    in_memory_below: Index
    num_proc: Count | None = None


class Logger(Group):
    """Experiment trackers."""

    share_rows: bool = False
    loggers: list[Option]


class Trainer(Group):
    """Where a run computes, and by how many processes."""

    device: Text | None = None
    processes: Count | Literal["auto"] = 1
    strategy: Text = "ddp"
    activation_checkpointing: bool = False


class Paths(Group):
    """Filled in when a run starts."""

    run: Text | None = None
    warmup: Text | None = None
    pool_gradients: Text | None = None
    target_gradients: Text | None = None
    pool_representations: Text | None = None
    target_representations: Text | None = None


class Settings(Group):
    """All settings of a run. Single values come first: others refer to them, and the first error is the one shown."""

    seed: Index
    device: Text | None = None
    fraction: PositiveShare
    max_length: Count
    target_max_length: Count
    micro_batch_size: Count
    proj_dim: ProjDim
    resume: bool = False
    artifacts_dir: Text
    cache_dir: Text
    model: Model
    selection_model: Model
    protocol: dict[str, Option]
    data: Option
    target: Option
    benchmark: Benchmark
    chat_format: Option
    warmup: Warmup
    finetune: Finetune
    gradients: Gradients
    influence: Influence
    aggregate: Option
    dedup: Option
    projection: Option
    proxy: Proxy
    space: Option
    alignment: Alignment
    logger: Logger
    trainer: Trainer
    selector: Selector
    lora: Lora
    datastore: Datastore
    pool_sample: PoolSample
    preparation: Preparation
    evaluation: Evaluation
    paths: Paths
    recipe: dict[str, Any] = _unset()  # what is left of the group whose options fill in the others
    sweep: dict[str, Any] = _unset()  # the lists of values that the files in sweeps/ run over

    @model_validator(mode="after")
    def _one_dimension(self) -> "Settings":
        if "proj_dim" not in self.projection:
            for index, other in enumerate(self.datastore.also):
                if other.proj_dim is not None:
                    place = ("datastore", "also", str(index), "proj_dim")
                    raise error_at(place, "has no effect, for the projection in use has no dimension", other.proj_dim)
        elif (own := self.projection["proj_dim"]) != self.proj_dim:
            raise error_at(("projection", "proj_dim"), "follows proj_dim; set proj_dim in its place", own)
        return self
