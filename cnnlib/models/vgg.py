"""VGG. Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition".

arXiv:1409.1556. Implements Table 1, configurations A, B, D and E: nothing but 3x3 convolutions and 2x2 max pooling.
Only the depth varies, from 11 to 19 layers with weights, which have the names that everybody uses: conv1_1 to conv5_4,
fc6 to fc8. Where ours deviates:

- The paper trains A first and starts the deeper nets from its layers. It also says (section 3.1) that Glorot's
  initialisation makes this unnecessary: that is what we do. torchvision uses He's, with the fan-out,
  in the convolutions.
- The forms with batch normalisation (``vgg16-bn``) are torchvision's, not the paper's, which is older than the method.
  Their convolutions keep the biases that normalisation makes idle. All our forms with it have He initialisation with
  the fan-in.
- Other sizes than 224 are pooled to the 7x7 maps that fc6 reads. At 224 this step changes nothing.
- The forms for 32x32 images (``vgg16-cifar``) have batch normalisation, one map of 1x1 before the classifier, and 512
  hidden units instead of 4096. They are those of chenyaofo's widely used CIFAR models.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from cnnlib.models import layers
from cnnlib.models.registry import HU_RERUN, Paper, Published, cifar_errors, register, top_errors, torchvision_v1

PAPER = Paper(
    key="simonyan2015very",
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    authors="Simonyan and Zisserman",
    year=2014,
    arxiv="1409.1556",
)

# Table 1: the width of each convolution, stage by stage. A pooling layer ends every stage.
A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
B = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
E = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ended by a pooling layer that halves the maps, and three linear layers.

    Args:
        stages: widths of the convolutions of each stage, :data:`D` for VGG-16.
        num_classes: size of fc8.
        batch_norm: normalise after each convolution.
        hidden: size of fc6 and fc7.
        grid: height and width of the maps that fc6 reads.
        dropout: probability of dropping a unit of fc6 and fc7.

    Raises:
        BadOption: if ``grid`` is not positive.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...],
        num_classes: int = 1000,
        batch_norm: bool = False,
        hidden: int = 4096,
        grid: int = 7,
        dropout: float = 0.5,
    ):
        super().__init__()
        layers.require_whole(1, grid=grid)
        self.min_size = 2 ** len(stages)
        self.features = nn.Sequential(OrderedDict(_features(stages, batch_norm)))
        self.resize = nn.AdaptiveAvgPool2d(grid)
        self.classifier = layers.classifier(stages[-1][-1] * grid * grid, hidden, num_classes, dropout)
        layers.init_weights(self, nn.init.kaiming_normal_ if batch_norm else nn.init.xavier_normal_)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_classes)."""
        layers.require_size(x, self.min_size, "VGG")
        x = self.features(x)  # (N, 512, 7, 7) from (N, 3, 224, 224)
        return self.classifier(self.resize(x).flatten(1))


def _features(stages: tuple[tuple[int, ...], ...], batch_norm: bool) -> list[tuple[str, nn.Module]]:
    named: list[tuple[str, nn.Module]] = []
    in_channels = 3
    for s, widths in enumerate(stages, start=1):
        for i, out_channels in enumerate(widths, start=1):
            named.append((f"conv{s}_{i}", nn.Conv2d(in_channels, out_channels, 3, padding=1)))
            if batch_norm:
                named.append((f"bn{s}_{i}", nn.BatchNorm2d(out_channels)))
            named.append((f"relu{s}_{i}", nn.ReLU()))
            in_channels = out_channels
        named.append((f"pool{s}", nn.MaxPool2d(2)))
    return named


def vgg_cifar(
    stages: tuple[tuple[int, ...], ...], num_classes: int = 10, dropout: float = 0.5, width: float = 1.0
) -> VGG:
    """Return the form for 32x32 images, of which five pooling layers leave 1x1 maps.

    ``width`` multiplies the numbers of maps and of hidden units. The other arguments are those of :class:`VGG`.

    Raises:
        BadOption: if ``width`` is not positive, or leaves no map.
    """
    stages = tuple(layers.scaled(stage, width=width) for stage in stages)
    return VGG(stages, num_classes, batch_norm=True, hidden=int(width * 512), grid=1, dropout=dropout)


