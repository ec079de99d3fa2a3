"""DenseNet. Huang, Liu, van der Maaten and Weinberger 2017, "Densely Connected Convolutional Networks", 1608.06993.

Implements section 3, Table 1 (ImageNet) and the nets of Table 2 (CIFAR), plain and BC. Each layer of a block reads the
maps of all layers before it, concatenated, and adds ``growth_rate`` (the paper's k) maps to them.

- The plain CIFAR nets have 16 maps after the first convolution, as section 3 says, the BC nets 2k. The authors' code
  takes 2k for both; only 16 gives the parameters of Table 2.
- Dropout follows every convolution but the first, as in section 4.2; torchvision's nets drop once a layer.
- He initialisation, also as in section 4.2, with the fan-in, as torchvision's convolutions.
- ``memory_efficient=True`` is the method of Pleiss et al. 2017 (arXiv 1707.06990): what a layer reads is computed again
  in the backward pass, so that memory grows with the depth of a block and not with its square.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, cifar_errors, register, top_errors

PAPER = Paper(
    key="huang2017densely",
    title="Densely Connected Convolutional Networks",
    authors="Huang, Liu, van der Maaten and Weinberger",
    year=2016,
    arxiv="1608.06993",
)


class BNReLUConv(nn.Sequential):
    """The paper's H_l: batch normalisation, ReLU, convolution, of all the ``maps`` that it is given, concatenated."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dropout: float = 0.0):
        super().__init__(
            OrderedDict(
                norm=nn.BatchNorm2d(in_channels),
                relu=nn.ReLU(),
                conv=nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
                drop=nn.Dropout(dropout),
            )
        )

    def forward(self, *maps: Tensor) -> Tensor:
        return super().forward(torch.cat(maps, 1))


class RecomputedBNReLUConv(BNReLUConv):
    """The same function and gradients. While training it keeps nothing but ``maps``, which others keep in any case."""

    @property
    def draws_twice(self) -> bool:
        """Whether the second pass must draw the random numbers of the first once more."""
        return self.drop.p > 0

    def forward(self, *maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(*maps)
        # torch.compile repeats no update of the statistics when it recomputes, and accepts no context of this kind.
        again = {} if torch.compiler.is_compiling() else {"context_fn": lambda: (nullcontext(), _SeenBefore(self.norm))}
        return checkpoint(super().forward, *maps, use_reentrant=False, preserve_rng_state=self.draws_twice, **again)


class _SeenBefore:
    """A context in which ``norm`` sees a batch once more without counting it again. The authors' code restores counts.

    It is entered at every backward pass through the same forward pass.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        self.norm = norm

    def __enter__(self) -> None:
        self.before = self.norm.momentum, self.norm.num_batches_tracked.clone()
        self.norm.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        self.norm.momentum, count = self.before
        self.norm.num_batches_tracked.copy_(count)


class DenseLayer(nn.Module):
    """The plain layer, BN-ReLU-conv3x3: (N, in_channels, H, W), in one or more pieces, to (N, growth_rate, H, W).

    ``first`` is the class of what reads the pieces.
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float = 0.0, first: type = BNReLUConv):
        super().__init__()
        self.conv1 = first(in_channels, growth_rate, 3, dropout)

    def forward(self, *maps: Tensor) -> Tensor:
        return self.conv1(*maps)


class BottleneckLayer(nn.Module):
    """The layer of DenseNet-B, BN-ReLU-conv1x1-BN-ReLU-conv3x3, with 4 growth_rate maps in between. Shapes as above."""

    def __init__(self, in_channels: int, growth_rate: int, dropout: float = 0.0, first: type = BNReLUConv):
        super().__init__()
        self.conv1 = first(in_channels, 4 * growth_rate, 1, dropout)
        self.conv2 = BNReLUConv(4 * growth_rate, growth_rate, 3, dropout)

    def forward(self, *maps: Tensor) -> Tensor:
        return self.conv2(self.conv1(*maps))


class DenseBlock(nn.Sequential):
    """Layers that each read the block's input and the maps of all layers before them; all of these are the output."""

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self:
            maps.append(layer(*maps))
        return torch.cat(maps, 1)


