"""SqueezeNet. Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size".

arXiv:1602.07360. Implements Table 1, of the fire modules of Figure 1: 1x1 convolutions squeeze the maps to a few, which
convolutions of 1x1 and 3x3 beside each other expand again. There is no linear layer: the last convolution makes one map
a class, and its mean is the logit. Choices and deviations:

- Table 1 gives 111x111 maps after conv1, as an image of 227x227 does without padding. The 224x224 that it prints make
  109x109, and the same maps from the second pooling on.
- Windows of the poolings that stick out of the maps count (``ceil_mode``), as in Caffe, where the authors trained.
- The authors' files put a ReLU behind conv10, of which the paper does not speak: logits are not negative. That of 1.0
  also pads conv10, which adds a border of biases to the maps; the 13x13 of Table 1 are without.
- He initialisation with the fan-in, but for a standard deviation of 0.01 in conv10, as in the authors' files. All other
  layers are uniform there, with half the variance, 1/fan-in.
- ``squeezenet-1.1`` is the authors' later version: a smaller conv1, earlier poolings, less than half the multiply-adds.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.googlenet import conv_relu
from cnnlib.models.inception_v4 import Concat
from cnnlib.models.registry import BadOption, Paper, register, top_errors, torchvision_v1

PAPER = Paper(
    key="iandola2016squeezenet",
    title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    authors="Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer",
    year=2016,
    arxiv="1602.07360",
)

# Table 1, fire2 to fire9: number of 1x1 filters that squeeze, and of 1x1 and as many 3x3 filters that expand.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def fire(in_channels: int, squeeze: int, expand: int) -> nn.Sequential:
    """Return the fire module of Figure 1: (N, in_channels, H, W) to (N, 2 * expand, H, W)."""
    return nn.Sequential(
        OrderedDict(
            squeeze=conv_relu(in_channels, squeeze, 1),
            expand=Concat(conv_relu(squeeze, expand, 1), conv_relu(squeeze, expand, 3)),
        )
    )


class SqueezeNet(nn.Module):
    """A convolution, eight fire modules with poolings between them, a convolution to one map a class, their means.

    Args:
        width: number of maps of the first convolution.
        kernel: size of its filters.
        pools: numbers of the layers that a pooling follows: 1 is the first convolution, 2 the first fire module.
        num_classes: number of logits.
        dropout: probability of dropping an input of the last convolution.

    Raises:
        BadOption: if ``pools`` is not three different numbers of layers.
    """

    def __init__(
        self, width: int, kernel: int, pools: tuple[int, int, int], num_classes: int = 1000, dropout: float = 0.5
    ):
        super().__init__()
        if not len(set(pools).intersection(range(1, len(FIRES) + 2))) == len(pools) == 3:
            raise BadOption(f"pools is three different numbers from 1 to {len(FIRES) + 1}, not {pools}")
        self.min_size = kernel + 14  # 8x8 maps, of which three poolings leave 1x1
        modules = OrderedDict(conv1=nn.Sequential(nn.Conv2d(3, width, kernel, stride=2), nn.ReLU()))
        channels = width
        for number, (squeeze, expand) in enumerate(FIRES, start=2):
            modules[f"fire{number}"] = fire(channels, squeeze, expand)
            channels = 2 * expand
        self.features = nn.Sequential()
        for number, (name, module) in enumerate(modules.items(), start=1):
            self.features.add_module(name, module)
            if number in pools:
                self.features.add_module(f"pool{number}", nn.MaxPool2d(3, stride=2, ceil_mode=True))
        self.dropout = nn.Dropout(dropout)
        self.conv10 = conv_relu(channels, num_classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        layers.init_weights(self, nn.init.kaiming_normal_)
        nn.init.normal_(self.conv10.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_classes)."""
        layers.require_size(x, self.min_size, "SqueezeNet")
        return self.pool(self.conv10(self.dropout(self.features(x)))).flatten(1)


TABLE_2 = ("crops not said", "Iandola et al. 2016, Table 2")

# version: options, parameters, multiply-adds, top-1 and top-5 errors
NETS = {
    "1.0": (
        *({"width": 96, "kernel": 7, "pools": (1, 4, 8)}, 1_248_424, 818_924_576),
        {TABLE_2: (42.5, 19.7), torchvision_v1("SqueezeNet1_0"): (41.908, 19.580)},
    ),
    "1.1": (
        *({"width": 64, "kernel": 3, "pools": (1, 3, 5)}, 1_235_496, 349_151_936),
        {torchvision_v1("SqueezeNet1_1"): (41.822, 19.376)},
    ),
}
for _version, (_options, _parameters, _multiply_adds, _errors) in NETS.items():
    register(
        f"squeezenet-{_version}",
        partial(SqueezeNet, **_options),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"fire modules, no linear layer, version {_version}",
    )
