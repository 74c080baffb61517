"""What a run will take, said before it starts: arithmetic, time, memory and disk.

    FLOP    4 N a token read forward and backward, 2 N a token read forward (`lessexp.stages.cost`)
            what a proxy's factors take besides (`lessexp.proxies.compression.LayerReport`)
    disk    warm-up: 12 bytes for each parameter of the adapter and epoch; stores: bytes a row for each checkpoint
    memory  the weights; what is trained with gradient and moments; what autograd keeps of a batch; the logits of its
            answers (without activation checkpointing)
    time    FLOP over what this machine did a second in the artifacts it shares or, without any, in a trial

Existing artifacts, and rows copied from them, cost nothing. Answers that models write for a benchmark are not counted.
"""

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
import torch

from lessexp.artifacts import Artifact
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.errors import UserError
from lessexp.gradients.codecs import encode
from lessexp.gradients.filling import Donor, tokens_to_compute
from lessexp.gradients.memory import COPIES_OF_LOGITS
from lessexp.models.causal_lm import floating_point_type
from lessexp.models.shape import ModelShape, shape_of
from lessexp.reports.tables import with_unit
from lessexp.stages.checkpoints import n_checkpoints
from lessexp.stages.configuration import ExperimentError, lora_settings
from lessexp.stages.cost import bytes_in, forward_flops, training_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.gradient_store import GradientStore
from lessexp.stages.progress import say
from lessexp.stages.warmup_checkpoints import GivenCheckpoints, TrainedCheckpoints, checkpoint_hashes
from lessexp.wholeness import COMPLETE, read_complete

_SHARE_OF_PRODUCTS = 0.5  # of the speed of bare matrix products that a model reaches
_TRIAL_SIZE = 1024  # rows and columns of the trial's product
_TRIAL_SECONDS = 0.2
_BYTES_OF_STATE = 4 * 3  # a parameter in a checkpoint: value and two moments
_SPARE = 1.05  # files have headers, and a run writes a little besides
_SECONDS_OF_NOTE = 1.0  # shorter artifacts say nothing about speed


@dataclass(frozen=True)
class Forecast:
    """Of one run.

    Attributes:
        flops: estimated arithmetic.
        bytes_written: under ``artifacts_dir`` and in the run folder.
        bytes_in_passing: the final training's last two epochs, which are removed when it is done.
        memory_bytes: at the peak, of one process.
        flops_a_second: of this machine.
    """

    flops: float
    bytes_written: int
    bytes_in_passing: int
    memory_bytes: float
    flops_a_second: float

    @property
    def seconds(self) -> float:
        """Of computing."""
        return self.flops / self.flops_a_second