PAPER_TABLE = "Simonyan and Zisserman 2015, Table"
ONE_SCALE = ("dense at one scale, validation", f"{PAPER_TABLE} 3")
THREE_SCALES = ("dense at 3 scales, validation", f"{PAPER_TABLE} 4")
CROPS_AND_DENSE = ("crops and dense at 3 scales, validation", f"{PAPER_TABLE} 5")
TEN_CROPS = ("10 crops, validation", "He et al. 2015, Table 3")
D_AND_E = [
    Published("top-1 error", 23.7, "D and E, crops and dense at 3 scales, validation", f"{PAPER_TABLE} 6", networks=2),
    Published("top-5 error", 6.8, "D and E, crops and dense at 3 scales, validation", f"{PAPER_TABLE} 6", networks=2),
    Published("top-5 error", 6.8, "D and E, crops and dense at 3 scales, test", f"{PAPER_TABLE} 6", networks=2),
    Published("top-1 error", 24.7, "7 nets, dense, validation", f"{PAPER_TABLE} 6", networks=7),
    Published("top-5 error", 7.5, "7 nets, dense, validation", f"{PAPER_TABLE} 6", networks=7),
    Published("top-5 error", 7.3, "7 nets, dense, test", f"{PAPER_TABLE} 6", networks=7),
]

# depth: configuration, multiply-adds, parameters, and top-1 and top-5 errors
NETS = {
    11: (A, 7_609_090_048, 132_863_336, {ONE_SCALE: (29.6, 10.4), torchvision_v1("VGG11"): (30.980, 11.372)}),
    13: (
        *(B, 11_308_466_176, 133_047_848),
        {ONE_SCALE: (28.7, 9.9), THREE_SCALES: (28.2, 9.6), torchvision_v1("VGG13"): (30.072, 10.754)},
    ),
    16: (
        *(D, 15_470_264_320, 138_357_544),
        {
            ONE_SCALE: (25.6, 8.1),
            THREE_SCALES: (24.8, 7.5),
            CROPS_AND_DENSE: (24.4, 7.2),
            TEN_CROPS: (28.07, 9.33),
            torchvision_v1("VGG16"): (28.408, 9.618),
        },
    ),
    19: (
        *(E, 19_632_062_464, 143_667_240),
        {
            ONE_SCALE: (25.5, 8.0),
            THREE_SCALES: (24.8, 7.5),
            CROPS_AND_DENSE: (24.4, 7.1),
            torchvision_v1("VGG19"): (27.624, 9.124),
        },
    ),
}
# depth: parameters and errors of the form with batch normalisation
NORMALISED = {
    11: (132_868_840, {torchvision_v1("VGG11_BN"): (29.630, 10.190)}),
    13: (133_053_736, {torchvision_v1("VGG13_BN"): (28.414, 9.626)}),
    16: (
        138_365_992,
        {
            torchvision_v1("VGG16_BN"): (26.640, 8.484),
            HU_RERUN: (27.02, 8.81),
        },
    ),
    19: (143_678_248, {torchvision_v1("VGG19_BN"): (25.782, 8.158)}),
}
# depth: multiply-adds, parameters, errors on CIFAR-10 and CIFAR-100 of the form for 32x32 images
CIFAR = {
    11: (153_293_824, 9_756_426, 7.21, 29.22),
    13: (228_791_296, 9_941_322, 6.00, 25.37),
    16: (313_725_952, 15_253_578, 5.84, 26.00),
    19: (398_660_608, 20_565_834, 6.09, 26.13),
}
for _depth, (_stages, _multiply_adds, _parameters, _errors) in NETS.items():
    register(
        f"vgg{_depth}",
        partial(VGG, _stages),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors) + (D_AND_E if _depth > 13 else []),
        about=f"{_depth} layers with weights, all convolutions 3x3",
    )
    _parameters, _errors = NORMALISED[_depth]
    register(
        f"vgg{_depth}-bn",
        partial(VGG, _stages, batch_norm=True),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"VGG-{_depth} with batch normalisation, which is torchvision's addition",
    )
    _multiply_adds, _parameters, *_errors = CIFAR[_depth]
    register(
        f"vgg{_depth}-cifar",
        partial(vgg_cifar, _stages),
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors({("1 run", "github.com/chenyaofo/pytorch-cifar-models"): _errors}),
        about=f"VGG-{_depth} with batch normalisation and small linear layers for 32x32 images",
    )
