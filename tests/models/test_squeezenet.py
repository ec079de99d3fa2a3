"""SqueezeNet against torchvision, and the table of the paper."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision.models as tv
from torch import nn

from cnnlib.models import BadOption, card, create
from cnnlib.models.squeezenet import FIRES, fire

ORACLES = {
    "squeezenet-1.0": (tv.squeezenet1_0, tv.SqueezeNet1_0_Weights.IMAGENET1K_V1),
    "squeezenet-1.1": (tv.squeezenet1_1, tv.SqueezeNet1_1_Weights.IMAGENET1K_V1),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_equals_torchvision(name, train, same_logits):
    oracle, _ = ORACLES[name]
    same_logits(create(name, num_classes=10), oracle(weights=None, num_classes=10), (3, 66, 97), train=train)


@pytest.mark.parametrize("name", ORACLES)
def test_card_says_what_torchvision_measured(name):
    _, weights = ORACLES[name]
    assert card(name).parameters == weights.meta["num_params"]
    assert round(card(name).multiply_adds / 1e9, 3) == weights.meta["_ops"]
    accuracies = weights.meta["_metrics"]["ImageNet-1K"].values()
    errors = [error.value for error in card(name).published if error.source == f"torchvision, {weights}"]
    assert errors == pytest.approx([100 - accuracy for accuracy in accuracies], abs=1e-6)


def test_card_says_what_the_paper_measured():
    """Table 2 has accuracies, of the first version: 57.5 % top-1 and 80.3 % top-5."""
    errors = [error.value for error in card("squeezenet-1.0").published if "Table 2" in error.source]
    assert errors == pytest.approx([100 - 57.5, 100 - 80.3])
    assert card("squeezenet-1.0").headline.value == 42.5


def shapes(name: str, side: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        net = create(name).eval()
    seen = {}
    for part, module in (*net.features.named_children(), ("conv10", net.conv10)):
        module.register_forward_hook(lambda _, __, output, part=part: seen.update({part: tuple(output.shape[1:])}))
    net(torch.empty(1, 3, side, side, device="meta"))
    return seen


def test_maps_are_those_of_table_1():
    assert shapes("squeezenet-1.0", 227) == {
        "conv1": (96, 111, 111),
        "pool1": (96, 55, 55),
        "fire2": (128, 55, 55),
        "fire3": (128, 55, 55),
        "fire4": (256, 55, 55),
        "pool4": (256, 27, 27),
        "fire5": (256, 27, 27),
        "fire6": (384, 27, 27),
        "fire7": (384, 27, 27),
        "fire8": (512, 27, 27),
        "pool8": (512, 13, 13),
        "fire9": (512, 13, 13),
        "conv10": (1000, 13, 13),
    }
    assert shapes("squeezenet-1.0", 224)["conv10"] == (1000, 13, 13)


def test_later_version_pools_earlier():
    assert [part for part in shapes("squeezenet-1.1", 224) if part.startswith("pool")] == ["pool1", "pool3", "pool5"]


@pytest.mark.parametrize("pools", [(1, 4), (1, 4, 4), (0, 4, 8), (1, 4, 10), (1, 3, 5, 8)])
def test_three_layers_have_a_pooling(pools):
    with pytest.raises(BadOption, match=re.escape(f"pools is three different numbers from 1 to 9, not {pools}")):
        create("squeezenet-1.1", pools=pools)


def test_parameters_of_a_fire_module():
    """Table 1 prints 11,920 for fire2, with the biases."""
    with torch.device("meta"):
        sizes = [sum(tensor.numel() for tensor in fire(96, *row).parameters()) for row in FIRES[:1]]
    assert sizes == [11_920]


def test_squeezing_is_what_saves():
    """Section 3.1: a fire module against one 3x3 convolution with as many maps in and out."""
    with torch.device("meta"):
        small, plain = fire(512, 64, 256), nn.Conv2d(512, 512, 3)
    count = [sum(tensor.numel() for tensor in net.parameters()) for net in (small, plain)]
    assert 11 < count[1] / count[0] < 13


def test_50_times_fewer_parameters_than_alexnet():
    assert 48 < card("alexnet").parameters / card("squeezenet-1.0").parameters < 50


@pytest.mark.parametrize("name", ORACLES)
def test_smallest_image_is_torchvisions(name):
    _, weights = ORACLES[name]
    assert (create(name).min_size,) * 2 == weights.meta["min_size"]


def test_fits_a_few_images(overfits):
    torch.manual_seed(2)  # from other weights the last ReLU may kill a class, which then no training brings back
    net = create("squeezenet-1.1", num_classes=10, dropout=0.0)
    overfits(net, (3, 17, 17), steps=60, batch=4, lr=0.002)


def test_compiles(compiles):
    compiles(create("squeezenet-1.1", num_classes=10), (3, 17, 17))
