"""One experiment: its configuration turned into rows, models and the places of its files.

Stages share nothing in memory but this: each reads what it needs from here and from files.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from hydra.utils import get_object
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.pool import drawn, sampled
from lessexp.data.prepare import Reader
from lessexp.data.rows import Row, fingerprint, subtasks_of
from lessexp.data.tokenize import Dropped, TokenizedRow, sort_by_length
from lessexp.evaluation.base import Benchmark
from lessexp.gradients.spaces import adapter
from lessexp.models.source import Weights, model_folder
from lessexp.processes import ALONE, Team, device_of
from lessexp.selection.top_k import budget
from lessexp.settings.validation import validate
from lessexp.stages.configuration import (
    Configured,
    error_place,
    instantiate,
    lora_settings,
    missing_keys_named,
    settings_key,
)
from lessexp.stages.gradient_store import GradientStore
from lessexp.stages.model_in_use import Model, ModelInUse
from lessexp.stages.preparation import preparation
from lessexp.stages.proxy_in_use import ProxyInUse
from lessexp.stages.representation_store import RepresentationStore
from lessexp.stages.runtime import Runtime
from lessexp.stages.shelf import shelf_of
from lessexp.stages.store_settings import store_settings
from lessexp.stages.tuning import Tuning
from lessexp.stages.warmup_checkpoints import Checkpoints, checkpoints_of
from lessexp.training.imports import ImportedWarmup
from lessexp.training.trainer import Engine


class Experiment:
    """Everything the stages of one run have in common.

    Args:
        cfg: the composed configuration.
        run_folder: gets this run's files.
        team: the processes that work on it.

    Raises:
        ExperimentError: a setting is missing, or of another kind than it must be.
    """

    @missing_keys_named()
    def __init__(self, cfg: DictConfig, run_folder: Path, team: Team = ALONE):
        validate(cfg)
        self.cfg = cfg
        self.run_folder = run_folder
        self.settings_key = settings_key(cfg)
        cfg.paths.run = str(run_folder)
        self.shelf = shelf_of(cfg)
        self.preparation = preparation(cfg)
        self.device = device_of(cfg.device, team)
        self.selected_file = run_folder / "selected.jsonl"
        self.loggers: Sequence[Logger] = ()  # of the stage that is running
        self.team = team  # in a stage of the leader's, the leader alone
        self.n_processes = team.size
        self._weights: dict[Path, Weights] = {}  # whose content is hashed once, though both models may be the same
        self.tuning: Tuning = instantiate(cfg.finetune.tuning, lora_settings(cfg))

    @property
    def runtime(self) -> Runtime:
        """Where and how the stage that is running builds its artifacts."""
        trainer = self.cfg.trainer
        return Runtime(
            shelf=self.shelf,
            engine=Engine(self.device, self.team, trainer.strategy, trainer.activation_checkpointing),
            loggers=self.loggers,
            log_folder=self.run_folder,
            micro_batch_size=self.cfg.micro_batch_size,
            tokens_per_batch=self.cfg.gradients.tokens_per_batch,
            evaluation_tokens_per_batch=self.cfg.evaluation.tokens_per_batch,
            rows_per_shard=self.cfg.datastore.rows_per_shard,
        )

    def _model(self, node: DictConfig) -> ModelInUse:
        source = instantiate(node.source)
        folder = model_folder(path=node.path, source=source, cache_dir=self.cfg.cache_dir, key=error_place(node))
        return ModelInUse(
            key=error_place(node),
            model=Model(self._weights.setdefault(folder, Weights(folder)), node.dtype, node.quantization),
            lora=lora_settings(self.cfg),
            chat_format_settings=Configured.of(self.cfg.chat_format),
            runtime=lambda: self.runtime,
        )

    @cached_property
    def model(self) -> ModelInUse:
        """The model to be trained."""
        return self._model(self.cfg.model)

    @cached_property
    def selection_model(self) -> ModelInUse:
        """The model whose gradients or representations select."""
        return self.proxy.model

    @cached_property
    def proxy(self) -> ProxyInUse:
        """The stand-in for the selection model, if one is asked for."""
        return ProxyInUse(self.cfg, self.whole_selection_model, lambda: self.tokenized_pool)

    @cached_property
    def whole_selection_model(self) -> ModelInUse:
        """The selection model without a proxy; it reads rows as its proxy does."""
        return self._model(self.cfg.selection_model)

    @property
    def has_space_of_its_own(self) -> bool:
        """Whether gradients are of something else than the adapter."""
        return get_object(self.cfg.space._target_) is not adapter

    @property
    def warmup_model(self) -> ModelInUse:
        """The model whose warm-up gives the adapter: the selection model, or what its proxy stands for."""
        return self.whole_selection_model if self.proxy.takes_targets_adapter else self.selection_model

    @cached_property
    def pool_read(self) -> tuple[ArrowSequence[Row], pa.Table]:
        """All rows of the pool, and those that are left out, see `lessexp.data.prepare.Preparation.rows`."""
        return self.preparation.rows(instantiate(self.cfg.data))

    @cached_property
    def pool(self) -> ArrowSequence[Row]:
        """The rows to choose from."""
        return sampled(self.pool_read[0], **self.cfg.pool_sample)

    @cached_property
    def target(self) -> list[Row]:
        """The rows that show the wanted skill."""
        return instantiate(self.cfg.target)

    @cached_property
    def benchmark(self) -> Benchmark:
        """What the trained model is judged by."""
        return instantiate(self.cfg.benchmark)

    @cached_property
    def benchmark_rows(self) -> list[Row]:
        """The held-out rows, with as many solved examples as the trained model can read."""
        return self.benchmark.fit(self.benchmark.rows(), self.model, max_length=self.cfg.evaluation.max_length)

    def tokenize(self, rows: Sequence[Row], model: ModelInUse) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """Rows of the pool as ``model`` reads them, and those it cannot learn from."""
        return self._tokenize(rows, model, self.cfg.max_length)

    def _tokenize(
        self, rows: Sequence[Row], model: ModelInUse, max_length: int
    ) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        return self.preparation.tokenized(rows, self.reader_of(model, max_length=max_length))

    def reader_of(self, model: ModelInUse, *, max_length: int) -> Reader:
        """How a model reads rows, the first ``max_length`` tokens of each."""
        return Reader(model.tokenizer, model.chat_format, max_length)

    @cached_property
    def tokenized_target(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """The target as the selection model reads it, and the rows it cannot learn from."""
        return self._tokenize(self.target, self.whole_selection_model, self.cfg.target_max_length)

    @cached_property
    def tokenized_benchmark_rows(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """The held-out rows as the trained model reads them, and those without room for an answer."""
        return self._tokenize(self.benchmark_rows, self.model, self.cfg.evaluation.max_length)

    @cached_property
    def _pool_read_by_selection_model(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        return self.tokenize(self.pool, self.whole_selection_model)

    @cached_property
    def unusable(self) -> dict[str, str]:
        """Reason by id, for pool rows in which the selecting or the trained model finds nothing to learn."""
        dropped = list(self._pool_read_by_selection_model[1])
        if self.model.model.weights != self.whole_selection_model.model.weights:
            dropped += self.tokenize(self.pool, self.model)[1]
        return {row.example_id: row.reason for row in dropped}

    @cached_property
    def usable_pool(self) -> ArrowSequence[Row]:
        """Pool rows that both models can learn from; only these are ever scored."""
        return self._usable(self.pool)

    @cached_property
    def tokenized_pool(self) -> ArrowSequence[TokenizedRow]:
        """The usable pool as the selection model reads it."""
        return self._usable(self._pool_read_by_selection_model[0])

    def _usable(self, rows: ArrowSequence) -> ArrowSequence:
        if not self.unusable:
            return rows
        return rows.select([place for place, name in enumerate(rows.ids) if name not in self.unusable])

    @property
    def tuned_folder(self) -> Path:
        """What final training leaves in the run folder."""
        return self.run_folder / self.tuning.folder_name

    @property
    def data_fingerprints(self) -> dict[str, str]:
        """Hashes of what the run read: the rows it could choose from, those it aimed at, those that judged it."""
        judged_by = {"test rows": fingerprint(self.benchmark_rows)} if "evaluate" in self.cfg.selector.stages else {}
        return {"usable pool": fingerprint(self.usable_pool), "target": fingerprint(self.target)} | judged_by

    @property
    def n_warmup(self) -> int:
        """Rows of the warm-up's random share, at least one."""
        return max(1, round(self.cfg.warmup.fraction * len(self.usable_pool)))

    @property
    def n_selected(self) -> int:
        """Rows that the selector may pick."""
        return min(budget(self.cfg.selector.fraction, len(self.pool)), len(self.usable_pool))

    @cached_property
    def imported_warmup(self) -> ImportedWarmup | None:
        """The checkpoints of another trainer, if they take the place of a warm-up."""
        return instantiate(self.cfg.warmup.importer) if self.cfg.warmup.importer else None

    @cached_property
    def warmup(self) -> Checkpoints:
        """The checkpoints at which gradients are taken."""
        return checkpoints_of(
            self.cfg,
            self.warmup_model,
            imported=self.imported_warmup,
            share=lambda: drawn(self.tokenized_pool, n_rows=self.n_warmup, seed=self.cfg.seed, purpose="warmup share"),
            n_processes=self.n_processes,
        )

    @cached_property
    def pool_gradients(self) -> list[GradientStore]:
        """The pool's stores, the run's own first."""
        return self._gradient_stores(self.cfg.gradients.direction, self.tokenized_pool, None)

    @cached_property
    def target_gradients(self) -> list[GradientStore]:
        """The target's stores, the run's own first."""
        rows, _ = self.tokenized_target
        return self._gradient_stores(self.cfg.gradients.target_direction, rows, self.target)

    def _gradient_stores(
        self, direction: DictConfig, rows: ArrowSequence[TokenizedRow], target: Sequence[Row] | None
    ) -> list[GradientStore]:
        chosen, model, rows = self.cfg.warmup.checkpoints, self.selection_model, sort_by_length(rows)
        return [
            GradientStore(
                model=model.model,
                lora=model.lora,
                warmup=self.warmup,
                epochs=None if chosen is None else tuple(sorted(chosen)),
                space=Configured.of(self.cfg.space),
                direction=Configured.of(direction),
                projection=store.projection,
                dtype=store.dtype,
                rows=rows,
                subtasks=subtasks_of(rows.ids, target),
                pad_token_id=model.tokenizer.pad_token_id,
            )
            for store in store_settings(self.cfg)
        ]

    @cached_property
    def representations(self) -> dict[str, RepresentationStore]:
        """The stores of representations that the selector reads, by side."""
        settings, model = self.cfg.selector.representations, self.selection_model
        target, _ = self.tokenized_target
        sides = {"pool": (self.tokenized_pool, None), "target": (target, self.target)}
        stores = {}
        for side in settings.rows_of:
            rows, target = sides[side]
            rows = sort_by_length(rows)
            stores[side] = RepresentationStore(
                model=model.model,
                features=Configured.of(settings.features),
                dtype=settings.dtype,
                rows=rows,
                subtasks=subtasks_of(rows.ids, target),
                pad_token_id=model.tokenizer.pad_token_id,
            )
        return stores
