"""What holds for every registered model. A new family joins by being registered.

Networks of any size are built on the meta device, which has shapes and no numbers. What must be seen on numbers, or
takes longer, is checked on one model for each ``build`` function: the smallest, since the others differ in size only.
"""

from __future__ import annotations

import copy
import functools
import pickle
import re
from fnmatch import fnmatchcase

import pytest
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from cnnlib.models import available, card, create, layers

CARDS = [card(name) for name in available()]


def _one_for_each_builder() -> list[str]:
    smallest = {}
    for model in sorted(CARDS, key=lambda model: model.parameters):
        build = model.build
        smallest.setdefault(build.func if isinstance(build, functools.partial) else build, model.name)
    return list(smallest.values())


@pytest.fixture(scope="module", params=available())
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=_one_for_each_builder())
def meta(request) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network on the meta device in evaluation mode, and the shape of its smallest image."""
    with torch.device("meta"):
        net = create(request.param).eval()
    return net, (card(request.param).input_size[0], net.min_size, net.min_size)


@pytest.fixture(scope="module", params=_one_for_each_builder())
def real(request) -> tuple[nn.Module, torch.Tensor]:
    """A network with weights in evaluation mode, and two small images for it."""
    torch.manual_seed(0)
    net = create(request.param).eval()
    side = max(net.min_size, 32)
    return net, torch.randn(2, card(request.param).input_size[0], side, side)


def test_card_is_complete(name):
    model = card(name)
    assert re.fullmatch(r"[a-z][a-z0-9.-]*", name)
    assert model.about
    assert "\n" not in model.about
    assert model.paper.title
    assert model.paper.authors
    assert 1980 < model.paper.year < 2030
    assert re.fullmatch(r"[a-z]+[0-9]{4}[a-z0-9]+", model.paper.key)
    assert model.paper.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", model.paper.arxiv)
    for error in model.published:
        assert 0 < error.value < 100
        assert error.metric.endswith("error")
        assert error.protocol
        assert error.source
        assert error.networks >= 1
    assert model.headline in (None, *model.published[:1]), "what stands for the model comes first"
    assert model.options.keys() & {"num_classes", "keypoints"}  # logits, or heatmaps


def test_counts_are_exact(name, multiply_adds):
    model = card(name)
    with torch.device("meta"):
        net = create(name).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == model.parameters
    assert model.multiply_adds is None or multiply_adds(net, model.input_size) == model.multiply_adds


def _before_the_last_layer(p: float) -> list[tuple[str, float, str]]:
    return [("pool", p, "fc")]


_HIDDEN = [("relu6", 0.5, "fc7"), ("relu7", 0.5, "fc8")]
_HEADS = [("heads.0.relu", 0.7, "heads.0.fc2"), ("heads.1.relu", 0.7, "heads.1.fc2")]
DROPOUT = {
    "alexnet-cifar": [(f"classifier.{before}", p, f"classifier.{after}") for before, p, after in _HIDDEN],
    "alexnet-torchvision": [("resize", 0.5, "fc6"), ("relu6", 0.5, "fc7")],
    "alexnet-two-towers": [
        ("hidden6.0.relu6", 0.5, "hidden7.0.fc7 hidden7.1.fc7"),
        ("hidden6.1.relu6", 0.5, "hidden7.0.fc7 hidden7.1.fc7"),
        ("hidden7.0.relu7", 0.5, "fc8"),
        ("hidden7.1.relu7", 0.5, "fc8"),
    ],
    "alexnet": _HIDDEN,
    "zfnet*": _HIDDEN,
    "googlenet-torchvision-auxiliary": [*_before_the_last_layer(0.2), *_HEADS],
    "googlenet-torchvision": _before_the_last_layer(0.2),
    "googlenet-auxiliary": [*_before_the_last_layer(0.4), *_HEADS],
    "googlenet*": _before_the_last_layer(0.4),
    "vgg*": [(f"classifier.{before}", p, f"classifier.{after}") for before, p, after in _HIDDEN],
    "inception-v3-torchvision*": _before_the_last_layer(0.5),
    "inception-*": _before_the_last_layer(0.2),
    "squeezenet-*": [
        ("features.fire9.expand.branches.0.relu features.fire9.expand.branches.1.relu", 0.5, "conv10.conv")
    ],
    "senet154": [("pool.average", 0.2, "fc")],
    "nasnet-a-[lm]*": _before_the_last_layer(0.5),
    "amoebanet-a-[14]*": _before_the_last_layer(0.5),
    "enas-micro*": _before_the_last_layer(0.2),
    "mobilenet-v2*": _before_the_last_layer(0.2),
    "efficientnet-b[01]": _before_the_last_layer(0.2),
    "efficientnet-b[23]": _before_the_last_layer(0.3),
    "efficientnet-b[45]": _before_the_last_layer(0.4),
    "efficientnet-b[67]": _before_the_last_layer(0.5),
}
"""The layers before each dropout, its probability and the layers after, by pattern of names: the first that fits.

