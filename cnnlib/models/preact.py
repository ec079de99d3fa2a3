"""Pre-activation ResNet. He, Zhang, Ren and Sun 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.

Implements the five orders of batch norm, ReLU and addition of Figure 4, for basic and for bottleneck units, in the nets
of Tables 2 to 5. All five have the same convolutions, batch norms and ReLUs. The branch F is the one of ResNet, with or
without its last batch norm; where the others stand is written in the units below and in the nets made of them. By the
appendix:

- A net of pre-activated units has its first activation right after the first convolution, before the paths split, and
  an extra one after its last unit.
- He initialisation. We take the fan-in, the authors' code the fan-out.
- On ImageNet that first activation is in the stem, before the pooling, and the first unit has one of its own besides,
  as in pytorchcv. fb.resnet.torch (preresnet.lua) has none in the first unit: 128 parameters fewer in all.
- Bottleneck nets have projections where the shape changes, and pre-activation comes before these too: there the paths
  split after the activation. The authors' code gives these projections no batch norm in the full pre-activation; we
  keep it in the other orders, where it follows every convolution. Basic nets have the shortcuts of option A.
- A bottleneck strides in its first 1x1 convolution, as in the authors' code. ``preact200-v1.5`` does so in the 3x3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, Published, register, top_errors
from cnnlib.models.resnet import (
    CROP_320,
    FB_TORCH,
    WIDE,
    ResidualBlock,
    ResNet,
    bottleneck,
    bottleneck_v1_5,
    conv3x3,
    imagenet_stem,
    make_stages,
    option_a,
    option_b,
    two_convolutions,
)

PAPER = Paper(
    key="he2016identity",
    title="Identity Mappings in Deep Residual Networks",
    authors="He, Zhang, Ren and Sun",
    year=2016,
    arxiv="1603.05027",
)
Part = Callable[[int, int, int], nn.Module]  # of in_channels, out_channels and stride


def one_convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F of a unit with a single 3x3 convolution (Table 3: its shortcuts skip one layer)."""
    return nn.Sequential(
        OrderedDict(conv1=conv3x3(in_channels, out_channels, stride), bn1=nn.BatchNorm2d(out_channels))
    )


def without_last_bn(f: Callable[..., nn.Sequential], in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Return the branch of ``f`` but for the batch norm at its end; ``partial(without_last_bn, f)`` is a branch too."""
    return f(in_channels, out_channels, stride)[:-1]


def bn_relu(channels: int) -> nn.Sequential:
    """Return the activation of the full pre-activation: batch norm and ReLU."""
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), relu=nn.ReLU()))


def relu_only(channels: int) -> nn.ReLU:
    """Return the activation of the ReLU-only pre-activation."""
    return nn.ReLU()


def conv_only(width: int) -> nn.Conv2d:
    """Return the first layer under units of full pre-activation: (N, 3, H, W) to (N, width, H, W)."""
    return conv3x3(3, width)


def bare_option_b(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of option B without batch norm: a 1x1 convolution where the shape changes."""
    if layers.keeps_shape(in_channels, out_channels, stride):
        return nn.Identity()
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class BNAfterAddition(nn.Module):
    """Figure 4(b), ``y = ReLU(BN(shortcut(x) + F(x)))``. ``f`` makes an F that ends in a convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, f: Part, shortcut: Part):
        super().__init__()
        self.f = f(in_channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.shortcut(x) + self.f(x)))


class ReLUBeforeAddition(nn.Module):
    """Figure 4(c), ``y = shortcut(x) + ReLU(F(x))``. ``f`` makes an F that ends in a batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, f: Part, shortcut: Part):
        super().__init__()
        self.f = f(in_channels, out_channels, stride)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.relu(self.f(x))


class PreActUnit(nn.Module):
    """Figure 4(d) and (e), ``y = x + F(activation(x))``: nothing at all on the way from x to y.

    For (d) ``activation`` is :func:`relu_only` and F ends in a batch norm, for (e) it is :func:`bn_relu` and F ends in
    a convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        f: Part,
        activation: Callable[[int], nn.Module] = bn_relu,
    ):
        super().__init__()
        self.activation = activation(in_channels)
        self.f = f(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.activation(x))


class SharedPreActUnit(nn.Module):
    """The first unit of a stage, ``y = shortcut(a) + F(a)`` with ``a = activation(x)``: the paths split after it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        f: Part,
        activation: Callable[[int], nn.Module] = bn_relu,
        shortcut: Part = bare_option_b,
    ):
        super().__init__()
        self.activation = activation(in_channels)
        self.f = f(in_channels, out_channels, stride)
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        return self.shortcut(x) + self.f(x)


