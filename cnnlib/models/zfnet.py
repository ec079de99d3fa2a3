"""ZFNet. Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901.

Implements Figure 3, and with ``widths=(512, 1024, 512)`` the variant of Table 2. It is AlexNet with a 7x7 convolution
of stride 2 for its 11x11 of stride 4, stride 2 in conv2, and no groups. Choices where the paper is silent:

- Padding 1 in conv1 and pools that round up give the 110, 55, 26, 13 and 6 pixels of Figure 3.
- "Contrast normalized across feature maps" is AlexNet's response normalisation with AlexNet's constants. It follows
  the pooling, in the order (i) ReLU, (ii) pool, (iii) normalise of Figure 3.
- Other sizes than 224 are pooled to the 6x6 maps that fc6 reads. At 224 this step changes nothing.

The weights start as in section 3: 0.01 everywhere, which we read as the standard deviation of AlexNet's Gaussian, and
biases 0.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.layers import LocalResponseNorm
from cnnlib.models.registry import Paper, Published, register

PAPER = Paper(
    key="zeiler2014visualizing",
    title="Visualizing and Understanding Convolutional Networks",
    authors="Zeiler and Fergus",
    year=2013,
    arxiv="1311.2901",
)


class ZFNet(nn.Module):
    """ZFNet.

    Args:
        num_classes: size of fc8.
        widths: number of maps of conv3, conv4 and conv5.
        dropout: probability of dropping a unit of fc6 and fc7.
    """

    min_size = 47

    def __init__(self, num_classes: int = 1000, widths: tuple[int, int, int] = (384, 384, 256), dropout: float = 0.5):
        super().__init__()
        c3, c4, c5 = widths
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = LocalResponseNorm()
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm2 = LocalResponseNorm()
        self.conv3 = nn.Conv2d(256, c3, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.resize = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Linear(c5 * 6 * 6, 4096)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, num_classes)
        layers.init_weights(self, partial(nn.init.normal_, std=0.01))

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "ZFNet")
        x = self.relu1(self.conv1(x))  # (N, 96, 110, 110)
        x = self.norm1(self.pool1(x))  # (N, 96, 55, 55)
        x = self.relu2(self.conv2(x))  # (N, 256, 26, 26)
        x = self.norm2(self.pool2(x))  # (N, 256, 13, 13)
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.pool5(self.relu5(self.conv5(x)))  # (N, 256, 6, 6)
        x = self.drop6(self.relu6(self.fc6(self.resize(x).flatten(1))))
        x = self.drop7(self.relu7(self.fc7(x)))
        return self.fc8(x)


TABLE_2 = "Zeiler and Fergus 2014, Table 2"
register(
    "zfnet",
    ZFNet,
    paper=PAPER,
    input_size=(3, 224, 224),
    parameters=62_357_608,
    multiply_adds=1_168_032_896,
    published=[
        Published("top-1 error", 38.4, "1 net, validation", TABLE_2),
        Published("top-5 error", 16.5, "1 net, validation", TABLE_2),
        Published("top-1 error", 36.7, "5 nets, validation", TABLE_2, networks=5),
        Published("top-5 error", 15.3, "5 nets, validation", TABLE_2, networks=5),
        Published("top-5 error", 15.3, "5 nets, test", TABLE_2, networks=5),
    ],
    about="AlexNet with smaller filters and strides at the input",
)
register(
    "zfnet-512-1024-512",
    partial(ZFNet, widths=(512, 1024, 512)),
    paper=PAPER,
    input_size=(3, 224, 224),
    parameters=107_627_624,
    multiply_adds=2_476_704_896,
    published=[
        Published("top-1 error", 37.5, "1 net, validation", TABLE_2),
        Published("top-5 error", 16.0, "1 net, validation", TABLE_2),
        Published("top-5 error", 16.1, "1 net, test", TABLE_2),
        Published("top-1 error", 36.0, "6 nets of both widths, validation", TABLE_2, networks=6),
        Published("top-5 error", 14.7, "6 nets of both widths, validation", TABLE_2, networks=6),
        Published("top-5 error", 14.8, "6 nets of both widths, test", TABLE_2, networks=6),
    ],
    about="ZFNet with 512, 1024 and 512 maps in conv3, conv4 and conv5",
)
