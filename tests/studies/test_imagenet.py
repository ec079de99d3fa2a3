"""Costs and errors of the networks for ImageNet."""

import json

import pytest

from cnnlib.models import card
from cnnlib.studies.imagenet import CHOSEN, COUNTS, SIDES, YEARS, count, frontier, nets

NETS = {net.name: net for net in nets()}


def test_every_network_is_counted():
    assert list(json.loads(COUNTS.read_text())) == list(NETS) == [name for of in CHOSEN.values() for name in of]


@pytest.mark.parametrize("name", ["alexnet-torchvision", "vgg16", "googlenet-torchvision", "resnet18", "shufflenet-v2"])
def test_recorded_counts_are_what_is_counted(name):
    net = NETS[name]
    assert {"multiply_adds": net.multiply_adds, "activations": net.activations} == count(name)


def test_counts_are_the_cards():
    for name, net in NETS.items():
        assert (net.parameters, net.year) == (card(name).parameters, YEARS.get(name, card(name).paper.year))
        assert (net.multiply_adds == card(name).multiply_adds) == (name not in SIDES)


def test_no_vgg_is_older_than_batch_normalisation():
    """The paper on VGG is of 2014, and knows none."""
    with_norm = [name for name in CHOSEN["VGG"] if name.endswith("-bn")]
    assert with_norm == ["vgg16-bn", "vgg19-bn"]
    assert {NETS[name].year for name in with_norm} == {2015}


def test_errors_are_torchvisions_where_it_has_the_network():
    from torchvision.models import get_model_weights

    theirs = {
        "alexnet-torchvision": "alexnet",
        "googlenet-torchvision": "googlenet",
        "inception-v3-torchvision": "inception_v3",
        "resnet50-v1.5": "resnet50",
        "resnet101-v1.5": "resnet101",
        "resnet152-v1.5": "resnet152",
        "wrn-50-2-bottleneck": "wide_resnet50_2",
        "resnext50-32x4d": "resnext50_32x4d",
        "squeezenet-1.0": "squeezenet1_0",
        "squeezenet-1.1": "squeezenet1_1",
        "shufflenet-v2-0.5": "shufflenet_v2_x0_5",
        "shufflenet-v2": "shufflenet_v2_x1_0",
    }
    for name, net in NETS.items():
        if name in ("inception-v4", "inception-resnet-v2"):
            assert "Szegedy" in net.source
            continue
        meta = get_model_weights(theirs.get(name, name.replace("-", "_"))).IMAGENET1K_V1.meta
        assert net.accuracy == pytest.approx(meta["_metrics"]["ImageNet-1K"]["acc@1"])
        assert net.multiply_adds / 1e9 == pytest.approx(meta["_ops"], abs=0.02)


def test_a_frontier_is_never_beaten():
    for cost in ("multiply_adds", "parameters", "activations"):
        best = frontier([*NETS.values()], cost)
        assert [net.error for net in best] == sorted((net.error for net in best), reverse=True)
        for net in NETS.values():
            if net not in best:
                assert any(getattr(b, cost) <= getattr(net, cost) and b.error <= net.error for b in best)
