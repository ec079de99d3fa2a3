"""ShuffleNet V2 against torchvision, and what its units do."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import nn

from cnnlib.models import BadOption, card, create
from cnnlib.models.shufflenet import channel_shuffle
from cnnlib.models.shufflenet_v2 import TABLE_5, ShuffleUnitV2, shufflenet_v2, shufflenet_v2_cifar

WEIGHTS = {
    "shufflenet-v2-0.5": tv.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1,
    "shufflenet-v2": tv.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1,
    "shufflenet-v2-1.5": tv.ShuffleNet_V2_X1_5_Weights.IMAGENET1K_V1,
    "shufflenet-v2-2.0": tv.ShuffleNet_V2_X2_0_Weights.IMAGENET1K_V1,
}


def torchvision_net(width: float, depths: tuple[int, int, int] = (2, 3, 2)) -> tv.ShuffleNetV2:
    return tv.ShuffleNetV2(list(depths), [24, *TABLE_5[width]], num_classes=10)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("width", TABLE_5)
def test_equals_torchvision(same_logits, width, train):
    same_logits(shufflenet_v2(width, 10, (2, 3, 2)), torchvision_net(width), (3, 65, 97), train=train)


def test_full_net_equals_torchvision(same_logits):
    same_logits(create("shufflenet-v2", num_classes=10), tv.shufflenet_v2_x1_0(num_classes=10), (3, 64, 64))


def test_cifar_form_equals_torchvision_without_the_stride_and_the_pooling(same_logits):
    oracle = torchvision_net(0.5)
    oracle.conv1[0].stride, oracle.maxpool = (1, 1), nn.Identity()
    same_logits(shufflenet_v2_cifar(0.5, depths=(2, 3, 2)), oracle, (3, 32, 32))


@pytest.mark.parametrize("name", WEIGHTS)
def test_card_says_what_torchvision_measured(name):
    weights, ours = WEIGHTS[name], card(name)
    assert ours.parameters == weights.meta["num_params"]
    assert round(ours.multiply_adds / 1e9, 3) == weights.meta["_ops"]
    accuracies = weights.meta["_metrics"]["ImageNet-1K"].values()
    measured = [error.value for error in ours.published if "torchvision" in error.source]
    assert measured == pytest.approx([100 - a for a in accuracies], abs=1e-6)


def test_half_of_the_maps_pass_a_unit_unchanged():
    """Figure 3(c) and section 3: the shuffle deals them to the places 0, 2, 4, ... of what goes out."""
    torch.manual_seed(0)
    unit = ShuffleUnitV2(12, 12).eval()
    x = torch.randn(2, 12, 5, 5)
    assert torch.equal(unit(x)[:, ::2], x[:, :6])


def test_maps_pass_fewer_units_the_farther_these_are_apart(monkeypatch):
    """Section 3: half of the maps go past one unit, a quarter past two. Without the shuffle none would ever mix."""

    def left_as_they_are(x, units):
        y = units(x)
        return sum(any(torch.equal(out, one) for out in y[0]) for one in x[0])

    torch.manual_seed(0)
    two = nn.Sequential(ShuffleUnitV2(16, 16), ShuffleUnitV2(16, 16)).eval()
    x = torch.randn(1, 16, 5, 5)
    assert [left_as_they_are(x, two[:n]) for n in (1, 2)] == [8, 4]
    monkeypatch.setattr("cnnlib.models.shufflenet_v2.channel_shuffle", lambda x, groups: x)
    assert left_as_they_are(x, two) == 8


def test_unit_of_stride_2_joins_two_branches(randomise, difference):
    """Figure 3(d): both see all maps, and make one half of those that go out each."""
    unit = ShuffleUnitV2(6, 16, stride=2).eval()
    randomise(unit)
    x = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        y = channel_shuffle(unit(x), 8)  # undoes the shuffle of two groups of eight
        assert y.shape == (2, 16, 5, 5)
        assert difference(y[:, :8], unit.shortcut(x)) < 1e-6
        assert difference(y[:, 8:], unit.f(x)) < 1e-6


@pytest.mark.parametrize("width", TABLE_5)
def test_cost_of_a_unit(multiply_adds, width):
    """Guideline 1: 1x1 convolutions with c/2 maps in and out, so h * w * (2 * (c/2)^2 + 9 * c/2) multiply-adds."""
    channels = TABLE_5[width][0]
    with torch.device("meta"):
        unit = ShuffleUnitV2(channels, channels)
    half = channels // 2
    assert multiply_adds(unit, (channels, 28, 28)) == 28 * 28 * (2 * half * half + 9 * half)


def test_unknown_width_is_refused():
    with pytest.raises(BadOption, match=r"one of 0\.5, 1\.0, 1\.5, 2\.0, not 0\.75"):
        create("shufflenet-v2", width=0.75)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(shufflenet_v2_cifar(0.5, depths=(2, 2)), (3, 32, 32))


def test_compiles(compiles):
    compiles(shufflenet_v2(0.5, 10, (2,)), (3, 32, 32))


def test_two_branches_cannot_make_an_odd_number_of_maps():
    with pytest.raises(BadOption, match="out_channels is even, not 49"):
        ShuffleUnitV2(3, 49, 2)
