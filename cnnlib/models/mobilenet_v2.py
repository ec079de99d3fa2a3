"""MobileNetV2. Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381.

Implements Table 2, with blocks after Figure 3(b): a 1x1 convolution widens, a depthwise 3x3 filters, a 1x1 convolution
narrows and has no activation. Where the shape is kept, a shortcut joins the narrow ends. Choices and deviations:

- Widths are rounded to multiples of 8, never more than 10% down, and the last 1280 maps grow with the width multiplier
  but do not shrink: the authors' code. So width 1.4 has 6.11 million parameters. The authors' page says 6.06; the paper
  says 6.9, which no reading of it that we tried gives.
- A block of expansion 1 has no widening convolution, and dropout of 0.2 precedes the classifier: both as in the code.
- He initialisation with the fan-in. torchvision takes the fan-out of convolutions: in the first 1x1 that widens, from
  16 to 96 maps, a standard deviation of 0.144 where ours is 0.354. The authors' code draws as in MobileNet V1.
- Batch normalisation is PyTorch's, with epsilon 1e-5 and a weight of 0.1 for a new batch in the running statistics. The
  authors' code has 1e-3 and 0.003.
- Padding is 1 on every side; TensorFlow's puts strided convolutions of even maps one pixel further (see MobileNet V1).
- The forms for 32x32 images (``mobilenet-v2-cifar``) have stride 1 in the first convolution and in the second stage.
  They are those of chenyaofo's pytorch-cifar-models; the paper has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import Paper, cifar_errors, register, top_errors, torchvision_v1

PAPER = Paper(
    key="sandler2018mobilenetv2",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    authors="Sandler, Howard, Zhu, Zhmoginov and Chen",
    year=2018,
    arxiv="1801.04381",
)

# Table 2: expansion t, width c, number of blocks n, stride s of the first of them.
TABLE_2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
CIFAR = (TABLE_2[0], (6, 24, 2, 1), *TABLE_2[2:])


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor`` (half up), but up where rounding would lose more than a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class InvertedResidual(nn.Module):
    """(N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), with ``expansion`` times as many maps inside."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, expansion: int = 6):
        super().__init__()
        hidden = expansion * in_channels
        self.f = nn.Sequential()
        if expansion > 1:
            self.f.append(conv_bn_activation(in_channels, hidden, 1))
        self.f.append(conv_bn_activation(hidden, hidden, 3, stride, groups=hidden))
        self.f.append(layers.conv_bn(hidden, out_channels, 1))  # the linear bottleneck
        self.shortcut = layers.keeps_shape(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x) if self.shortcut else self.f(x)


def conv_bn_activation(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] = nn.ReLU6,
) -> nn.Sequential:
    """Return a convolution that keeps the image size up to its stride, batch normalisation and ``activation``."""
    unit = layers.conv_bn(in_channels, out_channels, kernel_size, stride, groups)
    unit.add_module("activation", activation())
    return unit


class MobileNetV2(nn.Module):
    """A 3x3 convolution, inverted residual blocks, a 1x1 convolution, global average pooling, one linear layer.

    Args:
        width: width multiplier, the factor on the number of maps of every layer.
        num_classes: number of logits.
        stem_stride: stride of the first convolution.
        stages: rows (t, c, n, s) of Table 2.
        dropout: probability of dropping an input of the classifier.

    Raises:
        BadOption: if ``width`` or ``stem_stride`` is not positive, or a stage has no block.
    """

    min_size = 1

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        stem_stride: int = 2,
        stages: tuple[tuple[int, int, int, int], ...] = TABLE_2,
        dropout: float = 0.2,
    ):
        super().__init__()
        layers.require_positive(width=width)
        layers.require_whole(1, stem_stride=stem_stride)
        layers.require_blocks([repeats for _, _, repeats, _ in stages])
        channels = round_channels(32 * width)
        self.stem = conv_bn_activation(3, channels, 3, stem_stride)
        self.stages = nn.Sequential()
        for expansion, base_width, repeats, first_stride in stages:
            stage = nn.Sequential()
            out_channels = round_channels(base_width * width)
            for stride in (first_stride, *[1] * (repeats - 1)):
                stage.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
            self.stages.append(stage)
        features = round_channels(1280 * max(1.0, width))
        self.head = conv_bn_activation(channels, features, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.stem(x)))
        return self.fc(self.dropout(self.pool(x).flatten(1)))


TABLE_4 = ("crops not said", "Sandler et al. 2018, Table 4")
AUTHORS = ("1 crop, validation", "github.com/tensorflow/models, slim, mobilenet")
CHENYAOFO = "github.com/chenyaofo/pytorch-cifar-models"

# width: parameters, multiply-adds, top-1 and top-5 errors
IMAGENET_NETS = {
    1.0: (
        3_504_872,
        300_774_272,
        {AUTHORS: (28.2, 9.0), TABLE_4: (28.0,), torchvision_v1("MobileNet_V2"): (28.122, 9.714)},
    ),
    1.4: (6_108_776, 582_195_824, {AUTHORS: (25.0, 7.5), TABLE_4: (25.3,)}),
}
for _width, (_parameters, _multiply_adds, _errors) in IMAGENET_NETS.items():
    register(
        "mobilenet-v2" if _width == 1 else f"mobilenet-v2-{_width}",
        partial(MobileNetV2, width=_width),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"inverted residuals with linear bottlenecks, width multiplier {_width}",
    )

# width: parameters, multiply-adds, test error on CIFAR-10 and on CIFAR-100
CIFAR_NETS = {
    1.0: (2_236_682, 87_976_448, 6.21, 25.80),
    0.5: (700_490, 27_969_024, 7.12, 29.12),
    0.75: (1_368_234, 59_310_080, 6.28, 26.39),
    1.4: (4_333_706, 170_073_344, 5.78, 24.02),
}
for _width, (_parameters, _multiply_adds, *_errors) in CIFAR_NETS.items():
    register(
        "mobilenet-v2-cifar" if _width == 1 else f"mobilenet-v2-cifar-{_width}",
        partial(MobileNetV2, width=_width, num_classes=10, stem_stride=1, stages=CIFAR),
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors({("rerun", CHENYAOFO): _errors}),
        about=f"MobileNetV2 for 32x32 images, width multiplier {_width}",
    )
