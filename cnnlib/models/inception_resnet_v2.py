"""Inception-ResNet-v2. Szegedy et al. 2016, arXiv:1602.07261, the paper of :mod:`cnnlib.models.inception_v4`.

Inception modules as residual branches: what the branches concatenate is brought back to the channels of the input by a
linear 1x1 convolution, scaled down (section 3.3) and added. There are two such nets under one name:

- ``inception-resnet-v2`` is the one that the authors released, that the printed paper (AAAI 2017) refers to, and that
  all libraries have: another stem, 10, 20 and 10 blocks, the last without scaling and ReLU, and a 1x1 convolution to
  1536 channels at the end. Its auxiliary head is left out.
- ``inception-resnet-v2-figures`` is the one of Figures 3 and 15 to 19: Inception-v4's stem and 5, 10 and 5 blocks. It
  cannot be built as printed: the linear convolutions of Figures 17 and 19 have 1154 and 2048 channels, but the maps to
  which they are added 1152 and 2144, by Figures 7 and 18. The blocks here have the channels of their input.

The paper says that the net has the raw cost of Inception-v4, which is 12.3G multiply-adds. The released one has 13.2G,
the drawn one 9.3G. Both have He initialisation with the fan-in, as the convolutions of the authors' released code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.inception_v4 import (
    CADENE,
    MANY_CROPS,
    ONE_CROP,
    PAPER,
    TWELVE_CROPS,
    Concat,
    pooled,
    published,
    reduction_a,
    same,
    stem,
    valid,
)
from cnnlib.models.registry import BadOption, register


class Residual(nn.Module):
    """ReLU of ``x + scale * linear(branches(x))``, with as many channels out as in.

    Args:
        branches: what the block computes, concatenated.
        linear: the 1x1 convolution back to the channels of the input, with bias, without normalisation.
        scale: factor on the branch, between 0.1 and 0.3 in section 3.3; without it wide residual Inceptions die early.
        activation: class of what follows the addition.
    """

    def __init__(self, branches: Concat, linear: nn.Conv2d, scale: float, activation: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.branches = branches
        self.linear = linear
        self.activation = activation()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branches make of ``x`` to ``x``."""
        return self.activation(x + self.scale * self.linear(self.branches(x)))


def block_a(channels: int) -> Residual:
    """Return Figure 16, for 35x35 maps."""
    branches = Concat(
        same(channels, 32, 1),
        nn.Sequential(same(channels, 32, 1), same(32, 32, 3)),
        nn.Sequential(same(channels, 32, 1), same(32, 48, 3), same(48, 64, 3)),
    )
    return Residual(branches, nn.Conv2d(128, channels, 1), scale=0.17)


def block_b(channels: int) -> Residual:
    """Return Figure 17, for 17x17 maps."""
    branches = Concat(
        same(channels, 192, 1),
        nn.Sequential(same(channels, 128, 1), same(128, 160, (1, 7)), same(160, 192, (7, 1))),
    )
    return Residual(branches, nn.Conv2d(384, channels, 1), scale=0.1)


def block_c(channels: int, scale: float = 0.2, activation: type[nn.Module] = nn.ReLU) -> Residual:
    """Return Figure 19, for 8x8 maps."""
    branches = Concat(
        same(channels, 192, 1),
        nn.Sequential(same(channels, 192, 1), same(192, 224, (1, 3)), same(224, 256, (3, 1))),
    )
    return Residual(branches, nn.Conv2d(448, channels, 1), scale, activation)


