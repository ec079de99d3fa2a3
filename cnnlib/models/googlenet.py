"""GoogLeNet. Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv:1409.4842.

Implements the two modules of Figure 2, :class:`NaiveInception` and :class:`Inception`, the net of Table 1 and Figure 3,
and its auxiliary heads (section 5). The net is from before batch normalisation: convolutions have biases, and local
response normalisation stands after the first and before the second pooling layer. Choices where the paper is silent:

- The constants of the response normalisation are those of the Caffe replication, made with the first author's help.
  Caffe's normalisation divides alpha by the size, as PyTorch's does.
- Weights are drawn by Glorot's rule, and biases begin at 0. The replication does neither: Caffe's "xavier" draws
  uniformly within ±sqrt(3 / fan-in), and the biases of its convolutions begin at 0.2.
- The heads are training aids, thrown away afterwards: ``auxiliary=True`` adds them. In training mode the net then
  returns :class:`WithAuxiliary`; in evaluation mode it returns logits, as without them.

``googlenet-torchvision`` is another net: its "5x5" branch convolves 3x3, which torchvision documents as a known bug, it
has batch normalisation, no response normalisation, a last pooling of 2x2 and heads that pool to 4x4 whatever the size.
This net and those for 32x32 images have He initialisation with the fan-in. torchvision's own has a standard deviation
of 0.01 in every layer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.layers import WithAuxiliary
from cnnlib.models.registry import Paper, Published, register, top_errors, torchvision_v1

PAPER = Paper(
    key="szegedy2015going",
    title="Going Deeper with Convolutions",
    authors="Szegedy et al.",
    year=2014,
    arxiv="1409.4842",
)

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def conv_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return the paper's convolution: zero-padded, with bias, then ReLU."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2),
            relu=nn.ReLU(),
        )
    )


def with_bn_relu(conv: nn.Conv2d) -> nn.Sequential:
    """Return ``conv`` as in all later Inceptions: batch normalisation for a bias, then ReLU."""
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels, eps=1e-3), relu=nn.ReLU()))


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return a zero-padded convolution of the later Inceptions, see :func:`with_bn_relu`."""
    padding = kernel_size // 2
    return with_bn_relu(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False))


class NaiveInception(nn.Module):
    """Figure 2(a): 1x1, 3x3 and 5x5 convolutions and a pooling layer side by side, concatenated.

    The pooling branch keeps all its input channels, so that maps can only grow in number from module to module:
    (N, in_channels, H, W) to (N, n1x1 + n3x3 + n5x5 + in_channels, H, W).
    """

    def __init__(self, in_channels: int, n1x1: int, n3x3: int, n5x5: int, conv: Callable[..., nn.Module] = conv_relu):
        super().__init__()
        self.out_channels = n1x1 + n3x3 + n5x5 + in_channels
        self.branch1 = conv(in_channels, n1x1, 1)
        self.branch2 = conv(in_channels, n3x3, 3)
        self.branch3 = conv(in_channels, n5x5, 5)
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Run all branches on the same maps."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Inception(nn.Module):
    """Figure 2(b): the module with bottlenecks, 1x1 convolutions that cut the channels before the dear convolutions.

    Maps (N, in_channels, H, W) to (N, n1x1 + n3x3 + n5x5 + pool_proj, H, W). The arguments are the columns of Table 1.

    Args:
        conv: builds a convolution with what belongs to it: :func:`conv_relu`, or :func:`conv_bn_relu`.
        five: kernel of the "5x5" convolution; 3 in torchvision's net.
    """

    def __init__(
        self,
        in_channels: int,
        n1x1: int,
        reduce3x3: int,
        n3x3: int,
        reduce5x5: int,
        n5x5: int,
        pool_proj: int,
        conv: Callable[..., nn.Module] = conv_relu,
        five: int = 5,
    ):
        super().__init__()
        self.out_channels = n1x1 + n3x3 + n5x5 + pool_proj
        self.branch1 = conv(in_channels, n1x1, 1)
        self.branch2 = nn.Sequential(conv(in_channels, reduce3x3, 1), conv(reduce3x3, n3x3, 3))
        self.branch3 = nn.Sequential(conv(in_channels, reduce5x5, 1), conv(reduce5x5, n5x5, five))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(in_channels, pool_proj, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Run all branches on the same maps."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryHead(nn.Module):
    """The small classifier of section 5, for maps (N, in_channels, H, W) of at least 5x5."""

    def __init__(self, in_channels: int, num_classes: int, conv: Callable[..., nn.Module] = conv_relu):
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)  # (N, in_channels, 4, 4) from 14x14
        self.resize = nn.AdaptiveAvgPool2d(4)  # changes nothing then; for other sizes of the input
        self.conv = conv(in_channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify from maps in the middle of the net."""
        x = self.conv(self.resize(self.pool(x)))
        return self.fc2(self.dropout(self.relu(self.fc1(x.flatten(1)))))


class TorchvisionHead(AuxiliaryHead):
    """torchvision's head: it pools to 4x4 by areas, from maps of any size, and normalises its convolution."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__(in_channels, num_classes, conv_bn_relu)
        self.pool = nn.Identity()


def imagenet_stem() -> nn.Sequential:
    """Return what comes before module 3a: (N, 3, 224, 224) to (N, 192, 28, 28)."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv_relu(3, 64, 7, stride=2),  # (N, 64, 112, 112)
            pool1=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 64, 56, 56)
            norm1=nn.LocalResponseNorm(5),
            reduce2=conv_relu(64, 64, 1),
            conv2=conv_relu(64, 192, 3),  # (N, 192, 56, 56)
            norm2=nn.LocalResponseNorm(5),
            pool2=nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 192, 28, 28)
        )
    )


def torchvision_stem() -> nn.Sequential:
    """Return the same with batch normalisation and without response normalisation."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv_bn_relu(3, 64, 7, stride=2),
            pool1=nn.MaxPool2d(3, stride=2, ceil_mode=True),
            reduce2=conv_bn_relu(64, 64, 1),
            conv2=conv_bn_relu(64, 192, 3),
            pool2=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
    )


