"""LeNet-5. LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".

Implements section II.B, Figure 2 and Table I as :class:`LeNet5Of1998`: scaled tanh, trainable subsampling, a C3 whose
maps each see some maps of S2 only, and an output of distances to drawings of the ten digits. :class:`LeNet5` is the
form in which the net is written today. Where ours deviates:

- The bitmaps are our own drawings: the paper shows its 7x12 symbols (Figure 3) as pictures.
- The output is minus the squared distances, so that the largest value wins and cross-entropy is the paper's equation 9
  without its constant for rubbish input.
- Images larger than 32x32 are allowed: C5's maps are then averaged. At 32x32 this step changes nothing.

Weights of the 1998 form are drawn as in Appendix A, uniformly within 2.4/fan-in, and biases are 0. :class:`LeNet5`
has He initialisation with the fan-in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, Published, register

PAPER = Paper(
    key="lecun1998gradient",
    title="Gradient-Based Learning Applied to Document Recognition",
    authors="LeCun, Bottou, Bengio and Haffner",
    year=1998,
)

# Table I: the maps of S2 that each of the 16 maps of C3 sees.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)

# The digits 0 to 9, 7 pixels wide and 12 high: the targets of the 84 units of F6.
BITMAPS = """
 .#####.  ...#...  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
 ##...##  ..##...  ##...##  ##...##  ...###.  ##.....  .##....  .....##  ##...##  ##...##
 ##...##  .###...  .....##  .....##  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
 ##...##  ...#...  .....##  .....##  .##.##.  ##.....  ##.....  ....##.  ##...##  ##...##
 ##...##  ...#...  ....##.  .....##  ##..##.  ######.  ##.....  ....##.  ##...##  ##...##
 ##...##  ...#...  ...##..  ..####.  ##..##.  .....##  ######.  ...##..  .#####.  .######
 ##...##  ...#...  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
 ##...##  ...#...  .##....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
 ##...##  ...#...  ##.....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
 ##...##  ...#...  ##.....  .....##  ....##.  .....##  ##...##  .##....  ##...##  .....##
 ##...##  ...#...  ##.....  ##...##  ....##.  ##...##  ##...##  .##....  ##...##  ....##.
 .#####.  .#####.  #######  .#####.  ....##.  .#####.  .#####.  .##....  .#####.  .####..
