"""A small residual net to scale: wider, deeper, or on enlarged images. After Tan and Le 2019, sections 3.1 and 3.3.

The paper scales MobileNets, ResNet-50 and its own B0 on ImageNet, where photographs of any size can be had. This net is
for CIFAR-10: a CIFAR ResNet of 14 layers and half the usual width, still small at four times its cost. CIFAR's images
have 32x32 pixels and no more, so a net of a higher resolution enlarges them itself, in its first step. That brings no
new detail, only more pixels for the convolutions to work on.

All nets have shortcuts without parameters and the strides and initialisation of the CIFAR ResNets: He's, with the
fan-in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.efficientnet import PAPER
from cnnlib.models.registry import register
from cnnlib.models.resnet import ResidualBlock, ResNet, option_a

BASE_WIDTHS, BASE_DEPTHS, BASE_RESOLUTION = (8, 16, 32), (2, 2, 2), 32


class Enlarge(nn.Module):
    """Images (N, C, H, W) to (N, C, size, size), bilinear."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class ScaledResNet(ResNet):
    """A CIFAR ResNet of free width, depth and resolution.

    Args:
        widths: number of maps of each stage; the first convolution puts out as many as the first stage.
        depths: number of basic blocks of each stage.
        resolution: height and width to which images are enlarged or reduced. At 32 there is no such step, and the net
            takes images of any size as they are.
        num_classes: number of logits.

    Raises:
        BadOption: if a stage has no block, or ``resolution`` is not a positive whole number.
    """

    def __init__(
        self,
        widths: Sequence[int] = BASE_WIDTHS,
        depths: Sequence[int] = BASE_DEPTHS,
        resolution: int = BASE_RESOLUTION,
        num_classes: int = 10,
    ):
        super().__init__(
            partial(ResidualBlock, shortcut=option_a), depths, widths, stem_width=widths[0], num_classes=num_classes
        )
        layers.require_whole(1, resolution=resolution)
        self.enlarge = nn.Identity() if resolution == BASE_RESOLUTION else Enlarge(resolution)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.enlarge(x))


register(
    "scaled-resnet",
    ScaledResNet,
    paper=PAPER,
    family="resnet",
    dataset="CIFAR-10",
    input_size=(3, 32, 32),
    parameters=43_634,
    multiply_adds=6_709_568,
    about="a CIFAR ResNet of 14 layers and 8, 16 and 32 maps, to be made wider, deeper or finer; ours",
)