class PreActResNet(nn.Module):
    """A stem, stages of pre-activated units, their last activation, global average pooling, one linear layer.

    Args:
        first: ``first(in_channels, out_channels, stride)`` makes the first unit of each stage.
        unit: ``unit(channels, channels, 1)`` makes any other.
        depths: number of units in each stage.
        widths: number of maps that each stage puts out.
        activation: ``activation(channels)`` makes what stands between the last unit and the pooling.
        stem: ``stem(width)`` makes the layers before the first stage.
        stem_width: number of maps that the stem puts out.
        num_classes: number of logits.

    Raises:
        BadOption: if a stage has no unit.
    """

    min_size = 1

    def __init__(
        self,
        first: Part,
        unit: Part,
        depths: Sequence[int],
        widths: Sequence[int],
        activation: Callable[[int], nn.Module] = bn_relu,
        stem: Callable[[int], nn.Module] = conv_only,
        stem_width: int = 16,
        num_classes: int = 10,
    ):
        super().__init__()
        self.stem = stem(stem_width)
        self.stages = make_stages(unit, depths, widths, stem_width, first)
        self.activation = activation(widths[-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.activation(self.stages(self.stem(x)))).flatten(1))


def original(f: Part, shortcut: str, **net: Any) -> ResNet:
    """Return the net of Figure 4(a), ResNet. ``net`` holds the other arguments of the class, here and below."""
    return ResNet(partial(ResidualBlock, f=f, shortcut=SHORTCUTS[shortcut]), **net)


def bn_after_addition(f: Part, shortcut: str, **net: Any) -> ResNet:
    """Return the net of Figure 4(b)."""
    return ResNet(partial(BNAfterAddition, f=partial(without_last_bn, f), shortcut=SHORTCUTS[shortcut]), **net)


def relu_before_addition(f: Part, shortcut: str, **net: Any) -> ResNet:
    """Return the net of Figure 4(c)."""
    return ResNet(partial(ReLUBeforeAddition, f=f, shortcut=SHORTCUTS[shortcut]), **net)


def relu_only_pre_activation(f: Part, shortcut: str, **net: Any) -> PreActResNet:
    """Return the net of Figure 4(d)."""
    unit = partial(PreActUnit, f=f, activation=relu_only)
    first = partial(SharedPreActUnit, f=f, activation=relu_only, shortcut=SHORTCUTS[shortcut])
    return PreActResNet(first, unit, activation=relu_only, stem=partial(layers.conv_bn, 3, kernel_size=3), **net)


def full_pre_activation(f: Part, shortcut: str, **net: Any) -> PreActResNet:
    """Return the net of Figure 4(e), the paper's proposal."""
    f = partial(without_last_bn, f)
    first = partial(SharedPreActUnit, f=f, shortcut=BARE_SHORTCUTS[shortcut])
    return PreActResNet(first, partial(PreActUnit, f=f), **net)


SHORTCUTS = {"A": option_a, "B": option_b}
BARE_SHORTCUTS = {"A": option_a, "B": bare_option_b}
ORIGINAL, BN_AFTER, RELU_BEFORE = "original", "BN after addition", "ReLU before addition"  # the names of Table 2
RELU_ONLY, FULL = "ReLU-only pre-activation", "full pre-activation"
ORDERS = {
    ORIGINAL: original,
    BN_AFTER: bn_after_addition,
    RELU_BEFORE: relu_before_addition,
    RELU_ONLY: relu_only_pre_activation,
    FULL: full_pre_activation,
}


def basic_net(order: str, depth: int, num_classes: int = 10, shortcut: str = "A") -> nn.Module:
    """Return the net of ``depth`` = 6n + 2 layers for 32x32 images whose units have two convolutions.

    Raises:
        BadOption: for another depth, an order that is not in :data:`ORDERS`, or if ``shortcut`` is not "A" or "B".
    """
    return _cifar(order, two_convolutions, 2, depth, (16, 32, 64), num_classes, shortcut)