class GoogLeNet(nn.Module):
    """A stem, the nine modules of Table 1, global average pooling, one linear layer.

    Args:
        stem: what comes before module 3a.
        in_channels: number of maps that the stem puts out.
        module: ``module(in_channels, *row)`` makes one module from a row of :data:`TABLE_1`.
        head: ``head(in_channels)`` makes an auxiliary head, for after modules 4a and 4d; None for a net without.
        num_classes: number of logits.
        dropout: probability of dropping an input of the linear layer.
        pool4: window of the pooling before module 5a.
        width: factor on all widths of Table 1.
        min_size: smallest image that leaves something to every layer.
    """

    auxiliary_weight = 0.3

    def __init__(
        self,
        stem: nn.Module,
        in_channels: int,
        module: Callable[..., nn.Module] = Inception,
        head: Callable[[int], nn.Module] | None = None,
        num_classes: int = 1000,
        dropout: float = 0.4,
        pool4: int = 3,
        width: float = 1.0,
        min_size: int = 1,
    ):
        super().__init__()
        self.min_size = min_size
        segment = partial(_segment, module=module, pool4=pool4, width=width)
        self.stem = stem
        self.to_4a, channels_4a = segment(in_channels, "3a", "3b", "pool3", "4a")
        self.to_4d, channels_4d = segment(channels_4a, "4b", "4c", "4d")
        self.to_5b, channels_5b = segment(channels_4d, "4e", "pool4", "5a", "5b")
        self.heads = nn.ModuleList([head(channels_4a), head(channels_4d)] if head else [])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels_5b, num_classes)

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Return the logits, with those of the heads if there are any and this is a training."""
        layers.require_size(x, self.min_size, "GoogLeNet")
        maps_4a = self.to_4a(self.stem(x))  # (N, 512, 14, 14) from (N, 3, 224, 224)
        maps_4d = self.to_4d(maps_4a)  # (N, 528, 14, 14)
        x = self.pool(self.to_5b(maps_4d))  # (N, 1024, 1, 1) from 7x7
        logits = self.fc(self.dropout(x.flatten(1)))
        if self.training and self.heads:
            early, late = self.heads
            return WithAuxiliary(logits, (early(maps_4a), late(maps_4d)))
        return logits


def _segment(
    channels: int, *names: str, module: Callable[..., nn.Module], pool4: int, width: float
) -> tuple[nn.Sequential, int]:
    """Return the layers called ``names`` and the number of maps that they put out."""
    made = OrderedDict()
    for name in names:
        if name in TABLE_1:
            made[f"inception{name}"] = module(channels, *(round(width * n) for n in TABLE_1[name]))
            channels = made[f"inception{name}"].out_channels
        else:
            made[name] = nn.MaxPool2d(pool4 if name == "pool4" else 3, stride=2, ceil_mode=True)
    return nn.Sequential(made), channels


def googlenet(num_classes: int = 1000, auxiliary: bool = False, dropout: float = 0.4) -> GoogLeNet:
    """Return the paper's net, with its auxiliary heads if ``auxiliary``."""
    head = partial(AuxiliaryHead, num_classes=num_classes) if auxiliary else None
    net = GoogLeNet(imagenet_stem(), 192, Inception, head, num_classes, dropout, min_size=79 if auxiliary else 31)
    layers.init_weights(net, nn.init.xavier_uniform_)
    return net


def googlenet_torchvision(num_classes: int = 1000, auxiliary: bool = False, dropout: float = 0.2) -> GoogLeNet:
    """Return torchvision's net, with its auxiliary heads if ``auxiliary``."""
    module = partial(Inception, conv=conv_bn_relu, five=3)
    head = partial(TorchvisionHead, num_classes=num_classes) if auxiliary else None
    net = GoogLeNet(torchvision_stem(), 192, module, head, num_classes, dropout, pool4=2, min_size=15)
    layers.init_weights(net, nn.init.kaiming_normal_)
    return net


