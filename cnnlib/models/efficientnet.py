"""EfficientNet. Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks".

Implements arXiv 1905.11946: Table 1 (B0), the compound scaling of section 3.3 and the authors' B1 to B7. Choices and
deviations:

- :func:`compound_scaling` is the rule of equation 3. B1, B2 and B3 (:data:`RELEASED`, the authors' code) are those of
  phi = 1/2, 1 and 2, rounded. From B4 on no single phi gives width, depth and resolution.
- Normalisation has the epsilon 1e-3 of the authors' code and their momentum 0.99, which PyTorch calls 0.01: running
  statistics need several hundred steps. torchvision has 1e-5 and 0.1 in B0 to B4. ``bn_momentum=0.1`` suits short runs.
- He initialisation with the fan-in. The authors' code and torchvision take the fan-out of convolutions: in the first
  1x1 convolution of B0 that widens, from 16 to 96 maps, a standard deviation of 0.144 where ours is 0.354.
- The squeeze ratio is a quarter of the block's *input*, not of the widened maps that it rescales.
- Drop connect leaves a sample's residual branch out, more often in later blocks, towards 0.2 as in the authors' code.
- Padding is kernel // 2 on every side. TensorFlow's "SAME" padding, in which the authors trained, puts a strided
  convolution of even maps one pixel further. On maps of odd size the two are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.mobilenet_v2 import conv_bn_activation, round_channels
from cnnlib.models.registry import BadOption, Paper, cifar_errors, register, top_errors
from cnnlib.models.senet import SqueezeExcitation

PAPER = Paper(
    key="tan2019efficientnet",
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    authors="Tan and Le",
    year=2019,
    arxiv="1905.11946",
)

# Table 1, stages 2 to 8: expansion, kernel size, stride of the first block, width, number of blocks.
B0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


@dataclass(frozen=True)
class Scaling:
    """Factors on the width and depth of B0, and the height and width of the images in pixels."""

    width: float
    depth: float
    resolution: float

    @property
    def cost(self) -> float:
        """The factor on B0's multiply-adds that depth * width^2 * resolution^2 promises, before any rounding."""
        return self.depth * self.width**2 * (self.resolution / 224) ** 2


