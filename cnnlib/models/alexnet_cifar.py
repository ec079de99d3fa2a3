"""A small AlexNet for 32x32 images. The form is ours; the ideas are those of Krizhevsky, Sutskever and Hinton 2012.

It is small enough to be trained in minutes without a GPU, so that the ideas can be tried out one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.alexnet import PAPER
from cnnlib.models.registry import register


class AlexNetCIFAR(nn.Module):
    """AlexNet's ideas for 32x32 images.

    Kept: five convolutions, overlapping pooling after the first, second and fifth, two hidden fully connected layers
    with dropout. Left out: groups and response normalisation.

    From the paper's Gaussian of 0.01 a training of a few hundred steps does not get off the ground. Weights are drawn
    with variance 1/fan-in instead, for every activation: overlapping pooling raises the mean square of its input about
    as much as ReLU lowers it, so that He's factor of two would let the values grow from layer to layer.

    Args:
        num_classes: size of fc8.
        activation: class of the non-linearity, ``nn.Tanh`` for the comparison of the paper's Figure 1.
        dropout: probability of dropping a unit of fc6 and fc7.
        width: factor on the number of maps and of hidden units.

    Raises:
        BadOption: if ``width`` is not positive.
    """

    min_size = 15

    def __init__(
        self,
        num_classes: int = 10,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.5,
        width: float = 1.0,
    ):
        super().__init__()
        layers.require_positive(width=width)
        c1, c2, c3, c4, c5, hidden = (max(1, round(width * channels)) for channels in (32, 64, 96, 96, 64, 512))
        self.conv1 = nn.Conv2d(3, c1, 5, padding=2)
        self.act1 = activation()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2)
        self.act2 = activation()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.act3 = activation()
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1)
        self.act4 = activation()
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1)
        self.act5 = activation()
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.resize = nn.AdaptiveAvgPool2d(3)
        self.classifier = layers.classifier(c5 * 3 * 3, hidden, num_classes, dropout, activation)
        layers.init_weights(self, partial(nn.init.kaiming_normal_, nonlinearity="linear"))

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "AlexNetCIFAR")
        x = self.pool1(self.act1(self.conv1(x)))  # (N, 32, 15, 15)
        x = self.pool2(self.act2(self.conv2(x)))  # (N, 64, 7, 7)
        x = self.act3(self.conv3(x))  # (N, 96, 7, 7)
        x = self.act4(self.conv4(x))
        x = self.pool5(self.act5(self.conv5(x)))  # (N, 64, 3, 3)
        return self.classifier(self.resize(x).flatten(1))


register(
    "alexnet-cifar",
    AlexNetCIFAR,
    paper=PAPER,
    dataset="CIFAR-10",
    input_size=(3, 32, 32),
    parameters=810_698,
    multiply_adds=24_023_040,
    about="AlexNet's ideas for 32x32 images, our own form",
)
