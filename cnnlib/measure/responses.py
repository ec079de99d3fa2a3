"""Layer responses: how large what a block adds is, beside what it is added to.

After He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2,
"Analysis of Layer Responses", and Figure 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlib.measure.dry_run import example, on_copy, private_copy, require_images, require_values
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.gradients import rms
from cnnlib.models.resnet import PlainBlock, ResidualBlock


@dataclass(frozen=True)
class BlockResponse:
    """How strongly one block answers.

    Attributes:
        block: its name in the network.
        stds: of its layers' responses, from the first layer to the last: the standard deviation of each batch norm's
            output in the branch, over images, maps and positions.
        branch: root mean square of what the branch puts out, F(x).
        shortcut: root mean square of what the shortcut puts out; 0 for a plain block.
    """

    block: str
    stds: tuple[float, ...]
    branch: float
    shortcut: float


def block_responses(model: nn.Module, images: Tensor) -> tuple[BlockResponse, ...]:
    """Return the responses of every plain or residual block, in the order of the network.

    Batch normalisation takes the statistics of these images, so that a network can be measured before its training,
    too. So the standard deviations follow from gains and shifts alone, whatever the images: before training all are 1,
    or 0 where the last gain starts at 0. All else is in evaluation mode, where no block is dropped. Measured on a
    private copy: the network and its statistics stay as they are.

    Args:
        model: a network of :class:`cnnlib.models.resnet.PlainBlock` or :class:`cnnlib.models.resnet.ResidualBlock`.
        images: float (N, C, H, W), normalised.

    Raises:
        BadArgument: if the network has no such block or is on the ``meta`` device, or there is no batch of images.
        DoesNotFit: if the network does not take such images, or batch normalisation would get a single value for a map.
    """
    net = private_copy(model)
    blocks = {name: block for name, block in net.named_modules() if isinstance(block, PlainBlock | ResidualBlock)}
    if not blocks:
        raise BadArgument(
            f"{type(model).__name__} has no plain or residual block, as the nets of cnnlib.models.resnet have"
        )
    require_values(model)
    require_images(images)
    with torch.no_grad():
        on_copy(model, images.shape[1:], lambda copy, black: _normalised_by_batch(copy)(black), len(images))
    sizes, stds = {}, {}
    for module in _normalised_by_batch(net).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(_note(stds, _std))
    for block in blocks.values():
        block.f.register_forward_hook(_note(sizes, rms))
        if isinstance(block, ResidualBlock):
            block.shortcut.register_forward_hook(_note(sizes, rms))
    with torch.no_grad():
        net(images.to(example(net), copy=True))
    return tuple(
        BlockResponse(
            block=name,
            stds=tuple(stds[layer] for layer in block.f.modules() if layer in stds),
            branch=sizes[block.f],
            shortcut=sizes[block.shortcut] if isinstance(block, ResidualBlock) else 0.0,
        )
        for name, block in blocks.items()
    )


def _normalised_by_batch(net: nn.Module) -> nn.Module:
    """Return the network, whose batch normalisation takes the statistics of the images that it gets."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return net


def _note(numbers: dict[nn.Module, float], measure: Callable[[Tensor], float]) -> Callable[..., None]:
    """Return a hook that notes a number of a module's output at once: what comes later may write into it."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        numbers[module] = measure(output)

    return hook


def _std(values: Tensor) -> float:
    return values.double().std(correction=0).item()
