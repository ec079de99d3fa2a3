"""ResNeXt. Xie, Girshick, Dollár, Tu and He 2016, "Aggregated Residual Transformations for Deep Neural Networks".

Implements arXiv 1611.05431: the three forms of Figure 3, the ImageNet nets of Tables 1 and 3 and the CIFAR nets of
section 5.3. A ResNeXt is a ResNet with another residual branch, a sum of ``cardinality`` narrow bottlenecks with
weights of their own. 32x4d means 32 such paths, 4 maps wide in the first stage; the width doubles with each stage.

The three forms are one function. :func:`rewrite` shows it: it takes the weights of form (c) over to (a) or (b). For
this the batch norms stand where the paper has them: those inside a path belong to its maps, and in (a) the last one
follows the sum. Choices:

- A branch that halves the image does so in its 3x3 convolution, as in the authors' code.
- He initialisation, as in section 4, with the fan-in. The authors' code takes the fan-out of convolutions.
- Shortcuts are option B on CIFAR too, and the blocks there are the original ones with the ReLU at the end. The authors
  report that their published CIFAR errors come from pre-activated blocks, and that the original ones do better.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add

from torch import Tensor, cat, nn

from cnnlib.models import layers
from cnnlib.models.registry import (
    HU_RERUN,
    TORCHVISION_LATER,
    BadOption,
    Paper,
    cifar_errors,
    register,
    top_errors,
    torchvision_v1,
)
from cnnlib.models.resnet import WIDE, ResidualBlock, ResNet, imagenet_stem, three_convolutions

PAPER = Paper(
    key="xie2017aggregated",
    title="Aggregated Residual Transformations for Deep Neural Networks",
    authors="Xie, Girshick, Dollár, Tu and He",
    year=2016,
    arxiv="1611.05431",
)
CIFAR_WIDTHS, NARROW_WIDTHS = (256, 512, 1024), (64, 128, 256)


def narrow_path(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """Return the beginning of one path: 1x1 and 3x3 convolution, (N, in_channels, H, W) to (N, width, H', W')."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, width, 1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            bn2=nn.BatchNorm2d(width),
            relu2=nn.ReLU(),
        )
    )


class SumOfPaths(nn.Module):
    """Figure 3(a): each path goes up to ``out_channels`` maps by itself, and the paths are added.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), by ``cardinality`` paths of ``width`` maps.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, cardinality: int, width: int):
        super().__init__()
        self.paths = nn.ModuleList(narrow_path(in_channels, width, stride) for _ in range(cardinality))
        for path in self.paths:
            path.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn3(reduce(add, (path(x) for path in self.paths)))


class ConcatenatedPaths(nn.Module):
    """Figure 3(b): the maps of all paths are concatenated, and one 1x1 convolution goes up to ``out_channels``.

    Shapes as for :class:`SumOfPaths`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, cardinality: int, width: int):
        super().__init__()
        self.paths = nn.ModuleList(narrow_path(in_channels, width, stride) for _ in range(cardinality))
        self.conv3 = nn.Conv2d(cardinality * width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(cat([path(x) for path in self.paths], dim=1)))


def grouped_convolution(
    in_channels: int, out_channels: int, stride: int, cardinality: int, width: int
) -> nn.Sequential:
    """Return Figure 3(c): all paths at once, a bottleneck whose 3x3 convolution has ``cardinality`` groups.

    Shapes as for :class:`SumOfPaths`.
    """
    return three_convolutions(in_channels, cardinality * width, out_channels, (1, stride), groups=cardinality)


FORMS = {"a": SumOfPaths, "b": ConcatenatedPaths, "c": grouped_convolution}


def find_form(form: str) -> Callable[[int, int, int, int, int], nn.Module]:
    """Return what makes a branch in the form of Figure 3 ``"a"``, ``"b"`` or ``"c"``.

    Raises:
        BadOption: if ``form`` is none of the three.
    """
    if form not in FORMS:
        raise BadOption(f"form is 'a', 'b' or 'c', not {form!r}")
    return FORMS[form]


