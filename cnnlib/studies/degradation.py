"""Degradation: deeper plain networks train worse, deeper residual ones do not.

He, Zhang, Ren and Sun 2015 (arXiv 1512.03385), section 4.2 and Figure 6: plain and residual networks of 20 to 110
layers for CIFAR-10. The training error tells degradation from overfitting, so both errors are compared.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from cnnlib.data import ImageSet, normalise
from cnnlib.measure import block_responses, gradient_flow, lesions
from cnnlib.studies.study import SMOKE, Arm, Scale, Study, course_study, register
from cnnlib.training import recipe_for

DEPTHS = (20, 32, 44, 56, 110)
PROBED_IMAGES = 128
LESION_IMAGES = 1000


def flow(network: nn.Module, images: ImageSet) -> list[dict[str, Any]]:
    """Return the signal and the gradient at every layer, on the first training images; the study's probe."""
    batch, labels = _first(images.train_images, images.train_labels, PROBED_IMAGES, network, images)
    return [asdict(row) for row in gradient_flow(network, batch, labels)]


def _first(images: Tensor, labels: Tensor, count: int, network: nn.Module, data: ImageSet) -> tuple[Tensor, Tensor]:
    """Return the first images, normalised, and their labels, on the network's device."""
    device = next(network.parameters()).device
    return normalise(images[:count].to(device), data.mean, data.std), labels[:count].to(device)


DEGRADATION = course_study(
    name="degradation",
    question="Do deeper networks train better, with shortcuts and without?",
    arms={
        name: Arm(name, recipe_for(name))
        for kind in ("plain", "resnet")
        for name in (f"{kind}{depth}" for depth in DEPTHS)
    },
    short=350,
    probe=flow,
)
"""Depth with and without shortcuts. Each record holds how the gradient flows, before and after the training."""


IDENTITY_START = course_study(
    name="identity-start",
    question="Do residual networks start better when every block begins as the identity?",
    arms={
        f"{name}{label}": Arm(name, recipe_for(name), overrides)
        for name in ("resnet20", "resnet56", "resnet110")
        for label, overrides in (("", {}), (", F = 0", {"last_gain": 0.0}))
    },
    short=200,
)
"""Goyal et al. 2017 (arXiv 1706.02677), section 5.1, at three depths: is a slow start the depth's or the branches'?"""


def blocks(network: nn.Module, images: ImageSet) -> dict[str, Any]:
    """Return what the blocks are worth and how strongly they answer, on the first test images; the study's probe.

    ``lesions`` holds the error of the whole net and without each of its blocks, ``responses`` those of every block.
    """
    batch, labels = _first(images.test_images, images.test_labels, LESION_IMAGES, network, images)
    return {
        "lesions": [asdict(lesion) for lesion in lesions(network, batch, labels)],
        "responses": [
            {**asdict(block), "stds": list(block.stds)} for block in block_responses(network, batch[:PROBED_IMAGES])
        ],
    }


LESIONS = register(
    Study(
        name="lesions",
        question="What do a plain and a residual net of the same depth learn, before they lose blocks?",
        arms={name: Arm(name, recipe_for(name)) for name in ("plain20", "resnet20")},
        budgets={
            "smoke": SMOKE,
            "short": Scale(steps=100, images=3000),
            "medium": Scale(epochs=5),
            "full": Scale(),
        },
        log_every=10,
        evaluate_every=10,
        probe=blocks,
    )
)
"""Two small nets, trained alike. Each record holds their errors without each of their blocks, and how strongly the
blocks answer, before and after.

The short budget uses few images, to be quick."""