def reduction_b(in_channels: int) -> Concat:
    """Return Figure 18: 992 channels more on maps of half the size."""
    return Concat(
        nn.Sequential(same(in_channels, 256, 1), valid(256, 384, 3, stride=2)),
        nn.Sequential(same(in_channels, 256, 1), valid(256, 288, 3, stride=2)),
        nn.Sequential(same(in_channels, 256, 1), same(256, 288, 3), valid(288, 320, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


def released_stem() -> nn.Sequential:
    """Return the stem of the released net, which is Inception-v3's: (N, 3, 299, 299) to (N, 320, 35, 35)."""
    return nn.Sequential(
        valid(3, 32, 3, stride=2),  # (N, 32, 149, 149)
        valid(32, 32, 3),
        same(32, 64, 3),  # (N, 64, 147, 147)
        nn.MaxPool2d(3, stride=2),
        same(64, 80, 1),
        valid(80, 192, 3),  # (N, 192, 71, 71)
        nn.MaxPool2d(3, stride=2),
        Concat(
            same(192, 96, 1),
            nn.Sequential(same(192, 48, 1), same(48, 64, 5)),
            nn.Sequential(same(192, 64, 1), same(64, 96, 3), same(96, 96, 3)),
            pooled(192, 64),
        ),
    )


class InceptionResNetV2(nn.Module):
    """Features, global average pooling, dropout, one linear layer. The two functions below make the features.

    Args:
        features: (N, 3, H, W) to (N, channels, h, w).
        channels: number of maps of the features.
        num_classes: number of logits.
        dropout: probability of dropping an input of the linear layer; the paper keeps 0.8.
    """

    min_size = 75

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_classes)."""
        layers.require_size(x, self.min_size, "Inception-ResNet-v2")
        return self.fc(self.dropout(self.pool(self.features(x)).flatten(1)))


def inception_resnet_v2(
    num_classes: int = 1000, depths: tuple[int, int, int] = (10, 20, 10), dropout: float = 0.2
) -> InceptionResNetV2:
    """Return the released net. ``depths`` counts the blocks A, B and C, the last C included.

    Raises:
        BadOption: if there is no block C, or a number of blocks is negative.
    """
    layers.require_blocks(depths, minimum=0)
    a, b, c = depths
    if c < 1:
        raise BadOption(f"the last block C is always there: depths has at least 1 of them, not {c}")
    features = OrderedDict(
        stem=released_stem(),  # (N, 320, 35, 35) from (N, 3, 299, 299)
        blocks_a=_repeat(block_a, a, 320),
        reduction_a=reduction_a(320, k=256, l=256, m=384, n=384),  # (N, 1088, 17, 17)
        blocks_b=_repeat(block_b, b, 1088),
        reduction_b=reduction_b(1088),  # (N, 2080, 8, 8)
        blocks_c=_repeat(block_c, c - 1, 2080),
        last_block=block_c(2080, scale=1.0, activation=nn.Identity),
        conv=same(2080, 1536, 1),
    )
    return InceptionResNetV2(nn.Sequential(features), 1536, num_classes, dropout)


def inception_resnet_v2_figures(
    num_classes: int = 1000, depths: tuple[int, int, int] = (5, 10, 5), dropout: float = 0.2
) -> InceptionResNetV2:
    """Return the net of the paper's figures. ``depths`` counts the blocks A, B and C.

    Raises:
        BadOption: if a number of blocks is negative.
    """
    layers.require_blocks(depths, minimum=0)
    a, b, c = depths
    features = OrderedDict(
        stem=stem(),  # (N, 384, 35, 35) from (N, 3, 299, 299)
        blocks_a=_repeat(block_a, a, 384),
        reduction_a=reduction_a(384, k=256, l=256, m=384, n=384),  # (N, 1152, 17, 17)
        blocks_b=_repeat(block_b, b, 1152),
        reduction_b=reduction_b(1152),  # (N, 2144, 8, 8)
        blocks_c=_repeat(block_c, c, 2144),
    )
    return InceptionResNetV2(nn.Sequential(features), 2144, num_classes, dropout)


def _repeat(block: Callable[[int], Residual], times: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(block(channels) for _ in range(times)))


register(
    "inception-resnet-v2",
    inception_resnet_v2,
    paper=PAPER,
    input_size=(3, 299, 299),
    parameters=55_843_464,
    multiply_adds=13_155_794_016,
    published=published(
        {ONE_CROP: (19.9, 4.9), TWELVE_CROPS: (18.7, 4.1), MANY_CROPS: (17.8, 3.7), CADENE: (19.830, 4.766)}
    ),
    about="Inception modules as scaled residual branches, as the authors released it",
)
register(
    "inception-resnet-v2-figures",
    inception_resnet_v2_figures,
    paper=PAPER,
    input_size=(3, 299, 299),
    parameters=32_433_928,
    multiply_adds=9_257_953_632,
    about="the same as the paper's figures draw it, with 1152 and 2144 channels where they say 1154 and 2048",
)
