"""Wide ResNet against pytorchcv and torchvision, its block types and dropout against the paper written out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pytorchcv.models.wrn_cifar import get_wrn_cifar
from torch import nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

from cnnlib.models import BadOption, available, card, create
from cnnlib.models.resnet import ResidualBlock
from cnnlib.models.wrn import convolutions, wide_bottleneck, wide_net, wrn


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("train", [False, True])
def test_basic_form_is_pytorchcvs(k, train, same_logits):
    oracle = get_wrn_cifar(num_classes=10, blocks=16, width_factor=k)
    same_logits(wrn(16, k), oracle, (3, 32, 32), train=train)


@pytest.mark.parametrize(("depth", "k"), [(40, 1), (52, 1), (28, 10), (16, 8)])
def test_full_depths_are_stacked_as_pytorchcv_does(depth, k):
    with torch.device("meta"):
        ours, oracle = create(f"wrn-{depth}-{k}"), get_wrn_cifar(num_classes=10, blocks=depth, width_factor=k)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in oracle.parameters()]


def section_2(net: nn.Module, x: torch.Tensor, kernels: tuple[int, ...], k: int, dropout: float = 0.0) -> torch.Tensor:
    """The net of Table 1 on the flat list of weights of ``net``, with two units B(*kernels) a stage."""
    tensors = iter([tensor.clone() for tensor in net.state_dict().values() if tensor.is_floating_point()])

    def conv(x, size, stride=1):
        weight = next(tensors)
        assert weight.shape[2:] == (size, size)
        return F.conv2d(x, weight, stride=stride, padding=size // 2)

    def bn_relu(x):
        weight, bias, mean, var = (next(tensors) for _ in range(4))
        return F.relu(F.batch_norm(x, mean, var, weight, bias, training=net.training))

    x = conv(x, 3)
    for width in (16 * k, 32 * k, 64 * k):
        for unit in range(2):
            stride = 2 if unit == 0 and width > 16 * k else 1
            y = bn_relu(x)
            changes = x.shape[1] != width
            shared = y
            y = conv(y, kernels[0], stride)
            for size in kernels[1:]:
                y = conv(F.dropout(bn_relu(y), dropout, net.training), size)
            x = y + (conv(shared, 1, stride) if changes else x)
    x = bn_relu(x).mean((2, 3))
    x = F.linear(x, next(tensors), next(tensors))
    assert list(tensors) == []
    return x


@pytest.mark.parametrize("kernels", [(3, 3), (3, 1), (1, 3), (1, 3, 1), (3, 1, 1), (3, 1, 3), (3,), (3, 3, 3, 3)])
@pytest.mark.parametrize("k", [1, 2])
def test_block_types_are_the_paper_written_out(kernels, k, randomise, difference):
    net = wide_net(2, k, kernels).eval()
    randomise(net)
    x = torch.randn(2, 3, 16, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(net(x), section_2(net, x, kernels, k)) < 1e-5


@pytest.mark.parametrize("kernels", [(3, 3), (3, 1, 3)])
def test_dropout_is_between_the_convolutions_after_the_relu(kernels, randomise, difference):
    net = wide_net(2, 2, kernels, dropout=0.3).train()
    randomise(net)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.manual_seed(1)
        written = section_2(net, x, kernels, 2, 0.3)
        torch.manual_seed(1)
        assert difference(net(x), written) < 1e-5
        net.eval()
        assert difference(net(x), section_2(net, x, kernels, 2)) < 1e-5


@pytest.mark.parametrize("name", ["wrn-40-2-b3", "wrn-40-2-b31", "wrn-40-2-b3333", "wrn-28-10"])
def test_dropout_precedes_every_convolution_of_a_unit_but_the_first(name):
    with torch.device("meta"):
        net = create(name, dropout=0.3)
    units = [unit.f for stage in net.stages for unit in stage]
    drops = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert len(drops) == sum(isinstance(module, nn.Conv2d) for f in units for module in f) - len(units)
    assert all(drop.p == 0.3 for drop in drops)
    assert all(isinstance(f[0], nn.Conv2d) for f in units)
    assert all(isinstance(f[at - 1], nn.ReLU) for f in units for at, drop in enumerate(f) if drop in drops)


def test_parameters_are_linear_in_depth_and_quadratic_in_k():
    with torch.device("meta"):
        by_depth = [count(wrn(depth, 2)) for depth in (10, 16, 22, 28)]
        by_k = [count(wrn(16, k)) for k in (2, 3, 4, 5, 6)]
    assert (torch.tensor(by_depth).diff(n=2) == 0).all()
    assert (torch.tensor(by_k).diff(n=2) > 0).all()
    assert (torch.tensor(by_k).diff(n=3) == 0).all()


def test_block_types_have_the_parameters_of_table_2():
    """In millions, as printed. With 40 convolutions in all, B(1, 3, 1) and B(3, 1, 1) would have less than one."""
    names = ("wrn-40-2-b131", "wrn-40-2-b31", "wrn-40-2-b13", "wrn-40-2-b311", "wrn-28-2", "wrn-22-2-b313")
    with torch.device("meta"):
        assert [round(count(create(name)) / 1e6, 1) for name in names] == [1.4, 1.2, 1.3, 1.3, 1.5, 1.1]


def test_depth_factors_share_out_the_same_convolutions():
    names = ("wrn-40-2-b3", "wrn-40-2", "wrn-40-2-b333", "wrn-40-2-b3333")
    with torch.device("meta"):
        nets = [create(name) for name in names]
    assert {count(net) for net in nets} == {2_243_546}
    assert {sum(isinstance(module, nn.Conv2d) for module in net.modules()) for net in nets} == {40}
    assert [len(net.stages[0]) for net in nets] == [12, 6, 4, 3]


@pytest.mark.parametrize("name", ["wrn-40-1", "wrn-28-10", "wrn-16-8", "wrn-22-8"])
def test_depth_counts_the_shortcuts_too(name):
    with torch.device("meta"):
        convolutions = sum(isinstance(module, nn.Conv2d) for module in create(name).modules())
    depth, k = map(int, name.split("-")[1:])
    assert convolutions == (depth if k > 1 else depth - 1)  # the first stage of k = 1 needs no projection


def test_the_first_convolution_strides():
    assert [m.stride[0] for m in convolutions(4, 8, 2, (1, 3, 1)) if isinstance(m, nn.Conv2d)] == [2, 1, 1]


def test_numbers_of_mean_and_std_come_before_those_of_whitening():
    for name in available("wrn-*"):
        protocols = [error.protocol.split(",")[0] for error in card(name).published if "Table" in error.source]
        known = [p for p in protocols if p in ("mean/std normalisation", "ZCA whitening")]
        assert known == sorted(known, reverse=True)
    assert [card(f"wrn-{name}").headline.value for name in ("28-10", "40-4", "16-8", "22-8")] == [
        4.00,
        4.53,
        4.27,
        4.38,
    ]


@pytest.mark.parametrize("train", [False, True])
def test_wide_bottlenecks_are_torchvisions(train, same_logits):
    shortcut = nn.Sequential(nn.Conv2d(24, 64, 1, stride=2, bias=False), nn.BatchNorm2d(64))
    their = partial(torchvision_models.resnet.Bottleneck, planes=16, base_width=128)
    oracle = nn.Sequential(their(24, stride=2, downsample=shortcut), their(64))
    our = partial(ResidualBlock, f=wide_bottleneck)
    same_logits(nn.Sequential(our(24, 64, 2), our(64, 64, 1)), oracle, (24, 9, 9), train=train)


def test_wrn_50_2_is_stacked_as_torchvision_does():
    with torch.device("meta"):
        nets = create("wrn-50-2-bottleneck"), torchvision_models.wide_resnet50_2()
    ours, theirs = ([(m.weight.shape, m.stride) for m in net.modules() if isinstance(m, nn.Conv2d)] for net in nets)
    assert ours == theirs


@pytest.mark.parametrize("depth", [4, 20, 29])
def test_wrong_depth_is_explained(depth):
    with pytest.raises(BadOption, match=rf"6n \+ 4 layers \(10, 16, 22, \.\.\.\), not {depth}"):
        wrn(depth, 2)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(wrn(10, 2), (3, 16, 16))


def test_compiles(compiles):
    compiles(wrn(10, 2, dropout=0.3), (3, 16, 16))
