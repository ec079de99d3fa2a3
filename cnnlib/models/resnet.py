"""ResNet. He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

Implements the CIFAR-10 nets of section 4.2 and Table 6, plain and residual, of 6n+2 layers. A network is data: a block,
how many of it in each stage, how wide each stage is, and a stem. Where the paper leaves a choice:

- The zeros of the parameter-free shortcut (option A) are appended after the copied maps.
- He initialisation with the fan-in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, Published, register

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
    """Option A where the shape changes: take every ``stride``-th pixel, and zeros for the maps that are new."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.subsample = nn.AvgPool2d(1, stride)
        self.new_maps = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.subsample(x), (0, 0, 0, 0, 0, self.new_maps))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the shortcut with parameters: a 1x1 convolution and batch norm."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), bn=nn.BatchNorm2d(out_channels)
        )
    )


def make_shortcut(option: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of section 4.1: A never has parameters, B where the shape changes, C always.

    Raises:
        BadOption: if ``option`` is none of the three.
    """
    if option not in ("A", "B", "C"):
        raise BadOption(f"shortcut is 'A', 'B' or 'C', not {option!r}")
    same_shape = stride == 1 and in_channels == out_channels
    if option == "C" or (option == "B" and not same_shape):
        return projection(in_channels, out_channels, stride)
    return nn.Identity() if same_shape else PadShortcut(in_channels, out_channels, stride)


def two_convolutions(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
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


class PlainBlock(nn.Module):
    """A plain block, ``y = ReLU(F(x))``: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.f = two_convolutions(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.f(x))


class BasicBlock(nn.Module):
    """The same two layers with a shortcut, ``y = ReLU(x + F(x))`` (Figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = "A"):
        super().__init__()
        self.f = two_convolutions(in_channels, out_channels, stride)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.shortcut(x) + self.f(x))


def cifar_stem(width: int) -> nn.Sequential:
    """Return the first layer for small images: (N, 3, H, W) to (N, width, H, W)."""
    return nn.Sequential(OrderedDict(conv=conv3x3(3, width), bn=nn.BatchNorm2d(width), relu=nn.ReLU()))


class ResNet(nn.Module):
    """A stem, stages of blocks, global average pooling, one linear layer.

    Args:
        block: ``block(in_channels, out_channels, stride)`` makes one block.
        depths: number of blocks in each stage. Every stage but the first halves the image in its first block.
        widths: number of maps that each stage puts out.
        stem: ``stem(width)`` makes the layers before the first stage.
        stem_width: number of maps that the stem puts out.
        num_classes: number of logits.
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
        self.stages = nn.Sequential()
        in_channels = stem_width
        for depth, width in zip(depths, widths, strict=True):
            stage = nn.Sequential()
            for index in range(depth):
                stride = 2 if index == 0 and len(self.stages) > 0 else 1
                stage.append(block(in_channels, width, stride))
                in_channels = width
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(in_channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))


def cifar_resnet(depth: int, num_classes: int = 10, shortcut: str = "A") -> ResNet:
    """Return the residual net of ``depth`` = 6n + 2 layers for 32x32 images, with the shortcuts of one option.

    Raises:
        BadOption: for another depth, or if ``shortcut`` is not ``"A"``, ``"B"`` or ``"C"``.
    """
    return ResNet(partial(BasicBlock, shortcut=shortcut), _cifar_depths(depth), (16, 32, 64), num_classes=num_classes)


def cifar_plain(depth: int, num_classes: int = 10) -> ResNet:
    """Return the plain net of ``depth`` = 6n + 2 layers for 32x32 images.

    Raises:
        BadOption: for another depth.
    """
    return ResNet(PlainBlock, _cifar_depths(depth), (16, 32, 64), num_classes=num_classes)


def _cifar_depths(depth: int) -> tuple[int, int, int]:
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise BadOption(f"these nets have 6n + 2 layers (8, 14, 20, ...), not {depth}")
    return (blocks, blocks, blocks)


RERUNS = {  # repository, and how its protocol differs
    "akamaster": ("akamaster/pytorch_resnet_cifar10", "rerun, best epoch on the test set"),
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
    20: [_paper(8.75), _rerun("akamaster", 8.27), _rerun("junyuseu", 8.33), _rerun("techxzen", 8.74)],
    32: [_paper(7.51), _rerun("akamaster", 7.37), _rerun("junyuseu", 7.36), _rerun("techxzen", 8.30)],
    44: [_paper(7.17), _rerun("akamaster", 6.90), _rerun("junyuseu", 6.77), _rerun("techxzen", 7.16)],
    56: [_paper(6.97), _rerun("akamaster", 6.61), _rerun("junyuseu", 6.73), _rerun("techxzen", 7.41)],
    110: [
        *(_paper(6.61, "mean of 5 runs", runs=5, std=0.16), _paper(6.43, "best of 5 runs")),
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
