"""UniPose. Artacho and Savakis 2020, "UniPose: Unified Human Pose Estimation in Single Images and Videos", 2001.08095.

Implements the network for single images and its waterfall module WASP (Artacho and Savakis 2019, arXiv 1912.03183).
Beside WASP stand what it comes from, in the same frame, to be compared: ASPP (Chen et al. 2017, arXiv 1706.05587), and
a cascade. Where paper and released code differ, or leave a choice:

- The code lists WASP's dilations as 24, 18, 12, 6; a comment in it, and the paper's figure as others read it, count up
  from 6. The first belongs to a 1x1 convolution, where a dilation means nothing: the 3x3 ones have 18, 12 and 6.
- Each branch of WASP passes the same bias-free 1x1 convolution twice with nothing in between: one linear map, W W.
- The heatmaps have an eighth of the image's height and width, in training too. The paper draws them at full size; the
  code enlarges them bilinearly to find the keypoints. The first heatmap is the background.
- The backbone is the code's ResNet-101, DeepLab's: strides in the 3x3 convolutions, and no stride but dilations in the
  last stage, 2 (1, 2, 4) for its three blocks.
- He initialisation with the fan-in everywhere. The code starts from a backbone trained on ImageNet.
- The code's decoder also holds a convolution that it never calls (524,800 parameters with batch norm); ours does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, register
from cnnlib.models.resnet import ResidualBlock, cifar_stem, imagenet_stem, three_convolutions

PAPER = Paper(
    key="artacho2020unipose",
    title="UniPose: Unified Human Pose Estimation in Single Images and Videos",
    authors="Artacho and Savakis",
    year=2020,
    arxiv="2001.08095",
)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the image size, batch normalisation and ReLU."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(),
        )
    )


class Cascade(nn.Sequential):
    """A 1x1 convolution, then one 3x3 convolution a dilation, each reading the one before. The last is the output."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]):
        super().__init__(
            conv_bn_relu(in_channels, out_channels),
            *(conv_bn_relu(out_channels, out_channels, 3, dilation) for dilation in dilations),
        )


