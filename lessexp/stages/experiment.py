"""One experiment: its configuration turned into rows, models and the places of its files.

Stages share nothing in memory but this: each reads what it needs from here and from files.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from hydra.utils import get_object
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.pool import sampled
from lessexp.data.rows import Row, fingerprint
from lessexp.data.tokenize import Dropped, TokenizedRow
from lessexp.evaluation.base import Benchmark
from lessexp.gradients.manifest import FORMAT_VERSION
from lessexp.gradients.spaces import adapter
from lessexp.models.source import model_folder
from lessexp.processes import ALONE, Team, device_of
from lessexp.selection.top_k import budget
from lessexp.settings.validation import validate
from lessexp.stages.checkpoints import chosen_checkpoint_fields, given_checkpoint_fields
from lessexp.stages.configuration import (
    error_place,
    instantiate,
    lora_settings,
    missing_keys_named,
    plain,
    training_fields,
)
from lessexp.stages.finished import settings_key
from lessexp.stages.model_in_use import ModelInUse
from lessexp.stages.preparation import preparation, reader_of
from lessexp.stages.proxy_in_use import NO_PROXY, ProxyInUse
from lessexp.stages.shelf import shelf_of
from lessexp.stages.store_settings import StoreSettings, store_settings
from lessexp.stages.tuning import Tuning
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
        self.tuning: Tuning = instantiate(cfg.finetune.tuning)

    @property
    def engine(self) -> Engine:
        """Where and how the stage that is running trains."""
        trainer = self.cfg.trainer
        return Engine(self.device, self.team, trainer.strategy, trainer.activation_checkpointing)

    def _model(self, node: DictConfig) -> ModelInUse:
        source = instantiate(node.source)
        folder = model_folder(path=node.path, source=source, cache_dir=self.cfg.cache_dir, key=error_place(node))
        return ModelInUse(
            node,
            folder,
            lora_settings(self.cfg),
            self.device,
            instantiate(self.cfg.chat_format, _partial_=True),
        )

    @cached_property
    def model(self) -> ModelInUse:
        """The model to be trained."""
        return self._model(self.cfg.model)

    @cached_property
    def selection_model(self) -> ModelInUse:
        """The model whose gradients or representations select."""
        return replace(self.proxy.model, proxy_steps=self.proxy.steps)

    @cached_property
    def proxy(self) -> ProxyInUse:
        """The stand-in for the selection model, if one is asked for."""
        whole = self._model(self.cfg.selection_model)
        return ProxyInUse(self.cfg, whole, lambda: self.tokenized_pool, self.shelf.build)

    @property
    def has_space_of_its_own(self) -> bool:
        """Whether gradients are of something else than the adapter."""
        return get_object(self.cfg.space._target_) is not adapter

    @property
    def warmup_model(self) -> ModelInUse:
        """The model whose warm-up gives the adapter: the selection model, or what its proxy stands for."""
        return self.proxy.model if self.proxy.takes_targets_adapter else self.selection_model

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
        reader = reader_of(model.tokenizer, model.chat_format, self.cfg, max_length=max_length)
        return self.preparation.tokenized(rows, reader)

    @cached_property
    def tokenized_target(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """The target as the selection model reads it, and the rows it cannot learn from."""
        return self._tokenize(self.target, self.selection_model, self.cfg.target_max_length)

    @cached_property
    def tokenized_benchmark_rows(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """The held-out rows as the trained model reads them, and those without room for an answer."""
        return self._tokenize(self.benchmark_rows, self.model, self.cfg.evaluation.max_length)

    @cached_property
    def _pool_read_by_selection_model(self) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        return self.tokenize(self.pool, self.selection_model)

    @cached_property
    def unusable(self) -> dict[str, str]:
        """Reason by id, for pool rows in which the selecting or the trained model finds nothing to learn."""
        dropped = list(self._pool_read_by_selection_model[1])
        if self.model.folder != self.selection_model.folder:
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

    @cached_property
    def _pool_fingerprint(self) -> str:
        return fingerprint(self.usable_pool)

    @property
    def tuned_folder(self) -> Path:
        """What final training leaves in the run folder."""
        return self.run_folder / self.tuning.folder_name

    @property
    def data_fingerprints(self) -> dict[str, str]:
        """Hashes of what the run read: the rows it could choose from, those it aimed at, those that judged it."""
        judged_by = {"test rows": fingerprint(self.benchmark_rows)} if "evaluate" in self.cfg.selector.stages else {}
        return {"usable pool": self._pool_fingerprint, "target": fingerprint(self.target)} | judged_by

    @property
    def n_warmup(self) -> int:
        """Rows of the warm-up's random share, at least one."""
        return max(1, round(self.cfg.warmup.fraction * len(self.usable_pool)))

    @property
    def n_selected(self) -> int:
        """Rows that the selector may pick."""
        return min(budget(self.cfg.selector.fraction, len(self.pool)), len(self.usable_pool))

    @cached_property
    def warmup_fields(self) -> dict[str, Any]:
        """All that determines the warm-up checkpoints and how they read rows."""
        if self.imported_warmup:
            checkpoints = self.imported_warmup.fields
        elif self.cfg.warmup.path:
            checkpoints = given_checkpoint_fields(Path(self.cfg.warmup.path))
        else:
            checkpoints = self._checkpoints_to_train
        return self.warmup_reader_fields | checkpoints

    @property
    def warmup_reader_fields(self) -> dict[str, Any]:
        """All that determines how the warm-up checkpoints read rows, whichever they are."""
        reader = self._reader_fields | ({"proxy": NO_PROXY} if self.proxy.takes_targets_adapter else {})
        return {"format": 1, "lora": plain(self.cfg.lora)} | reader

    @cached_property
    def imported_warmup(self) -> ImportedWarmup | None:
        """The checkpoints of another trainer, if they take the place of a warm-up."""
        return instantiate(self.cfg.warmup.importer) if self.cfg.warmup.importer else None

    @property
    def _reader_fields(self) -> dict[str, Any]:
        """The selection model, and how it reads rows."""
        return {
            "model": self.selection_model.identity,
            "proxy": self.proxy.fields,
            "chat_format": plain(self.cfg.chat_format),
            "max_length": self.cfg.max_length,
        }

    @property
    def _checkpoints_to_train(self) -> dict[str, Any]:
        return {
            "fraction": self.cfg.warmup.fraction,
            "pool": self._pool_fingerprint,
            **training_fields(self.cfg, self.cfg.warmup.training, n_processes=self.n_processes),
        }

    @cached_property
    def stores(self) -> list[StoreSettings]:
        """How gradients are stored: the run's own way first, then those that the same pass fills for later runs."""
        return store_settings(self.cfg)

    def _gradient_fields(self, direction: DictConfig, rows: str, store: StoreSettings) -> dict[str, Any]:
        return {
            "format": FORMAT_VERSION,
            "warmup": self.warmup_fields,
            **({"proxy": self.proxy.fields} if self.proxy.takes_targets_adapter else {}),
            **({"space": plain(self.cfg.space)} if self.has_space_of_its_own else {}),
            **chosen_checkpoint_fields(self.cfg),
            "direction": plain(direction),
            "projection": store.projection_fields,
            "dtype": store.dtype,
            "rows": rows,
        }

    def pool_gradient_fields(self, store: StoreSettings) -> dict[str, Any]:
        """All that determines a gradient store of the pool."""
        return self._gradient_fields(self.cfg.gradients.direction, self._pool_fingerprint, store)

    def target_gradient_fields(self, store: StoreSettings) -> dict[str, Any]:
        """All that determines a gradient store of the target."""
        fields = self._gradient_fields(self.cfg.gradients.target_direction, fingerprint(self.target), store)
        return fields | self._target_length

    @property
    def _target_length(self) -> dict[str, int]:
        return {"max_length": self.cfg.target_max_length}

    def _representation_fields(self, rows: str) -> dict[str, Any]:
        settings = self.cfg.selector.representations
        features = {"features": plain(settings.features), "dtype": settings.dtype, "rows": rows}
        return {"format": FORMAT_VERSION} | self._reader_fields | features

    @property
    def pool_representation_fields(self) -> dict[str, Any]:
        """All that determines a store of the pool's representations: no seed, no adapter and no warm-up."""
        return self._representation_fields(self._pool_fingerprint)

    @property
    def target_representation_fields(self) -> dict[str, Any]:
        """All that determines a store of the target's representations."""
        return self._representation_fields(fingerprint(self.target)) | self._target_length
