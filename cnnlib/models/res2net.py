"""Res2Net. Gao et al. 2019, "Res2Net: A New Multi-scale Backbone Architecture", arXiv:1904.01169.

Implements Figure 2(b) and equation 1 in the nets of Tables 1 to 4. The 3x3 convolution of a bottleneck becomes a chain
of small ones: the maps are split, and each split is convolved together with the output of the split before it, so that
one block sees several sizes of image. "26w x 4s" is 26 maps in each of 4 splits (in the first stage), "6c" six groups.

- Written as in the authors' code: the split that is not convolved comes last (it is the first in equation 1), and the
  first block of a stage convolves its splits side by side and averages 3x3 pixels of the last.
- He initialisation with the fan-in; the authors' code takes the fan-out.
- The authors' repository has no code for Res2NeXt-29. Read as ResNeXt-29 with this block, the three nets have 23.7,
  33.0 and 36.1 million parameters, as in a rerun of others; Table 4 says 24.3, 33.8 and 36.7. Squeeze and excitation
  adds 0.5 million to each, but 1.7, 0.2 and 0.2 in Table 4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, Published, register, top_errors
from cnnlib.models.resnet import ResidualBlock, ResNet, cifar_stem, imagenet_stem
from cnnlib.models.senet import with_squeeze_excitation

PAPER = Paper(
    key="gao2021res2net",
    title="Res2Net: A New Multi-scale Backbone Architecture",
    authors="Gao, Cheng, Zhao, Zhang, Yang and Torr",
    year=2019,
    arxiv="1904.01169",
)


class ChainedSplits(nn.Module):
    """Equation 1: (N, scale width, H, W) to the same shape.

    ``y_1 = K_1(x_1)`` and ``y_i = K_i(x_i + y_(i-1))`` for the other splits of ``width`` maps each, except the last,
    which stays as it is. K is a 3x3 convolution of ``cardinality`` groups, batch norm and ReLU.
    """

    def __init__(self, width: int, scale: int, cardinality: int = 1, stride: int = 1):
        super().__init__()
        self.scale = scale
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=cardinality, bias=False)
            for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(scale - 1))
        self.relu = nn.ReLU()

    def k(self, index: int, x: Tensor) -> Tensor:
        """Return what the K of this index makes of one split."""
        return self.relu(self.bns[index](self.convs[index](x)))

    def forward(self, x: Tensor) -> Tensor:
        splits = x.chunk(self.scale, 1)
        outputs = [self.k(0, splits[0])]
        for index in range(1, self.scale - 1):
            outputs.append(self.k(index, splits[index] + outputs[-1]))
        return torch.cat([*outputs, splits[-1]], 1)


class ParallelSplits(ChainedSplits):
    """The form for the first block of a stage: (N, scale width, H, W) to (N, scale width, H/stride, W/stride).

    ``y_i = K_i(x_i)``, and the last split is averaged over 3x3 pixels, zeros outside of the image counted.
    """

    def __init__(self, width: int, scale: int, cardinality: int = 1, stride: int = 1):
        super().__init__(width, scale, cardinality, stride)
        self.pool = nn.AvgPool2d(3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        splits = x.chunk(self.scale, 1)
        outputs = [self.k(index, splits[index]) for index in range(self.scale - 1)]
        return torch.cat([*outputs, self.pool(splits[-1])], 1)


def split_bottleneck(
    in_channels: int, out_channels: int, stride: int = 1, width: int = 26, scale: int = 4, cardinality: int = 1
) -> nn.Sequential:
    """Return F of the Res2Net block: a 1x1 convolution, the splits, a 1x1 convolution.

    Each split has ``width`` maps a group for 256 ``out_channels``, and in proportion for more.

    Raises:
        BadOption: for a ``scale`` below 2, which would leave nothing to convolve.
    """
    if scale < 2:
        raise BadOption(f"scale is at least 2, not {scale}; without splits this is the bottleneck of ResNet")
    maps = out_channels // 4 * width // 64 * cardinality
    splits = ChainedSplits if layers.keeps_shape(in_channels, out_channels, stride) else ParallelSplits
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, scale * maps, 1, bias=False),
            bn1=nn.BatchNorm2d(scale * maps),
            relu1=nn.ReLU(),
            conv2=splits(maps, scale, cardinality, stride),
            conv3=nn.Conv2d(scale * maps, out_channels, 1, bias=False),
            bn3=nn.BatchNorm2d(out_channels),
        )
    )


DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def imagenet_res2net(
    depth: int, width: int = 26, scale: int = 4, cardinality: int = 1, num_classes: int = 1000
) -> ResNet:
    """Return the net of ``depth`` 50 or 101 for large images. ``width`` and the like: :func:`split_bottleneck`.

    Raises:
        BadOption: for another depth, or a ``scale`` below 2.
    """
    if depth not in DEPTHS:
        raise BadOption(f"depth is one of {', '.join(map(str, DEPTHS))}, not {depth!r}")
    f = partial(split_bottleneck, width=width, scale=scale, cardinality=cardinality)
    block = partial(ResidualBlock, f=f)
    return ResNet(block, DEPTHS[depth], (256, 512, 1024, 2048), imagenet_stem, 64, num_classes)


def cifar_res2next(cardinality: int, width: int, scale: int, num_classes: int = 100) -> ResNet:
    """Return the net of 29 layers for 32x32 images. ``width`` and the like: :func:`split_bottleneck`.

    Raises:
        BadOption: for a ``scale`` below 2.
    """
    return _cifar(partial(split_bottleneck, width=width, scale=scale, cardinality=cardinality), num_classes)


def cifar_se_res2next(cardinality: int, width: int, scale: int, num_classes: int = 100) -> ResNet:
    """Return the same net with squeeze and excitation at the end of each branch, reduction 16.

    Raises:
        BadOption: for a ``scale`` below 2.
    """
    f = partial(split_bottleneck, width=width, scale=scale, cardinality=cardinality)
    return _cifar(with_squeeze_excitation(f), num_classes)


def cifar_res2net(depth: int, width: int, scale: int, num_classes: int = 10) -> ResNet:
    """Return ours for short trainings: ResNet's bottleneck net of ``depth`` = 9n + 2 layers, with splits.

    Raises:
        BadOption: for another depth, or a ``scale`` below 2.
    """
    depths = (layers.units_per_stage(depth, 9),) * 3
    block = partial(ResidualBlock, f=partial(split_bottleneck, width=width, scale=scale))
    return ResNet(block, depths, (64, 128, 256), num_classes=num_classes)


def _cifar(f: Callable[[int, int, int], nn.Module], num_classes: int) -> ResNet:
    return ResNet(partial(ResidualBlock, f=f), (3, 3, 3), (256, 512, 1024), cifar_stem, 64, num_classes)


def _published(where: str, *errors: float) -> list[Published]:
    return top_errors({("1 crop, validation", f"Gao et al. 2019, {where}"): errors})


IMAGENET = {  # name: depth, width, scale and cardinality, parameters, multiply-adds, errors
    "res2net50-26w-4s": ((50, 26, 4, 1), 25_699_120, 4_255_166_464, _published("Table 1", 22.01, 6.15)),
    "res2net50-48w-2s": ((50, 48, 2, 1), 25_287_304, 4_159_832_064, _published("Table 3", 22.68, 6.47)),
    "res2net50-14w-8s": ((50, 14, 8, 1), 25_059_816, 4_178_898_944, _published("Table 3", 21.86, 6.14)),
    "res2net50-26w-6s": ((50, 26, 6, 1), 37_051_448, 6_295_523_328, _published("Table 3", 21.42, 5.87)),
    "res2net50-26w-8s": ((50, 26, 8, 1), 48_403_776, 8_335_880_192, _published("Table 3", 20.80, 5.63)),
    "res2net101-26w-4s": ((101, 26, 4, 1), 45_206_688, 8_066_974_464, _published("Table 2", 20.81, 5.57)),
    "res2next50": ((50, 4, 4, 8), 24_671_464, 4_172_677_120, _published("Table 1", 21.76, 6.09)),
}
for _name, (_shape, _parameters, _multiply_adds, _errors) in IMAGENET.items():
    _depth, _width, _scale, _cardinality = _shape
    register(
        _name,
        partial(imagenet_res2net, *_shape),
        paper=PAPER,
        family="res2net",
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=_errors,
        about=f"{_depth} layers, {_width} maps in each of {_scale} splits"
        + (f", {_cardinality} groups" if _cardinality > 1 else ""),
    )

CIFAR = {  # cardinality, width, scale: parameters, multiply-adds, errors by the paper and a rerun; the same with SE
    (6, 24, 4): ((23_705_732, 3_852_374_016, 16.98, 17.15), (24_227_540, 3_852_890_112, 16.68)),
    (8, 25, 4): ((32_957_436, 5_366_935_552, 16.93, 16.73), (33_479_244, 5_367_451_648, 16.64)),
    (6, 24, 6): ((36_146_180, 5_879_009_280, 16.79, 17.52), (36_667_988, 5_879_525_376, 16.56)),
}
# The errors of the rerun are those of its page's table. Its text still has those of its first version: 19.26, 18.67 and
# 18.57 %.
SOURCES = (("runs not said", "Gao et al. 2019, Table 4"), ("rerun", "github.com/dl19940602/res2net-pytorch"))
for _shape, _nets in CIFAR.items():
    for _build, _suffix, (_parameters, _multiply_adds, *_errors) in zip(
        (cifar_res2next, cifar_se_res2next), ("", "-se"), _nets, strict=True
    ):
        _cardinality, _width, _scale = _shape
        register(
            f"res2next29-{_cardinality}c-{_width}w-{_scale}s{_suffix}",
            partial(_build, *_shape),
            paper=PAPER,
            family="res2net",
            dataset="CIFAR-100",
            input_size=(3, 32, 32),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            published=[
                Published("test error", value, protocol, source, "CIFAR-100")
                for value, (protocol, source) in zip(_errors, SOURCES, strict=False)  # no rerun of some
            ],
            about=f"29 layers for 32x32 images, {_width} maps in each of {_scale} splits, {_cardinality} groups"
            + (", squeeze and excitation" if _suffix else ""),
        )

SMALL = {  # depth, width and scale: parameters and multiply-adds, about those of ResNet's 20 or 47 layers
    (29, 23, 4): (272_147, 40_537_920),
    (47, 48, 2): (495_042, 74_746_368),
    (47, 26, 4): (502_847, 74_381_312),
    (47, 14, 8): (488_692, 71_412_736),
}
for (_depth, _width, _scale), (_parameters, _multiply_adds) in SMALL.items():
    register(
        f"res2net{_depth}-{_width}w-{_scale}s",
        partial(cifar_res2net, _depth, _width, _scale),
        paper=PAPER,
        family="res2net",
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        about=f"{_depth} layers for 32x32 images, {_scale} splits of {_width} maps for 256",
    )
