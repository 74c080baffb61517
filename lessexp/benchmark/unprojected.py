"""Gradients before projection, real and made up, and their exact cosines."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.benchmark.subject import WARMUP, batches, smollm2_folder, warmed_model, warmup_and_other_rows
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.per_example import per_example_gradients
from lessexp.stages.progress import progress_bar

Blocks = dict[str, Float[Tensor, "_n _size"]]


@dataclass(frozen=True)
class Gradients:
    """Unprojected gradients: of pool rows, and after them of target rows.

    Attributes:
        blocks: by parameter.
        n_pool: how many of the rows are the pool's.
    """

    blocks: Blocks
    n_pool: int

    def cosines(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n_pool n_target"]:
        """Cosine of every pool row with every target row, of rows that stand for these gradients."""
        unit = torch.nn.functional.normalize(rows)
        return unit[: self.n_pool] @ unit[self.n_pool :].T

    def exact_cosines(self) -> Float[Tensor, "n_pool n_target"]:
        """Cosines of the gradients themselves, computed in float64."""
        n = self.n_pool
        products = sum(block[:n].double() @ block[n:].double().T for block in self.blocks.values())
        norm = sum(block.double().square().sum(1) for block in self.blocks.values()).sqrt()
        return (products / norm[:n, None] / norm[n:]).float()


def real_gradients(*, n_pool: int, n_target: int, max_length: int, rank: int) -> Gradients:
    """Γ of pool rows and plain gradients of target rows of SmolLM2 after a short warm-up on other rows.

    Raises:
        DataUnavailableError: too few rows have an answer within ``max_length`` to rank a pool.
    """
    folder = smollm2_folder()
    warmup_rows, rows = warmup_and_other_rows(n_pool + n_target, seed=1)
    batched = batches(rows, folder, max_length=max_length, tokens_per_batch=512, at_least=n_target + 2)
    n_rows = sum(len(batch.example_ids) for batch in batched)
    subject = warmed_model(folder, warmup_rows, rank=rank, max_length=max_length, seed=1, **WARMUP)
    direction = AdamDirection(subject.checkpoint, eps_inside_sqrt=False, bias_correction=True)
    collected: dict[str, list[Tensor]] = defaultdict(list)
    with progress_bar("gradients", total=n_rows) as advance:
        for batch in batched:
            for name, grad in per_example_gradients(subject.model, batch).items():
                collected[name].append(grad.flatten(1))
            advance(len(batch.example_ids))
    # Rows come sorted by length; every so many of them is a target, so that targets are of all lengths.
    is_target = torch.zeros(n_rows, dtype=torch.bool)
    is_target[torch.linspace(0, n_rows - 1, n_target).long()] = True
    blocks: Blocks = {}
    for name in list(collected):
        block = torch.cat(collected.pop(name))
        blocks[name] = torch.cat([direction(name, 0, block[~is_target]), block[is_target]])
    return Gradients(blocks, int((~is_target).sum()))


def concentrated_gradients(
    *, n_pool: int, n_target: int, n_parameters: int, size: int, n_heavy: int, share: float, seed: int
) -> Gradients:
    """Random rows with most of their squared norm at few places, the same in all rows.

    Where two such places fall on one output, a projection errs by much more than on spread-out gradients.

    Args:
        n_pool: rows.
        n_target: rows.
        n_parameters: blocks.
        size: coordinates of each block.
        n_heavy: coordinates that hold most of a row, drawn from all blocks.
        share: of each row's squared norm that they hold.
        seed: of places and values.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n_pool + n_target, n_parameters * size, generator=generator)
    is_heavy = torch.zeros(n_parameters * size, dtype=torch.bool)
    is_heavy[torch.randperm(len(is_heavy), generator=generator)[:n_heavy]] = True
    for places, wanted in ((is_heavy, share), (~is_heavy, 1 - share)):
        values[:, places] *= wanted**0.5 / values[:, places].norm(dim=1, keepdim=True)
    return Gradients({f"parameter_{k}": block for k, block in enumerate(values.split(size, dim=1))}, n_pool)
