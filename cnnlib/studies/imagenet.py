"""What a network for ImageNet costs and how well it does: the points of the figure of Canziani et al. 2017.

Canziani, Paszke and Culurciello 2017, "An Analysis of Deep Neural Network Models for Practical Applications" (arXiv
1605.07678). Every count is that of our own networks: a multiply-add is one operation (Canziani et al. count two), and
the activations are the values that all layers put out for one image. Errors are published ones, of one net and one
central crop: those of torchvision's first weights, and the paper's own where torchvision has none.

Images have the size of the paper, but for EfficientNet-B2, whose weights torchvision evaluates at 288 pixels.

Counting all these networks takes minutes, so the numbers lie in ``imagenet_counts.json``;
``python -m cnnlib.studies.imagenet`` writes it again, and a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import torch

from cnnlib.files import write_json
from cnnlib.measure import layer_table
from cnnlib.models import card, create
from cnnlib.studies import statistics

FLOAT = 4
"""Bytes of a value."""
COUNTS = Path(__file__).with_name("imagenet_counts.json")

CHOSEN = {  # family: name of the model, and how the figure calls it
    "AlexNet": {"alexnet-torchvision": "AlexNet, one column"},
    "VGG": {
        "vgg11": "VGG-11",
        "vgg13": "VGG-13",
        "vgg16": "VGG-16",
        "vgg19": "VGG-19",
        "vgg16-bn": "VGG-16, BN",
        "vgg19-bn": "VGG-19, BN",
    },
    "Inception": {
        "googlenet-torchvision": "GoogLeNet",
        "inception-v3-torchvision": "Inception-v3",
        "inception-v4": "Inception-v4",
        "inception-resnet-v2": "Inception-ResNet-v2",
    },
    "ResNet": {
        "resnet18": "ResNet-18",
        "resnet34": "ResNet-34",
        "resnet50-v1.5": "ResNet-50",
        "resnet101-v1.5": "ResNet-101",
        "resnet152-v1.5": "ResNet-152",
        "wrn-50-2-bottleneck": "Wide ResNet-50-2",
        "resnext50-32x4d": "ResNeXt-50",
    },
    "DenseNet": {
        "densenet121": "DenseNet-121",
        "densenet169": "DenseNet-169",
        "densenet201": "DenseNet-201",
        "densenet161": "DenseNet-161",
    },
    "small nets": {
        "squeezenet-1.0": "SqueezeNet 1.0",
        "squeezenet-1.1": "SqueezeNet 1.1",
        "mobilenet-v2": "MobileNet V2",
        "shufflenet-v2-0.5": "ShuffleNet V2, half",
        "shufflenet-v2": "ShuffleNet V2",
    },
    "EfficientNet": {f"efficientnet-b{number}": f"EfficientNet-B{number}" for number in range(8)},
}

SIDES = {"efficientnet-b2": 288}
"""Pixels where the published error is not that of the paper's size."""

YEARS = {"vgg16-bn": 2015, "vgg19-bn": 2015}
"""Where a net is younger than its paper. Batch normalisation was published half a year after the paper on VGG."""


@dataclass(frozen=True)
class ImageNetNet:
    """One network of the figure.

    Attributes:
        name: with which :func:`cnnlib.create` makes it.
        label: what it is usually called.
        family: of :data:`CHOSEN`.
        year: of its paper's first version, or from :data:`YEARS`.
        error: top-1 error on the validation images, one net, one crop, in percent.
        source: of the error.
        multiply_adds: for one image.
        parameters: trainable ones.
        activations: values that all layers put out for one image.
        side: of the image, in pixels.
    """

    name: str
    label: str
    family: str
    year: int
    error: float
    source: str
    multiply_adds: int
    parameters: int
    activations: int
    side: int

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in percent."""
        return 100 - self.error


def nets() -> tuple[ImageNetNet, ...]:
    """Return the networks, family by family."""
    counts = json.loads(COUNTS.read_text(encoding="utf-8"))
    found = []
    for family, names in CHOSEN.items():
        for name, label in names.items():
            known = card(name)
            year = YEARS.get(name, known.paper.year)
            one_crop = [
                error
                for error in known.published
                if error.metric == "top-1 error" and error.networks == 1 and error.protocol.startswith("1 crop")
            ]
            error = min(one_crop, key=lambda error: "torchvision" not in error.source)
            found.append(
                ImageNetNet(
                    *(name, label, family, year, error.value, error.source),
                    *(counts[name]["multiply_adds"], known.parameters, counts[name]["activations"], side(name)),
                )
            )
    return tuple(found)


def frontier(chosen: Sequence[ImageNetNet], cost: str) -> list[ImageNetNet]:
    """Return the nets that no other one equals or beats at the same or a lower cost, from the cheapest on.

    Args:
        chosen: the nets to compare.
        cost: ``"multiply_adds"``, ``"parameters"`` or ``"activations"``.
    """
    return statistics.frontier(chosen, cost=attrgetter(cost), error=attrgetter("error"))


def side(name: str) -> int:
    """Return the width of the images for which a network is counted."""
    return SIDES.get(name, card(name).input_size[-1])


def count(name: str) -> dict[str, int]:
    """Return the multiply-adds for one image, and the number of values that all layers put out for it."""
    with torch.device("meta"):
        net = create(name).eval()
    total = layer_table(net, (3, side(name), side(name))).total
    return {"multiply_adds": total.multiply_adds, "activations": total.activation_bytes // FLOAT}


if __name__ == "__main__":
    counted = {name: count(name) for names in CHOSEN.values() for name in names}
    write_json(COUNTS, counted)