def rewrite(grouped: nn.Sequential, form: str) -> nn.Module:
    """Return the same function in another form: with copies of the weights and statistics of form (c).

    Args:
        grouped: a branch from :func:`grouped_convolution`, such as ``block.f``.
        form: ``"a"``, ``"b"`` or ``"c"``.

    Raises:
        BadOption: if ``form`` is none of the three.
    """
    conv1, conv2, conv3 = grouped.conv1, grouped.conv2, grouped.conv3
    width = conv2.out_channels // conv2.groups
    branch = find_form(form)(conv1.in_channels, conv3.out_channels, conv2.stride[0], conv2.groups, width)
    layers_of_paths = {name for path in getattr(branch, "paths", ()) for name in path.state_dict()}
    state = {}
    for name, tensor in grouped.state_dict().items():
        if name not in layers_of_paths:
            state[name] = tensor
            continue
        # Each path owns some of the maps between the convolutions: those are the inputs of conv3, outputs elsewhere.
        maps = 1 if name == "conv3.weight" else 0
        parts = tensor.chunk(conv2.groups, maps) if tensor.ndim else [tensor] * conv2.groups
        state |= {f"paths.{index}.{name}": part for index, part in enumerate(parts)}
    branch.load_state_dict(state)
    return branch.to(conv1.weight).train(grouped.training)