def bottleneck_net(order: str, depth: int, num_classes: int = 10, shortcut: str = "B") -> nn.Module:
    """Return the net of ``depth`` = 9n + 2 layers for 32x32 images whose units have three convolutions.

    Raises:
        BadOption: as for :func:`basic_net`.
    """
    return _cifar(order, bottleneck, 3, depth, (64, 128, 256), num_classes, shortcut)


def one_layer_net(order: str, depth: int, num_classes: int = 10, shortcut: str = "A") -> nn.Module:
    """Return the net of ``depth`` = 3n + 2 layers for 32x32 images whose units have one convolution.

    Raises:
        BadOption: as for :func:`basic_net`.
    """
    return _cifar(order, one_convolution, 1, depth, (16, 32, 64), num_classes, shortcut)


def _cifar(
    order: str,
    f: Part,
    convolutions: int,
    depth: int,
    widths: tuple[int, int, int],
    num_classes: int,
    shortcut: str,
) -> nn.Module:
    units = layers.units_per_stage(depth, 3 * convolutions)
    if order not in ORDERS:
        raise BadOption(f"there is no order {order!r}; there are {', '.join(ORDERS)}")
    if shortcut not in SHORTCUTS:
        raise BadOption(f"shortcut is 'A' or 'B', not {shortcut!r}")
    return ORDERS[order](f, shortcut, depths=(units,) * 3, widths=widths, num_classes=num_classes)


TABLE_5 = {  # order, F and depths of the four stages
    "resnet200": (ORIGINAL, bottleneck, (3, 24, 36, 3)),
    "preact152": (FULL, bottleneck, (3, 8, 36, 3)),
    "preact200": (FULL, bottleneck, (3, 24, 36, 3)),
    "preact200-v1.5": (FULL, bottleneck_v1_5, (3, 24, 36, 3)),
}


def imagenet_net(row: str, num_classes: int = 1000) -> nn.Module:
    """Return the net of one row of :data:`TABLE_5`, ``"preact200"`` for instance, for large images.

    Raises:
        BadOption: for another row.
    """
    if row not in TABLE_5:
        raise BadOption(f"there is no net {row!r}; there are {', '.join(TABLE_5)}")
    order, f, depths = TABLE_5[row]
    return ORDERS[order](f, "B", depths=depths, widths=WIDE, stem=imagenet_stem, stem_width=64, num_classes=num_classes)


def _paper(table: int, value: float, protocol: str = "median of 5 runs", **more: Any) -> Published:
    more = {"dataset": "CIFAR-10", **more}
    return Published("test error", value, protocol, f"He et al. 2016, Table {table}", **more)


def _rerun(repository: str, value: float, protocol: str = "rerun", dataset: str = "CIFAR-10") -> Published:
    return Published("test error", value, protocol, f"github.com/{repository}", dataset)


