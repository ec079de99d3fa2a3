"""MobileNet V1 against timm and pytorchcv, and the arithmetic of depthwise separable convolutions."""

from __future__ import annotations

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from torch import nn
from torch.nn import functional as F

from cnnlib.models import card, create
from cnnlib.models.mobilenet_v1 import MobileNetV1, SeparableConv


@pytest.mark.parametrize("train", [False, True])
def test_equals_timm_with_relu(same_logits, train):
    """timm's has ReLU6, which the paper does not, unless told otherwise."""
    oracle = timm.create_model("mobilenetv1_100", act_layer=nn.ReLU)
    same_logits(create("mobilenet-v1"), oracle, (3, 65, 40), train=train)


def test_timm_as_it_comes_is_another_net(same_logits):
    with pytest.raises(AssertionError, match="<"):
        same_logits(create("mobilenet-v1"), timm.create_model("mobilenetv1_100"), (3, 64, 64))


@pytest.mark.parametrize(
    ("width", "theirs"), [(0.75, "mobilenet_w3d4"), (0.5, "mobilenet_wd2"), (0.25, "mobilenet_wd4")]
)
def test_widths_equal_pytorchcv(same_logits, width, theirs):
    oracle = get_model(theirs)
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs takes 224x224 only
    same_logits(create(f"mobilenet-v1-{width}"), oracle, (3, 64, 64))


def test_cifar_form_equals_timm_with_stride_1_at_first(same_logits):
    oracle = timm.create_model("mobilenetv1_100", act_layer=nn.ReLU, num_classes=10)
    oracle.conv_stem.stride = (1, 1)
    same_logits(create("mobilenet-v1-cifar"), oracle, (3, 32, 32))


def test_a_separable_convolution_is_a_full_one_of_rank_one(difference):
    """Without what lies between them, the two convolutions are a 3x3 convolution with filters p[o, i] * d[i]."""
    block = SeparableConv(6, 10, stride=2)
    d, p = block.depthwise.weight, block.pointwise.weight
    x = torch.randn(2, 6, 9, 9)
    full = F.conv2d(x, p * d.transpose(0, 1), stride=2, padding=1)
    assert difference(block.pointwise(block.depthwise(x)), full) < 1e-5


def test_cost_of_a_separable_convolution(multiply_adds):
    """Section 3.1: it takes 1/N + 1/9 of the multiply-adds of the full convolution with N filters."""
    with torch.device("meta"):
        separable, full = SeparableConv(48, 64), nn.Conv2d(48, 64, 3, padding=1)
    ratio = multiply_adds(separable, (48, 14, 14)) / multiply_adds(full, (48, 14, 14))
    assert ratio == pytest.approx(1 / 64 + 1 / 9)


def test_cost_falls_with_the_square_of_width_and_resolution(multiply_adds):
    """Sections 3.3 and 3.4, nearly for the width since depthwise convolutions only fall in proportion."""
    whole = card("mobilenet-v1").multiply_adds
    with torch.device("meta"):
        net = MobileNetV1(num_classes=1)
    assert multiply_adds(net, (3, 448, 448)) == pytest.approx(4 * multiply_adds(net, (3, 224, 224)), rel=1e-4)
    assert card("mobilenet-v1-0.5").multiply_adds == pytest.approx(whole / 4, rel=0.06)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(MobileNetV1(0.25, 10, 1, stages=((64, 1), (128, 2), (256, 2), (256, 1))), (3, 16, 16))


def test_compiles(compiles):
    compiles(MobileNetV1(0.25, 10, 1, stages=((64, 1), (128, 2))), (3, 16, 16))