class Transition(nn.Sequential):
    """What lies between two blocks: (N, in_channels, H, W) to (N, out_channels, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0):
        super().__init__(
            OrderedDict(conv=BNReLUConv(in_channels, out_channels, 1, dropout), pool=nn.AvgPool2d(2, stride=2))
        )


class StemCIFAR(nn.Sequential):
    """The first convolution for 32x32 images: (N, 3, H, W) to (N, channels, H, W)."""

    stride = 1

    def __init__(self, channels: int):
        super().__init__(OrderedDict(conv=nn.Conv2d(3, channels, 3, padding=1, bias=False)))


class StemImageNet(nn.Sequential):
    """The first layers of Table 1: (N, 3, H, W) to (N, channels, H/4, W/4)."""

    stride = 4

    def __init__(self, channels: int):
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
                norm=nn.BatchNorm2d(channels),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )


class DenseNet(nn.Module):
    """A stem, dense blocks with a transition between any two, BN-ReLU, global average pooling, one linear layer.

    Args:
        growth_rate: number of maps that each layer adds (k).
        depths: number of layers in each block.
        num_classes: number of logits.
        stem: class of the layers before the first block.
        stem_channels: number of maps that the stem puts out; 2k unless given.
        layer: class of the layers, :class:`DenseLayer` or :class:`BottleneckLayer` (the B in DenseNet-BC).
        compression: fraction theta of the maps that a transition keeps; less than 1 is the C in DenseNet-BC.
        dropout: probability of dropping an output of a convolution.
        memory_efficient: while training, compute twice what takes most memory. The outputs do not change.

    Raises:
        BadOption: if ``compression`` is not in (0, 1], or a block has no layer.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        depths: Sequence[int] = (6, 12, 24, 16),
        num_classes: int = 1000,
        *,
        stem: type[StemCIFAR] | type[StemImageNet] = StemImageNet,
        stem_channels: int | None = None,
        layer: type[DenseLayer] | type[BottleneckLayer] = BottleneckLayer,
        compression: float = 0.5,
        dropout: float = 0.0,
        memory_efficient: bool = False,
    ):
        super().__init__()
        if not 0 < compression <= 1:
            raise BadOption(f"compression is a fraction greater than 0 and at most 1, not {compression}")
        layers.require_blocks(depths)
        self.min_size = stem.stride * (2 ** (len(depths) - 1) - 1) + 1
        first = RecomputedBNReLUConv if memory_efficient else BNReLUConv
        channels = 2 * growth_rate if stem_channels is None else stem_channels
        self.stem = stem(channels)
        self.blocks = nn.Sequential()
        for depth in depths:
            if len(self.blocks) > 0:
                kept = int(compression * channels)
                self.blocks.append(Transition(channels, kept, dropout))
                channels = kept
            out_channels = channels + depth * growth_rate
            inputs = range(channels, out_channels, growth_rate)
            self.blocks.append(DenseBlock(*(layer(maps, growth_rate, dropout, first) for maps in inputs)))
            channels = out_channels
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "DenseNet")
        x = self.relu(self.norm(self.blocks(self.stem(x))))
        return self.fc(self.pool(x).flatten(1))


def cifar_densenet(
    depth: int, growth_rate: int, num_classes: int = 10, dropout: float = 0.0, memory_efficient: bool = False
) -> DenseNet:
    """Return the plain DenseNet of ``depth`` = 3n + 4 layers for 32x32 images. Arguments as for :class:`DenseNet`.

    Raises:
        BadOption: for another depth.
    """
    depths = (layers.units_per_stage(depth, 3, 4),) * 3
    plain = {"stem_channels": 16, "layer": DenseLayer, "compression": 1.0}
    options = {"dropout": dropout, "memory_efficient": memory_efficient}
    return DenseNet(growth_rate, depths, num_classes, stem=StemCIFAR, **plain, **options)


def cifar_densenet_bc(
    depth: int, growth_rate: int, num_classes: int = 10, dropout: float = 0.0, memory_efficient: bool = False
) -> DenseNet:
    """Return the DenseNet-BC of ``depth`` = 6n + 4 layers for 32x32 images. Arguments as for :class:`DenseNet`.

    Raises:
        BadOption: for another depth.
    """
    depths = (layers.units_per_stage(depth, 6, 4),) * 3
    options = {"dropout": dropout, "memory_efficient": memory_efficient}
    return DenseNet(growth_rate, depths, num_classes, stem=StemCIFAR, **options)


# How and where errors were published. A pair is the error on CIFAR-10 and on CIFAR-100.
PLUS = ("1 run, crops and flips", "Huang et al. 2017, Table 2")
BARE = ("1 run, no augmentation, dropout 0.2", "Huang et al. 2017, Table 2")
README = ("1 run, crops and flips", "github.com/liuzhuang13/DenseNet")
BAMOS = ("rerun", "github.com/bamos/densenet.pytorch")
HYSTS = ("rerun, 1 run", "github.com/hysts/pytorch_image_classification")
HYSTS_BATCH_32 = ("rerun, median of 3, batch 32", "github.com/hysts/pytorch_image_classification")
JUNYUSEU = ("rerun, 1 run", "github.com/junyuseu/pytorch-cifar-models")

