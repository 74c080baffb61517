"""What becomes of an example's gradient before it is projected (LESS, arXiv:2402.04333, section 3.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.training.checkpoint import EpochCheckpoint


def adam_direction(
    grad: Float[Tensor, "batch *param"],
    exp_avg: Float[Tensor, "*param"],
    exp_avg_sq: Float[Tensor, "*param"],
    *,
    step: int,
    betas: tuple[float, float],
    eps: float,
    eps_inside_sqrt: bool = False,
    bias_correction: bool = True,
) -> Float[Tensor, "batch *param"]:
    """Γ: the direction Adam would move the parameters if it saw each example alone.

    The parameter change of that step is ``-lr`` times this. The learning rate is left out: influence
    applies it once per checkpoint.

    Args:
        grad: loss gradients, one row per example.
        exp_avg: first moment saved with the warm-up checkpoint.
        exp_avg_sq: second moment saved with the same checkpoint.
        step: optimizer steps including this one, for bias correction.
        betas: decay rates of the two moments.
        eps: keeps the quotient finite.
        eps_inside_sqrt: add ``eps`` under the root, as the paper's released code does, rather than
            outside it as ``torch.optim.AdamW`` does. With small second moments this turns Γ into
            plain momentum.
        bias_correction: divide the moments by ``1 - beta**step``; the released code does not.

    Raises:
        ValueError: if ``step`` is below 1.
    """
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    beta1, beta2 = betas
    mean = beta1 * exp_avg + (1 - beta1) * grad
    square = beta2 * exp_avg_sq + (1 - beta2) * grad.square()
    if bias_correction:
        mean = mean / (1 - beta1**step)
        square = square / (1 - beta2**step)
    return mean / ((square + eps).sqrt() if eps_inside_sqrt else square.sqrt() + eps)


class AdamDirection:
    """Γ at one checkpoint, tile by tile.

    Works in place on the tile it is given, with all that does not depend on the example computed once:
    ``Γ = (M + a g) / (√(V + c g²) + ε)``, where M and V hold the decayed moments and the bias corrections.

    Args:
        checkpoint: whose moments, step, betas and ε apply.
        eps_inside_sqrt: see `adam_direction`.
        bias_correction: see `adam_direction`.
        centered: leave the momentum M out of the numerator. It is the same for every example and makes
            up most of Γ, so without it rows differ more clearly.
    """

    def __init__(
        self, checkpoint: EpochCheckpoint, *, eps_inside_sqrt: bool, bias_correction: bool, centered: bool = False
    ):
        state = checkpoint.state
        beta1, beta2 = state.betas
        first_bias, second_bias = (
            (1 - beta1 ** (state.step + 1), 1 - beta2 ** (state.step + 1)) if bias_correction else (1.0, 1.0)
        )
        self.grad_scale = (1 - beta1) / first_bias
        self.square_scale = (1 - beta2) / second_bias
        momentum_scale = 0.0 if centered else beta1 / first_bias
        self.eps = state.eps
        self.eps_inside_sqrt = eps_inside_sqrt
        self._momentum = {name: tensor.flatten() * momentum_scale for name, tensor in checkpoint.exp_avg.items()}
        square_offset = state.eps if eps_inside_sqrt else 0.0
        self._square = {
            name: tensor.flatten() * (beta2 / second_bias) + square_offset
            for name, tensor in checkpoint.exp_avg_sq.items()
        }

    def __call__(self, name: str, start: int, tile: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Γ of the parameter's coordinates from ``start`` on; ``tile`` is overwritten."""
        stop = start + tile.shape[1]
        square = self._square[name][start:stop].to(tile.device)
        momentum = self._momentum[name][start:stop].to(tile.device)
        root = torch.addcmul(square, tile, tile, value=self.square_scale).sqrt_()
        if not self.eps_inside_sqrt:
            root.add_(self.eps)
        return tile.mul_(self.grad_scale).add_(momentum).div_(root)


class PlainGradient:
    """∇ℓ itself: the direction of SGD, and what target rows always use."""

    def __init__(self, checkpoint: EpochCheckpoint | None = None):
        self.checkpoint = checkpoint

    def __call__(self, name: str, start: int, tile: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """The gradients as they are."""
        return tile


class SignDirection:
    """The sign of each coordinate: Adam without memory."""

    def __init__(self, checkpoint: EpochCheckpoint | None = None):
        self.checkpoint = checkpoint

    def __call__(self, name: str, start: int, tile: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """-1, 0 or 1 for each coordinate."""
        return tile.sign()
