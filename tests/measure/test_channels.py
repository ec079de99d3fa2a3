"""Channel weights are what the modules compute, and their spreads are those of the definition."""

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, channel_weights
from cnnlib.models import create
from cnnlib.models.senet import SqueezeExcitation


def batch(count=30, classes=3):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(count) % classes


def lively_gate():
    torch.manual_seed(0)
    gate = SqueezeExcitation(3, 2)
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    nn.init.ones_(gate.excite.conv1.bias)  # most hidden values are positive
    return gate


def test_means_are_those_of_the_module():
    gate = lively_gate()
    images, labels = batch()
    (block,) = channel_weights(nn.Sequential(gate), images, labels, batch_size=7)
    weights = gate.excite(gate.squeeze(images)).flatten(1).detach()
    assert block.module == "0"
    for label in range(3):
        torch.testing.assert_close(block.by_class[label], weights[labels == label].mean(0))
    assert block.mean == pytest.approx(weights.mean().item())
    # the law of total variance, channel by channel
    total = weights.var(0, correction=0)
    torch.testing.assert_close(block.by_class.var(0, correction=0) + block.within**2, total)
    assert block.between_classes**2 + block.within_classes**2 == pytest.approx(total.mean().item())
    assert block.class_share == pytest.approx(block.between_classes**2 / total.mean().item())
    assert block.across_channels == pytest.approx(weights.mean(0).std(correction=0).item())


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout()])
def test_weights_are_those_of_evaluation_mode(layer):
    if isinstance(layer, nn.BatchNorm2d):
        nn.init.constant_(layer.running_mean, 1)
    gate = lively_gate()
    images, labels = batch()
    (block,) = channel_weights(nn.Sequential(layer, gate).train(), images, labels)
    (expected,) = channel_weights(gate, layer.eval()(images), labels)
    torch.testing.assert_close(block.by_class, expected.by_class)


def test_weights_that_depend_on_the_class_alone_are_explained_by_it():
    gate = lively_gate()
    images, labels = batch()
    images = images[:3].repeat(10, 1, 1, 1)
    (block,) = channel_weights(nn.Sequential(gate), images, labels)
    assert block.class_share == pytest.approx(1)
    assert block.within_classes == pytest.approx(0, abs=1e-6)
    nn.init.zeros_(gate.excite.conv2.weight)  # the same for all: nothing to explain
    (block,) = channel_weights(nn.Sequential(gate), images, labels)
    assert block.class_share == 0


def test_every_module_in_order_and_the_network_as_it_was():
    net = create("se-resnet20").train()
    net.stem.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    blocks = channel_weights(net, *batch())
    assert [block.by_class.shape for block in blocks] == [(3, width) for width in (16, 32, 64) for _ in range(3)]
    assert blocks[3].module == "stages.1.0.f.se"
    assert not net.stem.training
    assert all(module.training for name, module in net.named_modules() if not name.startswith("stem"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_images_get_the_type_of_the_weights():
    gate = lively_gate()
    whole, half = (channel_weights(nn.Sequential(net), *batch())[0] for net in (gate, gate.bfloat16()))
    torch.testing.assert_close(half.by_class, whole.by_class, atol=0.02, rtol=0)


def test_what_cannot_be_compared_is_explained():
    images, labels = batch()
    with pytest.raises(BadArgument, match="ResNet has no squeeze-and-excitation module"):
        channel_weights(create("resnet20"), images, labels)
    with pytest.raises(BadArgument, match="images of one class only"):
        channel_weights(create("se-resnet20"), images, torch.zeros_like(labels))
