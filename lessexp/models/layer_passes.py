"""What passes a layer in one forward and backward: what went in, and the gradient of what came out.

For a linear layer ``h = W x`` these two are all that its gradients are made of. The model's parameters are frozen
meanwhile, so autograd computes no gradient of any of them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

PassSink = Callable[[str, nn.Module, Float[Tensor, "batch length in"], Float[Tensor, "batch length out"]], None]
"""Takes a layer's name, the layer, its inputs and the gradients of its outputs."""


class GradientShapeError(ValueError):
    """A layer that was not called on one row of positions for each example."""


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """While active, no parameter of the model asks for a gradient."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def watch_layers(model: nn.Module, layers: Mapping[str, nn.Module], sink: PassSink) -> Iterator[None]:
    """While active, a backward pass hands what passed each of ``layers`` to ``sink``, last layer first."""
    with frozen(model), contextlib.ExitStack() as handles:
        for name, layer in layers.items():
            handles.callback(layer.register_forward_hook(partial(_watch_output, name, sink)).remove)
        yield


def _watch_output(name: str, sink: PassSink, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Forward hook: once the layer's output has its gradient, it goes to ``sink`` with what went in."""
    if output.dim() != 3:
        raise GradientShapeError(f"{name} gave {tuple(output.shape)}; its gradients need [batch, length, width]")
    # Below the first watched layer nothing needs a gradient: the graph starts at its output.
    if not output.requires_grad:
        output = output.detach().requires_grad_()
    incoming = inputs[0].detach()
    output.register_hook(lambda outgoing_grad: sink(name, layer, incoming, outgoing_grad))
    return output
