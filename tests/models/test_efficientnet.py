"""EfficientNet against torchvision and timm, and the rule of compound scaling against the nets that were released."""

from __future__ import annotations

import math
from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import efficientnet as theirs

from cnnlib.models import BadOption, card, create
from cnnlib.models.efficientnet import (
    B0,
    RELEASED,
    DropConnect,
    EfficientNet,
    MBConv,
    compound_scaling,
)
from cnnlib.models.mobilenet_v2 import round_channels
from cnnlib.models.senet import SqueezeExcitation


def torchvision_net(name):
    """torchvision's net with the epsilon and momentum of the authors' code, which it has from B5 on only."""
    norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    build = getattr(theirs, f"efficientnet_{name}")
    return build(weights=None, norm_layer=norm, dropout=0.0, stochastic_depth_prob=0.0)


@pytest.mark.parametrize("train", [False, True])
def test_b0_equals_torchvision(same_logits, train):
    ours = create("efficientnet-b0", dropout=0.0, drop_connect=0.0)
    same_logits(ours, torchvision_net("b0"), (3, 64, 40), train=train)


@pytest.mark.parametrize("name", ["b1", "b3"])
def test_scaled_nets_equal_torchvision(same_logits, name):
    same_logits(create(f"efficientnet-{name}"), torchvision_net(name), (3, 32, 32))


@pytest.mark.parametrize("name", RELEASED)
def test_dropout_is_torchvisions(name):
    with torch.device("meta"):
        assert create(f"efficientnet-{name}").dropout.p == getattr(theirs, f"efficientnet_{name}")().classifier[0].p


def test_padding_is_tensorflows_where_all_maps_are_odd(same_logits):
    """timm's tf_efficientnet_b0 pads like the authors' code. From 65 pixels come maps of 33, 17, 9, 5 and 3."""
    same_logits(create("efficientnet-b0"), timm.create_model("tf_efficientnet_b0"), (3, 65, 33))
    with pytest.raises(AssertionError, match="<"):
        same_logits(create("efficientnet-b0"), timm.create_model("tf_efficientnet_b0"), (3, 64, 64))


def test_constants_double_the_cost_with_each_phi():
    """Equation 3: alpha * beta^2 * gamma^2 is near 2."""
    for phi in range(8):
        assert compound_scaling(phi + 1).cost / compound_scaling(phi).cost == pytest.approx(2, rel=0.05)
    assert compound_scaling(0) == RELEASED["b0"]
    one = compound_scaling(1, alpha=2, beta=3, gamma=5)
    assert (one.depth, one.width, one.resolution) == (2, 3, 5 * 224)


def test_released_nets_are_rounded_by_hand():
    """B2 is phi = 1 but for rounding. Later the depth lags behind: no phi gives all three numbers of B7."""
    b2, phi1 = RELEASED["b2"], compound_scaling(1)
    assert (b2.width, b2.depth) == pytest.approx((phi1.width, phi1.depth))
    assert b2.resolution == pytest.approx(phi1.resolution, rel=0.01)
    b7 = RELEASED["b7"]
    phis = (math.log(b7.depth, 1.2), math.log(b7.width, 1.1), math.log(b7.resolution / 224, 1.15))
    assert phis == pytest.approx((6.2, 7.3, 7.0), abs=0.06)


def test_small_nets_cost_more_than_the_scaling_promises():
    """Depths are rounded up, which weighs most on the small nets: B1 costs 1.41 times the promise, B7 1.10 times."""
    b0 = card("efficientnet-b0").multiply_adds
    excess = [
        card(f"efficientnet-{name}").multiply_adds / (b0 * RELEASED[name].cost) for name in ("b1", "b2", "b4", "b7")
    ]
    assert excess == pytest.approx([1.41, 1.32, 1.12, 1.10], abs=0.005)


def test_scaling_rounds_widths_to_8_and_depths_up():
    net = EfficientNet(width=1.2, depth=1.4)
    assert [len(stage) for stage in net.stages] == [math.ceil(1.4 * n) for *_, n in B0] == [2, 3, 3, 5, 5, 6, 2]
    for stage, (*_, width, _) in zip(net.stages, B0, strict=True):
        for block in stage:
            channels = block.f[-1].num_features
            assert channels == round_channels(1.2 * width)
            assert channels % 8 == 0
            assert channels >= 0.9 * 1.2 * width


def test_drop_connect_grows_from_block_to_block():
    net = create("efficientnet-b0")
    rates = [block.drop_connect.p for stage in net.stages for block in stage]
    assert rates == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_drop_connect_drops_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropConnect(0.25)
    x = torch.ones(4000, 2, 3, 3)
    y = drop(x).flatten(1)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y == y[:, :1]).all()
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_drop_connect_drops_not_all(p):
    with pytest.raises(BadOption, match=f"drop_connect: .* from 0 to less than 1, not {p:g}"):
        DropConnect(p)
    with pytest.raises(BadOption, match=f"^drop_connect: .* not {2 * p:g}$"):
        create("efficientnet-b0", drop_connect=2 * p)


def test_normalisation_is_the_authors():
    norms = [module for module in create("efficientnet-b0").modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    norms = [m for m in create("efficientnet-b0", bn_momentum=0.1).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_squeeze_is_a_quarter_of_the_blocks_input():
    block = MBConv(24, 40)
    gate = next(module for module in block.modules() if isinstance(module, SqueezeExcitation))
    assert (gate.excite.conv1.in_channels, gate.excite.conv1.out_channels) == (144, 6)


def test_an_open_gate_changes_nothing(randomise, difference):
    """With all factors 1 the block is MobileNetV2's with swish, written out here by hand."""
    block = MBConv(8, 8, kernel_size=5).eval()
    randomise(block)
    expand, depthwise, gate, project, norm = block.f
    nn.init.constant_(gate.excite.conv2.bias, 100.0)
    x = torch.randn(2, 8, 9, 9)
    hidden = F.silu(expand.bn(F.conv2d(x, expand.conv.weight)))
    hidden = F.silu(depthwise.bn(F.conv2d(hidden, depthwise.conv.weight, padding=2, groups=48)))
    assert difference(block(x), x + norm(F.conv2d(hidden, project.weight))) < 1e-6


SMALL = ((1, 3, 1, 16, 1), (6, 5, 2, 24, 2))


def test_overfits(overfits):
    torch.manual_seed(0)
    net = EfficientNet(0.5, num_classes=10, dropout=0.0, drop_connect=0.0, stages=SMALL, stem_stride=1)
    overfits(net, (3, 16, 16))


def test_compiles(compiles):
    compiles(EfficientNet(0.5, num_classes=10, stages=SMALL, stem_stride=1), (3, 16, 16))
