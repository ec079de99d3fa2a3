"""ShuffleNet V2. Ma et al. 2018, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design".

arXiv:1807.11164. Implements Table 5 with the units of Figure 3(c) and (d), made by the paper's guidelines: 1x1
convolutions with as many maps out as in and without groups, few branches, no addition. A unit leaves half of its maps
as they are; the shuffle of :mod:`cnnlib.models.shufflenet` then mixes both halves. Choices and deviations:

- The authors' released code shuffles when a unit begins, the paper and ours when it ends.
- Its linear layer has no biases, and at width 2 it drops 0.2 of that layer's inputs. The paper speaks of neither; ours
  has the biases and no dropout, as torchvision's.
- He initialisation with the fan-in. torchvision has PyTorch's defaults; the authors' code draws as in ShuffleNet.
- The forms for 32x32 images (``shufflenet-v2-cifar``) have stride 1 in the first convolution and no pooling after it.
  They are those of chenyaofo's pytorch-cifar-models; the paper has none.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.mobilenet_v2 import conv_bn_activation
from cnnlib.models.registry import (
    TORCHVISION_LATER,
    BadOption,
    Paper,
    cifar_errors,
    register,
    top_errors,
    torchvision_v1,
)
from cnnlib.models.shufflenet import channel_shuffle

PAPER = Paper(
    key="ma2018shufflenet",
    title="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    authors="Ma, Zhang, Zheng and Sun",
    year=2018,
    arxiv="1807.11164",
)

# Table 5: number of maps of stages 2, 3 and 4 and of the last convolution, for each width.
TABLE_5 = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
DEPTHS = (4, 8, 4)

conv_bn_relu = partial(conv_bn_activation, activation=nn.ReLU)


def depthwise(channels: int, stride: int) -> nn.Sequential:
    """Return a 3x3 filter for each map and batch normalisation, without an activation."""
    return conv_bn_activation(channels, channels, 3, stride, groups=channels, activation=nn.Identity)


class ShuffleUnitV2(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, H/stride, W/stride): Figure 3(c) for stride 1, 3(d) for stride 2.

    With stride 1 ``f`` gets one half of the maps and the other half goes past it, so ``out_channels`` is
    ``in_channels``. With stride 2 both branches get all maps. Each makes half of the maps that go out.

    Raises:
        BadOption: if ``out_channels`` is odd.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        if out_channels % 2:
            raise BadOption(f"two branches make half of the maps each, so out_channels is even, not {out_channels}")
        half = out_channels // 2
        self.stride = stride
        self.shortcut = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(depthwise(in_channels, 2), conv_bn_relu(in_channels, half, 1))
        self.f = nn.Sequential(
            conv_bn_relu(in_channels if stride == 2 else half, half, 1),
            depthwise(half, stride),
            conv_bn_relu(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        past, through = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        return channel_shuffle(torch.cat([self.shortcut(past), self.f(through)], 1), 2)


def imagenet_stem(channels: int) -> nn.Sequential:
    """Return what comes before stage 2: (N, 3, 224, 224) to (N, channels, 56, 56)."""
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(OrderedDict(conv=conv_bn_relu(3, channels, 3, stride=2), pool=pool))


def cifar_stem(channels: int) -> nn.Sequential:
    """Return the same for small images, which keeps their size."""
    return conv_bn_relu(3, channels, 3)


class ShuffleNetV2(nn.Module):
    """A stem, three stages of shuffle units, a 1x1 convolution, global average pooling, one linear layer.

    Args:
        stem: (N, 3, H, W) to (N, 24, h, w).
        width: a key of :data:`TABLE_5`.
        num_classes: number of logits.
        depths: number of units in stages 2, 3 and 4. The first of each halves the image.

    Raises:
        BadOption: if the paper has no such width, or a stage has no unit.
    """

    min_size = 1

    def __init__(self, stem: nn.Module, width: float, num_classes: int, depths: tuple[int, ...]):
        super().__init__()
        if width not in TABLE_5:
            raise BadOption(f"width is one of {', '.join(map(str, TABLE_5))}, not {width!r}")
        layers.require_blocks(depths)
        *widths, features = TABLE_5[width]
        self.stem = stem
        self.stages = nn.Sequential()
        channels = 24
        for out_channels, depth in zip(widths[: len(depths)], depths, strict=True):
            stage = nn.Sequential(ShuffleUnitV2(channels, out_channels, stride=2))
            for _ in range(depth - 1):
                stage.append(ShuffleUnitV2(out_channels, out_channels))
            self.stages.append(stage)
            channels = out_channels
        self.head = conv_bn_relu(channels, features, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(features, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.head(self.stages(self.stem(x)))).flatten(1))


def shufflenet_v2(width: float = 1.0, num_classes: int = 1000, depths: tuple[int, ...] = DEPTHS) -> ShuffleNetV2:
    """Return the paper's net. Arguments and errors as for :class:`ShuffleNetV2`."""
    return ShuffleNetV2(imagenet_stem(24), width, num_classes, depths)


