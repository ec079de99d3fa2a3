"""ResNet. He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

Implements the ImageNet nets of Table 1 and the CIFAR-10 nets of section 4.2, plain and residual. A network is data: a
block, how many of it in each stage, how wide each stage is, and a stem. A block is data too: its residual branch F and
its shortcut, which are functions of (in_channels, out_channels, stride). Where the paper leaves a choice, or others
deviate:

- The zeros of the parameter-free shortcut (option A) are appended after the copied maps.
- He initialisation, as in sections 3.4 and 4.2, with the fan-in. torchvision takes the fan-out of convolutions.
- Option B is the default on ImageNet: by the caption of Table 3 the nets of 50 to 152 layers have it. The 18 layers of
  Table 2 have A, which is the default on CIFAR-10.
- A bottleneck that halves the image does so in its first 1x1 convolution, as in the authors' models. torchvision and
  most of today's code do it in the 3x3 convolution, at 6 % more multiply-adds for 50 layers and 2 % for 152:
  :func:`bottleneck_v1_5`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.registry import HU_RERUN, BadOption, Paper, Published, register, top_errors, torchvision_v1

PAPER = Paper(
    key="he2016deep",
    title="Deep Residual Learning for Image Recognition",
    authors="He, Zhang, Ren and Sun",
    year=2015,
    arxiv="1512.03385",
)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the image size up to its stride. The batch norm after it brings the bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class PadShortcut(nn.Module):
    """Option A where the shape changes: take every ``stride``-th pixel, and zeros for the maps that are new.

    Raises:
        BadOption: if fewer maps go out than come in.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if out_channels < in_channels:
            raise BadOption(f"option A adds maps and drops none, but {in_channels} come in and {out_channels} go out")
        self.subsample = nn.AvgPool2d(1, stride)
        self.new_maps = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.subsample(x), (0, 0, 0, 0, 0, self.new_maps))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the shortcut with parameters: a 1x1 convolution and batch norm."""
    return layers.conv_bn(in_channels, out_channels, 1, stride)


def option_a(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of option A (section 4.1): never a parameter."""
    shape = in_channels, out_channels, stride
    return nn.Identity() if layers.keeps_shape(*shape) else PadShortcut(*shape)


def option_b(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of option B: a projection where the shape changes."""
    shape = in_channels, out_channels, stride
    return nn.Identity() if layers.keeps_shape(*shape) else projection(*shape)


SHORTCUTS = {"A": option_a, "B": option_b, "C": projection}


def find_shortcut(option: str) -> Callable[[int, int, int], nn.Module]:
    """Return the function that makes the shortcuts of option A, B or C (everywhere a projection).

    Raises:
        BadOption: if ``option`` is none of the three.
    """
    if option not in SHORTCUTS:
        raise BadOption(f"shortcut is 'A', 'B' or 'C', not {option!r}")
    return SHORTCUTS[option]


def two_convolutions(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of the basic block: two 3x3 convolutions with batch norm, and a ReLU between them."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_channels, out_channels, stride),
            bn1=nn.BatchNorm2d(out_channels),
            relu1=nn.ReLU(),
            conv2=conv3x3(out_channels, out_channels),
            bn2=nn.BatchNorm2d(out_channels),
        )
    )


def three_convolutions(
    in_channels: int, width: int, out_channels: int, strides: tuple[int, int], groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return a 1x1 convolution to ``width`` maps, a 3x3 one among them and a 1x1 one to ``out_channels`` (Figure 5).

    ``strides`` are those of the first two; ``groups`` and ``dilation`` belong to the 3x3 convolution.
    """
    first, middle = strides
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, width, 1, stride=first, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, middle, padding=dilation, dilation=dilation, groups=groups, bias=False),
            bn2=nn.BatchNorm2d(width),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(width, out_channels, 1, bias=False),
            bn3=nn.BatchNorm2d(out_channels),
        )
    )


def bottleneck(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of the bottleneck block: a quarter as many maps inside, and the stride in the first convolution."""
    return three_convolutions(in_channels, out_channels // 4, out_channels, (stride, 1))


def bottleneck_v1_5(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of the bottleneck block with the stride in the 3x3 convolution."""
    return three_convolutions(in_channels, out_channels // 4, out_channels, (1, stride))


class PlainBlock(nn.Module):
    """A plain block, ``y = ReLU(F(x))``: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        f: Callable[[int, int, int], nn.Module] = two_convolutions,
    ):
        super().__init__()
        self.f = f(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.f(x))


class ResidualBlock(nn.Module):
    """The same layers with a shortcut, ``y = ReLU(shortcut(x) + F(x))`` (equation 2, Figure 2)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        f: Callable[[int, int, int], nn.Module] = two_convolutions,
        shortcut: Callable[[int, int, int], nn.Module] = option_b,
    ):
        super().__init__()
        self.f = f(in_channels, out_channels, stride)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.shortcut(x) + self.f(x))


