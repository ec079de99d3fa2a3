"""Kernel stacks. Simonyan and Zisserman 2014, section 2.3: one 7x7 convolution, or three 3x3 with the same field.

Implements three small nets for 32x32 images that put VGG's argument to the test: one 7x7 convolution a stage; three 3x3
ones with a ReLU after each; and three 3x3 ones with a ReLU after the last only, which make one linear map. Widths are
chosen so that all have as many parameters, within one percent. Batch normalisation, which the paper does not have,
follows every convolution; in evaluation mode it is linear too. Weights have He initialisation with the fan-in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import register
from cnnlib.models.vgg import PAPER


def one_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 7x7 convolution: (N, in_channels, H, W) to (N, out_channels, H, W)."""
    return nn.Sequential(*layers.conv_bn(in_channels, out_channels, 7), nn.ReLU())


def three_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return three 3x3 convolutions, each with its ReLU. Shapes as above."""
    return nn.Sequential(
        *(*layers.conv_bn(in_channels, out_channels, 3), nn.ReLU()),
        *(*layers.conv_bn(out_channels, out_channels, 3), nn.ReLU()),
        *(*layers.conv_bn(out_channels, out_channels, 3), nn.ReLU()),
    )


def three_linear_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return three 3x3 convolutions with one ReLU after the last. Shapes as above."""
    return nn.Sequential(
        *layers.conv_bn(in_channels, out_channels, 3),
        *layers.conv_bn(out_channels, out_channels, 3),
        *layers.conv_bn(out_channels, out_channels, 3),
        nn.ReLU(),
    )


class KernelStacks(nn.Module):
    """Stages with max pooling between them, global average pooling, one linear layer.

    Args:
        stage: ``stage(in_channels, out_channels)`` makes one.
        widths: number of maps that each stage puts out.
        num_classes: number of logits.
    """

    def __init__(self, stage: Callable[[int, int], nn.Module], widths: Sequence[int], num_classes: int = 10):
        super().__init__()
        self.min_size = 2 ** (len(widths) - 1)
        self.stages = nn.Sequential()
        in_channels = 3
        for width in widths:
            if len(self.stages) > 0:
                self.stages.append(nn.MaxPool2d(2))
            self.stages.append(stage(in_channels, width))
            in_channels = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(in_channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "A net of kernel stacks")
        return self.fc(self.pool(self.stages(x)).flatten(1))


SEVEN, THREE = (21, 42, 84), (21, 44, 86)
for _name, _stage, _widths, _parameters, _multiply_adds, _about in (
    ("one-7x7", one_convolution, SEVEN, 220_321, 25_289_544, "one 7x7 convolution a stage"),
    ("three-3x3", three_convolutions, THREE, 220_629, 30_459_740, "three 3x3 convolutions a stage"),
    (
        "three-3x3-linear",
        three_linear_convolutions,
        THREE,
        220_629,
        30_459_740,
        "three 3x3 convolutions a stage, no ReLU between",
    ),
):
    register(
        _name,
        partial(KernelStacks, _stage, _widths),
        paper=PAPER,
        family="vgg",
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        about=f"{_about}, for 32x32 images; ours, to test VGG's argument",
    )