def shufflenet_v2_cifar(width: float = 1.0, num_classes: int = 10, depths: tuple[int, ...] = DEPTHS) -> ShuffleNetV2:
    """Return the form for 32x32 images. Arguments and errors as for :class:`ShuffleNetV2`."""
    return ShuffleNetV2(cifar_stem(24), width, num_classes, depths)


TABLE_8 = ("1 crop, validation", "Ma et al. 2018, Table 8")
AUTHORS = ("1 crop, validation", "github.com/megvii-model/ShuffleNet-Series")
CHENYAOFO = "github.com/chenyaofo/pytorch-cifar-models"

# width: parameters, multiply-adds, the paper's top-1 error, top-1 and top-5 errors of the authors' page, torchvision's
IMAGENET_NETS = {
    1.0: (2_278_604, 144_907_992, (30.6,), (30.6, 11.1), (30.638, 11.684)),
    0.5: (1_366_792, 40_476_448, (39.7,), (38.9, 17.4), (39.448, 18.254)),
    1.5: (3_503_624, 295_759_392, (27.4,), (27.4, 9.4), (27.004, 8.914)),
    2.0: (7_393_996, 583_253_464, (25.1,), (25.0, 7.6), (23.770, 6.994)),
}
for _width, (_parameters, _multiply_adds, _paper, _authors, _torchvision) in IMAGENET_NETS.items():
    _recipe = {"protocol": TORCHVISION_LATER} if _width > 1 else {}
    _weights = torchvision_v1(f"ShuffleNet_V2_X{str(_width).replace('.', '_')}", **_recipe)
    register(
        "shufflenet-v2" if _width == 1 else f"shufflenet-v2-{_width}",
        partial(shufflenet_v2, width=_width),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors({TABLE_8: _paper, AUTHORS: _authors, _weights: _torchvision}),
        about=f"units that shuffle half of their maps past themselves, width {_width}",
    )

# width: parameters, multiply-adds, test error on CIFAR-10 and on CIFAR-100
CIFAR_NETS = {
    1.0: (1_263_854, 45_002_112, 7.02, 27.61),
    0.5: (352_042, 10_902_016, 9.87, 32.18),
    1.5: (2_488_874, 94_259_712, 6.45, 26.09),
    2.0: (5_365_486, 187_811_200, 6.19, 24.65),
}
for _width, (_parameters, _multiply_adds, *_errors) in CIFAR_NETS.items():
    register(
        "shufflenet-v2-cifar" if _width == 1 else f"shufflenet-v2-cifar-{_width}",
        partial(shufflenet_v2_cifar, width=_width),
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors({("rerun", CHENYAOFO): _errors}),
        about=f"ShuffleNet V2 for 32x32 images, width {_width}",
    )
