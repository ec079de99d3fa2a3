"""DenseNet against torchvision and pytorchcv, and the memory-efficient mode against the usual one."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torchvision
from pytorchcv.model_provider import get_model
from pytorchcv.models.densenet import TransitionBlock
from pytorchcv.models.densenet_cifar import CIFARDenseNet, DenseSimpleUnit
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from cnnlib.models import BadOption, create
from cnnlib.models.densenet import (
    BNReLUConv,
    BottleneckLayer,
    DenseBlock,
    DenseLayer,
    DenseNet,
    RecomputedBNReLUConv,
    cifar_densenet,
    cifar_densenet_bc,
)


@pytest.mark.parametrize("train", [False, True])
def test_imagenet_form_equals_torchvision(same_logits, train):
    oracle = torchvision.models.DenseNet(growth_rate=8, block_config=(2, 3, 2, 1), num_init_features=16)
    same_logits(DenseNet(8, (2, 3, 2, 1)), oracle, (3, 61, 40), train=train)


def test_densenet121_equals_torchvision(same_logits):
    same_logits(create("densenet121"), torchvision.models.densenet121(weights=None), (3, 32, 32))


@pytest.mark.parametrize("train", [False, True])
def test_bc_equals_pytorchcv(same_logits, train):
    same_logits(create("densenet-bc-100-12"), get_model("densenet100_k12_bc_cifar10"), (3, 32, 32), train=train)


@pytest.mark.parametrize("train", [False, True])
def test_plain_equals_pytorchcv_without_its_compression(same_logits, train):
    """pytorchcv's plain nets compress by 0.5 and have a stem of 2k, so its units are put together as in the paper."""
    oracle = CIFARDenseNet([[28, 40], [52, 64], [76, 88]], init_block_channels=16, bottleneck=False)
    for stage, first in ((1, 40), (2, 64)):
        block = oracle.features[stage + 1]
        block[0] = TransitionBlock(first, first)
        for i in (1, 2):
            block[i] = DenseSimpleUnit(first + 12 * (i - 1), first + 12 * i, dropout_rate=0.0)
    oracle.features.post_activ.bn = nn.BatchNorm2d(88)
    oracle.output = nn.Linear(88, 10)
    same_logits(cifar_densenet(10, 12), oracle, (3, 32, 32), train=train)


@pytest.mark.parametrize("name", ["densenet-40-12", "densenet-bc-100-12", "densenet121", "densenet161", "densenet264"])
def test_names_count_the_layers(name):
    with torch.device("meta"):
        net = create(name)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    depth = int(re.search(r"\d+", name)[0])
    assert layers == (265 if depth == 264 else depth)  # the paper's own count slipped


@pytest.mark.parametrize("layer", [DenseLayer, BottleneckLayer])
def test_a_block_is_repeated_concatenation(layer, randomise):
    """Handing each layer all pieces, and growing one tensor by each layer's maps, are the same function."""
    block = DenseBlock(*(layer(5 + 3 * i, 3) for i in range(4))).eval()
    randomise(block)
    x = torch.randn(2, 5, 6, 6)
    grown = x
    for one in block:
        grown = torch.cat([grown, one(grown)], 1)
    torch.testing.assert_close(block(x), grown, rtol=0, atol=0)
    assert torch.equal(block(x)[:, :5], x)


@pytest.mark.parametrize("build", [cifar_densenet, cifar_densenet_bc])
def test_dropout_follows_every_convolution_but_the_first(build):
    net = build(16, 12, dropout=0.2)
    outside = [module for module in net.stem.modules() if isinstance(module, nn.Conv2d)]
    inside = [module for module in net.blocks.modules() if isinstance(module, nn.Conv2d)]
    groups = [module for module in net.modules() if isinstance(module, BNReLUConv)]
    assert (len(outside), len(inside)) == (1, 14)
    assert [group.conv for group in groups] == inside
    assert all(list(group)[-1] is group.drop and group.drop.p == 0.2 for group in groups)


def twins(build, depth, **options):
    torch.manual_seed(0)
    usual = build(depth, 12, **options)
    efficient = build(depth, 12, memory_efficient=True, **options)
    efficient.load_state_dict(copy.deepcopy(usual.state_dict()))
    return usual.train(), efficient.train()


