"""Inception-v3. Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567.

A stem, 3 modules A on 35x35 maps, 4 B on 17x17 (Figure 6) and 2 C on 8x8 (Figure 7), with a reduction (Figure 10)
between each kind and the next. This is the net that the authors released. Where that differs from the paper, or the
paper is silent:

- Table 1 ends the stem with three 3x3 convolutions. The released one has 1x1, 3x3 and a pooling, on maps as large.
- One branch of module A keeps its 5x5 convolution, for which Figure 5 puts two of 3x3.
- Table 1 has five modules B, which fits if the reduction after them counts, and modules A that get 288 maps; the
  released three get 192, 256 and 288.
- The average pooling leaves the padding out of the mean. ``inception-v3-torchvision`` counts its zeros, and it drops
  0.5 of the last layer's inputs where the authors drop 0.2. All else is the same.
- The auxiliary head of section 4 is a training aid: ``auxiliary=True`` adds it. In training mode the net then returns
  :class:`WithAuxiliary`. The head reads 17x17 maps; what other images than 299x299 make, it pools to the size it needs.
- He initialisation with the fan-in, in the head too. torchvision's net has a standard deviation of 0.1 in every layer,
  but for 0.001 in the last one of its head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.inception_resnet_v2 import released_stem
from cnnlib.models.inception_v4 import MANY_CROPS, ONE_CROP, TWELVE_CROPS, Concat, pooled, reduction_a, same, valid
from cnnlib.models.layers import WithAuxiliary
from cnnlib.models.registry import Paper, register, top_errors, torchvision_v1

PAPER = Paper(
    key="szegedy2016rethinking",
    title="Rethinking the Inception Architecture for Computer Vision",
    authors="Szegedy, Vanhoucke, Ioffe, Shlens and Wojna",
    year=2015,
    arxiv="1512.00567",
)

Branch = Callable[[int, int], nn.Module]


def pooled_with_padding(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the pooling branch of torchvision's net, whose average counts the zeros around the maps."""
    pool = nn.AvgPool2d(3, stride=1, padding=1)
    return nn.Sequential(OrderedDict(pool=pool, proj=same(in_channels, out_channels, 1)))


def module_a(in_channels: int, pool_width: int, pool: Branch = pooled) -> Concat:
    """Return a module for 35x35 maps: ``in_channels`` to 224 + ``pool_width``."""
    return Concat(
        same(in_channels, 64, 1),
        nn.Sequential(same(in_channels, 48, 1), same(48, 64, 5)),
        nn.Sequential(same(in_channels, 64, 1), same(64, 96, 3), same(96, 96, 3)),
        pool(in_channels, pool_width),
    )


def module_b(width: int, pool: Branch = pooled) -> Concat:
    """Return Figure 6 with n = 7: 768 channels in and out, 7x7 convolutions split into 1x7 and 7x1 of ``width``."""
    return Concat(
        same(768, 192, 1),
        nn.Sequential(same(768, width, 1), same(width, width, (1, 7)), same(width, 192, (7, 1))),
        nn.Sequential(
            same(768, width, 1),
            same(width, width, (7, 1)),
            same(width, width, (1, 7)),
            same(width, width, (7, 1)),
            same(width, 192, (1, 7)),
        ),
        pool(768, 192),
    )


