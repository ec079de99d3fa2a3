from functools import partial

import pytest
import timm
import torch
from timm.layers import SEModule
from timm.models.res2net import Bottle2neck
from torch import nn
from torch.nn import functional as F

from cnnlib.models import BadOption, create
from cnnlib.models.res2net import (
    ChainedSplits,
    ParallelSplits,
    cifar_res2net,
    cifar_res2next,
    cifar_se_res2next,
    imagenet_res2net,
    split_bottleneck,
)
from cnnlib.models.resnet import ResidualBlock, ResNet, imagenet_stem
from cnnlib.models.senet import with_squeeze_excitation


def reduced(**options: int) -> ResNet:
    block = partial(ResidualBlock, f=partial(split_bottleneck, **options))
    return ResNet(block, (2, 2, 1, 2), (256, 512, 1024, 2048), imagenet_stem, 64, 20)


def timms(width: int, scale: int, cardinality: int = 1, **block_args: type) -> nn.Module:
    return timm.models.resnet.ResNet(
        Bottle2neck,
        [2, 2, 1, 2],
        20,
        cardinality=cardinality,
        base_width=width,
        block_args={"scale": scale, **block_args},
    )


@pytest.mark.parametrize(
    ("width", "scale", "cardinality", "train"),
    [(26, 4, 1, False), (26, 4, 1, True), (48, 2, 1, False), (14, 8, 1, False), (4, 4, 8, False), (4, 4, 8, True)],
)
def test_reduced_nets_are_timms(width, scale, cardinality, train, same_logits):
    ours = reduced(width=width, scale=scale, cardinality=cardinality)
    same_logits(ours, timms(width, scale, cardinality), (3, 48, 48), train=train)


def test_squeeze_and_excitation_is_timms(same_logits):
    f = with_squeeze_excitation(partial(split_bottleneck, width=4, cardinality=8))
    block = partial(ResidualBlock, f=f)
    ours = ResNet(block, (2, 2, 1, 2), (256, 512, 1024, 2048), imagenet_stem, 64, 20)
    same_logits(ours, timms(4, 4, 8, attn_layer=SEModule), (3, 48, 48))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("res2net50-26w-4s", "res2net50_26w_4s"),
        ("res2net50-48w-2s", "res2net50_48w_2s"),
        ("res2net50-14w-8s", "res2net50_14w_8s"),
        ("res2net50-26w-6s", "res2net50_26w_6s"),
        ("res2net50-26w-8s", "res2net50_26w_8s"),
        ("res2net101-26w-4s", "res2net101_26w_4s"),
        ("res2next50", "res2next50"),
    ],
)
def test_full_nets_are_stacked_as_timm_does(name, theirs):
    with torch.device("meta"):
        ours, oracle = create(name), timm.create_model(theirs)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in oracle.parameters()]


@pytest.mark.parametrize(("shape", "millions"), [((6, 24, 4), 23.71), ((8, 25, 4), 32.96), ((6, 24, 6), 36.15)])
def test_res2next29_has_the_counts_of_the_rerun(shape, millions):
    """Those of github.com/dl19940602/res2net-pytorch. The paper's are 24.3, 33.8 and 36.7."""
    with torch.device("meta"):
        net = cifar_res2next(*shape)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("shape", [(6, 24, 4), (8, 25, 4), (6, 24, 6)])
def test_squeeze_and_excitation_adds_the_same_to_each_res2next29(shape):
    added = [2 * maps * maps // 16 + maps // 16 + maps for maps in (256, 512, 1024)]
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in build(*shape).parameters())
            for build in (cifar_res2next, cifar_se_res2next)
        ]
    assert counts[1] - counts[0] == 3 * sum(added)


def test_res2next29_has_29_layers_with_a_chain_as_one():
    with torch.device("meta"):
        net = cifar_res2next(6, 24, 4)
    chains = sum(isinstance(module, ChainedSplits) for module in net.modules())
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    assert chains == 9
    assert layers - chains * (4 - 1) + chains == 29 + 3  # a projection in each stage