def cifar_stem(width: int) -> nn.Sequential:
    """Return the first layer for small images: (N, 3, H, W) to (N, width, H, W)."""
    return nn.Sequential(OrderedDict(conv=conv3x3(3, width), bn=nn.BatchNorm2d(width), relu=nn.ReLU()))


def imagenet_stem(width: int) -> nn.Sequential:
    """Return the first layers for large images: (N, 3, H, W) to (N, width, H/4, W/4)."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            bn=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(3, stride=2, padding=1),
        )
    )


def make_stages(
    block: Callable[[int, int, int], nn.Module],
    depths: Sequence[int],
    widths: Sequence[int],
    in_channels: int,
    first: Callable[[int, int, int], nn.Module] | None = None,
) -> nn.Sequential:
    """Return stages of blocks. Every stage but the first halves the image in its first block.

    Args:
        block: ``block(in_channels, out_channels, stride)`` makes one block.
        depths: number of blocks in each stage.
        widths: number of maps that each stage puts out.
        in_channels: number of maps that the first stage gets.
        first: makes the first block of each stage; ``block`` unless given.

    Raises:
        BadOption: if a stage has no block, or there is not one width for each.
    """
    layers.require_blocks(depths)
    if len(depths) != len(widths):
        raise BadOption(f"each stage has a depth and a width, unlike in depths {tuple(depths)}, widths {tuple(widths)}")
    first = first or block
    stages = nn.Sequential()
    for depth, width in zip(depths, widths, strict=True):
        stride = 1 if len(stages) == 0 else 2
        stages.append(
            nn.Sequential(first(in_channels, width, stride), *(block(width, width, 1) for _ in range(depth - 1)))
        )
        in_channels = width
    return stages


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling, one linear layer.

    Args:
        block, depths, widths: as for :func:`make_stages`.
        stem: ``stem(width)`` makes the layers before the first stage.
        stem_width: number of maps that the stem puts out.
        num_classes: number of logits.

    Raises:
        BadOption: if a stage has no block, or there is not one width for each.
    """

    min_size = 1

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        depths: Sequence[int],
        widths: Sequence[int],
        stem: Callable[[int], nn.Module] = cifar_stem,
        stem_width: int = 16,
        num_classes: int = 10,
    ):
        super().__init__()
        self.stem = stem(stem_width)
        self.stages = make_stages(block, depths, widths, stem_width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))


def cifar_resnet(
    depth: int, num_classes: int = 10, shortcut: str = "A", width: float = 1.0, last_gain: float = 1.0
) -> ResNet:
    """Return the residual net of ``depth`` = 6n + 2 layers for 32x32 images, with the shortcuts of one option.

    ``width`` multiplies the paper's numbers of maps. ``last_gain`` is what the last batch norm of each branch begins
    to multiply with; 0 in Goyal et al. 2017 (arXiv 1706.02677), section 5.1, where each block begins without its F.

    Raises:
        BadOption: for another depth, if ``shortcut`` is not ``"A"``, ``"B"`` or ``"C"``, if ``width`` is not positive
            or leaves no map, or if ``last_gain`` is not finite.
    """
    if not math.isfinite(last_gain):
        raise BadOption(f"last_gain is a finite number, not {last_gain}")
    block = partial(ResidualBlock, shortcut=find_shortcut(shortcut))
    net = _cifar(block, depth, width, num_classes)
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            nn.init.constant_(module.f.bn2.weight, last_gain)
    return net


def cifar_plain(depth: int, num_classes: int = 10, width: float = 1.0) -> ResNet:
    """Return the plain net of ``depth`` = 6n + 2 layers for 32x32 images. ``width`` as above.

    Raises:
        BadOption: for another depth, or if ``width`` is not positive or leaves no map.
    """
    return _cifar(PlainBlock, depth, width, num_classes)


def _cifar(block: Callable[[int, int, int], nn.Module], depth: int, width: float, num_classes: int) -> ResNet:
    widths = layers.scaled((16, 32, 64), width=width)
    return ResNet(block, cifar_depths(depth), widths, stem_width=widths[0], num_classes=num_classes)


def cifar_depths(depth: int) -> tuple[int, int, int]:
    """Return the number n of blocks in each of the three stages of a net of ``depth`` = 6n + 2 layers.

    Raises:
        BadOption: for another depth.
    """
    return (layers.units_per_stage(depth, 6),) * 3