def reduction_b() -> Concat:
    """Return the reduction from 768 channels to 1280 on maps of half the size."""
    return Concat(
        nn.Sequential(same(768, 192, 1), valid(192, 320, 3, stride=2)),
        nn.Sequential(same(768, 192, 1), same(192, 192, (1, 7)), same(192, 192, (7, 1)), valid(192, 192, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


def module_c(in_channels: int, pool: Branch = pooled) -> Concat:
    """Return Figure 7: ``in_channels`` to 2048; two branches end in a fork of 1x3 and 3x1."""
    return Concat(
        same(in_channels, 320, 1),
        nn.Sequential(same(in_channels, 384, 1), _fork()),
        nn.Sequential(same(in_channels, 448, 1), same(448, 384, 3), _fork()),
        pool(in_channels, 192),
    )


def _fork() -> Concat:
    return Concat(same(384, 384, (1, 3)), same(384, 384, (3, 1)))


def auxiliary_head(num_classes: int) -> nn.Sequential:
    """Return Figure 8, a small classifier of 768 maps: (N, 768, 17, 17) to (N, num_classes).

    In training mode it takes no batch of a single image, since one pixel gives batch normalisation but one value a map.
    """
    return nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(5, stride=3),  # (N, 768, 5, 5)
            resize=nn.AdaptiveAvgPool2d(5),  # changes nothing then
            conv1=same(768, 128, 1),
            conv2=valid(128, 768, 5),  # (N, 768, 1, 1)
            flatten=nn.Flatten(),
            fc=nn.Linear(768, num_classes),
        )
    )


class InceptionV3(nn.Module):
    """The modules in a row, global average pooling, dropout, one linear layer.

    Args:
        num_classes: number of logits.
        auxiliary: add the auxiliary head.
        dropout: probability of dropping an input of the last layer.
        pool: ``pool(in_channels, out_channels)`` makes the pooling branch of a module.
    """

    auxiliary_weight = 0.4

    def __init__(self, num_classes: int, auxiliary: bool, dropout: float, pool: Branch):
        super().__init__()
        self.min_size = 107 if auxiliary else 75
        self.to_17x17 = nn.Sequential(
            *released_stem()[:-1],  # (N, 192, 35, 35): Inception-ResNet-v2 has this stem and one module more
            module_a(192, 32, pool),
            module_a(256, 64, pool),
            module_a(288, 64, pool),
            reduction_a(288, k=64, l=96, m=96, n=384),  # (N, 768, 17, 17)
            *(module_b(width, pool) for width in (128, 160, 160, 192)),
        )
        self.heads = nn.ModuleList([auxiliary_head(num_classes)] if auxiliary else [])
        self.to_8x8 = nn.Sequential(
            reduction_b(),  # (N, 1280, 8, 8)
            module_c(1280, pool),
            module_c(2048, pool),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Return the logits, with those of the head if there is one and this is a training."""
        layers.require_size(x, self.min_size, "Inception-v3")
        maps = self.to_17x17(x)
        logits = self.fc(self.dropout(self.pool(self.to_8x8(maps)).flatten(1)))
        if self.training and self.heads:
            return WithAuxiliary(logits, tuple(head(maps) for head in self.heads))
        return logits


def inception_v3(num_classes: int = 1000, auxiliary: bool = False, dropout: float = 0.2) -> InceptionV3:
    """Return the authors' net, with its auxiliary head if ``auxiliary``."""
    return InceptionV3(num_classes, auxiliary, dropout, pooled)


def inception_v3_torchvision(num_classes: int = 1000, auxiliary: bool = False, dropout: float = 0.5) -> InceptionV3:
    """Return torchvision's net, with its auxiliary head if ``auxiliary``."""
    return InceptionV3(num_classes, auxiliary, dropout, pooled_with_padding)


PAPER_ONE_CROP = (ONE_CROP[0], "Szegedy et al. 2016")
SLIM = ("the authors' weights, 1 crop, validation", "github.com/tensorflow/models, slim")
PUBLISHED = top_errors(
    {PAPER_ONE_CROP: (21.2, 5.6), TWELVE_CROPS: (19.8, 4.6), MANY_CROPS: (18.9, 4.3), SLIM: (22.0, 6.1)}
)
PUBLISHED_TORCHVISION = top_errors({torchvision_v1("Inception_V3"): (22.706, 6.550)})

# name: function, parameters, published errors, about
NETS = {
    "inception-v3": (
        *(inception_v3, 23_834_568, PUBLISHED),
        "nine modules of three kinds, large kernels split into small ones",
    ),
    "inception-v3-auxiliary": (
        *(partial(inception_v3, auxiliary=True), 27_161_264, PUBLISHED),
        "Inception-v3 with the head it is trained with",
    ),
    "inception-v3-torchvision": (
        *(inception_v3_torchvision, 23_834_568, PUBLISHED_TORCHVISION),
        "Inception-v3 as torchvision has it: zeros around the maps count in its average pooling",
    ),
    "inception-v3-torchvision-auxiliary": (
        *(partial(inception_v3_torchvision, auxiliary=True), 27_161_264, PUBLISHED_TORCHVISION),
        "torchvision's Inception-v3 with the head it is trained with",
    ),
}

for _name, (_build, _parameters, _published, _about) in NETS.items():
    register(
        _name,
        _build,
        paper=PAPER,
        input_size=(3, 299, 299),
        parameters=_parameters,
        multiply_adds=5_713_216_096,
        published=_published,
        about=_about,
    )
