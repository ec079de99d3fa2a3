"""Surgery on a finished residual or plain net: add blocks that change nothing, or take one block out.

- :func:`deepen` is the thought experiment of He et al. 2015 (arXiv 1512.03385), section 1: copy a shallower net and let
  the added layers be the identity. Chen, Goodfellow and Shlens 2016 (arXiv 1511.05641) call it a Net2DeeperNet.
- :func:`without_block` is the lesion of Veit, Wilber and Belongie 2016 (arXiv 1605.06431), section 4.1.

Both return a copy. Nets are those of :class:`cnnlib.models.resnet.ResNet`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cnnlib import errors
from cnnlib.models import layers
from cnnlib.models.preact import PreActResNet
from cnnlib.models.registry import BadOption
from cnnlib.models.resnet import PlainBlock, ResidualBlock, ResNet, option_a, two_convolutions


def block_names(net: ResNet) -> list[str]:
    """Return the names of the blocks of a net, from the first to the last: ``stages.0.0``, ``stages.0.1``, ...

    Raises:
        BadOption: if it is no net of such blocks.
    """
    if not isinstance(net, ResNet | PreActResNet):
        raise BadOption(f"only plain, residual and pre-activated nets have blocks by stage, not a {type(net).__name__}")
    return [f"stages.{s}.{b}" for s, stage in enumerate(net.stages) for b in range(len(stage))]


def deepen(net: ResNet, blocks: int, images: Tensor) -> ResNet:
    """Return a deeper net of the same outputs: ``blocks`` more of them at the end of each stage, all the identity.

    A residual block is the identity if its last batch norm multiplies by zero, so the outputs are the same in training
    mode too. A plain block is the identity if both convolutions copy every map and both batch norms undo themselves:
    they scale and shift by the statistics that they divide by and subtract. These are taken from ``images``, so in
    training mode, where a batch brings statistics of its own, the outputs agree roughly. Both need an input that is
    not negative, which the ReLU at the end of the block before sees to.

    Args:
        net: of basic blocks, plain or residual. It stays as it is.
        blocks: how many to add to each stage.
        images: float (N, C, H, W), normalised, on the net's device.

    Raises:
        BadOption: if ``blocks`` is no whole number, 0 or more, or if the net is made of other blocks: in a plain
            bottleneck the narrow middle cannot pass all maps on. Also if ``images`` is no batch of them.
    """
    layers.require_whole(0, blocks=blocks)
    block_names(net)  # which only a net of blocks has
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise BadOption(f"images must be floats (N, C, H, W), one or more, not {errors.kind_of(images)}")
    deeper, known = copy.deepcopy(net), [*two_convolutions(1, 1)._modules]
    for stage, statistics in zip(deeper.stages, _statistics(net, images), strict=True):
        last = stage[-1]
        if not isinstance(last, PlainBlock | ResidualBlock) or [*last.f._modules] != known:
            raise BadOption("only blocks of two 3x3 convolutions, plain or residual, can be made the identity here")
        width = last.f.conv2.out_channels
        for _ in range(blocks):
            residual = isinstance(last, ResidualBlock)
            block = _residual_identity(width) if residual else _plain_identity(width, *statistics)
            stage.append(block.to(last.f.conv2.weight).train(net.training))
    return deeper


def _statistics(net: ResNet, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance, over images and pixels, of each map that each stage puts out."""
    network = copy.deepcopy(net).eval()
    statistics = []
    with torch.no_grad():
        maps = network.stem(images.clone())  # it may write into them
        for stage in network.stages:
            maps = stage(maps)
            statistics.append((maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)))
    return statistics


def _residual_identity(width: int) -> ResidualBlock:
    block = ResidualBlock(width, width)
    for conv in (block.f.conv1, block.f.conv2):
        nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(block.f.bn2.weight)
    return block


def _plain_identity(width: int, mean: Tensor, variance: Tensor) -> PlainBlock:
    block = PlainBlock(width, width)
    with torch.no_grad():
        for conv, bn in ((block.f.conv1, block.f.bn1), (block.f.conv2, block.f.bn2)):
            nn.init.dirac_(conv.weight)
            bn.running_mean.copy_(mean)
            bn.running_var.copy_(variance)
            bn.weight.copy_((variance + bn.eps).sqrt())
            bn.bias.copy_(mean)
    return block


def without_block(net: ResNet, name: str) -> ResNet:
    """Return the net without the branch F of one block: its input goes on through the shortcut only.

    That is the identity where the block keeps the shape, unless the shortcuts are of option C. A plain block has no
    shortcut and gets the one without parameters (option A), so that a plain and a residual net lose the same thing: the
    convolutions of one block.

    Args:
        net: plain or residual, of basic or bottleneck blocks. It stays as it is.
        name: of :func:`block_names`.

    Raises:
        BadOption: if there is no such block, or it is neither plain nor residual: what is left of a pre-activated unit,
            for instance, has no ReLU at its end.
    """
    if name not in block_names(net):
        raise BadOption(f"the net has no block {name!r}; it has {', '.join(block_names(net))}")
    lesioned = copy.deepcopy(net)
    block = lesioned.get_submodule(name)
    if not isinstance(block, PlainBlock | ResidualBlock):
        raise BadOption(f"only plain and residual blocks can be taken out here, not a {type(block).__name__}")
    convolutions = [layer for layer in block.f.modules() if isinstance(layer, nn.Conv2d)]
    stride = max(conv.stride[0] for conv in convolutions)
    shape = convolutions[0].in_channels, convolutions[-1].out_channels, stride
    shortcut = block.shortcut if isinstance(block, ResidualBlock) else option_a(*shape)
    lesioned.set_submodule(name, nn.Sequential(shortcut, nn.ReLU()).train(net.training))
    return lesioned
