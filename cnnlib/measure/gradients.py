"""How signals and gradients flow: their size at every layer, in one forward and one backward pass.

After Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", section 4.2,
who draw the same for every layer of a network, before and after training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.measure.dry_run import private_copy
from cnnlib.measure.errors import BadArgument


@dataclass(frozen=True)
class Flow:
    """What one layer puts out and gets back, as root mean squares over all values.

    Attributes:
        layer: its name in the network.
        signal: of its output.
        gradient: of the loss's gradient by its output, for one image.
        weight_gradient: of the loss's gradient by its weight, for the mean over the images.
    """

    layer: str
    signal: float
    gradient: float
    weight_gradient: float


def gradient_flow(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Flow, ...]:
    """Return signal and gradient at every convolution and linear layer, in the order of their calls.

    The loss is the mean cross-entropy in training mode, so batch normalisation takes the statistics of these images.
    It is computed on a private copy: the network and its statistics stay as they are, and so do the random numbers.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised, on the network's device.
        labels: int64 (N,).

    Raises:
        BadArgument: if the network has no convolution or linear layer that the images reach.
    """
    net = private_copy(model).train()
    outputs: dict[nn.Module, Tensor] = {}
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, inputs, output: outputs.setdefault(layer, _kept(output)))
    with torch.enable_grad(), torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        answer = net(images)
        F.cross_entropy(answer if isinstance(answer, Tensor) else answer[0], labels).backward()
    reached = [layer for layer in outputs if outputs[layer].grad is not None and layer.weight.grad is not None]
    if not reached:
        raise BadArgument(f"{type(model).__name__} has no convolution or linear layer that the images reach")
    names = {layer: name for name, layer in net.named_modules()}
    return tuple(
        Flow(
            layer=names[layer],
            signal=_rms(outputs[layer]),
            gradient=len(images) * _rms(outputs[layer].grad),
            weight_gradient=_rms(layer.weight.grad),
        )
        for layer in reached
    )


def _kept(output: Tensor) -> Tensor:
    output.retain_grad()
    return output


def _rms(values: Tensor) -> float:
    return values.detach().double().square().mean().sqrt().item()