_hysts = partial(_rerun, "hysts/pytorch_image_classification", protocol="rerun, median of 3")
# Its preact110 has projections, and its bottlenecks stride in the 3x3 convolution.
_junyuseu = partial(_rerun, "junyuseu/pytorch-cifar-models", protocol="rerun, 1 run")
C100 = {"dataset": "CIFAR-100"}
MEAN = "mean of 5 runs"
BATCH_64 = "batch 64 instead of 128"
CIFAR = {  # build and depth: what a unit is, multiply-adds, parameters (for full pre-activation last), published errors
    (one_layer_net, 110): (
        *("one convolution a unit", 252_887_680, 1_727_962, 1_727_962),
        {ORIGINAL: [_paper(3, 9.90)], FULL: [_paper(3, 8.91)]},
    ),
    (basic_net, 110): (
        *("two convolutions a unit", 252_887_680, 1_727_962, 1_727_962),
        {  # the original order is resnet110
            BN_AFTER: [_paper(2, 8.17)],
            RELU_BEFORE: [_paper(2, 7.84)],
            RELU_ONLY: [_paper(2, 6.71)],
            FULL: [_paper(2, 6.37), _hysts(6.47), _junyuseu(6.13)],
        },
    ),
    (basic_net, 20): (
        *("two convolutions a unit", 40_551_040, 269_722, 269_722),
        {FULL: ()},
    ),  # ours, for short trainings
    (basic_net, 44): (
        *("two convolutions a unit", 97_174_144, 658_586, 658_586),
        dict.fromkeys((BN_AFTER, RELU_BEFORE, RELU_ONLY, FULL), ()),  # ours: small enough for short trainings
    ),
    (bottleneck_net, 47): (
        *("bottleneck units", 70_699_520, 498_586, 497_690),
        dict.fromkeys(ORDERS, ()),  # likewise
    ),
    (bottleneck_net, 164): (
        *("bottleneck units", 244_500_992, 1_704_154, 1_703_258),
        {
            ORIGINAL: [_paper(2, 5.93), _junyuseu(5.84), _paper(3, 25.16, **C100), _junyuseu(24.99, **C100)],
            BN_AFTER: [_paper(2, 6.50)],
            RELU_BEFORE: [_paper(2, 6.14)],
            RELU_ONLY: [_paper(2, 5.91)],
            FULL: [_paper(2, 5.46), _hysts(5.90), _junyuseu(5.35), _paper(3, 24.33, **C100), _junyuseu(24.50, **C100)],
        },
    ),
    (bottleneck_net, 1001): (
        *("bottleneck units", 1_487_849_984, 10_328_602, 10_327_706),
        {
            ORIGINAL: [_paper(3, 7.61), _junyuseu(11.27), _paper(3, 27.82, **C100), _junyuseu(31.73, **C100)],
            FULL: [
                *(_paper(3, 4.92), _paper(4, 4.89, MEAN, std=0.14)),
                _paper(4, 4.62, f"median of 5 runs, {BATCH_64}"),
                _paper(4, 4.69, f"{MEAN}, {BATCH_64}", std=0.20),
                *(_paper(3, 22.71, **C100), _paper(4, 22.68, MEAN, std=0.22, **C100)),
                *(_junyuseu(5.13), _junyuseu(24.03, **C100)),
            ],
        },
    ),
}


def _name(build: Callable[..., nn.Module], depth: int, order: str) -> str:
    name = f"preact{depth}" if order == FULL else f"resnet{depth}"
    if order not in (ORIGINAL, FULL):
        name += "-" + order.lower().replace(" ", "-")
    return f"{name}-one-layer-skip" if build is one_layer_net else name


for (_build, _depth), (_unit, _multiply_adds, _parameters, _parameters_full, _rows) in CIFAR.items():
    for _order, _errors in _rows.items():
        register(
            _name(_build, _depth, _order),
            partial(_build, _order, _depth),
            paper=PAPER,
            dataset="CIFAR-10",
            family="resnet" if _order == ORIGINAL else "preact",
            input_size=(3, 32, 32),
            parameters=_parameters_full if _order == FULL else _parameters,
            multiply_adds=_multiply_adds,
            published=_errors,
            about=f"{_depth} layers for 32x32 images, {_unit}, order: {_order}",
        )


ANY_RATIO = ("trained with crops of any aspect ratio, 1 crop of 320x320, validation", "He et al. 2016, Table 5")
IMAGENET = {  # row: parameters, multiply-adds, top-1 and top-5 errors
    "resnet200": (64_673_832, 14_776_270_848, {CROP_320: (21.8, 6.0)}),
    "preact152": (60_185_256, 11_282_415_616, {CROP_320: (21.1, 5.5)}),
    "preact200": (64_666_280, 14_776_270_848, {CROP_320: (20.7, 5.3)}),
    "preact200-v1.5": (64_666_280, 15_007_481_856, {ANY_RATIO: (20.1, 4.8), FB_TORCH: (21.66, 5.79)}),
}
for _row, (_parameters, _multiply_adds, _errors) in IMAGENET.items():
    _order, _f, _depths = TABLE_5[_row]
    register(
        _row,
        partial(imagenet_net, _row),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"{3 * sum(_depths) + 2} layers, order: {_order}"
        + (", stride in the 3x3 convolutions" if _f is bottleneck_v1_5 else ""),
    )
