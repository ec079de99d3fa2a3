"""The two parts of the gradient are those that autograd gives, and their sum is that of the training's loss."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.measure import BadArgument, UnknownLayer, head_gradients
from cnnlib.measure.heads import HeadGradient
from cnnlib.models import create
from cnnlib.models.layers import WithAuxiliary


class TwoHeads(nn.Module):
    """A chain of three linear layers; each of the first two has a head."""

    auxiliary_weight = 0.3

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.heads = nn.ModuleList([nn.Linear(8, 5), nn.Linear(8, 5)])

    def forward(self, x):
        a = self.a(x.flatten(1)).relu()
        b = self.b(a).relu()
        logits = self.c(b)
        return WithAuxiliary(logits, (self.heads[0](a), self.heads[1](b))) if self.training else logits


@pytest.fixture
def batch():
    noise = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 2, 2, generator=noise), torch.arange(6) % 5


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TwoHeads()


def rms(values):
    return values.detach().square().mean().sqrt().item()


def test_parts_are_those_of_autograd(net, batch):
    images, labels = batch
    logits, heads = net(images)
    main = F.cross_entropy(logits, labels)
    weighted = 0.3 * (F.cross_entropy(heads[0], labels) + F.cross_entropy(heads[1], labels))
    measured = head_gradients(net, images, labels)
    assert [row.part for row in measured] == ["a", "b", "c"]  # in the order of the calls, without the heads' own layers
    for row, weight in zip(measured[:2], (net.a.weight, net.b.weight), strict=True):
        (by_main,) = torch.autograd.grad(main, weight, retain_graph=True)
        (by_heads,) = torch.autograd.grad(weighted, weight, retain_graph=True)
        assert row.main == pytest.approx(rms(by_main), rel=1e-5)
        assert row.heads == pytest.approx(rms(by_heads), rel=1e-5)
        assert row.cosine == pytest.approx(
            F.cosine_similarity(by_main.flatten(), by_heads.flatten(), 0).item(), abs=1e-5
        )
        assert row.together == pytest.approx(rms(by_main + by_heads), rel=1e-5)
        assert row.factor == pytest.approx(rms(by_main + by_heads) / rms(by_main), rel=1e-5)
    assert (measured[2].heads, measured[2].cosine, measured[2].factor) == (0, 0, 1)


def test_a_part_is_all_its_layers_together(batch):
    net = create("googlenet-cifar", auxiliary=True, width=0.0625)
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([1, 2])
    layers = {row.part: row for row in head_gradients(net, images, labels)}
    (part,) = head_gradients(net, images, labels, parts=["to_4a.inception3b"])
    inside = {name: row for name, row in layers.items() if name.startswith("to_4a.inception3b.")}
    assert len(inside) == 6
    sizes = {name: net.get_submodule(name).weight.numel() for name in inside}
    for attribute in ("main", "heads", "together"):
        squares = sum(sizes[name] * getattr(row, attribute) ** 2 for name, row in inside.items())
        assert getattr(part, attribute) == pytest.approx(math.sqrt(squares / sum(sizes.values())), rel=1e-4)


def test_the_network_stays_as_it_is_and_dropout_is_the_same_each_time(monkeypatch):
    net = create("googlenet-cifar", auxiliary=True, width=0.0625, dropout=0.5).eval()
    before = copy.deepcopy(net.state_dict())
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([1, 2])
    first = head_gradients(net, images, labels)
    torch.rand(1)
    state = torch.get_rng_state()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("generators of GPUs were seeded"))
    assert head_gradients(net, images, labels) == first
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.training
    assert torch.equal(torch.get_rng_state(), state)


def test_frozen_layers_do_not_count(net, batch):
    whole = {row.part: row for row in head_gradients(net, *batch)}
    net.a.requires_grad_(False)
    assert head_gradients(net, *batch) == (whole["b"], whole["c"])
    with pytest.raises(BadArgument, match="any weights of 'a'"):
        head_gradients(net, *batch, parts=["a"])
    for layer in (net.b, net.c):
        layer.requires_grad_(False)
    with pytest.raises(BadArgument, match="TwoHeads does not depend on any weights that are trained"):
        head_gradients(net, *batch)


def test_gradients_may_be_off(net, batch):
    expected = head_gradients(net, *batch)
    with torch.no_grad():
        assert head_gradients(net, *batch) == expected


def test_without_a_gradient_of_its_own_the_factor_is_infinite():
    assert HeadGradient("part", main=0.0, heads=1.0, cosine=0.0).factor == math.inf


def test_what_has_no_heads_or_no_weights(net, batch):
    with pytest.raises(BadArgument, match="ResNet has no auxiliary heads"):
        head_gradients(create("resnet20"), *batch)
    with pytest.raises(BadArgument, match="any weights of 'heads'"):
        head_gradients(net, *batch, parts=["a", "heads"])
    with pytest.raises(UnknownLayer, match=r"no layer 'head\.0'; the nearest names are 'heads\.0'"):
        head_gradients(net, *batch, parts=["a", "head.0"])