NARROW, WIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)
TABLE_1 = {  # F, widths and depths of the four stages
    "18": (two_convolutions, NARROW, (2, 2, 2, 2)),
    "34": (two_convolutions, NARROW, (3, 4, 6, 3)),
    "50": (bottleneck, WIDE, (3, 4, 6, 3)),
    "101": (bottleneck, WIDE, (3, 4, 23, 3)),
    "152": (bottleneck, WIDE, (3, 8, 36, 3)),
    "50-v1.5": (bottleneck_v1_5, WIDE, (3, 4, 6, 3)),
    "101-v1.5": (bottleneck_v1_5, WIDE, (3, 4, 23, 3)),
    "152-v1.5": (bottleneck_v1_5, WIDE, (3, 8, 36, 3)),
}


def imagenet_resnet(row: str, num_classes: int = 1000, shortcut: str = "B") -> ResNet:
    """Return the residual net of one row of :data:`TABLE_1`, ``"18"`` to ``"152-v1.5"``, for large images.

    Raises:
        BadOption: for another row, or if ``shortcut`` is not ``"A"``, ``"B"`` or ``"C"``.
    """
    return _imagenet(partial(ResidualBlock, shortcut=find_shortcut(shortcut)), row, num_classes)


def imagenet_plain(row: str, num_classes: int = 1000) -> ResNet:
    """Return the same net without shortcuts.

    Raises:
        BadOption: for another row.
    """
    return _imagenet(PlainBlock, row, num_classes)


def _imagenet(block: Callable[..., nn.Module], row: str, num_classes: int) -> ResNet:
    if str(row) not in TABLE_1:
        raise BadOption(f"there is no net of {row!r} layers; there are {', '.join(TABLE_1)}")
    f, widths, depths = TABLE_1[str(row)]
    return ResNet(partial(block, f=f), depths, widths, imagenet_stem, 64, num_classes)


RERUNS = {  # repository, and how its protocol differs
    "akamaster": ("akamaster/pytorch_resnet_cifar10", "rerun, best epoch on the test set"),
    "chenyaofo": ("chenyaofo/pytorch-cifar-models", "rerun with shortcuts B"),
    "hysts": ("hysts/pytorch_image_classification", "rerun, median of 3"),
    "junyuseu": ("junyuseu/pytorch-cifar-models", "rerun with shortcuts B, 1 run"),
    "techxzen": ("techxzen/pytorch-residual-networks", "rerun, batch 100, edge padding"),
}


def _paper(value: float, protocol: str = "1 run", **spread: float) -> Published:
    return Published("test error", value, protocol, "He et al. 2015, Table 6", "CIFAR-10", **spread)


def _rerun(who: str, value: float) -> Published:
    repository, protocol = RERUNS[who]
    return Published("test error", value, protocol, f"github.com/{repository}", "CIFAR-10")


RESIDUAL_ERRORS = {
    20: [
        _paper(8.75),
        *(_rerun("akamaster", 8.27), _rerun("chenyaofo", 7.40), _rerun("junyuseu", 8.33), _rerun("techxzen", 8.74)),
    ],
    32: [
        _paper(7.51),
        *(_rerun("akamaster", 7.37), _rerun("chenyaofo", 6.47), _rerun("junyuseu", 7.36), _rerun("techxzen", 8.30)),
    ],
    44: [
        _paper(7.17),
        *(_rerun("akamaster", 6.90), _rerun("chenyaofo", 5.99), _rerun("junyuseu", 6.77), _rerun("techxzen", 7.16)),
    ],
    56: [
        _paper(6.97),
        *(_rerun("akamaster", 6.61), _rerun("chenyaofo", 5.63), _rerun("junyuseu", 6.73), _rerun("techxzen", 7.41)),
    ],
    110: [
        *(_paper(6.61, "mean of 5 runs", std=0.16), _paper(6.43, "best of 5 runs")),
        *(_rerun("akamaster", 6.32), _rerun("junyuseu", 6.13), _rerun("hysts", 6.52)),
    ],
    1202: [_paper(7.93), _rerun("akamaster", 6.18)],
}
PLAIN_ERRORS = {  # the paper shows curves only (Figure 6) and says that plain-110 is above 60 %
    20: [_rerun("techxzen", 10.08)],
    32: [_rerun("techxzen", 11.15)],
    44: [_rerun("techxzen", 14.12)],
    56: [_rerun("techxzen", 15.39)],
}
CIFAR_COUNTS = {  # depth: parameters and multiply-adds, of both kinds alike
    20: (269_722, 40_551_040),
    32: (464_154, 68_862_592),
    44: (658_586, 97_174_144),
    56: (853_018, 125_485_696),
    110: (1_727_962, 252_887_680),
    1202: (19_421_274, 2_829_238_912),
}
for _name, _build, _errors, _about in (
    ("resnet", cifar_resnet, RESIDUAL_ERRORS, "with shortcuts"),
    ("plain", cifar_plain, PLAIN_ERRORS, "without shortcuts"),
):
    for _depth, (_parameters, _multiply_adds) in CIFAR_COUNTS.items():
        register(
            f"{_name}{_depth}",
            partial(_build, _depth),
            paper=PAPER,
            family="resnet",
            dataset="CIFAR-10",
            input_size=(3, 32, 32),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            published=_errors.get(_depth, ()),
            about=f"{_depth} layers for 32x32 images, {_about}",
        )

