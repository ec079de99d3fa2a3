"""Inception-v4. Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections...".

arXiv:1602.07261. Implements Figures 3 to 9: a stem, 4 modules A on 35x35 maps, 7 B on 17x17, 3 C on 8x8, and a
reduction between each kind and the next. The paper's residual net is :mod:`cnnlib.models.inception_resnet_v2`. Figures,
and the widths of Table 1, are numbered as on arXiv, the tables of errors as in the AAAI print. Where ours deviates:

- Where a figure prints 7x1 and 1x7 in the other order than the authors' released code, we follow the code.
- The average pooling leaves the padding out of the mean, as TensorFlow's does.
- The auxiliary head of the released code, which the paper does not mention, is left out.
- He initialisation with the fan-in, as in the convolutions of the released code.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.googlenet import with_bn_relu
from cnnlib.models.registry import Paper, Published, register, top_errors

PAPER = Paper(
    key="szegedy2017inception",
    title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    authors="Szegedy et al.",
    year=2016,
    arxiv="1602.07261",
)


class Concat(nn.Module):
    """Run the same input through several branches and concatenate their outputs along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of the branches' channels, h, w)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def same(in_channels: int, out_channels: int, kernel: int | tuple[int, int]) -> nn.Sequential:
    """Return a convolution whose output is as large as its input, batch normalisation and ReLU."""
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (height // 2, width // 2)
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, (height, width), padding=padding, bias=False))


def valid(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return the same without padding: the convolutions that the figures mark with a V, and all with a stride."""
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, kernel, stride, bias=False))


def pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the pooling branch of all modules: 3x3 average pooling, then a 1x1 convolution."""
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(OrderedDict(pool=pool, proj=same(in_channels, out_channels, 1)))


def stem() -> nn.Sequential:
    """Return Figure 3: (N, 3, 299, 299) to (N, 384, 35, 35). Pooling stands beside strided convolution."""
    return nn.Sequential(
        valid(3, 32, 3, stride=2),  # (N, 32, 149, 149)
        valid(32, 32, 3),
        same(32, 64, 3),  # (N, 64, 147, 147)
        Concat(nn.MaxPool2d(3, stride=2), valid(64, 96, 3, stride=2)),  # (N, 160, 73, 73)
        Concat(
            nn.Sequential(same(160, 64, 1), valid(64, 96, 3)),
            nn.Sequential(same(160, 64, 1), same(64, 64, (1, 7)), same(64, 64, (7, 1)), valid(64, 96, 3)),
        ),  # (N, 192, 71, 71)
        Concat(valid(192, 192, 3, stride=2), nn.MaxPool2d(3, stride=2)),
    )


def inception_a() -> Concat:
    """Return Figure 4: 384 channels in and out."""
    return Concat(
        same(384, 96, 1),
        nn.Sequential(same(384, 64, 1), same(64, 96, 3)),
        nn.Sequential(same(384, 64, 1), same(64, 96, 3), same(96, 96, 3)),
        pooled(384, 96),
    )


def reduction_a(in_channels: int, k: int, l: int, m: int, n: int) -> Concat:
    """Return Figure 7, which halves the maps. Its widths k, l, m, n are in Table 1, one row for each net."""
    return Concat(
        valid(in_channels, n, 3, stride=2),
        nn.Sequential(same(in_channels, k, 1), same(k, l, 3), valid(l, m, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


def inception_b() -> Concat:
    """Return Figure 5: 1024 channels in and out, 7x7 convolutions split into 1x7 and 7x1."""
    return Concat(
        same(1024, 384, 1),
        nn.Sequential(same(1024, 192, 1), same(192, 224, (1, 7)), same(224, 256, (7, 1))),
        nn.Sequential(
            same(1024, 192, 1),
            same(192, 192, (7, 1)),
            same(192, 224, (1, 7)),
            same(224, 224, (7, 1)),
            same(224, 256, (1, 7)),
        ),
        pooled(1024, 128),
    )


def reduction_b() -> Concat:
    """Return Figure 8: 1024 channels to 1536 on maps of half the size."""
    return Concat(
        nn.Sequential(same(1024, 192, 1), valid(192, 192, 3, stride=2)),
        nn.Sequential(same(1024, 256, 1), same(256, 256, (1, 7)), same(256, 320, (7, 1)), valid(320, 320, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


def inception_c() -> Concat:
    """Return Figure 6: 1536 channels in and out; two branches end in a fork of 1x3 and 3x1."""
    return Concat(
        same(1536, 256, 1),
        nn.Sequential(same(1536, 384, 1), Concat(same(384, 256, (1, 3)), same(384, 256, (3, 1)))),
        nn.Sequential(
            same(1536, 384, 1),
            same(384, 448, (3, 1)),
            same(448, 512, (1, 3)),
            Concat(same(512, 256, (1, 3)), same(512, 256, (3, 1))),
        ),
        pooled(1536, 256),
    )


class InceptionV4(nn.Module):
    """Figure 9.

    Args:
        num_classes: number of logits.
        depths: number of modules A, B and C.
        dropout: probability of dropping an input of the last layer; the paper keeps 0.8.

    Raises:
        BadOption: if a number of modules is negative.
    """

    min_size = 75

    def __init__(self, num_classes: int = 1000, depths: tuple[int, int, int] = (4, 7, 3), dropout: float = 0.2):
        super().__init__()
        layers.require_blocks(depths, minimum=0)
        a, b, c = depths
        self.features = nn.Sequential(
            OrderedDict(
                stem=stem(),  # (N, 384, 35, 35)
                inception_a=nn.Sequential(*(inception_a() for _ in range(a))),
                reduction_a=reduction_a(384, k=192, l=224, m=256, n=384),  # (N, 1024, 17, 17)
                inception_b=nn.Sequential(*(inception_b() for _ in range(b))),
                reduction_b=reduction_b(),  # (N, 1536, 8, 8)
                inception_c=nn.Sequential(*(inception_c() for _ in range(c))),
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1536, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_classes)."""
        layers.require_size(x, self.min_size, "Inception-v4")
        return self.fc(self.dropout(self.pool(self.features(x)).flatten(1)))


ONE_CROP = ("1 crop, validation without 1700 blacklisted images", "Szegedy et al. 2017, Table 1")
TWELVE_CROPS = ("12 crops, validation", "Szegedy et al. 2017, Table 2")
MANY_CROPS = ("144 crops, validation", "Szegedy et al. 2017, Table 3")
CADENE = ("the authors' weights, 1 crop, validation", "github.com/Cadene/pretrained-models.pytorch")


def published(errors: dict[tuple[str, str], tuple[float, float]]) -> list[Published]:
    """Return top-1 and top-5 errors, given by protocol and source, then those of the paper's ensemble of both nets."""
    ensemble, table_4 = "1 Inception-v4, 3 Inception-ResNet-v2, 144 crops", "Szegedy et al. 2017, Table 4"
    return [
        *top_errors(errors),
        *top_errors({(f"{ensemble}, validation", table_4): (16.4, 3.1)}, networks=4),
        Published("top-5 error", 3.08, f"{ensemble}, test", table_4, networks=4),
    ]


register(
    "inception-v4",
    InceptionV4,
    paper=PAPER,
    input_size=(3, 299, 299),
    parameters=42_679_816,
    multiply_adds=12_253_974_624,
    published=published(
        {ONE_CROP: (20.0, 5.0), TWELVE_CROPS: (18.7, 4.2), MANY_CROPS: (17.7, 3.8), CADENE: (19.938, 5.074)}
    ),
    about="4, 7 and 3 modules of three kinds, no shortcuts",
)