Between the last pooling, to one pixel, and the last linear layer dropout acts on the features that this layer reads.
"""


def _with_dropout() -> list[str]:
    """Those that fit a pattern, and any others that drop out unless told not to."""
    return [n for n in available() if card(n).options.get("dropout") or any(fnmatchcase(n, p) for p in DROPOUT)]


def _nearest_layers(node: fx.Node, way: str) -> set[str]:
    """Return the names of the next layers that way. What is no layer, flatten or cat for instance, is passed over."""
    names = set()
    for other in getattr(node, way):
        names |= {other.target} if other.op == "call_module" else _nearest_layers(other, way)
    return names


@pytest.mark.parametrize("name", _with_dropout())
def test_dropout_of_the_classifier_has_its_place_and_probability(name):
    with torch.device("meta"):
        net = create(name).eval()
    net.training = True  # of itself only: it calls its auxiliary heads
    found = []
    for node in fx.symbolic_trace(net).graph.nodes:
        if node.op == "call_module" and isinstance(layer := net.get_submodule(node.target), nn.Dropout):
            before, after = (" ".join(sorted(_nearest_layers(node, way))) for way in ("all_input_nodes", "users"))
            found.append((before, layer.p, after))
    expected = next((layers for pattern, layers in DROPOUT.items() if fnmatchcase(name, pattern)), [])
    assert sorted(found) == sorted(expected)


def test_papers_are_consistent():
    papers = {model.paper.key: model.paper for model in CARDS}
    assert all(model.paper == papers[model.paper.key] for model in CARDS)


def test_smallest_image_works_and_a_smaller_one_says_so(meta, monkeypatch):
    net, (channels, side, _) = meta
    net(torch.empty(2, channels, side, side, device="meta"))
    if side == 1:  # global pooling and padded convolutions take any image
        return
    for size in ((side - 1, side), (side, side - 1)):
        with pytest.raises(layers.InputTooSmall, match=f"at least {side}x{side} .* {size[0]}x{size[1]};"):
            net(torch.empty(2, channels, *size, device="meta"))
    monkeypatch.setattr(layers, "require_size", lambda x, minimum, name: None)
    with pytest.raises(RuntimeError):  # the check forbids nothing that would work
        net(torch.empty(2, channels, side - 1, side - 1, device="meta"))


@pytest.mark.parametrize("name", [name for name in _one_for_each_builder() if "num_classes" in card(name).options])
def test_logits_have_one_column_a_class(name):
    classes = 10 if name == "lenet5-1998" else 7  # one output is made of ten bitmaps
    with torch.device("meta"):
        net = create(name, num_classes=classes).eval()
        assert net(torch.empty(2, card(name).input_size[0], net.min_size, net.min_size)).shape == (2, classes)


def test_gradients_reach_every_parameter(meta):
    net, input_size = copy.deepcopy(meta[0]), meta[1]
    for module in net.modules():
        if hasattr(module, "survives"):
            module.survives = lambda: True
    net.zero_grad()
    outputs = tree_leaves(net.train()(torch.empty(2, *input_size, device="meta")))
    sum(output.sum() for output in outputs).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_copies_and_pickles(meta):
    net, input_size = meta
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.state_dict().keys() == net.state_dict().keys()
        assert len(twin(torch.empty(2, *input_size, device="meta"))) == 2


def test_traces(real):
    net, x = real
    graph = torch.fx.symbolic_trace(net)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), net(x))
        torch.testing.assert_close(graph(x[:1]), net(x[:1]))  # nothing of the first batch is baked in


def test_channels_last_changes_nothing(real, difference):
    net, x = real
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert difference(last(x.to(memory_format=torch.channels_last)), net(x)) < 1e-4


def test_runs_under_autocast(real, difference):
    net, x = real
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net(x)
    with torch.no_grad():
        assert difference(rough, net(x)) < 0.1
