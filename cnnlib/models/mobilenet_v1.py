"""MobileNet. Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications".

Implements arXiv 1704.04861, Table 1, with the width multiplier of section 3.3 (the paper's alpha). The resolution
multiplier rho is the size of the images: the net takes any. Where ours deviates:

- Table 1 prints stride 2 for the last depthwise convolution, which keeps its 7x7 maps: the stride is 1.
- Padding is 1 on every side. TensorFlow's "SAME" padding, in which the authors trained, puts a stride-2 convolution of
  even maps one pixel further. On maps of odd size the two are the same.
- He initialisation with the fan-in. The authors' code draws all layers from one normal distribution, with
  a standard deviation of 0.09 and cut off at twice that.
- ReLU, as the paper says, and no dropout. The authors' code has ReLU6, and drops one in a thousand of the values that
  the last layer reads. Its batch normalisation has epsilon 1e-3 and running statistics that change with a weight of
  0.0003 for a new batch, where ours has PyTorch's 1e-5 and 0.1.
- The form for 32x32 images (``mobilenet-v1-cifar``) has stride 1 in its first convolution. It is that of
  weiaicunzai's pytorch-cifar100; the paper has none.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import Paper, Published, register

PAPER = Paper(
    key="howard2017mobilenets",
    title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    authors="Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto and Adam",
    year=2017,
    arxiv="1704.04861",
)

# Table 1 after the first convolution: the width and stride of each depthwise separable convolution.
TABLE_1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


class SeparableConv(nn.Sequential):
    """A 3x3 filter for each map, then a 1x1 convolution that mixes the maps (Figure 3, right).

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), for 9 in + in * out multiply-adds a pixel where a
    full 3x3 convolution takes 9 in * out.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(
            OrderedDict(
                depthwise=nn.Conv2d(
                    in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
                ),
                bn1=nn.BatchNorm2d(in_channels),
                relu1=nn.ReLU(),
                pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False),
                bn2=nn.BatchNorm2d(out_channels),
                relu2=nn.ReLU(),
            )
        )


class MobileNetV1(nn.Module):
    """A 3x3 convolution, depthwise separable convolutions, global average pooling, one linear layer.

    Args:
        width: width multiplier, the factor on the number of maps of every layer.
        num_classes: number of logits.
        stem_stride: stride of the first convolution.
        stages: width and stride of each separable convolution.

    Raises:
        BadOption: if ``stem_stride`` or ``width`` is not positive, or the width leaves no map.
    """

    min_size = 1

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        stem_stride: int = 2,
        stages: tuple[tuple[int, int], ...] = TABLE_1,
    ):
        super().__init__()
        layers.require_whole(1, stem_stride=stem_stride)
        channels, *widths = layers.scaled((32, *(out_channels for out_channels, _ in stages)), width=width)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, channels, 3, stride=stem_stride, padding=1, bias=False),
                bn=nn.BatchNorm2d(channels),
                relu=nn.ReLU(),
            )
        )
        self.blocks = nn.Sequential()
        for out_channels, (_, stride) in zip(widths, stages, strict=True):
            self.blocks.append(SeparableConv(channels, out_channels, stride))
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))


# width: parameters, multiply-adds, published top-1 error
IMAGENET = {
    1.0: (4_231_976, 568_740_352, 29.4),
    0.75: (2_585_560, 325_400_448, 31.6),
    0.5: (1_331_592, 149_497_088, 36.3),
    0.25: (470_072, 41_030_272, 49.4),
}
for _width, (_parameters, _multiply_adds, _error) in IMAGENET.items():
    register(
        "mobilenet-v1" if _width == 1 else f"mobilenet-v1-{_width}",
        partial(MobileNetV1, width=_width),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=[Published("top-1 error", _error, "1 crop, validation", "Howard et al. 2017, Table 6")],
        about=f"depthwise separable convolutions, width multiplier {_width}",
    )
register(
    "mobilenet-v1-cifar",
    partial(MobileNetV1, num_classes=10, stem_stride=1),
    paper=PAPER,
    dataset="CIFAR-10",
    input_size=(3, 32, 32),
    parameters=3_217_226,
    multiply_adds=46_354_432,
    published=[Published("test error", 34.02, "rerun", "github.com/weiaicunzai/pytorch-cifar100", "CIFAR-100")],
    about="MobileNet with stride 1 in its first convolution, for 32x32 images",
)