class Forecaster:
    """Adds up what the stages of an experiment will take."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.cfg = experiment.cfg
        self._stages = set(self.cfg.selector.stages)

    @cached_property
    def shapes(self) -> dict[str, ModelShape]:
        """Of the selecting and the trained model; a proxy counts as the model that it stands for."""
        lora = lora_settings(self.cfg)
        models = {"selection": self.experiment.whole_selection_model, "trained": self.experiment.model}
        return {name: shape_of(model.folder, lora, dtype=model.model.dtype) for name, model in models.items()}

    def forecast(self) -> Forecast:
        """For all stages together."""
        parts = list(self._parts())
        return Forecast(
            flops=float(sum(flops for flops, _ in parts)),
            bytes_written=int(_SPARE * sum(n_bytes for _, n_bytes in parts)),
            bytes_in_passing=2 * _BYTES_OF_STATE * self._n_tuned if "finetune" in self._stages else 0,
            memory_bytes=self._memory(),
            flops_a_second=self._flops_a_second() * self.experiment.n_processes,
        )

    def _parts(self) -> Iterator[tuple[float, int]]:
        """FLOP and bytes of each thing that is to be made."""
        if "warmup" in self._stages:
            yield from self._warmup()
        if "proxy" in self._stages:
            yield from self._proxy()
        if "gradients" in self._stages:
            yield from self._gradients()
        if "representations" in self._stages:
            yield from self._representations()
        if "finetune" in self._stages:
            yield self._finetuning()
        if "evaluate" in self._stages:
            rows, _ = self.experiment.tokenized_benchmark_rows
            n_passes = 2 * (1 if self.experiment.benchmark.metric is None else 2)  # of the base and the tuned model
            yield forward_flops(self.shapes["trained"].n_adapted_parameters, n_passes * _n_tokens(rows)), 0

    def _warmup(self) -> Iterator[tuple[float, int]]:
        warmup = self.experiment.warmup
        if not isinstance(warmup, TrainedCheckpoints) or not self.experiment.shelf.lacks(warmup):
            return
        shape, epochs = self.shapes["selection"], warmup.n_epochs
        n_bytes = epochs * _BYTES_OF_STATE * shape.n_adapter_parameters
        flops = training_flops(shape.n_adapted_parameters, epochs * _n_tokens(warmup.training.rows))
        yield flops, self._still_to_write(warmup, n_bytes)

    def _still_to_write(self, artifact: Artifact, n_bytes: int) -> int:
        """Bytes of an artifact, less those that a stopped run left of it."""
        return max(0, n_bytes - bytes_in(self.experiment.shelf.folder(artifact)))

    def _proxy(self) -> Iterator[tuple[float, int]]:
        """Its factors, which take less room than the layers that they stand for."""
        proxy, shape = self.experiment.proxy, self.shapes["selection"]
        for artifact in proxy.artifacts.values():
            if self.experiment.shelf.lacks(artifact):
                kept = 1 - self.cfg.proxy.sparsity
                yield artifact.flops(shape.n_parameters, proxy.shapes), int(kept * self._weights("selection"))

    def _gradients(self) -> Iterator[tuple[float, int]]:
        shape = self.shapes["selection"]
        n_passes = n_checkpoints(self.cfg, self.experiment.imported_warmup)
        for stores in (self.experiment.pool_gradients, self.experiment.target_gradients):
            missing = [store for store in stores if self.experiment.shelf.lacks(store)]
            if missing:
                n_tokens = self._tokens_to_compute(missing)
                yield training_flops(shape.n_adapted_parameters, n_passes * n_tokens), 0
            for store in missing:
                proj_dim = store.projection.settings.get("proj_dim", shape.n_adapter_parameters)
                n_bytes = len(store.rows) * n_passes * bytes_a_row(proj_dim, store.dtype)
                yield 0.0, self._still_to_write(store, n_bytes)

    def _tokens_to_compute(self, missing: Sequence[GradientStore]) -> int:
        """Tokens of the rows that cannot be copied into each of the stores missing."""
        donors = [self._donors(store) for store in missing]
        rows = missing[0].rows
        return tokens_to_compute(lengths_of(rows), rows.column("content_hash").to_pylist(), donors)

    def _donors(self, store: GradientStore) -> list[Donor]:
        shelf = self.experiment.shelf
        if not isinstance(store.warmup, GivenCheckpoints) and not (shelf.folder(store.warmup) / COMPLETE).exists():
            return []
        hashes = checkpoint_hashes(store.checkpoints(shelf))
        # The stage that copies says what is damaged.
        return store.donors(shelf.folder(store), hashes, announce=lambda text: None)

    def _representations(self) -> Iterator[tuple[float, int]]:
        shape = self.shapes["selection"]
        for store in self.experiment.representations.values():
            if self.experiment.shelf.lacks(store):
                flops = forward_flops(shape.n_parameters, _n_tokens(store.rows))
                yield flops, len(store.rows) * bytes_a_row(shape.hidden_size, store.dtype)

    def _finetuning(self) -> tuple[float, int]:
        shape, rows = self.shapes["trained"], self.experiment.tokenized_pool
        n_tokens = self.experiment.n_selected / len(rows) * _n_tokens(rows) * self.cfg.finetune.training.epochs
        n_bytes = 2 * 4 * self._n_tuned  # as an artifact and in the run folder
        tuning = self.experiment.tuning
        return tuning.flops(tuning.n_parameters(shape), int(n_tokens)), n_bytes

    @property
    def _n_tuned(self) -> int:
        return self.experiment.tuning.n_trained(self.shapes["trained"])

    def _memory(self) -> float:
        """The largest of what training and features need at once."""
        longest = int(lengths_of(self.experiment.tokenized_pool).max())
        budget = self.cfg.gradients.tokens_per_batch
        n_features = longest if budget == "auto" else max(budget, longest)  # auto takes what is free
        needs: list[float] = [0.0]
        # Libraries and rows are there already; on a GPU they take none of its memory.
        there = psutil.Process().memory_info().rss if torch.device(self.experiment.device).type == "cpu" else 0
        if "gradients" in self._stages:
            needs.append(self._batch("selection", n_features))
        if self._stages & {"warmup", "finetune"}:
            largest = min(self.cfg.micro_batch_size, self.cfg.finetune.training.batch_size)
            needs.append(self._batch("trained", largest * longest))
        if "representations" in self._stages:
            needs.append(self._weights("selection"))
        return float(there + max(needs))

    def _weights(self, which: str) -> int:
        model = self.experiment.model if which == "trained" else self.experiment.whole_selection_model
        return self.shapes[which].n_parameters * floating_point_type(model.model.dtype).itemsize

    def _batch(self, which: str, n_tokens: int) -> float:
        shape = self.shapes[which]
        logits = COPIES_OF_LOGITS * 4 * shape.vocabulary * self._share_of_labels
        state = (4 + _BYTES_OF_STATE) * (self._n_tuned if which == "trained" else shape.n_adapter_parameters)
        n_shares = self.experiment.n_processes if self.cfg.trainer.strategy == "fsdp" and which == "trained" else 1
        return (self._weights(which) + state) / n_shares + n_tokens * (shape.saved_bytes_a_token + logits)

    @cached_property
    def _share_of_labels(self) -> float:
        """Tokens that are answers, among all tokens of some rows of the pool."""
        rows = self.experiment.tokenized_pool[:100]
        n_labels = sum(label >= 0 for row in rows for label in row.labels)
        return n_labels / sum(len(row.labels) for row in rows)

    def _flops_a_second(self) -> float:
        return _speed_so_far(self.experiment.shelf.root) or trial_speed(self.experiment.device)


def _n_tokens(rows: ArrowSequence[TokenizedRow]) -> int:
    return int(lengths_of(rows).sum())


def bytes_a_row(proj_dim: int, dtype: str) -> int:
    """Of a store, its scale and norm included."""
    encoded = encode(torch.ones(1, proj_dim), dtype)
    return sum(part.numel() * part.element_size() for part in vars(encoded).values())


def _speed_so_far(artifacts: Path) -> float | None:
    """Median of FLOP over seconds of a process, of what was built here."""
    found = []
    for complete in artifacts.glob(f"*/*/{COMPLETE}"):
        with contextlib.suppress(UserError, TypeError, ArithmeticError):  # no estimate needs a damaged record
            built = read_complete(complete.parent)
            if built["seconds"] > _SECONDS_OF_NOTE and built["record"].get("flops", 0) > 0:
                found.append(built["record"]["flops"] / built["seconds"] / built.get("processes", 1))
    return statistics.median(found) if found else None


def trial_speed(device: str) -> float:
    """FLOP a second that a model may reach on a device, from a few matrix products."""
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    square = torch.ones(_TRIAL_SIZE, _TRIAL_SIZE, dtype=dtype, device=device)
    square @ square
    n, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _TRIAL_SECONDS:
        (square @ square)[0, 0].item()  # waits for the device
        n += 1
    return _SHARE_OF_PRODUCTS * 2 * _TRIAL_SIZE**3 * n / elapsed


def announce_forecast(experiment: Experiment) -> None:
    """Say what the run will take, and stop where the disk will not hold it.

    Raises:
        ExperimentError: there is less room than the run will fill.
    """
    forecast = Forecaster(experiment).forecast()
    say(
        f"forecast: {with_unit(forecast.flops, 'FLOP')}, {_duration(forecast.seconds)} on this machine, "
        f"{with_unit(forecast.memory_bytes, 'B')} of memory, {with_unit(forecast.bytes_written, 'B')} on disk"
    )
    place = _existing(experiment.shelf.root)
    free = shutil.disk_usage(place).free
    needed = forecast.bytes_written + forecast.bytes_in_passing
    if free < needed:
        raise ExperimentError(
            f"the run will write {with_unit(needed, 'B')} and {place} has room for "
            f"{with_unit(free, 'B')}; set artifacts_dir to a larger disk, or lower proj_dim or datastore.dtype"
        )


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _duration(seconds: float | int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
