"""Inception-v3 against torchvision, whose average pooling counts the padding and the authors' does not."""

from __future__ import annotations

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torch.nn import functional as F
from torchvision.models import inception as theirs

from cnnlib.models import InputTooSmall, card, create
from cnnlib.models.inception_v3 import (
    InceptionV3,
    WithAuxiliary,
    auxiliary_head,
    inception_v3,
    inception_v3_torchvision,
    module_a,
    module_b,
)


def torchvision_net(auxiliary: bool = True) -> tv.Inception3:
    return tv.inception_v3(
        weights=None, num_classes=10, aux_logits=auxiliary, init_weights=False, transform_input=False, dropout=0.2
    )


def reduced(net: InceptionV3) -> InceptionV3:
    """Leave out the modules that put out as many maps as they get, but for one B."""
    stem, (a1, a2, _, reduction, b, *_) = net.to_17x17[:7], net.to_17x17[7:]
    net.to_17x17, net.to_8x8 = nn.Sequential(*stem, a1, a2, reduction, b), net.to_8x8[:2]
    return net


@pytest.fixture
def padding_left_out(monkeypatch):
    """torchvision's modules pool as TensorFlow does."""

    def avg_pool2d(x, kernel_size, stride, padding=0):
        return F.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)

    class Functions:
        def __getattr__(self, name):
            return avg_pool2d if name == "avg_pool2d" else getattr(F, name)

    monkeypatch.setattr(theirs, "F", Functions())


def test_torchvisions_form_equals_torchvision(same_logits):
    same_logits(create("inception-v3-torchvision-auxiliary", num_classes=10), torchvision_net(), (3, 107, 123))


def test_authors_form_equals_torchvision_with_the_padding_left_out(same_logits, padding_left_out):
    same_logits(create("inception-v3", num_classes=10), torchvision_net(auxiliary=False), (3, 75, 91))


def test_the_padding_makes_another_module(same_logits):
    with pytest.raises(AssertionError, match="<"):
        same_logits(module_a(192, 32), theirs.InceptionA(192, 32), (192, 7, 7))


def test_equals_torchvision_in_training(same_logits):
    ours = inception_v3_torchvision(10, dropout=0.2)
    same_logits(ours, torchvision_net(auxiliary=False), (3, 107, 107), train=True)


@pytest.mark.parametrize("train", [False, True])
def test_head_equals_torchvisions(same_logits, train):
    same_logits(auxiliary_head(10), theirs.InceptionAux(768, 10), (768, 17, 17), train=train)


def test_head_reads_the_last_maps_of_17x17(randomise):
    """Its place: the maps that the first reduction and four modules B make, as in torchvision's net."""
    ours, oracle = inception_v3_torchvision(10, auxiliary=True).eval(), torchvision_net().eval()
    names, sizes = zip(*((name, tensor.numel()) for name, tensor in ours.named_parameters()), strict=True)
    assert list(sizes) == [tensor.numel() for tensor in oracle.parameters()]
    first = next(i for i, (name, _) in enumerate(oracle.named_parameters()) if name.startswith("AuxLogits"))
    assert names[first].startswith("heads.0.")
    randomise(ours)
    x, maps = torch.randn(2, 3, 107, 107), []
    ours.to_8x8.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    ours.train()
    for module in (ours.to_17x17, ours.heads):
        module.eval()  # so that it can be run a second time with the same result
    with torch.no_grad():
        logits, (head,) = ours(x)
        torch.testing.assert_close(head, ours.heads[0](maps[0]))
    assert logits.shape == head.shape == (2, 10)


def test_maps_are_those_of_table_1():
    with torch.device("meta"):
        net = create("inception-v3-auxiliary").train()
    shapes = []
    for part in (*net.to_17x17, *net.to_8x8, net.heads[0].pool):
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    output = net(torch.empty(2, 3, 299, 299, device="meta"))
    assert shapes == [
        *[(32, 149, 149), (32, 147, 147), (64, 147, 147), (64, 73, 73), (80, 73, 73), (192, 71, 71), (192, 35, 35)],
        *[(256, 35, 35), (288, 35, 35), (288, 35, 35)],
        *[(768, 17, 17)] * 5,
        *[(1280, 8, 8), (2048, 8, 8), (2048, 8, 8)],
        (768, 5, 5),
    ]
    assert isinstance(output, WithAuxiliary)
    assert [logits.shape for logits in (output.logits, *output.auxiliary)] == [(2, 1000)] * 2
    assert net.auxiliary_weight == 0.4


def test_gradients_reach_the_head_too():
    with torch.device("meta"):
        net = inception_v3(10, auxiliary=True).train()
    logits, (head,) = net(torch.empty(2, 3, 107, 107, device="meta"))
    (logits + head).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_smallest_image_with_the_head():
    with torch.device("meta"):
        net = inception_v3(10, auxiliary=True).train()
    net(torch.empty(2, 3, 107, 107, device="meta"))
    with pytest.raises(InputTooSmall, match="107x107"):
        net(torch.empty(2, 3, 106, 107, device="meta"))
    net.min_size = 1
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, 106, 106, device="meta"))


def test_card_says_what_torchvision_measured():
    weights, ours = tv.Inception_V3_Weights.IMAGENET1K_V1, card("inception-v3-torchvision-auxiliary")
    assert ours.parameters == weights.meta["num_params"]
    assert round(ours.multiply_adds / 1e9, 3) == weights.meta["_ops"]
    accuracies = weights.meta["_metrics"]["ImageNet-1K"].values()
    assert [error.value for error in ours.published] == pytest.approx([100 - a for a in accuracies], abs=1e-6)


def test_small_kernels_cost_less(multiply_adds):
    """Section 3.2: 1x7 and 7x1 after each other have 2/7 of the multiply-adds of 7x7; two 3x3 have 18/25 of 5x5."""
    with torch.device("meta"):
        branch = module_b(160).branches[1]
        five, twice_three = module_a(192, 32).branches[1:3]
    full = nn.Conv2d(160, 160, 7, padding=3, bias=False, device="meta")
    assert multiply_adds(branch[1], (160, 17, 17)) * 7 == multiply_adds(full, (160, 17, 17))
    per_filter = [
        sum(module.weight[0, 0].numel() for module in part[1:].modules() if isinstance(module, nn.Conv2d))
        for part in (five, twice_three)
    ]
    assert per_filter == [25, 18]


def test_fits_a_few_images(overfits):
    overfits(reduced(inception_v3(10, dropout=0.0)), (3, 75, 75), steps=12, batch=4, lr=0.01)
