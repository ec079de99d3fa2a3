"""Whole families of networks against each other, with one recipe for all."""

from __future__ import annotations

from cnnlib.studies.study import Arm, course_study
from cnnlib.training import RECIPES

RESNET = RECIPES["resnet-cifar"]

FAMILIES = course_study(
    name="vgg-resnet-densenet",
    question="At equal parameters and with the same recipe, how do VGG, ResNet and DenseNet compare?",
    arms={
        "VGG-16, narrow": Arm("vgg16-cifar", RESNET, {"width": 0.1328125, "dropout": 0.0}),
        "ResNet-20": Arm("resnet20", RESNET),
        "DenseNet-BC-52-12": Arm("densenet-bc-52-12", RESNET),
    },
    short=300,
)
"""0.26 to 0.27 million parameters each."""

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
    short=300,
)
"""28 to 69 million multiply-adds each."""
