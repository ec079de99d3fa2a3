"""ShuffleNet against pytorchcv, and what the channel shuffle is for."""

from __future__ import annotations

import types

import pytest
import torch
from pytorchcv.models import shufflenet as theirs
from torch import nn

from cnnlib.models import BadOption, create, shufflenet
from cnnlib.models.shufflenet import WIDTHS, ShuffleNet, ShuffleUnit, channel_shuffle


def pooled_maps_first(unit, x):
    """The forward pass of pytorchcv's unit, but with the concatenation in the order of the authors' code."""
    out = unit.c_shuffle(unit.activ(unit.compress_bn1(unit.compress_conv1(x))))
    out = unit.expand_bn3(unit.expand_conv3(unit.dw_bn2(unit.dw_conv2(out))))
    return unit.activ(torch.cat([unit.avgpool(x), out], 1) if unit.downsample else x + out)


def pytorchcv_net(groups, depths=(2, 3, 2), patched=True):
    channels = [[WIDTHS[groups] * 2**stage] * depth for stage, depth in enumerate(depths)]
    net = theirs.ShuffleNet(channels, init_block_channels=24, groups=groups)
    net.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs takes 224x224 only
    for unit in net.modules():
        if patched and isinstance(unit, theirs.ShuffleUnit):
            unit.forward = types.MethodType(pooled_maps_first, unit)
    return net


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("groups", WIDTHS)
def test_equals_pytorchcv_with_the_pooled_maps_first(same_logits, groups, train):
    same_logits(ShuffleNet(groups, depths=(2, 3, 2)), pytorchcv_net(groups), (3, 65, 40), train=train)


def test_full_net_equals_pytorchcv_with_the_pooled_maps_first(same_logits):
    same_logits(create("shufflenet-g8"), pytorchcv_net(8, (4, 8, 4)), (3, 64, 64))


def test_the_order_of_the_concatenation_makes_another_net(same_logits):
    with pytest.raises(AssertionError, match="<"):
        same_logits(ShuffleNet(3, depths=(2, 3, 2)), pytorchcv_net(3, patched=False), (3, 64, 64))


@pytest.mark.parametrize(
    ("groups", "width", "parameters"),
    [(1, 0.75, 975_214), (3, 0.75, 1_238_266), (1, 0.5, 534_484), (1, 0.25, 209_746), (3, 0.25, 305_902)],
)
def test_other_widths_have_pytorchcvs_counts(groups, width, parameters):
    with torch.device("meta"):
        net = ShuffleNet(groups, width)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_channel_shuffle_deals_like_cards():
    """Figure 1(c): three groups of two maps become two rounds of one map of each group."""
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_channel_shuffle_equals_pytorchs_and_is_undone(groups):
    x = torch.randn(2, 12, 3, 4)
    assert torch.equal(channel_shuffle(x, groups), nn.ChannelShuffle(groups)(x))
    assert torch.equal(channel_shuffle(channel_shuffle(x, groups), 12 // groups), x)


def test_the_shuffle_lets_the_groups_talk(monkeypatch):
    """Figure 1(a) and (b): the inputs that the first output map depends on, with the shuffle and without."""

    def seen_by_the_first_map(unit):
        x = torch.randn(1, 36, 5, 5, requires_grad=True)
        unit(x)[:, 0].sum().backward()
        return (x.grad.abs().amax((0, 2, 3)) > 0).nonzero().flatten().tolist()

    torch.manual_seed(0)
    unit = ShuffleUnit(36, 36, groups=3).eval()
    assert seen_by_the_first_map(unit) == list(range(36))
    monkeypatch.setattr(shufflenet, "channel_shuffle", lambda x, groups: x)
    assert seen_by_the_first_map(unit) == list(range(12))


def test_the_authors_order_needs_other_filters_only(randomise):
    """Their code shuffles after the depthwise convolution: the same function of filters in shuffled order."""
    unit = ShuffleUnit(24, 24, groups=3).eval()
    randomise(unit)
    x = torch.randn(2, 24, 7, 7)
    expected = unit.expand(unit.depthwise(channel_shuffle(unit.squeeze(x), 3)))
    order = channel_shuffle(torch.arange(6.0).reshape(1, 6, 1, 1), 3).flatten().long()
    back = order.argsort()
    with torch.no_grad():
        for tensor in (unit.depthwise.conv.weight, *list(unit.depthwise.bn.state_dict().values())[:4]):
            tensor.copy_(tensor[back].clone())
    torch.testing.assert_close(unit.expand(channel_shuffle(unit.depthwise(unit.squeeze(x)), 3)), expected)


@pytest.mark.parametrize("groups", WIDTHS)
def test_cost_of_a_unit(multiply_adds, groups):
    """Section 3.2: h * w * (2 * c * m / g + 9 * m) multiply-adds for m maps inside."""
    c = WIDTHS[groups]
    with torch.device("meta"):
        unit = ShuffleUnit(c, c, groups=groups)
    assert multiply_adds(unit, (c, 28, 28)) == 28 * 28 * (2 * c * (c // 4) // groups + 9 * (c // 4))


def test_impossible_groups_are_refused():
    with pytest.raises(BadOption, match="one of 1, 2, 3, 4, 8, not 5"):
        ShuffleNet(groups=5)
    with pytest.raises(BadOption, match=r"34 and 124 maps cannot both be divided into 4 groups"):
        create("shufflenet-g4", width=0.5)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(ShuffleNet(3, 0.5, 10, depths=(2, 2)), (3, 32, 32))


def test_compiles(compiles):
    compiles(ShuffleNet(3, 0.5, 10, depths=(2,)), (3, 32, 32))
