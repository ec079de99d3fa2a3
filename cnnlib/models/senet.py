"""Squeeze-and-excitation. Hu, Shen and Sun 2018, "Squeeze-and-Excitation Networks", arXiv:1709.01507.

Implements the module of Figure 1 in the place of Figure 3, the nets of Table 1 and SENet-154. It fits any residual net:
it stands at the end of the residual branch, after its last batch norm and before the addition, and so
:func:`with_squeeze_excitation` makes a new branch of an old one. Choices and deviations:

- Two 1x1 convolutions with biases on maps of one pixel are the two fully connected layers.
- He initialisation with the fan-in, in these two layers too.
- SENet-154 has four changes: a stem of three 3x3 convolutions, half as many maps after the first convolution of a
  branch, a 3x3 convolution in the shortcuts that halve the image, and dropout before the classifier.
- SE-ResNet strides as ResNet does in the paper of 2015, in the first 1x1 convolution. timm's does it in the 3x3
  convolution: ``se-resnet50-v1.5``.
- The authors' Caffe models pool after the first convolution without padding. Ours pad, as all our ResNets do.
- Results on CIFAR, and on crops of 320 pixels, are in the paper's later version only (Hu et al. 2020). Its rows of
  "SE-ResNet" are pre-activated nets, as their errors without the module show: here ``se-preact110`` and
  ``se-preact164``. ``se-preact20`` is the same for short runs. ``se-resnet20`` to ``se-resnet110`` are not in the
  paper; they have shortcuts of option B.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from cnnlib.models.preact import PreActResNet, PreActUnit, SharedPreActUnit, bare_option_b, without_last_bn
from cnnlib.models.registry import BadOption, Paper, cifar_errors, register, top_errors
from cnnlib.models.resnet import (
    WIDE,
    ResidualBlock,
    ResNet,
    bottleneck,
    bottleneck_v1_5,
    cifar_stem,
    conv3x3,
    find_shortcut,
    imagenet_stem,
    option_a,
    option_b,
    two_convolutions,
)
from cnnlib.models.resnext import CIFAR_WIDTHS, aggregated_transformations
from cnnlib.models.wrn import convolutions, first_unit

PAPER = Paper(
    key="hu2018squeeze",
    title="Squeeze-and-Excitation Networks",
    authors="Hu, Shen and Sun",
    year=2017,
    arxiv="1709.01507",
)
Branch = Callable[[int, int, int], nn.Module]


class SqueezeExcitation(nn.Module):
    """Rescale each map of (N, channels, H, W) by a factor between 0 and 1 computed from the averages of all maps.

    Equations 2 to 4. ``squeezed`` is the number of hidden values, ``activation`` the non-linearity on them.
    """

    def __init__(self, channels: int, squeezed: int, activation: Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, squeezed, 1),
                activation=activation(),
                conv2=nn.Conv2d(squeezed, channels, 1),
                sigmoid=nn.Sigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(self.squeeze(x))


def with_squeeze_excitation(f: Branch, reduction: int = 16) -> Branch:
    """Return the branch ``f`` with squeeze and excitation at its end, through ``out_channels / reduction`` values.

    Raises:
        BadOption: by the new branch, if ``reduction`` is not between 1 and its maps.
    """

    def branch(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
        if not 1 <= reduction <= out_channels:
            raise BadOption(f"reduction is from 1 to the {out_channels} maps of the narrowest stage, not {reduction}")
        se = SqueezeExcitation(out_channels, out_channels // reduction)
        return nn.Sequential(OrderedDict(f=f(in_channels, out_channels, stride), se=se))

    return branch


def cifar_senet(
    f: Branch,
    depths: Sequence[int],
    widths: Sequence[int],
    stem_width: int,
    num_classes: int = 10,
    shortcut: str = "B",
    reduction: int = 16,
) -> ResNet:
    """Return the residual net of branches ``f`` for 32x32 images, with squeeze and excitation.

    Raises:
        BadOption: if ``shortcut`` is not ``"A"``, ``"B"`` or ``"C"``, or ``reduction`` not between 1 and the maps of
            the narrowest stage.
    """
    block = partial(ResidualBlock, f=with_squeeze_excitation(f, reduction), shortcut=find_shortcut(shortcut))
    return ResNet(block, depths, widths, cifar_stem, stem_width, num_classes)


def se_preact(
    f: Branch,
    depths: Sequence[int],
    widths: Sequence[int],
    shortcut: Branch,
    num_classes: int = 10,
    reduction: int = 16,
) -> PreActResNet:
    """Return the net of full pre-activation for 32x32 images, with squeeze and excitation.

    ``shortcut`` makes the shortcuts of the first unit of each stage; the module stands after the last convolution.

    Raises:
        BadOption: if ``reduction`` is not between 1 and the maps of the narrowest stage.
    """
    f = with_squeeze_excitation(partial(without_last_bn, f), reduction)
    first = partial(SharedPreActUnit, f=f, shortcut=shortcut)
    return PreActResNet(first, partial(PreActUnit, f=f), depths, widths, num_classes=num_classes)


def se_wrn(
    depths: Sequence[int], k: int, num_classes: int = 10, dropout: float = 0.0, reduction: int = 16
) -> PreActResNet:
    """Return the wide residual net k times as wide as ResNet for 32x32 images, with squeeze and excitation.

    Raises:
        BadOption: if ``reduction`` is not between 1 and the maps of the narrowest stage.
    """
    f = with_squeeze_excitation(partial(convolutions, dropout=dropout), reduction)
    widths = (16 * k, 32 * k, 64 * k)
    return PreActResNet(partial(first_unit, f=f), partial(PreActUnit, f=f), depths, widths, num_classes=num_classes)


def three_convolution_stem(width: int) -> nn.Sequential:
    """Return three 3x3 convolutions in place of the 7x7 one: (N, 3, H, W) to (N, width, H/4, W/4)."""
    stem = nn.Sequential()
    shapes = ((3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1))
    for number, (in_channels, out_channels, stride) in enumerate(shapes, start=1):
        stem.add_module(f"conv{number}", conv3x3(in_channels, out_channels, stride))
        stem.add_module(f"bn{number}", nn.BatchNorm2d(out_channels))
        stem.add_module(f"relu{number}", nn.ReLU())
    stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
    return stem


def halved_bottleneck(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of SENet-154: that of ResNeXt 64x4d with half as many maps after the first convolution."""
    half = out_channels // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, half, 1, bias=False),
            bn1=nn.BatchNorm2d(half),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(half, out_channels, 3, stride=stride, padding=1, groups=64, bias=False),
            bn2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(out_channels, out_channels, 1, bias=False),
            bn3=nn.BatchNorm2d(out_channels),
        )
    )