TEN_CROPS = ("10 crops, validation", "He et al. 2015, Table 3")
MANY_SCALES = ("fully convolutional at several scales, validation", "He et al. 2015, Table 4")
ONE_CROP = ("1 crop, validation", "github.com/KaimingHe/deep-residual-networks")
FB_TORCH = ("rerun, 1 crop, validation", "github.com/facebookarchive/fb.resnet.torch")
CROP_320 = ("1 crop of 320x320, validation", "He et al. 2016, Table 5")
SIX_NETS = Published("top-5 error", 3.57, "6 nets of several depths, test", "He et al. 2015, Table 5", networks=6)
IMAGENET = {  # row: parameters and multiply-adds, then published errors
    "18": (
        *(11_689_512, 1_814_073_344),
        top_errors(
            {
                ("shortcuts A, 10 crops, validation", "He et al. 2015, Table 2"): (27.88,),
                torchvision_v1("ResNet18"): (30.242, 10.922),
            }
        ),
    ),
    "34": (
        *(21_797_672, 3_663_761_408),
        top_errors(
            {
                TEN_CROPS: (24.52, 7.46),
                ("shortcuts A, 10 crops, validation", "He et al. 2015, Table 3"): (25.03, 7.76),
                ("shortcuts C, 10 crops, validation", "He et al. 2015, Table 3"): (24.19, 7.40),
                torchvision_v1("ResNet34"): (26.686, 8.580),
            }
        ),
    ),
    "50": (
        *(25_557_032, 3_857_973_248),
        top_errors(
            {TEN_CROPS: (22.85, 6.71), ONE_CROP: (24.7, 7.8), MANY_SCALES: (20.74, 5.25), HU_RERUN: (24.80, 7.48)}
        ),
    ),
    "101": (
        *(44_549_160, 7_570_194_432),
        top_errors(
            {TEN_CROPS: (21.75, 6.05), ONE_CROP: (23.6, 7.1), MANY_SCALES: (19.87, 4.60), HU_RERUN: (23.17, 6.52)}
        ),
    ),
    "152": (
        *(60_192_808, 11_282_415_616),
        [
            *top_errors(
                {
                    TEN_CROPS: (21.43, 5.71),
                    ONE_CROP: (23.0, 6.7),
                    MANY_SCALES: (19.38, 4.49),
                    CROP_320: (21.3, 5.5),
                    HU_RERUN: (22.42, 6.34),
                }
            ),
            SIX_NETS,
        ],
    ),
    "50-v1.5": (
        *(25_557_032, 4_089_184_256),
        top_errors(
            {
                ("rerun, 1 crop, validation", "Gao et al. 2019, Table 1"): (23.85, 7.13),
                torchvision_v1("ResNet50"): (23.870, 7.138),
            }
        ),
    ),
    "101-v1.5": (
        *(44_549_160, 7_801_405_440),
        top_errors({FB_TORCH: (22.44, 6.21), torchvision_v1("ResNet101"): (22.626, 6.454)}),
    ),
    "152-v1.5": (
        *(60_192_808, 11_513_626_624),
        top_errors({FB_TORCH: (22.16, 6.16), torchvision_v1("ResNet152"): (21.688, 5.954)}),
    ),
}
IMAGENET_PLAIN = {
    "18": (
        *(11_515_688, 1_794_805_760),
        top_errors({("10 crops, validation", "He et al. 2015, Table 2"): (27.94,)}),
    ),
    "34": (21_623_848, 3_644_493_824, top_errors({TEN_CROPS: (28.54, 10.02)})),
    "50": (22_780_456, 3_498_311_680, ()),
    "101": (41_772_584, 7_210_532_864, ()),
    "152": (57_416_232, 10_922_754_048, ()),
    "50-v1.5": (22_780_456, 3_729_522_688, ()),
    "101-v1.5": (41_772_584, 7_441_743_872, ()),
    "152-v1.5": (57_416_232, 11_153_965_056, ()),
}
for _name, _build, _rows, _about in (
    ("resnet", imagenet_resnet, IMAGENET, "with shortcuts"),
    ("plain", imagenet_plain, IMAGENET_PLAIN, "without shortcuts"),
):
    for _row, (_parameters, _multiply_adds, _errors) in _rows.items():
        _depth, _, _version = _row.partition("-")
        register(
            f"{_name}{_row}",
            partial(_build, _row),
            paper=PAPER,
            family="resnet",
            input_size=(3, 224, 224),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            published=_errors,
            about=f"{_depth} layers, {_about}" + (", stride in the 3x3 convolutions" if _version else ""),
        )