def step(net, x):
    torch.manual_seed(1)
    logits = net(x)
    logits.square().sum().backward()
    return logits


@pytest.mark.parametrize("build", [cifar_densenet, cifar_densenet_bc])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_memory_efficient_mode_changes_no_number(build, dropout):
    usual, efficient = twins(build, 22, dropout=dropout)
    assert any(isinstance(module, RecomputedBNReLUConv) for module in efficient.modules())
    x = torch.randn(3, 3, 16, 16)
    for _ in range(2):
        torch.testing.assert_close(step(efficient, x), step(usual, x), rtol=0, atol=0)
    for (name, theirs), ours in zip(usual.named_parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5, msg=name)
    for (name, theirs), ours in zip(usual.state_dict().items(), efficient.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name  # statistics included: no batch is counted twice
    torch.testing.assert_close(efficient.eval()(x), usual.eval()(x), rtol=0, atol=0)


def test_memory_efficient_mode_can_go_back_more_than_once():
    usual, efficient = twins(cifar_densenet_bc, 10)
    x = torch.randn(3, 3, 8, 8)
    for net in (usual, efficient):
        loss = net(x).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    for theirs, ours in zip(usual.parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    for theirs, ours in zip(usual.buffers(), efficient.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_memory_efficient_mode_counts_as_synchronised_batch_normalisation_demands(monkeypatch):
    usual, efficient = map(nn.SyncBatchNorm.convert_sync_batchnorm, twins(cifar_densenet_bc, 10))
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(step(efficient, x), step(usual, x), rtol=0, atol=0)
    for (name, theirs), ours in zip(usual.state_dict().items(), efficient.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_memory_efficient_mode_compiles():
    usual, efficient = twins(cifar_densenet_bc, 10)
    x = torch.randn(3, 3, 8, 8)
    torch._dynamo.reset()
    step(torch.compile(efficient, backend="aot_eager", fullgraph=True), x)
    step(usual, x)
    for theirs, ours in zip(usual.parameters(), efficient.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    for theirs, ours in zip(usual.buffers(), efficient.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def kept_for_backward(block, x):
    storages = {}

    def remember(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(remember, lambda tensor: tensor):
        block(x)
    return sum(storages.values())


@pytest.mark.parametrize("layer", [DenseLayer, BottleneckLayer])
def test_memory_grows_with_the_depth_and_not_with_its_square(layer):
    """Twice and four times the layers: the growth of what is kept for the backward pass tells the two apart."""
    kept = {}
    for first in (BNReLUConv, RecomputedBNReLUConv):
        kept[first] = [
            kept_for_backward(
                DenseBlock(*(layer(4 + 4 * i, 4, 0.0, first) for i in range(depth))),
                torch.randn(1, 4, 32, 32, requires_grad=True),
            )
            for depth in (8, 16, 32)
        ]
    usual, efficient = kept[BNReLUConv], kept[RecomputedBNReLUConv]
    assert usual[2] - usual[1] > 3 * (usual[1] - usual[0])
    assert efficient[2] - efficient[1] < 2.3 * (efficient[1] - efficient[0])
    assert efficient[2] < usual[2] / 4


@pytest.mark.parametrize(("build", "depth"), [(cifar_densenet, 41), (cifar_densenet, 4), (cifar_densenet_bc, 13)])
def test_other_depths_are_refused(build, depth):
    with pytest.raises(BadOption, match=rf"n \+ 4 layers .* not {depth}"):
        build(depth, 12)


@pytest.mark.parametrize("compression", [0, -0.5, 1.5, float("nan")])
def test_a_transition_keeps_a_fraction_of_the_maps(compression):
    with pytest.raises(BadOption, match=f"compression is a fraction greater than 0 and at most 1, not {compression}"):
        create("densenet121", compression=compression)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(cifar_densenet_bc(16, 12), (3, 16, 16))


def test_compiles(compiles):
    compiles(cifar_densenet_bc(10, 12), (3, 16, 16))


@pytest.mark.parametrize("depths", [(), (0, 0), (-1, 2)])
def test_every_block_has_a_layer(depths):
    with pytest.raises(BadOption, match="each stage has 1 or more blocks"):
        DenseNet(12, depths)