class Waterfall(nn.Module):
    """The same cascade, in which every convolution is a branch of the output: 1 + len(dilations) of them."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]):
        super().__init__()
        self.cascade = Cascade(in_channels, out_channels, dilations)
        self.mix = nn.Conv2d(out_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for convolution in self.cascade:
            x = convolution(x)
            branches.append(self.mix(self.mix(x)))
        return torch.cat(branches, 1)


class Pyramid(nn.ModuleList):
    """The same branches side by side: all of them read the input, and each sees one scale only."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]):
        super().__init__(
            [
                conv_bn_relu(in_channels, out_channels),
                *(conv_bn_relu(in_channels, out_channels, 3, dilation) for dilation in dilations),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


class AtrousPooling(nn.Module):
    """Maps at several scales and the average over the image, joined by a 1x1 convolution.

    (N, in_channels, H, W) to (N, out_channels, H, W). In training mode it takes no batch of a single image, since the
    average gives batch normalisation but one value a map.

    Args:
        scales: maps (N, in_channels, H, W) to (N, scale_channels, H, W).
        in_channels, scale_channels, out_channels: number of maps.
    """

    def __init__(self, scales: nn.Module, in_channels: int, scale_channels: int, out_channels: int):
        super().__init__()
        self.scales = scales
        self.average = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(in_channels, out_channels))
        self.project = nn.Sequential(conv_bn_relu(scale_channels + out_channels, out_channels), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        scales = self.scales(x)
        average = F.interpolate(self.average(x), size=scales.shape[-2:], mode="bilinear", align_corners=True)
        return self.project(torch.cat((scales, average), 1))


DILATIONS = (18, 12, 6)  # at output stride 16; twice as many at 8


def wasp(in_channels: int = 2048, out_channels: int = 256, dilations: Sequence[int] = DILATIONS) -> AtrousPooling:
    """Return the module of UniPose, (N, in_channels, H, W) to (N, out_channels, H, W): a waterfall."""
    scales = Waterfall(in_channels, out_channels, dilations)
    return AtrousPooling(scales, in_channels, (1 + len(dilations)) * out_channels, out_channels)


def aspp(in_channels: int = 2048, out_channels: int = 256, dilations: Sequence[int] = DILATIONS) -> AtrousPooling:
    """Return atrous spatial pyramid pooling, the module of DeepLab v3, of the same shapes: parallel branches."""
    scales = Pyramid(in_channels, out_channels, dilations)
    return AtrousPooling(scales, in_channels, (1 + len(dilations)) * out_channels, out_channels)


def cascade(in_channels: int = 2048, out_channels: int = 256, dilations: Sequence[int] = DILATIONS) -> AtrousPooling:
    """Return the module of the same shapes without branches: WASP's convolutions, of which only the last is read."""
    return AtrousPooling(Cascade(in_channels, out_channels, dilations), in_channels, out_channels, out_channels)


POOLINGS = {"wasp": wasp, "aspp": aspp, "cascade": cascade}

Stage = tuple[int, int, Sequence[int]]
"""Number of maps that a stage puts out, stride of its first block, and the dilation of each block."""


def dilated_bottleneck(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Sequential:
    """Return F of the bottleneck block with a dilated 3x3 convolution, which also has the stride."""
    return three_convolutions(in_channels, out_channels // 4, out_channels, (1, stride), dilation=dilation)


class DilatedResNet(nn.Module):
    """The backbone: images (N, 3, H, W) to the maps of the first stage and those of the last.

    Args:
        stages: one :data:`Stage` after the other.
        stem: ``stem(width)`` makes the layers before the first stage.
        stem_width: number of maps that the stem puts out.
    """

    def __init__(self, stages: Sequence[Stage], stem: Callable[[int], nn.Module], stem_width: int):
        super().__init__()
        self.stem = stem(stem_width)
        self.stages = nn.ModuleList()
        in_channels = stem_width
        for width, first_stride, dilations in stages:
            stage = nn.Sequential()
            for dilation in dilations:
                stride = 1 if stage else first_stride
                stage.append(ResidualBlock(in_channels, width, stride, partial(dilated_bottleneck, dilation=dilation)))
                in_channels = width
            self.stages.append(stage)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = low_level = self.stages[0](self.stem(x))
        for stage in self.stages[1:]:
            x = stage(x)
        return low_level, x


class Decoder(nn.Module):
    """Low-level maps (N, low_channels, H, W) and ``width`` maps of any size to heatmaps (N, heatmaps, H/2, W/2).

    ``low_width`` is the number of maps to which the low-level ones are reduced first.
    """

    def __init__(self, low_channels: int, low_width: int, width: int, heatmaps: int):
        super().__init__()
        self.reduce = nn.Sequential(
            conv_bn_relu(low_channels, low_width), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        )
        self.predict = nn.Sequential(
            conv_bn_relu(width + low_width, width, 3),
            nn.Dropout(0.5),
            conv_bn_relu(width, width, 3),
            nn.Dropout(0.1),
            nn.Conv2d(width, heatmaps, 1),
        )

    def forward(self, low_level: Tensor, x: Tensor) -> Tensor:
        low_level = self.reduce(low_level)
        x = F.interpolate(x, size=low_level.shape[-2:], mode="bilinear", align_corners=True)
        return self.predict(torch.cat((x, low_level), 1))


class UniPose(nn.Module):
    """Images (N, 3, H, W) to heatmaps, one of the background and then one a keypoint: (N, keypoints + 1, H/8, W/8).

    The size is rounded up. With any stem, the heatmaps are half as high and wide as the maps of the first stage.

    Args:
        stages, stem, stem_width: as for :class:`DilatedResNet`.
        dilations: of the pooling's 3x3 convolutions.
        keypoints: number of keypoints.
        pooling: ``pooling(in_channels, out_channels, dilations)`` makes the module between backbone and decoder.
        width: number of maps that ``pooling`` and the decoder's 3x3 convolutions put out.
        low_width: number of maps to which the decoder reduces those of the first stage.

    Raises:
        BadOption: if ``keypoints`` is not a positive whole number.
    """

    min_size = 1

    def __init__(
        self,
        stages: Sequence[Stage],
        dilations: Sequence[int],
        keypoints: int = 14,
        pooling: Callable[[int, int, Sequence[int]], nn.Module] = wasp,
        stem: Callable[[int], nn.Module] = imagenet_stem,
        stem_width: int = 64,
        width: int = 256,
        low_width: int = 48,
    ):
        layers.require_whole(1, keypoints=keypoints)
        super().__init__()
        self.backbone = DilatedResNet(stages, stem, stem_width)
        self.pooling = pooling(stages[-1][0], width, dilations)
        self.decoder = Decoder(stages[0][0], low_width, width, keypoints + 1)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        low_level, x = self.backbone(x)
        return self.decoder(low_level, self.pooling(x))


NETS = {  # arguments of UniPose
    "101": {
        "stages": ((256, 1, (1,) * 3), (512, 2, (1,) * 4), (1024, 2, (1,) * 23), (2048, 1, (2, 4, 8))),
        "dilations": DILATIONS,
    },
    "101-stride8": {
        "stages": ((256, 1, (1,) * 3), (512, 2, (1,) * 4), (1024, 1, (2,) * 23), (2048, 1, (4, 8, 16))),
        "dilations": (36, 24, 12),
    },
    "small": {
        "stages": ((32, 1, (1,)), (64, 2, (1,)), (128, 2, (1,)), (128, 1, (1, 2))),
        "dilations": (6, 4, 2),
        "stem": cifar_stem,
        "stem_width": 16,
        "width": 32,
        "low_width": 8,
    },
}


def unipose(net: str, keypoints: int = 14, pooling: str = "wasp") -> UniPose:
    """Return one of :data:`NETS`, with ``"wasp"``, ``"aspp"`` or ``"cascade"`` before its decoder.

    Raises:
        BadOption: for another ``net`` or ``pooling``, or if ``keypoints`` is not a positive whole number.
    """
    if net not in NETS:
        raise BadOption(f"there is no net {net!r}; there are {', '.join(NETS)}")
    if pooling not in POOLINGS:
        raise BadOption(f"pooling is 'wasp', 'aspp' or 'cascade', not {pooling!r}")
    return UniPose(**NETS[net], keypoints=keypoints, pooling=POOLINGS[pooling])


for _name, _net, _dataset, _input_size, _multiply_adds, _parameters, _about in (
    ("unipose", "101", "LSP", (3, 368, 368), 31_277_509_632, 47_021_999, "ResNet-101, stride 16"),
    ("unipose-stride8", "101-stride8", "LSP", (3, 368, 368), 101_065_288_704, 47_021_999, "ResNet-101, stride 8"),
    ("unipose-small", "small", "drawn figures", (3, 64, 64), 66_228_224, 132_079, "five blocks for small images"),
):
    register(
        _name,
        partial(unipose, _net),
        paper=PAPER,
        family="unipose",
        dataset=_dataset,
        input_size=_input_size,
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        about=f"heatmaps of keypoints, WASP, {_about}",
    )
