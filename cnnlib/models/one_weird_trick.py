"""The one-column AlexNet. Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks".

arXiv:1404.5997, section 5: AlexNet without the two towers and with other widths, in the form that torchvision made well
known as "AlexNet". Its widths 64, 192, 384, 256, 256 are those of the author's code (cuda-convnet2); footnote 1 of the
paper has 384 maps in conv4. As in torchvision, and unlike the paper's account of the 2012 net, there is no response
normalisation, and dropout acts on the inputs of fc6 and fc7. Weights are drawn by PyTorch's defaults.
"""

from __future__ import annotations

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import Paper, register, top_errors, torchvision_v1

PAPER = Paper(
    key="krizhevsky2014one",
    title="One weird trick for parallelizing convolutional neural networks",
    authors="Krizhevsky",
    year=2014,
    arxiv="1404.5997",
)


class OneColumnAlexNet(nn.Module):
    """AlexNet in one column. Arguments: the size of fc8, the probability of dropping an input of fc6 and fc7."""

    min_size = 63

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 11, stride=4, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.resize = nn.AdaptiveAvgPool2d(6)
        self.drop5 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU()
        self.fc8 = nn.Linear(4096, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "AlexNet (one column)")
        x = self.pool1(self.relu1(self.conv1(x)))  # (N, 64, 27, 27)
        x = self.pool2(self.relu2(self.conv2(x)))  # (N, 192, 13, 13)
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.pool5(self.relu5(self.conv5(x)))  # (N, 256, 6, 6)
        x = self.relu6(self.fc6(self.drop5(self.resize(x).flatten(1))))
        x = self.relu7(self.fc7(self.drop6(x)))
        return self.fc8(x)


register(
    "alexnet-torchvision",
    OneColumnAlexNet,
    paper=PAPER,
    input_size=(3, 224, 224),
    parameters=61_100_840,
    multiply_adds=714_188_480,
    published=top_errors({torchvision_v1("AlexNet"): (43.478, 20.934)}),
    about="AlexNet in one column, as torchvision has it",
)