def test_chain_is_equation_1(randomise):
    splits = ChainedSplits(6, 4, cardinality=2).eval()
    randomise(splits)
    x = torch.randn(2, 24, 5, 5, generator=torch.Generator().manual_seed(0))
    x1, x2, x3, x4 = x.split(6, 1)

    def k(index: int, x: torch.Tensor) -> torch.Tensor:
        bn = splits.bns[index]
        x = F.conv2d(x, splits.convs[index].weight, padding=1, groups=2)
        return F.relu(F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias))

    y1 = k(0, x1)
    y2 = k(1, x2 + y1)
    y3 = k(2, x3 + y2)
    torch.testing.assert_close(splits(x), torch.cat([y1, y2, y3, x4], 1))


def field(splits: nn.Module, index: int) -> int:
    """The width of the window that the middle of a split of the output sees, by gradient."""
    x = torch.ones(1, 8, 11, 11, requires_grad=True)
    for conv in splits.convs:
        nn.init.ones_(conv.weight)
    y = splits.eval()(x)
    y.chunk(4, 1)[index][0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    seen = x.grad.abs().sum((0, 1))
    return int((seen.sum(0) > 0).sum())


def test_a_chain_sees_several_scales_at_once():
    assert [field(ChainedSplits(2, 4), index) for index in range(4)] == [3, 5, 7, 1]
    assert [field(ParallelSplits(2, 4), index) for index in range(4)] == [3, 3, 3, 3]


def test_parallel_splits_do_not_mix_and_average_the_last(randomise):
    splits = ParallelSplits(2, 3, stride=2).eval()
    randomise(splits)
    x = torch.randn(1, 6, 7, 7, generator=torch.Generator().manual_seed(0))
    y = splits(x)
    assert y.shape == (1, 6, 4, 4)
    torch.testing.assert_close(y[:, 4:], F.avg_pool2d(x[:, 4:], 3, 2, padding=1))
    other = x.clone()
    other[:, 2:4] = 0
    changed = (splits(other) != y).any(3).any(2)[0].tolist()
    assert changed[:2] + changed[4:] == [False] * 4
    assert any(changed[2:4])


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((256, 256, 1), ChainedSplits), ((64, 256, 1), ParallelSplits), ((256, 512, 2), ParallelSplits)],
)
def test_only_the_first_block_of_a_stage_is_parallel(shape, kind):
    assert type(split_bottleneck(*shape).conv2) is kind


def test_maps_a_group_are_rounded_down():
    """As floor(planes width / 64) * cardinality in the authors' code, with a quarter of the maps as planes."""
    assert split_bottleneck(64, 64, width=30, cardinality=2).conv2.convs[0].in_channels == 2 * 7


def test_a_branch_has_about_the_parameters_of_a_bottleneck():
    with torch.device("meta"):
        ours, bottleneck = create("res2net50-26w-4s"), create("resnet50")
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (ours, bottleneck)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)


def test_wrong_options_are_explained():
    with pytest.raises(BadOption, match="scale is at least 2, not 1"):
        imagenet_res2net(50, 64, 1)
    with pytest.raises(BadOption, match="depth is one of 50, 101, not 34"):
        imagenet_res2net(34)
    with pytest.raises(BadOption, match=r"9n \+ 2 layers \(11, 20, 29, \.\.\.\), not 30"):
        cifar_res2net(30, 26, 4)


def test_overfits(overfits):
    torch.manual_seed(0)
    block = partial(ResidualBlock, f=partial(split_bottleneck, width=32))
    overfits(ResNet(block, (2, 2), (64, 128)), (3, 16, 16), lr=0.02, steps=30)


def test_compiles(compiles):
    block = partial(ResidualBlock, f=partial(split_bottleneck, width=32))
    compiles(ResNet(block, (2, 1), (64, 128)), (3, 16, 16))