def compound_scaling(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaling:
    """Return the scaling of equation 3: depth alpha^phi, width beta^phi, resolution gamma^phi times B0's.

    The default constants are the paper's, found for alpha * beta^2 * gamma^2 near 2: one more phi doubles the cost.
    """
    return Scaling(width=beta**phi, depth=alpha**phi, resolution=224 * gamma**phi)


# What B0 to B7 really have, in the authors' code.
RELEASED = {
    "b0": Scaling(1.0, 1.0, 224),
    "b1": Scaling(1.0, 1.1, 240),
    "b2": Scaling(1.1, 1.2, 260),
    "b3": Scaling(1.2, 1.4, 300),
    "b4": Scaling(1.4, 1.8, 380),
    "b5": Scaling(1.6, 2.2, 456),
    "b6": Scaling(1.8, 2.6, 528),
    "b7": Scaling(2.0, 3.1, 600),
}


class DropConnect(nn.Module):
    """While training, set each sample of (N, C, H, W) to zero with probability ``p`` and divide the others by 1 - p.

    Raises:
        BadOption: if ``p`` is not in [0, 1): with 1 nothing would be left to divide.
    """

    def __init__(self, p: float):
        super().__init__()
        layers.require_probability(drop_connect=p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.p)
        return x * kept / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


conv_bn_swish = partial(conv_bn_activation, activation=nn.SiLU)
"""Convolution, batch normalisation and x * sigmoid(x), which the paper calls swish."""


class MBConv(nn.Module):
    """MobileNetV2's inverted residual with squeeze and excitation and swish.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), with ``expansion`` times as many maps inside.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        kernel_size: int = 3,
        expansion: int = 6,
        drop_connect: float = 0.0,
    ):
        super().__init__()
        hidden = expansion * in_channels
        self.f = nn.Sequential()
        if expansion > 1:
            self.f.append(conv_bn_swish(in_channels, hidden, 1))
        self.f.append(conv_bn_swish(hidden, hidden, kernel_size, stride, groups=hidden))
        self.f.append(SqueezeExcitation(hidden, in_channels // 4, nn.SiLU))
        self.f.append(nn.Conv2d(hidden, out_channels, 1, bias=False))
        self.f.append(nn.BatchNorm2d(out_channels))
        self.shortcut = layers.keeps_shape(in_channels, out_channels, stride)
        self.drop_connect = DropConnect(drop_connect)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_connect(self.f(x)) if self.shortcut else self.f(x)


class EfficientNet(nn.Module):
    """A 3x3 convolution, stages of MBConv blocks, a 1x1 convolution, global average pooling, one linear layer.

    Args:
        width: factor on the number of maps of every layer, rounded to multiples of 8.
        depth: factor on the number of blocks of every stage, rounded up.
        num_classes: number of logits.
        dropout: probability of dropping an input of the classifier.
        drop_connect: probability of leaving out the residual branch. It grows with the block's number from 0; the
            block after the last would have this.
        stages: rows of Table 1, see :data:`B0`.
        stem_stride: stride of the first convolution.
        bn_momentum: weight of a new batch in the running statistics.

    Raises:
        BadOption: if ``width``, ``depth`` or ``stem_stride`` is not positive, a stage has no block, or
            ``drop_connect`` is not in [0, 1).
    """

    min_size = 1

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        num_classes: int = 1000,
        dropout: float = 0.2,
        drop_connect: float = 0.2,
        stages: tuple[tuple[int, int, int, int, int], ...] = B0,
        stem_stride: int = 2,
        bn_momentum: float = 0.01,
    ):
        super().__init__()
        layers.require_positive(width=width, depth=depth)
        layers.require_whole(1, stem_stride=stem_stride)
        layers.require_probability(drop_connect=drop_connect)
        if not (isinstance(bn_momentum, int | float) and 0 < bn_momentum <= 1):
            raise BadOption(f"bn_momentum is more than 0 and at most 1, unlike {bn_momentum!r}")
        repeats = [math.ceil(depth * n) for *_, n in stages]
        layers.require_blocks(repeats)
        channels = round_channels(32 * width)
        self.stem = conv_bn_swish(3, channels, 3, stem_stride)
        self.stages = nn.Sequential()
        number = 0
        for (expansion, kernel_size, first_stride, base_width, _), n in zip(stages, repeats, strict=True):
            stage = nn.Sequential()
            out_channels = round_channels(base_width * width)
            for stride in (first_stride, *[1] * (n - 1)):
                p = drop_connect * number / sum(repeats)
                stage.append(MBConv(channels, out_channels, stride, kernel_size, expansion, p))
                channels = out_channels
                number += 1
            self.stages.append(stage)
        features = round_channels(1280 * width)
        self.head = conv_bn_swish(channels, features, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, bn_momentum
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.stem(x)))
        return self.fc(self.dropout(self.pool(x).flatten(1)))


PAPER_V1 = ("1 crop, validation", "Tan and Le 2019, Table 2 of the first version")
PAPER_V2 = ("1 crop, validation", "Tan and Le 2019, Table 2 of the later version")
TORCHVISION = "torchvision, IMAGENET1K_V1"

# dropout, parameters, multiply-adds, top-1 and top-5 error in the paper's first version, in its later one, whose nets
# were chosen on training images held out, and of torchvision's weights.
NETS = {
    "b0": (0.2, 5_288_548, 385_814_752, (23.7, 6.8), (22.9, 6.7), (22.308, 6.468)),
    "b1": (0.2, 7_794_184, 686_802_832, (21.2, 5.6), (20.9, 5.6), (21.358, 5.814)),
    "b2": (0.3, 9_109_994, 993_561_872, (20.2, 5.1), (19.9, 5.1), (19.392, 4.690)),
    "b3": (0.3, 12_233_232, 1_827_141_392, (18.9, 4.5), (18.4, 4.3), (17.992, 3.946)),
    "b4": (0.4, 19_341_616, 4_393_771_024, (17.4, 3.7), (17.1, 3.6), (16.616, 3.406)),
    "b5": (0.4, 30_389_784, 10_266_384_752, (16.7, 3.3), (16.4, 3.3), (16.556, 3.372)),
    "b6": (0.5, 43_040_704, 19_067_593_536, (16.0, 3.1), (16.0, 3.2), (15.992, 3.084)),
    "b7": (0.5, 66_347_960, 37_745_884_192, (15.6, 2.9), (15.7, 3.0), (15.878, 3.092)),
}
FINE_TUNED = ("pretrained on ImageNet, fine-tuned", "Tan and Le 2019, Table 5")
TRANSFERRED = {"b0": (1.9, 11.9), "b7": (1.1, 8.3)}  # test error on CIFAR-10 and on CIFAR-100

for _name, (_dropout, _parameters, _multiply_adds, _first, _later, _torchvision) in NETS.items():
    _scaling = RELEASED[_name]
    _crop = "1 crop of 288 pixels" if _name == "b2" else "1 crop"  # torchvision shows B2 larger images than the paper
    _published = top_errors(
        {PAPER_V1: _first, PAPER_V2: _later, (f"{_crop}, validation", TORCHVISION): _torchvision},
    )
    _published += cifar_errors({FINE_TUNED: TRANSFERRED.get(_name, ())})
    register(
        f"efficientnet-{_name}",
        partial(EfficientNet, width=_scaling.width, depth=_scaling.depth, dropout=_dropout),
        paper=PAPER,
        input_size=(3, _scaling.resolution, _scaling.resolution),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=_published,
        about=f"B0 with {_scaling.width:g} times the width and {_scaling.depth:g} times the depth",
    )