"""


class ScaledTanh(nn.Module):
    """The squashing function of equation 6 and Appendix A, 1.7159 tanh(2x/3): it maps 1 to 1 and -1 to -1."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """S2 and S4: the sum of each 2x2 window, times a trainable coefficient, plus a trainable bias, both one a map."""

    def __init__(self, channels: int):
        super().__init__()
        self.sum = nn.AvgPool2d(2, divisor_override=1)
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.sum(x) * self.coefficient + self.bias


class PartialConvolution(nn.Module):
    """C3: 5x5 filters, each over the maps that its row of ``table`` lists. (N, 6, H, W) to (N, 16, H - 4, W - 4)."""

    def __init__(self, table: tuple[tuple[int, ...], ...] = C3_TABLE):
        super().__init__()
        self.table = [list(maps) for maps in table]
        self.convs = nn.ModuleList(nn.Conv2d(len(maps), 1, 5) for maps in table)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x[:, maps]) for conv, maps in zip(self.convs, self.table, strict=True)], 1)


class DistanceToBitmaps(nn.Module):
    """The output layer, equation 7: minus the squared distance of F6 (N, 84) to each digit's bitmap, (N, 10).

    The bitmaps are fixed, +1 for ink and -1 for paper: values that F6's scaled tanh reaches where it bends most.
    """

    def __init__(self):
        super().__init__()
        rows = [line.split() for line in BITMAPS.strip().splitlines()]  # 12 rows of 10 digits of 7 pixels
        pixels = ["".join(row[digit] for row in rows) for digit in range(10)]
        self.register_buffer("codes", torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in p] for p in pixels]))

    def forward(self, x: Tensor) -> Tensor:
        return -(x.unsqueeze(1) - self.codes).square().sum(2)


def _init_by_fan_in(weight: Tensor) -> None:
    """Draw from the uniform distribution within 2.4 / fan-in, as Appendix A asks."""
    bound = 2.4 / weight[0].numel()
    nn.init.uniform_(weight, -bound, bound)


class LeNet5Of1998(nn.Module):
    """LeNet-5 as published, for grey images of digits: (N, 1, 32, 32), or larger, to (N, 10).

    Raises:
        BadOption: for another number of classes.
    """

    min_size = 32

    def __init__(self, num_classes: int = 10):
        super().__init__()
        if num_classes != 10:
            raise BadOption(f"the 1998 form has a bitmap for each of ten digits; {num_classes} classes need 'lenet5'")
        self.c1 = nn.Conv2d(1, 6, 5)
        self.squash1 = ScaledTanh()
        self.s2 = Subsampling(6)
        self.squash2 = ScaledTanh()
        self.c3 = PartialConvolution()
        self.squash3 = ScaledTanh()
        self.s4 = Subsampling(16)
        self.squash4 = ScaledTanh()
        self.c5 = nn.Conv2d(16, 120, 5)
        self.squash5 = ScaledTanh()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.f6 = nn.Linear(120, 84)
        self.squash6 = ScaledTanh()
        self.output = DistanceToBitmaps()
        layers.init_weights(self, _init_by_fan_in)
        for subsampling in (self.s2, self.s4):
            nn.init.uniform_(subsampling.coefficient, -2.4 / 4, 2.4 / 4)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "LeNet-5")
        x = self.squash1(self.c1(x))  # (N, 6, 28, 28)
        x = self.squash2(self.s2(x))  # (N, 6, 14, 14)
        x = self.squash3(self.c3(x))  # (N, 16, 10, 10)
        x = self.squash4(self.s4(x))  # (N, 16, 5, 5)
        x = self.squash5(self.c5(x))  # (N, 120, 1, 1)
        x = self.squash6(self.f6(self.average(x).flatten(1)))
        return self.output(x)


class LeNet5(nn.Module):
    """LeNet-5 as it is written today: every map of C3 sees all of S2, ReLU, max pooling, a linear output layer.

    Args:
        num_classes: number of logits.
        in_channels: 1 for grey images, 3 for colour.
    """

    min_size = 32

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.relu1 = nn.ReLU()
        self.s2 = nn.MaxPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.relu3 = nn.ReLU()
        self.s4 = nn.MaxPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.relu5 = nn.ReLU()
        self.average = nn.AdaptiveAvgPool2d(1)
        self.f6 = nn.Linear(120, 84)
        self.relu6 = nn.ReLU()
        self.output = nn.Linear(84, num_classes)
        layers.init_weights(self, nn.init.kaiming_normal_)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "LeNet-5")
        x = self.s2(self.relu1(self.c1(x)))  # (N, 6, 14, 14)
        x = self.s4(self.relu3(self.c3(x)))  # (N, 16, 5, 5)
        x = self.relu5(self.c5(x))  # (N, 120, 1, 1)
        x = self.relu6(self.f6(self.average(x).flatten(1)))
        return self.output(x)


WEB_PAGE = "LeCun, Cortes and Burges, the MNIST page"
register(
    "lenet5-1998",
    LeNet5Of1998,
    paper=PAPER,
    family="lenet",
    dataset="MNIST",
    input_size=(1, 32, 32),
    parameters=60_000,
    multiply_adds=325_680,
    published=[
        Published("test error", 0.95, "no distortions", WEB_PAGE, "MNIST"),
        Published("test error", 0.8, "trained with distortions", WEB_PAGE, "MNIST"),
    ],
    about="as published: partial C3, trainable subsampling, distances to bitmaps",
)
register(
    "lenet5",
    LeNet5,
    paper=PAPER,
    family="lenet",
    dataset="MNIST",
    input_size=(1, 32, 32),
    parameters=61_706,
    multiply_adds=416_520,
    about="as written today: full C3, ReLU, max pooling, linear output",
)