# depth, growth rate, parameters, multiply-adds, published errors
PLAIN = [
    (40, 12, 1_019_722, 264_812_928, {PLUS: (5.24, 24.42), BARE: (7.00, 27.55)}),
    (100, 12, 6_979_642, 1_769_516_448, {PLUS: (4.10, 20.20), BARE: (5.77, 23.79), HYSTS: (3.87,)}),
    (100, 24, 27_249_082, 6_889_347_744, {PLUS: (3.74, 19.25), BARE: (5.83, 23.42)}),
]
RERUNS = {BAMOS: (4.77,), HYSTS_BATCH_32: (4.69,), JUNYUSEU: (4.69, 22.19)}
BC = [
    (100, 12, 769_162, 287_929_692, {PLUS: (4.51, 22.27), BARE: (5.92, 24.15), **RERUNS}),
    (52, 12, 264_586, 105_819_852, {}),  # ours: as many parameters as ResNet-20
    (22, 8, 32_606, 14_031_308, {}),  # ours: two passes over the data take a laptop a few minutes
    (250, 24, 15_324_406, 5_418_785_724, {PLUS: (3.62, 17.60), BARE: (5.19, 19.64), JUNYUSEU: (3.44, 17.17)}),
    (190, 40, 25_624_430, 9_301_945_740, {PLUS: (3.46, 17.18), JUNYUSEU: (3.41, 17.33)}),
    (40, 36, 1_542_682, 647_298_936, {README: (4.58, 22.30)}),
    (40, 48, 2_733_130, 1_149_867_168, {README: (3.99, 20.29)}),
    (40, 60, 4_261_690, 1_795_836_360, {README: (4.01, 19.99)}),
]
for _name, _build, _nets in (("densenet", cifar_densenet, PLAIN), ("densenet-bc", cifar_densenet_bc, BC)):
    for _depth, _growth_rate, _parameters, _multiply_adds, _errors in _nets:
        register(
            f"{_name}-{_depth}-{_growth_rate}",
            partial(_build, _depth, _growth_rate),
            paper=PAPER,
            dataset="CIFAR-10",
            input_size=(3, 32, 32),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            published=cifar_errors(_errors),
            about=f"{_depth} layers with growth rate {_growth_rate} for 32x32 images",
        )

ONE_CROP = ("1 crop, validation", "Huang et al. 2017, Table 3")
README_ONE_CROP = ("1 crop, validation", "github.com/liuzhuang13/DenseNet")
TEN_CROPS = ("10 crops, validation", "Huang et al. 2017, Table 3")
TORCHVISION = ("1 crop, validation", "torchvision, IMAGENET1K_V1")

# name: growth rate, depths, parameters, multiply-adds, top-1 and top-5 errors by each of the four. By the count that
# gives the other names, convolutions and the linear layer, DenseNet-264 has 265 layers.
IMAGENET = {
    "densenet121": (32, (6, 12, 24, 16), 7_978_856, 2_834_161_664, (25.02, 7.71), (), (23.61, 6.66), (25.566, 8.028)),
    "densenet169": (32, (6, 12, 32, 32), 14_149_480, 3_359_843_328, (23.80, 6.85), (), (22.08, 5.92), (24.4, 7.194)),
    "densenet201": (32, (6, 12, 48, 32), 20_013_928, 4_291_365_888, (22.58, 6.34), (), (21.46, 5.54), (23.104, 6.63)),
    "densenet264": (32, (6, 12, 64, 48), 33_337_704, 5_751_653_376, (22.15, 6.12), (), (20.80, 5.29), ()),
    "densenet161": (48, (6, 12, 36, 24), 28_681_000, 7_727_907_072, (), (22.2,), (), (22.862, 6.44)),
}
for _name, (_growth_rate, _depths, _parameters, _multiply_adds, *_errors) in IMAGENET.items():
    _sources = (ONE_CROP, README_ONE_CROP, TEN_CROPS, TORCHVISION)
    register(
        _name,
        partial(DenseNet, _growth_rate, _depths),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(dict(zip(_sources, _errors, strict=True))),
        about=f"blocks of {', '.join(map(str, _depths))} bottleneck layers with growth rate {_growth_rate}",
    )
