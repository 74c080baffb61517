"""What becomes of an example's gradient before it is projected (LESS, arXiv:2402.04333, section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from lessexp.training.checkpoint import WarmupCheckpoint


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
    """Γ at one checkpoint, by parameter name.

    Args:
        checkpoint: whose moments, step, betas and ε apply.
        eps_inside_sqrt: see `adam_direction`.
        bias_correction: see `adam_direction`.
    """

    def __init__(self, checkpoint: WarmupCheckpoint, *, eps_inside_sqrt: bool, bias_correction: bool):
        self.checkpoint = checkpoint
        self.eps_inside_sqrt = eps_inside_sqrt
        self.bias_correction = bias_correction

    def __call__(self, name: str, grad: Float[Tensor, "batch *param"]) -> Float[Tensor, "batch *param"]:
        """Γ of each example for the parameter called ``name``."""
        state = self.checkpoint.state
        return adam_direction(
            grad,
            self.checkpoint.exp_avg[name].to(grad.device),
            self.checkpoint.exp_avg_sq[name].to(grad.device),
            step=state.step + 1,
            betas=state.betas,
            eps=state.eps,
            eps_inside_sqrt=self.eps_inside_sqrt,
            bias_correction=self.bias_correction,
        )


class PlainGradient:
    """∇ℓ itself: the direction of SGD, and what target rows always use."""

    def __init__(self, checkpoint: WarmupCheckpoint | None = None):
        self.checkpoint = checkpoint

    def __call__(self, name: str, grad: Float[Tensor, "batch *param"]) -> Float[Tensor, "batch *param"]:
        """The gradients as they are."""
        return grad


class SignDirection:
    """The sign of each coordinate: Adam without memory."""

    def __init__(self, checkpoint: WarmupCheckpoint | None = None):
        self.checkpoint = checkpoint

    def __call__(self, name: str, grad: Float[Tensor, "batch *param"]) -> Float[Tensor, "batch *param"]:
        """-1, 0 or 1 for each coordinate."""
        return grad.sign()
