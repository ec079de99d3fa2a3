"""AlexNet. Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks".

Implements section 3.5 and Figure 2 as one stream with ``groups=2`` (:class:`AlexNet`) and as the two towers that the
authors ran on two GPUs (:class:`AlexNetTwoTowers`): the same function of the same weights. Notes on the choices:

- The paper's 224x224 input and its 55x55 maps fit together only because the authors' code rounds (224 - 11)/4 up and
  lets the last window hang over the edge. PyTorch rounds down. The default here is the usual 227 without padding; 224
  with ``padding=2`` gives 55 as well.
- Response normalisation comes before pooling, as in section 3.5: "max-pooling layers [...] follow both
  response-normalization layers". Many tables, the lecture's too, list pool, then norm.
- Each GPU normalises its own maps, as in the authors' code. Most one-stream copies let the window of five maps reach
  over the border between the two halves.
- Images of other sizes are pooled to the 6x6 maps that fc6 reads. At 227x227 this step changes nothing.
- Weights and biases start as in section 5: :func:`init_as_paper`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.layers import LocalResponseNorm
from cnnlib.models.registry import Paper, Published, register, top_errors

PAPER = Paper(
    key="krizhevsky2012imagenet",
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    authors="Krizhevsky, Sutskever and Hinton",
    year=2012,
)


class AlexNet(nn.Module):
    """The one-stream form: conv2, conv4 and conv5, which see only their own GPU's half of the maps, have two groups.

    Args:
        num_classes: size of fc8.
        padding: of conv1; 0 for 227x227 images, 2 for 224x224.
        dropout: probability of dropping a unit of fc6 and fc7.

    Raises:
        BadOption: if ``padding`` is negative.
    """

    def __init__(self, num_classes: int = 1000, padding: int = 0, dropout: float = 0.5):
        super().__init__()
        layers.require_whole(0, padding=padding)
        self.min_size = max(1, 67 - 2 * padding)
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4, padding=padding)
        self.relu1 = nn.ReLU()
        self.norm1 = LocalResponseNorm(groups=2)
        self.pool1 = nn.MaxPool2d(3, stride=2)  # windows of 3 at stride 2 overlap
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.relu2 = nn.ReLU()
        self.norm2 = LocalResponseNorm(groups=2)
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.relu4 = nn.ReLU()
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.resize = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout(dropout)
        self.fc8 = nn.Linear(4096, num_classes)
        init_as_paper(self)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "AlexNet")
        x = self.norm1(self.relu1(self.conv1(x)))  # (N, 96, 55, 55)
        x = self.norm2(self.relu2(self.conv2(self.pool1(x))))  # (N, 256, 27, 27)
        x = self.relu3(self.conv3(self.pool2(x)))  # (N, 384, 13, 13)
        x = self.relu4(self.conv4(x))
        x = self.relu5(self.conv5(x))  # (N, 256, 13, 13)
        x = self.resize(self.pool5(x)).flatten(1)  # (N, 256 * 6 * 6)
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))
        return self.fc8(x)


class AlexNetTwoTowers(nn.Module):
    """The form of Figure 2: each GPU holds half of the maps; they exchange them before conv3, fc6, fc7 and fc8.

    Every :class:`torch.nn.ModuleList` has one entry a GPU. Arguments and errors as for :class:`AlexNet`, whose
    weights :func:`to_towers` copies.
    """

    def __init__(self, num_classes: int = 1000, padding: int = 0, dropout: float = 0.5):
        super().__init__()
        layers.require_whole(0, padding=padding)
        self.min_size = max(1, 67 - 2 * padding)
        self.conv12 = _on_both_gpus(
            conv1=nn.Conv2d(3, 48, 11, stride=4, padding=padding),
            relu1=nn.ReLU(),
            norm1=LocalResponseNorm(),
            pool1=nn.MaxPool2d(3, stride=2),
            conv2=nn.Conv2d(48, 128, 5, padding=2),
            relu2=nn.ReLU(),
            norm2=LocalResponseNorm(),
            pool2=nn.MaxPool2d(3, stride=2),
        )
        self.conv345 = _on_both_gpus(
            conv3=nn.Conv2d(256, 192, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(192, 192, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(192, 128, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),
            resize=nn.AdaptiveAvgPool2d(6),
            flatten=nn.Flatten(),
        )
        self.hidden6 = _on_both_gpus(fc6=nn.Linear(256 * 6 * 6, 2048), relu6=nn.ReLU(), drop6=nn.Dropout(dropout))
        self.hidden7 = _on_both_gpus(fc7=nn.Linear(4096, 2048), relu7=nn.ReLU(), drop7=nn.Dropout(dropout))
        self.fc8 = nn.Linear(4096, num_classes)
        init_as_paper(self)

    def forward(self, x: Tensor) -> Tensor:
        layers.require_size(x, self.min_size, "AlexNet")
        for stage in (self.conv12, self.conv345, self.hidden6, self.hidden7):
            x = torch.cat([gpu(x) for gpu in stage], 1)  # each stage reads what both GPUs put out before
        return self.fc8(x)


def _on_both_gpus(**half: nn.Module) -> nn.ModuleList:
    return nn.ModuleList([nn.Sequential(OrderedDict(half)), copy.deepcopy(nn.Sequential(OrderedDict(half)))])


def to_towers(net: AlexNet) -> AlexNetTwoTowers:
    """Return the two-tower net that computes what ``net`` does: each GPU takes one half of every layer but fc8.

    Number type, device and mode, training or evaluation, are those of ``net``.
    """
    towers = AlexNetTwoTowers(net.fc8.out_features, net.conv1.padding[0], net.drop6.p).to(net.conv1.weight)
    whole = net.state_dict()
    for name, tensor in towers.state_dict().items():
        *stage_and_gpu, layer, kind = name.split(".")  # "conv12.0.conv1.weight", or "fc8.weight"
        source = whole[f"{layer}.{kind}"]
        tensor.copy_(source.chunk(2)[int(stage_and_gpu[1])] if stage_and_gpu else source)
    return towers.train(net.training)


def init_as_paper(net: nn.Module) -> None:
    """Initialise by section 5: weights from N(0, 0.01^2), biases 1 in conv2, conv4, conv5, fc6, fc7 and 0 elsewhere."""
    layers.init_weights(net, partial(nn.init.normal_, std=0.01))
    for name, parameter in net.named_parameters():
        if name.endswith(("conv2.bias", "conv4.bias", "conv5.bias", "fc6.bias", "fc7.bias")):
            nn.init.ones_(parameter)


SOURCE = "Krizhevsky et al. 2012, Table 2"
SEVEN = "7 nets, two of them trained on more data first"
PUBLISHED = [
    *top_errors({("1 net, validation", SOURCE): (40.7, 18.2)}),
    *top_errors({("5 nets, validation", SOURCE): (38.1, 16.4)}, networks=5),
    Published("top-5 error", 16.4, "5 nets, test", SOURCE, networks=5),
    *top_errors({(f"{SEVEN}, validation", SOURCE): (36.7, 15.4)}, networks=7),
    Published("top-5 error", 15.3, f"{SEVEN}, test", SOURCE, networks=7),
]
for _name, _build, _about in (
    ("alexnet", AlexNet, "the winner of ILSVRC 2012 in one stream, with groups and response normalisation"),
    ("alexnet-two-towers", AlexNetTwoTowers, "the same net as two towers that exchange their maps, one for each GPU"),
):
    register(
        _name,
        _build,
        paper=PAPER,
        input_size=(3, 227, 227),
        parameters=60_965_224,
        multiply_adds=724_406_816,
        published=PUBLISHED,
        about=_about,
    )