def googlenet_cifar(
    num_classes: int = 10, auxiliary: bool = False, dropout: float = 0.4, width: float = 1.0
) -> GoogLeNet:
    """Return a form for 32x32 images: one 3x3 convolution before module 3a, batch normalisation after every one.

    Modules 3, 4 and 5 see maps of 32x32, 16x16 and 8x8, with true 5x5 branches. The heads fit: 16x16 pools to 4x4.

    Args:
        num_classes: number of logits.
        auxiliary: add the auxiliary heads.
        dropout: probability of dropping an input of the linear layer.
        width: factor on all widths but those of the heads.

    Raises:
        BadOption: if ``width`` is not positive.
    """
    return _cifar(Inception, num_classes, auxiliary, dropout, width)


def googlenet_cifar_naive(
    num_classes: int = 10, auxiliary: bool = False, dropout: float = 0.4, width: float = 0.303
) -> GoogLeNet:
    """Return the same built from naive modules, by default so narrow that it costs as many multiply-adds."""
    return _cifar(_naive, num_classes, auxiliary, dropout, width)


def _cifar(
    module: Callable[..., nn.Module], num_classes: int, auxiliary: bool, dropout: float, width: float
) -> GoogLeNet:
    layers.require_positive(width=width)
    maps = round(192 * width)
    net = GoogLeNet(
        conv_bn_relu(3, maps, 3),
        maps,
        partial(module, conv=conv_bn_relu),
        partial(AuxiliaryHead, num_classes=num_classes, conv=conv_bn_relu) if auxiliary else None,
        num_classes,
        dropout,
        width=width,
        min_size=10 if auxiliary else 4,
    )
    layers.init_weights(net, nn.init.kaiming_normal_)
    return net


def _naive(in_channels: int, *row: int, conv: Callable[..., nn.Module]) -> NaiveInception:
    n1x1, _, n3x3, _, n5x5, _ = row  # no bottlenecks, no projection
    return NaiveInception(in_channels, n1x1, n3x3, n5x5, conv)


TABLE_3 = "Szegedy et al. 2015, Table 3"
ZOPH = ("open-source implementation, validation", "Zoph et al. 2018, Table 3")
CAFFE = ("replication, 1 crop, validation", "github.com/BVLC/caffe, bvlc_googlenet")
PUBLISHED = [
    Published("top-5 error", 10.07, "1 crop, validation", TABLE_3),
    Published("top-5 error", 9.15, "10 crops, validation", TABLE_3),
    Published("top-5 error", 7.89, "144 crops, validation", TABLE_3),
    Published("top-5 error", 6.67, "7 nets, 144 crops, validation", TABLE_3, networks=7),
    Published("top-5 error", 6.67, "7 nets, 144 crops, test", "Szegedy et al. 2015, section 7", networks=7),
    *top_errors({ZOPH: (30.2,), CAFFE: (31.3, 11.1)}),
]
PUBLISHED_TORCHVISION = top_errors({torchvision_v1("GoogLeNet"): (30.222, 10.470)})

# name: function, parameters, multiply-adds without the heads, published errors, about
NETS = {
    "googlenet": (
        *(googlenet, 6_998_552, 1_582_671_872, PUBLISHED),
        "22 layers with weights, as published: true 5x5 branches, response normalisation",
    ),
    "googlenet-auxiliary": (
        *(partial(googlenet, auxiliary=True), 13_378_280, 1_582_671_872, PUBLISHED),
        "GoogLeNet with the heads it is trained with",
    ),
    "googlenet-torchvision": (
        *(googlenet_torchvision, 6_624_904, 1_498_376_192, PUBLISHED_TORCHVISION),
        "GoogLeNet as torchvision has it: 3x3 for 5x5, batch normalisation",
    ),
    "googlenet-torchvision-auxiliary": (
        *(partial(googlenet_torchvision, auxiliary=True), 13_004_888, 1_498_376_192, PUBLISHED_TORCHVISION),
        "torchvision's GoogLeNet with the heads it is trained with",
    ),
    "googlenet-cifar": (
        *(googlenet_cifar, 5_871_914, 1_447_241_728, []),
        "GoogLeNet with batch normalisation for 32x32 images",
    ),
    "googlenet-cifar-naive": (
        *(googlenet_cifar_naive, 8_506_881, 1_448_864_580, []),
        "the same from naive modules, as narrow as the same multiply-adds require",
    ),
}

for _name, (_build, _parameters, _multiply_adds, _published, _about) in NETS.items():
    register(
        _name,
        _build,
        paper=PAPER,
        dataset="CIFAR-10" if "cifar" in _name else "ImageNet",
        input_size=(3, 32, 32) if "cifar" in _name else (3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=_published,
        about=_about,
    )
