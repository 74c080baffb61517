"""Training batches: every epoch shuffled by its own seed, each step split over processes and into micro-batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lessexp.data.seeds import generator_for
from lessexp.data.tokenize import Batch, TokenizedRow, collate
from lessexp.processes import ALONE, Team


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch and how many examples share its optimizer step; without end where it is not to count."""

    batch: Batch
    examples_in_step: float

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """The same micro-batch on ``device``."""
        return TrainingBatch(self.batch.to(device), self.examples_in_step)


def epoch_order(n_train: int, *, seed: int, epoch: int) -> list[int]:
    """Order of the rows in one epoch; fixed by seed and epoch alone, so a resumed run repeats it."""
    return torch.randperm(n_train, generator=generator_for(seed, "order", epoch)).tolist()


class _EpochSampler(Sampler):
    """Indices of one micro-batch of this process after the other; the last step of an epoch may be smaller.

    All processes take every step, and have as many micro-batches in it: where one has no example left, it computes one
    that does not count.
    """

    def __init__(self, n_train: int, batch_size: int, micro_batch_size: int, seed: int, team: Team):
        self.n_train, self.batch_size, self.micro_batch_size = n_train, batch_size, micro_batch_size
        self.seed = seed
        self.team = team
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        order = epoch_order(self.n_train, seed=self.seed, epoch=self.epoch)
        for start in range(0, self.n_train, self.batch_size):
            step = order[start : start + self.batch_size]
            own = step[self.team.rank :: self.team.size]
            for number in range(self.micro_batches_in(len(step))):
                first = number * self.micro_batch_size
                micro_batch = [(index, float(len(step))) for index in own[first : first + self.micro_batch_size]]
                yield micro_batch or [(step[0], math.inf)]

    def micro_batches_in(self, n_examples: int) -> int:
        """Micro-batches of each process in a step of so many examples."""
        return _ceil_div(_ceil_div(n_examples, self.team.size), self.micro_batch_size)

    def __len__(self) -> int:
        full_steps, rest = divmod(self.n_train, self.batch_size)
        return full_steps * self.micro_batches_in(self.batch_size) + self.micro_batches_in(rest)


class _Rows(Dataset):
    def __init__(self, rows: Sequence[TokenizedRow]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: tuple[int, float]) -> tuple[TokenizedRow, float]:
        row, examples_in_step = index
        return self.rows[row], examples_in_step


class InstructionDataModule(pl.LightningDataModule):
    """Tokenised rows as Lightning training batches.

    Args:
        rows: what to train on.
        batch_size: examples of one optimizer step, of all processes together; the last step of an epoch takes what is
            left, which may be all rows.
        micro_batch_size: examples of one forward pass.
        pad_token_id: fills the ends of short rows.
        seed: fixes the order of every epoch.
        team: of processes that share each step.
        first_epoch: number of the first epoch to come, above zero when training resumes.

    Raises:
        ValueError: there is no row.
    """

    def __init__(
        self,
        rows: Sequence[TokenizedRow],
        *,
        batch_size: int,
        micro_batch_size: int,
        pad_token_id: int,
        seed: int,
        team: Team = ALONE,
        first_epoch: int = 0,
    ):
        super().__init__()
        if not len(rows):
            raise ValueError("there is no row to train on")
        self.rows = rows
        self.pad_token_id = pad_token_id
        self.first_epoch = first_epoch
        self.sampler = _EpochSampler(len(rows), batch_size, micro_batch_size, seed, team)
        self.micro_batches_per_step = self.sampler.micro_batches_in(batch_size)
        self.steps_per_epoch = _ceil_div(len(rows), batch_size)

    def train_dataloader(self) -> DataLoader:
        """Batches of the current epoch; Lightning asks for them anew every epoch."""
        self.sampler.set_epoch(self.first_epoch + self.trainer.current_epoch)
        return DataLoader(_Rows(self.rows), batch_sampler=self.sampler, collate_fn=self._collate)

    def _collate(self, items: list[tuple[TokenizedRow, float]]) -> TrainingBatch:
        rows = [row for row, _ in items]
        return TrainingBatch(collate(rows, pad_token_id=self.pad_token_id), items[0][1])

    def transfer_batch_to_device(
        self, batch: TrainingBatch, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch:
        """Move a micro-batch to where the model is."""
        return batch.to(device)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
