"""Wide ResNet. Zagoruyko and Komodakis 2016, "Wide Residual Networks", arXiv:1605.07146.

Implements the nets of section 3 for CIFAR, WRN-d-k, and WRN-50-2-bottleneck for ImageNet. WRN-d-k is the pre-activated
ResNet of d layers, k times as wide. B(3, 1, 3), for instance, is a unit of three convolutions with these kernel sizes.

- d counts the 1x1 convolutions of the three shortcuts as well: d = 6n + 4 for n units of two convolutions a stage.
  Table 2 keeps n = (d - 4) / 6 for units of three: only so its nets have the parameters that it prints.
- Dropout precedes every convolution of a unit but the first. The paper has it in B(3, 3) only (Figure 1d).
- Where the paper is silent we follow the authors' code: the first convolution of a unit strides, and the paths split
  after the activation only where the shape changes, which is in every first unit of a stage unless k = 1.
- He initialisation with the fan-in; the authors' code takes the fan-out of convolutions.
- WRN-50-2-bottleneck is not pre-activated. It is ResNet-50 v1.5 with twice as many maps in the 3x3 convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from cnnlib.models import layers
from cnnlib.models.preact import PreActResNet, PreActUnit, SharedPreActUnit
from cnnlib.models.registry import Paper, Published, cifar_errors, register, top_errors, torchvision_v1
from cnnlib.models.resnet import WIDE, ResidualBlock, ResNet, imagenet_stem, three_convolutions

PAPER = Paper(
    key="zagoruyko2016wide",
    title="Wide Residual Networks",
    authors="Zagoruyko and Komodakis",
    year=2016,
    arxiv="1605.07146",
)


def convolutions(
    in_channels: int, out_channels: int, stride: int = 1, kernels: Sequence[int] = (3, 3), dropout: float = 0.0
) -> nn.Sequential:
    """Return F of ``B(*kernels)``: convolutions, and batch norm, ReLU and dropout between any two."""
    f = nn.Sequential()
    for number, kernel in enumerate(kernels, start=1):
        if number > 1:
            f.add_module(f"bn{number}", nn.BatchNorm2d(out_channels))
            f.add_module(f"relu{number}", nn.ReLU())
            f.add_module(f"drop{number}", nn.Dropout(dropout))
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        f.add_module(f"conv{number}", conv)
        in_channels, stride = out_channels, 1
    return f


def first_unit(in_channels: int, out_channels: int, stride: int, f: Callable[[int, int, int], nn.Module]) -> nn.Module:
    """Return the first unit of a stage."""
    unit = PreActUnit if layers.keeps_shape(in_channels, out_channels, stride) else SharedPreActUnit
    return unit(in_channels, out_channels, stride, f)


def wide_net(
    units: int, k: float, kernels: Sequence[int] = (3, 3), num_classes: int = 10, dropout: float = 0.0
) -> PreActResNet:
    """Return the net for 32x32 images with ``units`` units ``B(*kernels)`` a stage, k times as wide as ResNet.

    Raises:
        BadOption: if ``k`` is not positive, or leaves no map.
    """
    f = partial(convolutions, kernels=kernels, dropout=dropout)
    widths = layers.scaled((16, 32, 64), k=k)
    return PreActResNet(
        partial(first_unit, f=f), partial(PreActUnit, f=f), (units,) * 3, widths, num_classes=num_classes
    )


def wrn(depth: int, k: float, num_classes: int = 10, dropout: float = 0.0) -> PreActResNet:
    """Return WRN-``depth``-``k`` for 32x32 images. ``dropout`` is the probability to drop a value.

    Raises:
        BadOption: if ``depth`` is not 6n + 4, or ``k`` is not positive or leaves no map.
    """
    return wide_net(layers.units_per_stage(depth, 6, 4), k, (3, 3), num_classes, dropout)


def wide_bottleneck(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of the bottleneck block with twice the maps of ResNet inside and the stride in the 3x3 convolution."""
    return three_convolutions(in_channels, out_channels // 2, out_channels, (1, stride))


def wrn_50_2_bottleneck(num_classes: int = 1000) -> ResNet:
    """Return WRN-50-2-bottleneck for large images."""
    block = partial(ResidualBlock, f=wide_bottleneck)
    return ResNet(block, (3, 4, 6, 3), WIDE, imagenet_stem, 64, num_classes)


# The two normalisations of the images give different errors; compare those of one kind only. 4.17, which later papers
# quote for WRN-28-10, is with ZCA whitening.
_table = "Zagoruyko and Komodakis 2016, Table {}".format
MEDIAN = "median of 5 runs"
MEAN_STD = (f"mean/std normalisation, {MEDIAN}", _table(5))
MEAN_STD_MEDIAN = (f"mean/std normalisation, {MEDIAN}", _table(6))
DROPOUT = (f"mean/std normalisation, dropout 0.3, {MEDIAN}", _table(6))
ZCA = ("ZCA whitening", _table(4))
TABLE_9 = ("mean/std normalisation, dropout, 1 run", _table(9))
HYSTS = ("rerun, median of 3, batch 64", "github.com/hysts/pytorch_image_classification")
TYPES = (f"whitened images, {MEDIAN}", _table(2))
FACTORS = (f"whitened images, {MEDIAN}", _table(3))

WRN = {  # depth and k: parameters, multiply-adds, published errors
    (40, 1): (563_930, 83_280_512, {ZCA: (6.85, 30.89)}),
    (40, 2): (2_243_546, 327_599_360, {ZCA: (5.33, 26.04), FACTORS: (5.43,)}),
    (40, 4): (8_949_210, 1_298_582_016, {MEAN_STD: (4.53, 21.18), ZCA: (4.97, 22.89)}),
    (40, 8): (35_748_314, 5_172_024_320, {ZCA: (4.66,)}),
    (40, 10): (55_841_754, 8_074_483_968, {TABLE_9: (3.8, 18.3)}),
    (28, 2): (1_467_610, 214_353_152, {TYPES: (5.73,)}),
    (28, 10): (
        *(36_479_194, 5_243_328_768),
        {MEAN_STD_MEDIAN: (4.00, 19.25), DROPOUT: (3.89, 18.85), ZCA: (4.17, 20.50), HYSTS: (4.03,)},
    ),
    (28, 12): (52_517_850, 7_543_905_792, {ZCA: (4.33, 20.43)}),
    (22, 8): (17_158_106, 2_454_115_328, {ZCA: (4.38, 21.22)}),
    (22, 10): (26_797_914, 3_827_751_168, {ZCA: (4.44, 20.75)}),
    (16, 4): (2_748_890, 392_612_352, {MEAN_STD_MEDIAN: (5.02, 24.03), DROPOUT: (5.24, 23.91)}),
    (16, 8): (10_961_370, 1_548_145_664, {MEAN_STD: (4.27, 20.43), ZCA: (4.81, 22.07)}),
    (16, 10): (17_116_634, 2_412_173_568, {ZCA: (4.56, 21.59)}),
    (10, 1.875): (267_414, 39_457_968, {}),  # ours: as many parameters as ResNet-20
    (10, 2.75): (570_010, 81_004_256, {}),  # ours, with the next three: as many parameters as WRN-40-1, other depths
    (16, 1.8125): (568_845, 83_562_632, {}),
    (22, 1.4375): (559_811, 82_757_528, {}),
    (28, 1.25): (575_914, 85_230_368, {}),
    (52, 1): (758_362, 111_592_064, {MEAN_STD_MEDIAN: (6.43, 29.89), DROPOUT: (6.28, 29.78)}),
}
BLOCK_TYPES = {  # depth and kernels, k = 2: units a stage, parameters, multiply-adds, published errors
    (40, (1, 3, 1)): (6, 1_429_082, 208_061_696, {TYPES: (6.06,)}),
    (40, (3, 1)): (6, 1_211_354, 176_604_416, {TYPES: (5.78,)}),
    (40, (1, 3)): (6, 1_297_370, 189_187_328, {TYPES: (6.42,)}),
    (40, (3, 1, 1)): (6, 1_343_066, 195_478_784, {TYPES: (5.86,)}),
    (22, (3, 1, 3)): (3, 1_145_498, 167_167_232, {TYPES: (5.78,)}),
    (40, (3,)): (12, 2_243_546, 327_599_360, {FACTORS: (6.69,)}),
    (40, (3, 3, 3)): (4, 2_243_546, 327_599_360, {FACTORS: (5.65,)}),
    (40, (3, 3, 3, 3)): (3, 2_243_546, 327_599_360, {FACTORS: (5.93,)}),
}
_rows = [
    (
        f"wrn-{depth}-{k}",
        partial(wrn, depth, k),
        *row,
        f"{depth} layers, {'' if k == 1 else f'{k} times '}as wide as ResNet",
    )
    for (depth, k), row in WRN.items()
]
_rows += [
    (
        f"wrn-{depth}-2-b{''.join(map(str, kernels))}",
        partial(wide_net, units, 2, kernels),
        *row,
        f"{units} units a stage, of convolutions of size {', '.join(map(str, kernels))}, twice as wide as ResNet",
    )
    for (depth, kernels), (units, *row) in BLOCK_TYPES.items()
]
for _name, _build, _parameters, _multiply_adds, _errors, _about in _rows:
    register(
        _name,
        _build,
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors(_errors),
        about=f"{_about}, for 32x32 images",
    )

register(
    "wrn-50-2-bottleneck",
    wrn_50_2_bottleneck,
    paper=PAPER,
    input_size=(3, 224, 224),
    parameters=68_883_240,
    multiply_adds=11_398_021_120,
    published=[
        *top_errors({("1 crop, validation", _table(8)): (21.9, 6.03)}),
        Published("top-5 error", 5.79, "1 crop, validation; Table 8 has this for pre-activation ResNet-200", _table(9)),
        *top_errors({torchvision_v1("Wide_ResNet50_2"): (21.532, 5.914)}),
    ],
    about="ResNet-50 with twice as many maps in the 3x3 convolutions, which stride",
)
