"""MobileNetV2 against torchvision, and the arithmetic of the inverted residual."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import mobilenetv2

from cnnlib.models import create
from cnnlib.models.mobilenet_v2 import CIFAR, InvertedResidual, MobileNetV2, round_channels


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("name", "width"), [("mobilenet-v2", 1.0), ("mobilenet-v2-1.4", 1.4)])
def test_equals_torchvision(same_logits, name, width, train):
    oracle = mobilenetv2.MobileNetV2(width_mult=width, dropout=0.0)
    same_logits(create(name, dropout=0.0), oracle, (3, 65, 40), train=train)


@pytest.mark.parametrize(
    ("name", "width"), [("mobilenet-v2-cifar", 1.0), ("mobilenet-v2-cifar-0.5", 0.5), ("mobilenet-v2-cifar-0.75", 0.75)]
)
def test_cifar_form_equals_torchvision_with_its_strides(same_logits, name, width):
    oracle = mobilenetv2.MobileNetV2(10, width, inverted_residual_setting=[list(row) for row in CIFAR])
    oracle.features[0][0].stride = (1, 1)
    same_logits(create(name), oracle, (3, 32, 32))


def test_cifar_form_ends_with_4x4_maps():
    net = create("mobilenet-v2-cifar").eval()
    assert net.head(net.stages(net.stem(torch.zeros(1, 3, 32, 32)))).shape == (1, 1280, 4, 4)


def test_channels_are_rounded_as_in_torchvision():
    for channels in range(1, 2000):
        assert round_channels(channels / 7) == mobilenetv2._make_divisible(channels / 7, 8)


def test_cost_of_a_block(multiply_adds):
    """Section 3.3: h * w * d' * t * (d' + k^2 + d'') multiply-adds."""
    with torch.device("meta"):
        block = InvertedResidual(24, 32, stride=1, expansion=6)
    assert multiply_adds(block, (24, 14, 14)) == 14 * 14 * 24 * 6 * (24 + 9 + 32)


def test_the_bottleneck_is_linear(randomise):
    """The output of a block has no activation: scaling the last normalisation scales it, negative values included."""
    block = InvertedResidual(8, 12, stride=2).eval()
    randomise(block)
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        before = block(x)
        for parameter in (block.f[-1].bn.weight, block.f[-1].bn.bias):
            parameter.mul_(-3)
        torch.testing.assert_close(block(x), -3 * before)


def test_a_block_that_keeps_the_shape_can_be_the_identity():
    block = InvertedResidual(8, 8)
    nn.init.zeros_(block.f[-1].bn.weight)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_dropout_is_torchvisions():
    with torch.device("meta"):
        assert create("mobilenet-v2").dropout.p == mobilenetv2.MobileNetV2().classifier[0].p


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(MobileNetV2(0.5, 10, 1, ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2)), dropout=0.0), (3, 16, 16))


def test_compiles(compiles):
    compiles(MobileNetV2(0.5, 10, 1, ((1, 16, 1, 1), (6, 24, 2, 2))), (3, 16, 16))
