"""Architectures of other families than the residual ones, and families against each other. One recipe for all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from cnnlib.data import ImageSet
from cnnlib.measure import source_weights
from cnnlib.models.densenet import DenseNet
from cnnlib.studies.degradation import flow
from cnnlib.studies.study import Arm, course_study
from cnnlib.training import RECIPES

RESNET = RECIPES["resnet-cifar"]

KERNELS = course_study(
    name="kernel-stacks",
    question="At equal parameters, are three 3x3 convolutions better than one 7x7, and is it the ReLUs between them?",
    arms={
        "one 7x7": Arm("one-7x7", RESNET),
        "three 3x3": Arm("three-3x3", RESNET),
        "three 3x3, no ReLU between": Arm("three-3x3-linear", RESNET),
    },
    short=300,
)
"""Simonyan and Zisserman 2014 (arXiv 1409.1556), section 2.3, at 0.22 million parameters."""

INCEPTION = course_study(
    name="inception-modules",
    question="At equal multiply-adds, what do the bottlenecks of the Inception module bring, and the auxiliary heads?",
    arms={
        f"{label}{heads}": Arm(model, RESNET, {"width": width, "dropout": 0.0, "auxiliary": auxiliary})
        for heads, auxiliary in (("", False), (", auxiliary heads", True))
        for label, model, width in (
            ("naive", "googlenet-cifar-naive", 0.051),
            ("bottleneck", "googlenet-cifar", 0.17),
        )
    },
    short=200,
)
"""Szegedy et al. 2014 (arXiv 1409.4842), sections 4 and 5, at 42 million multiply-adds without the heads."""

_THREE = {
    "VGG-16, narrow": Arm("vgg16-cifar", RESNET, {"width": 0.1328125, "dropout": 0.0}),
    "ResNet-20": Arm("resnet20", RESNET),
    "DenseNet-BC-52-12": Arm("densenet-bc-52-12", RESNET),
}


def inside(network: nn.Module, images: ImageSet) -> dict[str, Any]:
    """Return how signal and gradient flow and, of a DenseNet, which maps its layers read; the probe of both studies."""
    reads = source_weights(network) if isinstance(network, DenseNet) else ()
    return {"flow": flow(network, images), "sources": [asdict(block) for block in reads]}


FAMILIES = course_study(
    name="vgg-resnet-densenet",
    question="At equal parameters and with the same recipe, how do VGG, ResNet and DenseNet compare?",
    arms={
        **_THREE,
        "plain-56, narrow": Arm("plain56", RESNET, {"width": 0.5625}),
        "ResNet-56, narrow": Arm("resnet56", RESNET, {"width": 0.5625}),
    },
    short=100,
    mixed=tuple(_THREE),
    probe=inside,
)
"""0.26 to 0.27 million parameters each. The last two are about as deep as the DenseNet: no shortcut, and addition.

The networks of the first three arms are averaged with each other."""

EQUAL_TIME = course_study(
    name="equal-time",
    question="With the same time for the training, how do VGG, ResNet and DenseNet of equal parameters compare?",
    arms=_THREE,
    short=300,
    equal_time="ResNet-20",
    probe=inside,
)
"""The same three networks. The budget is the length of ResNet-20; the others take as long, each at its own speed."""

_SMALL = {
    "VGG-11, quarter": Arm("vgg11-cifar", RESNET, {"width": 0.25, "dropout": 0.0}),
    "ResNet-8": Arm("scaled-resnet", RESNET, {"widths": [16, 32, 64], "depths": [1, 1, 1]}),
    "DenseNet-BC-22-8": Arm("densenet-bc-22-8", RESNET),
}

AVERAGES = course_study(
    name="averaged-families",
    question="Does averaging two families bring more than averaging two seeds of one?",
    arms=_SMALL,
    short=800,
    mixed=tuple(_SMALL),
)
"""10 to 14 million multiply-adds each, so that a laptop trains three seeds of all until they are about equally good."""

EFFICIENT = course_study(
    name="efficient-nets",
    question="At few multiply-adds, what do depthwise convolutions bring?",
    arms={
        "ResNet-20": Arm("resnet20", RESNET),
        "ResNet-32": Arm("resnet32", RESNET),
        "MobileNet V1": Arm("mobilenet-v1-cifar", RESNET),
        "MobileNet V2, half as wide": Arm("mobilenet-v2-cifar-0.5", RESNET),
        "MobileNet V2, 3/4 as wide": Arm("mobilenet-v2-cifar-0.75", RESNET),
    },
    short=120,
)
"""28 to 69 million multiply-adds each."""

SCALING = course_study(
    name="compound-scaling",
    question="At four times the multiply-adds, should a net be wider, deeper, on larger images, or some of each?",
    arms={
        "base": Arm("scaled-resnet", RESNET),
        "width": Arm("scaled-resnet", RESNET, {"widths": [16, 32, 64]}),
        "depth": Arm("scaled-resnet", RESNET, {"depths": [7, 8, 8]}),
        "resolution": Arm("scaled-resnet", RESNET, {"resolution": 64}),
        "all three": Arm("scaled-resnet", RESNET, {"widths": [10, 20, 40], "depths": [2, 3, 3], "resolution": 44}),
    },
    short=400,
)
"""Tan and Le 2019 (arXiv 1905.11946), Table 3, at 26.4 to 26.8 million multiply-adds but for the base's 6.7.

``all three`` has 1.33 times the depth, 1.25 times the width and 1.375 times the resolution. The paper's constants give
1.2^2, 1.1^2 and 1.15^2 for a cost of four. Shapes are whole numbers, so these cannot be met exactly."""