def aggregated_transformations(
    in_channels: int, out_channels: int, stride: int = 1, cardinality: int = 32, base_width: int = 4, form: str = "c"
) -> nn.Module:
    """Return F of the ResNeXt block: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride).

    A path is ``base_width`` maps wide where the block puts out 256 maps, and wider in proportion for more maps.

    Raises:
        BadOption: if ``form`` is not ``"a"``, ``"b"`` or ``"c"``.
    """
    return find_form(form)(in_channels, out_channels, stride, cardinality, base_width * out_channels // 256)


def cifar_resnext(cardinality: int, base_width: int, num_classes: int = 10, depth: int = 29, form: str = "c") -> ResNet:
    """Return the net of ``depth`` = 9n + 2 layers for 32x32 images.

    Raises:
        BadOption: for another depth, or if ``form`` is not ``"a"``, ``"b"`` or ``"c"``.
    """
    return _cifar_net(CIFAR_WIDTHS, 64, cardinality, base_width, num_classes, depth, form)


def cifar_narrow_resnext(
    cardinality: int, width: int, num_classes: int = 10, depth: int = 29, form: str = "c"
) -> ResNet:
    """Return ours for short trainings: ResNet's bottleneck net of ``depth`` = 9n + 2 layers, with paths.

    It is a quarter as wide as :func:`cifar_resnext`. ``width`` is that of a path in the first stage.

    Raises:
        BadOption: for another depth, or if ``form`` is not ``"a"``, ``"b"`` or ``"c"``.
    """
    return _cifar_net(NARROW_WIDTHS, 16, cardinality, 4 * width, num_classes, depth, form)


def _cifar_net(
    widths: Sequence[int], stem: int, cardinality: int, base_width: int, num_classes: int, depth: int, form: str
) -> ResNet:
    depths = (layers.units_per_stage(depth, 9),) * 3
    f = partial(aggregated_transformations, cardinality=cardinality, base_width=base_width, form=form)
    return ResNet(partial(ResidualBlock, f=f), depths, widths, stem_width=stem, num_classes=num_classes)


def imagenet_resnext(
    depths: Sequence[int], cardinality: int, base_width: int, num_classes: int = 1000, form: str = "c"
) -> ResNet:
    """Return the net with ``depths`` blocks in its four stages, for large images.

    Raises:
        BadOption: if ``form`` is not ``"a"``, ``"b"`` or ``"c"``.
    """
    f = partial(aggregated_transformations, cardinality=cardinality, base_width=base_width, form=form)
    return ResNet(partial(ResidualBlock, f=f), depths, WIDE, imagenet_stem, 64, num_classes)


TABLE_7 = ("mean of 10 runs", "Xie et al. 2016, Table 7")
JUNYUSEU = ("rerun, 1 run", "github.com/junyuseu/pytorch-cifar-models")
HYSTS = ("rerun", "github.com/hysts/pytorch_image_classification")


CIFAR = {  # layers, cardinality and base width: parameters, multiply-adds, published errors
    (29, 1, 64): (4_914_250, 748_365_824, {JUNYUSEU: (4.51, 22.09)}),
    (29, 2, 64): (9_130_314, 1_411_065_856, {}),
    (29, 4, 64): (17_562_442, 2_736_465_920, {HYSTS: (3.89,)}),
    (29, 8, 64): (
        *(34_426_698, 5_387_266_048),
        {TABLE_7: (3.65, 17.77), JUNYUSEU: (3.78, 17.44), HYSTS: (3.97,)},
    ),
    (29, 16, 64): (68_155_210, 10_688_866_304, {TABLE_7: (3.58, 17.31), JUNYUSEU: (3.69, 17.11)}),
    (29, 32, 4): (4_775_754, 774_055_936, {}),
    (11, 1, 24): (992_554, 147_204_096, {}),  # those of 11 layers are ours: equal parameters, short trainings
    (11, 2, 14): (989_890, 149_719_040, {}),
    (11, 4, 8): (996_298, 153_561_088, {}),
    (11, 8, 4): (972_106, 150_022_144, {}),
    (11, 16, 2): (960_010, 148_252_672, {}),
}
for (_depth, _cardinality, _width), (_parameters, _multiply_adds, _errors) in CIFAR.items():
    register(
        f"resnext{_depth}-{_cardinality}x{_width}d",
        partial(cifar_resnext, _cardinality, _width, depth=_depth),
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=cifar_errors(_errors),
        about=f"{_depth} layers for 32x32 images, paths in a block: {_cardinality}, {_width} maps wide at first",
    )

NARROW = {  # cardinality and width: parameters and multiply-adds, about those of ResNet-20; one path is a bottleneck
    (1, 14): (264_174, 39_606_784),
    (8, 3): (268_466, 41_937_408),
}
for (_cardinality, _width), (_parameters, _multiply_adds) in NARROW.items():
    register(
        f"resnext29-{_cardinality}x{_width}d-narrow",
        partial(cifar_narrow_resnext, _cardinality, _width),
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        about="29 layers for 32x32 images, a quarter as wide, "
        f"paths in a block: {_cardinality}, {_width} maps wide at first",
    )

AUTHORS = ("1 crop, validation", "github.com/facebookresearch/ResNeXt")
TABLE_4 = ("1 crop, validation", "Xie et al. 2016, Table 4")
CROP_320 = ("1 crop of 320x320 pixels, validation", "Xie et al. 2016, Table 5")
IMAGENET = {  # layers, cardinality and base width: depths, parameters, multiply-adds, top-1 and top-5 errors
    (50, 32, 4): (
        *((3, 4, 6, 3), 25_028_904, 4_230_479_872),
        {AUTHORS: (22.2,), torchvision_v1("ResNeXt50_32X4D"): (22.382, 6.302), HU_RERUN: (22.11, 5.90)},
    ),
    (101, 32, 4): (
        (3, 4, 23, 3),
        44_177_704,
        7_969_996_800,
        {AUTHORS: (21.2,), TABLE_4: (21.2, 5.6), HU_RERUN: (21.18, 5.57)},
    ),
    (101, 64, 4): (
        *((3, 4, 23, 3), 83_455_272, 15_460_270_080),
        {
            AUTHORS: (20.4,),
            TABLE_4: (20.4, 5.3),
            CROP_320: (19.1, 4.4),
            torchvision_v1("ResNeXt101_64X4D", TORCHVISION_LATER): (16.754, 3.546),
        },
    ),
}
for (_depth, _cardinality, _width), (_depths, _parameters, _multiply_adds, _errors) in IMAGENET.items():
    register(
        f"resnext{_depth}-{_cardinality}x{_width}d",
        partial(imagenet_resnext, _depths, _cardinality, _width),
        paper=PAPER,
        input_size=(3, 224, 224),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=top_errors(_errors),
        about=f"{_depth} layers, paths in a block: {_cardinality}, {_width} maps wide in the first stage",
    )