def projection_3x3(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of option B, but for a 3x3 convolution where the image is halved."""
    if stride == 1:
        return option_b(in_channels, out_channels, stride)
    return nn.Sequential(OrderedDict(conv=conv3x3(in_channels, out_channels, stride), bn=nn.BatchNorm2d(out_channels)))


def imagenet_senet(
    f: Branch,
    shortcut: Branch,
    stem: Callable[[int], nn.Module],
    stem_width: int,
    depths: Sequence[int],
    num_classes: int = 1000,
    dropout: float = 0.0,
    reduction: int = 16,
) -> ResNet:
    """Return the residual net of branches ``f`` for large images, with squeeze and excitation (Table 1).

    ``dropout`` is the probability of dropping an input of the classifier.

    Raises:
        BadOption: if ``reduction`` is not between 1 and the maps of the narrowest stage.
    """
    block = partial(ResidualBlock, f=with_squeeze_excitation(f, reduction), shortcut=shortcut)
    net = ResNet(block, depths, WIDE, stem, stem_width, num_classes)
    net.pool = nn.Sequential(OrderedDict(average=net.pool, dropout=nn.Dropout(dropout)))
    return net


BASIC, BOTTLENECK = (16, 32, 64), (64, 128, 256)
RESNEXT_8X64D = partial(aggregated_transformations, cardinality=8, base_width=64)
RESNEXT_32X4D = partial(aggregated_transformations, cardinality=32, base_width=4)
TABLES_4_AND_5 = ("crops and flips", "Hu et al. 2020, Tables 4 and 5")
CIFAR = {  # the net that it is added to: build, parameters, multiply-adds, published errors
    "resnet20": (partial(cifar_senet, two_convolutions, (3, 3, 3), BASIC, 16), 274_847, 40_815_200, ()),
    "resnet32": (partial(cifar_senet, two_convolutions, (5, 5, 5), BASIC, 16), 470_861, 69_128_096, ()),
    "resnet44": (partial(cifar_senet, two_convolutions, (7, 7, 7), BASIC, 16), 666_875, 97_440_992, ()),
    "resnet56": (partial(cifar_senet, two_convolutions, (9, 9, 9), BASIC, 16), 862_889, 125_753_888, ()),
    "resnet110": (partial(cifar_senet, two_convolutions, (18, 18, 18), BASIC, 16), 1_744_952, 253_161_920, ()),
    "preact20": (partial(se_preact, two_convolutions, (3, 3, 3), BASIC, option_a), 272_095, 40_553_056, ()),
    "preact110": (
        *(partial(se_preact, two_convolutions, (18, 18, 18), BASIC, option_a), 1_742_200, 252_899_776),
        (5.21, 23.85),
    ),
    "preact164": (
        *(partial(se_preact, bottleneck, (18, 18, 18), BOTTLENECK, bare_option_b), 1_905_362, 244_694_528),
        (4.39, 21.31),
    ),
    "wrn-16-8": (partial(se_wrn, (2, 2, 2), 8), 11_049_290, 1_548_231_680, (3.88, 19.14)),
    "resnext29-8x64d": (
        *(partial(cifar_senet, RESNEXT_8X64D, (3, 3, 3), CIFAR_WIDTHS, 64), 34_948_506, 5_387_782_144, ()),
    ),
}
for _name, (_build, _parameters, _multiply_adds, _errors) in CIFAR.items():
    register(
        f"se-{_name}",
        _build,
        paper=PAPER,
        dataset="CIFAR-10",
        family="senet",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors({TABLES_4_AND_5: _errors}),
        about=f"{_name} with squeeze and excitation, for 32x32 images",
    )

AUTHORS = ("1 crop, validation", "github.com/hujie-frank/SENet")
TABLE_2 = ("1 crop, validation", "Hu et al. 2018, Table 2")
CROP_320 = ("1 crop of 320x320 pixels, validation", "Hu et al. 2020, Table 8")
SE_RESNET = partial(imagenet_senet, bottleneck, option_b, imagenet_stem, 64)
SE_RESNET_V1_5 = partial(imagenet_senet, bottleneck_v1_5, option_b, imagenet_stem, 64)
SE_RESNEXT = partial(imagenet_senet, RESNEXT_32X4D, option_b, imagenet_stem, 64)
SENET = partial(imagenet_senet, halved_bottleneck, projection_3x3, three_convolution_stem, 128)
_WITH = "{} with squeeze and excitation".format
IMAGENET = {  # build, parameters, multiply-adds, published errors, about
    "se-resnet50": (
        *(partial(SE_RESNET, (3, 4, 6, 3)), 28_088_024, 3_860_488_192),
        *({AUTHORS: (22.37, 6.36), TABLE_2: (23.29, 6.62)}, _WITH("resnet50")),
    ),
    "se-resnet101": (
        *(partial(SE_RESNET, (3, 4, 23, 3)), 49_326_872, 7_574_937_600),
        *({AUTHORS: (21.75, 5.72), TABLE_2: (22.38, 6.07)}, _WITH("resnet101")),
    ),
    "se-resnet152": (
        *(partial(SE_RESNET, (3, 8, 36, 3)), 66_821_848, 11_288_993_792),
        *({AUTHORS: (21.34, 5.54), TABLE_2: (21.57, 5.73)}, _WITH("resnet152")),
    ),
    "se-resnet50-v1.5": (
        *(partial(SE_RESNET_V1_5, (3, 4, 6, 3)), 28_088_024, 4_091_699_200),
        *({}, _WITH("resnet50-v1.5")),
    ),
    "se-resnext50-32x4d": (
        *(partial(SE_RESNEXT, (3, 4, 6, 3)), 27_559_896, 4_232_994_816),
        *({AUTHORS: (20.97, 5.54), TABLE_2: (21.10, 5.49)}, _WITH("resnext50-32x4d")),
    ),
    "se-resnext101-32x4d": (
        *(partial(SE_RESNEXT, (3, 4, 23, 3)), 48_955_416, 7_974_739_968),
        *({AUTHORS: (19.81, 4.96), TABLE_2: (20.70, 5.01)}, _WITH("resnext101-32x4d")),
    ),
    "senet154": (
        *(partial(SENET, (3, 8, 36, 3), dropout=0.2), 115_088_984, 20_688_363_520),
        *(
            {AUTHORS: (18.68, 4.47), CROP_320: (17.28, 3.79)},
            "ResNeXt of 152 layers, 64x4d, with squeeze and excitation and four changes",
        ),
    ),
}
for _name, (_build, _parameters, _multiply_adds, _errors, _about) in IMAGENET.items():
    register(
        _name,
        _build,
        paper=PAPER,
        family="senet",
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=_about,
    )
