"""ResNeXt against pytorchcv (CIFAR) and torchvision (ImageNet), and the three forms of its block against each other."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pytorchcv.models.resnext_cifar import get_resnext_cifar
from torch import nn
from torch.nn import functional as F
from torchvision import models as torchvision_models
from torchvision.models.resnet import Bottleneck

from cnnlib.models import BadOption, card, create
from cnnlib.models.resnet import ResidualBlock, ResNet, bottleneck_v1_5
from cnnlib.models.resnext import (
    ConcatenatedPaths,
    SumOfPaths,
    aggregated_transformations,
    cifar_narrow_resnext,
    grouped_convolution,
    imagenet_resnext,
    rewrite,
)


def theirs(cardinality: int, width: int, blocks: int = 29) -> nn.Module:
    return get_resnext_cifar(num_classes=10, blocks=blocks, cardinality=cardinality, bottleneck_width=width)


@pytest.mark.parametrize("train", [False, True])
def test_cifar_net_is_pytorchcvs(same_logits, train):
    same_logits(create("resnext29-32x4d"), theirs(32, 4), (3, 32, 32), train=train)


def test_wide_paths_are_pytorchcvs(same_logits):
    same_logits(create("resnext29-4x64d", depth=11), theirs(4, 64, blocks=11), (3, 32, 32))


@pytest.mark.parametrize(("cardinality", "width"), [(1, 64), (2, 64), (4, 64), (8, 64), (16, 64)])
def test_cifar_nets_are_stacked_as_pytorchcv_does(cardinality, width):
    with torch.device("meta"):
        ours = create(f"resnext29-{cardinality}x{width}d")
        oracle = theirs(cardinality, width)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in oracle.parameters()]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("cardinality", "width"), [(32, 4), (64, 4)])
def test_imagenet_net_is_torchvisions(same_logits, cardinality, width, train):
    depths = (1, 2, 1, 1)
    oracle = torchvision_models.ResNet(Bottleneck, list(depths), groups=cardinality, width_per_group=width)
    same_logits(imagenet_resnext(depths, cardinality, width), oracle, (3, 48, 48), train=train)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("resnext50-32x4d", torchvision_models.resnext50_32x4d),
        ("resnext101-64x4d", torchvision_models.resnext101_64x4d),
        (
            "resnext101-32x4d",
            partial(torchvision_models.ResNet, Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4),
        ),
    ],
)
def test_imagenet_nets_are_stacked_as_torchvision_does(name, oracle):
    with torch.device("meta"):
        assert [p.shape for p in create(name).parameters()] == [p.shape for p in oracle().parameters()]


@pytest.fixture
def grouped(randomise) -> nn.Sequential:
    """Form (c) with random weights and statistics: 3 paths of 4 maps that halve the image."""
    branch = grouped_convolution(10, 14, stride=2, cardinality=3, width=4)
    randomise(branch)
    return branch


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_the_three_forms_are_one_function(grouped, form, train):
    """Outputs, gradients and, after a step in training mode, statistics, each path with its share of those of (c)."""
    grouped.double().train(train)
    other = rewrite(grouped, form)
    x = torch.randn(3, 10, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for branch in (grouped, other):
        images = x.clone().requires_grad_()
        y = branch(images)
        y.square().sum().backward()
        gradients.append(images.grad)
    torch.testing.assert_close(other(x), grouped(x))
    torch.testing.assert_close(gradients[1], gradients[0])
    again = rewrite(grouped, form)
    for (name, ours), expected in zip(other.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)
    for layer in ("conv1", "bn1", "conv2", "bn2"):
        if form != "c":
            shares = [path.get_submodule(layer).weight.grad for path in other.paths]
            torch.testing.assert_close(torch.cat(shares), grouped.get_submodule(layer).weight.grad)


def test_forms_are_the_figure(grouped):
    """The layers that Figure 3 draws: 3 paths from 10 maps to 4, and up to 14 each alone (a) or together (b)."""
    a, b = rewrite(grouped, "a"), rewrite(grouped, "b")
    assert isinstance(a, SumOfPaths)
    assert isinstance(b, ConcatenatedPaths)

    def convolutions(branch: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(m.weight.shape) for m in branch.modules() if isinstance(m, nn.Conv2d)]

    assert convolutions(a) == [(4, 10, 1, 1), (4, 4, 3, 3), (14, 4, 1, 1)] * 3
    assert convolutions(b) == [(4, 10, 1, 1), (4, 4, 3, 3)] * 3 + [(14, 12, 1, 1)]
    assert convolutions(grouped) == [(12, 10, 1, 1), (12, 4, 3, 3), (14, 12, 1, 1)]


def test_sum_of_paths_is_equation_2_written_out(grouped):
    """Each path is a function of its own; nothing but their sum is normalised in common."""
    a = rewrite(grouped.eval(), "a")
    x = torch.randn(2, 10, 8, 8)
    total = 0
    for path in a.paths:
        y = F.relu(path.bn1(F.conv2d(x, path.conv1.weight)))
        y = F.relu(path.bn2(F.conv2d(y, path.conv2.weight, stride=2, padding=1)))
        total = total + F.conv2d(y, path.conv3.weight)
    torch.testing.assert_close(grouped(x), a.bn3(total), rtol=1e-4, atol=1e-5)


def test_a_batch_norm_before_the_sum_would_be_another_function(grouped):
    """Why the last batch norm of form (a) stands after the sum: in training, sums of normalised maps are not normal."""
    a = rewrite(grouped, "a")
    x = torch.randn(8, 10, 9, 9)
    early = sum(F.batch_norm(path(x), None, None, a.bn3.weight, a.bn3.bias, training=True) for path in a.paths)
    assert (early - grouped(x)).abs().max() > 0.1


def test_rewriting_copies(grouped):
    before = grouped.conv2.weight.clone()
    for form in "abc":
        nn.init.zeros_(next(rewrite(grouped, form).parameters()))
        nn.init.zeros_(rewrite(grouped, form).bn3.weight)
    assert torch.equal(grouped.conv2.weight, before)
    assert not (grouped.bn3.weight == 0).any()


def test_a_block_of_a_net_can_be_rewritten(randomise, difference):
    net = create("resnext29-2x64d", depth=11).eval()
    randomise(net)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        logits = net(x)
        for stage, form in zip(net.stages, "aba", strict=True):
            stage[0].f = rewrite(stage[0].f, form)
        assert difference(net(x), logits) < 1e-5


def test_nets_of_all_forms_have_the_same_parameters():
    with torch.device("meta"):
        nets = [create("resnext29-4x64d", depth=11, form=form) for form in "abc"]
    assert len({sum(p.numel() for p in net.parameters()) for net in nets}) == 1
    kinds = [type(net.stages[0][0].f) for net in nets]
    assert kinds == [SumOfPaths, ConcatenatedPaths, nn.Sequential]


def test_one_path_is_a_resnets_bottleneck(same_logits):
    """Cardinality 1 with a quarter as many maps inside: 1x64d (Table 1, left)."""
    one = partial(aggregated_transformations, cardinality=1, base_width=64)
    nets = [
        ResNet(partial(ResidualBlock, f=f), (1, 1), (256, 512), stem_width=64, num_classes=10)
        for f in (one, bottleneck_v1_5)
    ]
    same_logits(*nets, (3, 16, 16))


def test_cost_stays_with_the_cardinality():
    """Section 3.3: 32x4d costs about as much as ResNet-50, which is 1x64d."""
    for cost in ("parameters", "multiply_adds"):
        ours, theirs = getattr(card("resnext50-32x4d"), cost), getattr(card("resnet50-v1.5"), cost)
        assert ours / theirs == pytest.approx(1, abs=0.04)


def test_paths_widen_with_the_stages():
    net = create("resnext50-32x4d", num_classes=3)
    assert [stage[0].f.conv2.out_channels for stage in net.stages] == [128, 256, 512, 1024]
    assert {stage[0].f.conv2.groups for stage in net.stages} == {32}


@pytest.mark.parametrize("depth", [2, 28, 30])
def test_wrong_depth_is_explained(depth):
    with pytest.raises(BadOption, match=rf"9n \+ 2 layers \(11, 20, 29, \.\.\.\), not {depth}"):
        create("resnext29-1x64d", depth=depth)


def test_wrong_form_is_explained(grouped):
    with pytest.raises(BadOption, match="form is 'a', 'b' or 'c', not 'd'"):
        create("resnext29-1x64d", form="d")
    with pytest.raises(BadOption, match="form is 'a', 'b' or 'c', not 'A'"):
        rewrite(grouped, "A")


def small(form: str) -> ResNet:
    f = partial(aggregated_transformations, cardinality=2, base_width=64, form=form)
    return ResNet(partial(ResidualBlock, f=f), (1, 1), (32, 64), stem_width=16)


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_overfits(form, overfits):
    torch.manual_seed(0)
    overfits(small(form), (3, 12, 12), lr=0.1, steps=25)


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_compiles(form, compiles):
    compiles(small(form), (3, 16, 16))


def test_a_narrow_net_of_one_path_is_the_bottleneck_net():
    torch.manual_seed(0)
    ours = cifar_narrow_resnext(1, 16, depth=20).eval()
    bottlenecks = ResNet(partial(ResidualBlock, f=bottleneck_v1_5), (2, 2, 2), (64, 128, 256)).eval()
    bottlenecks.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), bottlenecks(x))
    with pytest.raises(BadOption, match="9n"):
        cifar_narrow_resnext(1, 16, depth=21)
