import copy

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, DoesNotFit, lesions
from cnnlib.models import BadOption, create
from cnnlib.models.resnet import cifar_plain, cifar_resnet
from cnnlib.models.surgery import without_block


@pytest.fixture
def images():
    return torch.randn(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_errors_are_those_of_the_nets_without_a_block(images):
    torch.manual_seed(0)
    net = cifar_plain(8).eval()
    with torch.no_grad():
        labels = net(images).argmax(1)
        expected = [
            100 * (without_block(net, f"stages.{s}.0")(images).argmax(1) != labels).double().mean().item()
            for s in range(3)
        ]
    found = lesions(net, images, labels, batch_size=7)
    assert [lesion.block for lesion in found] == ["", "stages.0.0", "stages.1.0", "stages.2.0"]
    assert found[0].error == 0
    assert [lesion.error for lesion in found[1:]] == pytest.approx(expected)
    assert max(expected) > 0


def test_a_block_that_does_nothing_can_be_spared(images):
    torch.manual_seed(0)
    net = cifar_resnet(14).eval()
    nn.init.zeros_(net.stages[1][1].f.bn2.weight)
    with torch.no_grad():
        labels = net(images).argmax(1)
    errors = {lesion.block: lesion.error for lesion in lesions(net, images, labels)}
    assert errors["stages.1.1"] == 0
    assert errors["stages.1.0"] > 0


def test_the_net_stays_as_it_is(images):
    net = cifar_resnet(8).train()
    net.stages[0].eval()
    before = copy.deepcopy(net.state_dict())
    lesions(net, images, torch.zeros(30, dtype=torch.long))
    assert not any(module.training for module in net.stages[0].modules())
    assert all(module.training for module in (net, net.stem, *net.stages[1].modules()))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


def test_the_net_keeps_its_mode_when_images_do_not_fit():
    net = cifar_resnet(8).train()
    with pytest.raises(DoesNotFit):
        lesions(net, torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))
    assert net.training


def test_blocks_of_another_kind_are_refused(images):
    with pytest.raises(BadOption, match="only plain and residual blocks"):
        lesions(create("ho-resnet20-euler"), images, torch.zeros(30, dtype=torch.long))


def test_other_nets_are_refused(images):
    for net, kind in ((create("preact20"), "PreActResNet"), (nn.Linear(2, 2), "Linear")):
        with pytest.raises(BadArgument, match=f"only a ResNet of this package.*{kind}"):
            lesions(net, images, torch.zeros(30, dtype=torch.long))


def test_nothing_to_measure():
    with pytest.raises(BadArgument, match="at least one image"):
        lesions(cifar_plain(8), torch.empty(0, 3, 8, 8), torch.empty(0, dtype=torch.long))


def test_a_compiled_net_is_measured_as_what_it_was_compiled_from(images):
    net, labels = create("resnet20"), torch.zeros(len(images), dtype=torch.long)
    assert lesions(torch.compile(net), images, labels) == lesions(net, images, labels)
