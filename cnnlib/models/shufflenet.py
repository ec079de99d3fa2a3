"""ShuffleNet. Zhang, Zhou, Lin and Sun 2017, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", arXiv 1707.01083.

Implements Table 1 with the units of Figure 2(b) and (c). A 1x1 convolution in groups is cheap, but no group sees the
maps of another; a shuffle between two of them mends this. Choices and deviations:

- The first 1x1 convolution of stage 2 is not grouped, since its input has few maps: the paper says so.
- Where the image is halved, the pooled maps come first in the concatenation, as in the authors' code. The paper does
  not say; pytorchcv has them last. The order decides which maps share a group, so it makes another net.
- The factor ``width`` scales all maps, but at 1.5 the authors' code leaves the first convolution its 24, and with g = 8
  it has 16 at 0.5. Only so do the groups come out even, and the costs are those that the authors state. Half the width
  with g = 4, which the paper lists, comes out even neither way and is not here.
- He initialisation with the fan-in. The authors' code has a standard deviation of 0.01 in the first and the last layer
  and of 1/n elsewhere, for n maps that a filter reads.
- The authors' code shuffles after the depthwise convolution, the paper before: equal up to the order of its filters.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, register, top_errors

PAPER = Paper(
    key="zhang2018shufflenet",
    title="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    authors="Zhang, Zhou, Lin and Sun",
    year=2017,
    arxiv="1707.01083",
)

# Table 1: the width of stage 2 for each number of groups. More groups pay for more maps at an equal cost.
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
DEPTHS = (4, 8, 4)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the maps of ``x`` (N, C, H, W) like cards: first the first of each group, then the second of each, ...

    Write the C maps row by row into a table of ``groups`` rows and read it column by column (Figure 1(c)). ``groups``
    must divide C.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, H/stride, W/stride): Figure 2(b) for stride 1, 2(c) for stride 2.

    With stride 1 the unit adds ``f`` to its input, and ``out_channels`` is ``in_channels``. With stride 2 it appends
    ``f``, which has the maps that are missing, to its pooled input.

    Args:
        in_channels: number of maps that come in.
        out_channels: number of maps that go out.
        stride: 1 or 2.
        groups: number of groups of the 1x1 convolutions.
        first_groups: the same of the first 1x1 convolution only.

    Raises:
        BadOption: if the maps cannot be divided into so many groups.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, groups: int = 3, first_groups: int | None = None
    ):
        super().__init__()
        self.stride, self.groups = stride, groups
        inside = out_channels // 4
        made = out_channels - in_channels if stride == 2 else out_channels
        if inside % groups or made % groups:
            raise BadOption(f"{inside} and {made} maps cannot both be divided into {groups} groups; try another width")
        self.squeeze = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(in_channels, inside, 1, groups=first_groups or groups, bias=False),
                bn=nn.BatchNorm2d(inside),
                relu=nn.ReLU(),
            )
        )
        self.depthwise = layers.conv_bn(inside, inside, 3, stride, groups=inside)
        self.expand = layers.conv_bn(inside, made, 1, groups=groups)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        f = self.expand(self.depthwise(channel_shuffle(self.squeeze(x), self.groups)))
        return self.relu(torch.cat([self.pool(x), f], 1) if self.stride == 2 else x + f)


class ShuffleNet(nn.Module):
    """A 3x3 convolution and pooling, three stages of shuffle units, global average pooling, one linear layer.

    Args:
        groups: number of groups g, a key of :data:`WIDTHS`.
        width: factor s on the number of maps of every layer.
        num_classes: number of logits.
        stem_channels: number of maps of the first convolution; 24 times ``width`` unless given.
        depths: number of units in stages 2, 3 and 4. The first of each halves the image.

    Raises:
        BadOption: if the paper has no such number of groups, ``width`` is not positive, the maps cannot be divided into
            the groups, or a stage has no unit.
    """

    min_size = 1

    def __init__(
        self,
        groups: int = 3,
        width: float = 1.0,
        num_classes: int = 1000,
        stem_channels: int | None = None,
        depths: tuple[int, ...] = DEPTHS,
    ):
        super().__init__()
        if groups not in WIDTHS:
            raise BadOption(f"groups is one of {', '.join(map(str, WIDTHS))}, not {groups!r}")
        layers.require_positive(width=width)
        layers.require_blocks(depths)
        channels = int(24 * width) if stem_channels is None else stem_channels
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False),
                bn=nn.BatchNorm2d(channels),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        for number, depth in enumerate(depths):
            out_channels = int(WIDTHS[groups] * width) * 2**number
            stage = nn.Sequential(ShuffleUnit(channels, out_channels, 2, groups, first_groups=groups if number else 1))
            for _ in range(depth - 1):
                stage.append(ShuffleUnit(out_channels, out_channels, 1, groups))
            self.stages.append(stage)
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))


TABLE_2 = ("1 crop, validation", "Zhang et al. 2018, Table 2")
TABLE_5 = ("1 crop, validation", "Zhang et al. 2018, Table 5")
AUTHORS = ("1 crop, validation", "github.com/megvii-model/ShuffleNet-Series")
# (groups, width, maps of the first convolution if not 24 times the width): parameters, multiply-adds, published errors;
# the authors' are later ones
NETS = {
    (1, 1.0, None): (1_531_936, 143_078_976, {TABLE_2: (33.6,)}),
    (2, 1.0, None): (1_733_848, 140_836_512, {TABLE_2: (32.7,)}),
    (3, 1.0, None): (1_865_728, 137_460_672, {TABLE_2: (32.6,), AUTHORS: (32.2, 12.3)}),
    (4, 1.0, None): (1_968_344, 134_339_776, {TABLE_2: (32.8,)}),
    (8, 1.0, None): (2_434_768, 138_365_952, {TABLE_2: (32.4,), AUTHORS: (32.0, 13.6)}),
    (3, 0.5, None): (718_324, 37_589_856, {TABLE_2: (43.2,), AUTHORS: (42.7, 20.0)}),
    (8, 0.5, 16): (1_011_448, 40_469_760, {TABLE_2: (42.3,), AUTHORS: (41.2, 19.0)}),
    (3, 1.5, 24): (3_442_168, 292_443_552, {TABLE_5: (28.5,), AUTHORS: (28.4, 9.8)}),
    (8, 1.5, 24): (4_269_952, 290_188_800, {AUTHORS: (29.0, 10.4)}),
    (3, 2.0, None): (5_450_776, 524_045_184, {TABLE_5: (26.3,), AUTHORS: (25.9, 8.6)}),
    (8, 2.0, None): (6_522_232, 521_942_016, {AUTHORS: (27.1, 9.2)}),
}
for (_groups, _width, _stem), (_parameters, _multiply_adds, _errors) in NETS.items():
    register(
        f"shufflenet-g{_groups}" if _width == 1 else f"shufflenet-g{_groups}-{_width}",
        partial(ShuffleNet, _groups, width=_width, stem_channels=_stem),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"1x1 convolutions in {_groups} groups with a channel shuffle, width {_width}",
    )
