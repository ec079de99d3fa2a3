"""Inception-v4 and Inception-ResNet-v2 against timm, and the residual net of the figures by its parts."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from cnnlib.models import BadOption, create
from cnnlib.models.inception_resnet_v2 import (
    block_a,
    block_b,
    block_c,
    inception_resnet_v2,
    inception_resnet_v2_figures,
)
from cnnlib.models.inception_v4 import InceptionV4


def shapes(net: nn.Module, *names: str) -> list[tuple[int, ...]]:
    """Shape of the maps that the parts of ``net.features`` put out for the paper's image of 299x299."""
    seen = {}
    for name in names:
        part = getattr(net.features, name)
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    net(torch.empty(1, 3, 299, 299, device="meta"))
    return [seen[name] for name in names]


def reduced_timm_v4() -> nn.Module:
    """timm's net with one module of each kind."""
    net = timm.create_model("inception_v4", num_classes=10)
    stem, kept = range(6), (6, 10, 11, 18, 19)  # A, reduction A, B, reduction B, C
    net.features = nn.Sequential(*(net.features[i] for i in (*stem, *kept)))
    return net


def reduced_timm_resnet() -> nn.Module:
    """timm's net with one block A, one B and two C."""
    net = timm.create_model("inception_resnet_v2", num_classes=10)
    net.repeat, net.repeat_1, net.repeat_2 = net.repeat[:1], net.repeat_1[:1], net.repeat_2[:1]
    return net


def test_v4_equals_timm(same_logits):
    same_logits(create("inception-v4", num_classes=10), timm.create_model("inception_v4", num_classes=10), (3, 75, 91))


def test_v4_equals_timm_in_training(same_logits):
    ours = InceptionV4(10, depths=(1, 1, 1), dropout=0.0)
    same_logits(ours, reduced_timm_v4(), (3, 107, 107), train=True)


def test_resnet_equals_timm(same_logits):
    oracle = timm.create_model("inception_resnet_v2", num_classes=10)
    same_logits(create("inception-resnet-v2", num_classes=10), oracle, (3, 75, 91))


def test_resnet_equals_timm_in_training(same_logits):
    ours = inception_resnet_v2(10, depths=(1, 1, 2), dropout=0.0)
    same_logits(ours, reduced_timm_resnet(), (3, 107, 107), train=True)


def test_maps_are_those_of_the_figures():
    with torch.device("meta"):
        v4, released, figures = InceptionV4(), inception_resnet_v2(), inception_resnet_v2_figures()
    assert shapes(v4, "stem", "reduction_a", "reduction_b") == [(384, 35, 35), (1024, 17, 17), (1536, 8, 8)]
    parts = ("stem", "reduction_a", "reduction_b")
    assert shapes(released, *parts) == [(320, 35, 35), (1088, 17, 17), (2080, 8, 8)]
    assert shapes(figures, *parts) == [(384, 35, 35), (1152, 17, 17), (2144, 8, 8)]  # not the printed 1154 and 2048


def test_net_of_the_figures_has_the_stem_of_v4_and_the_blocks_of_the_released_net():
    """Its parts are proven with the other two nets; only their number and width differ."""

    def layers(part: nn.Module) -> list[str]:
        return [str(module) for module in part.modules() if not list(module.children())]

    with torch.device("meta"):
        figures, v4 = inception_resnet_v2_figures().features, InceptionV4().features
    assert layers(figures.stem) == layers(v4.stem)
    assert [len(blocks) for blocks in (figures.blocks_a, figures.blocks_b, figures.blocks_c)] == [5, 10, 5]
    for blocks, block, channels in ((figures.blocks_a, block_a, 384), (figures.blocks_b, block_b, 1152)):
        assert all(layers(one) == layers(block(channels)) for one in blocks)
    assert all(layers(one) == layers(block_c(2144)) and one.scale == 0.2 for one in figures.blocks_c)


@pytest.mark.parametrize(
    ("block", "channels", "scale"), [(block_a, 320, 0.17), (block_b, 1088, 0.1), (block_c, 2080, 0.2)]
)
def test_block_adds_its_scaled_branch(block, channels, scale, randomise, difference):
    net = block(channels).eval()
    randomise(net)
    x = torch.rand(1, channels, 5, 5)
    with torch.no_grad():
        expected = (x + scale * net.linear(net.branches(x))).relu()
        assert difference(net(x), expected) < 1e-6
        nn.init.zeros_(net.linear.weight)
        nn.init.zeros_(net.linear.bias)
        assert torch.equal(net(x), x)  # an idle branch leaves maps that come out of a ReLU as they are


def test_released_net_has_its_last_block():
    with torch.device("meta"):
        assert len(inception_resnet_v2(depths=(0, 0, 1)).features.blocks_c) == 0
    with pytest.raises(BadOption, match="the last block C is always there"):
        create("inception-resnet-v2", depths=(1, 1, 0))


@pytest.mark.parametrize("build", [InceptionV4, inception_resnet_v2])
def test_fits_a_few_images(build, overfits):
    net = build(10, depths=(1, 1, 1), dropout=0.0)
    overfits(net, (3, 75, 75), steps=12, batch=4, lr=0.01)


def test_compiles(compiles):
    compiles(inception_resnet_v2(10, depths=(1, 1, 1), dropout=0.0), (3, 75, 75))
