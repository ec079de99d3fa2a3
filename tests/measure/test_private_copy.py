"""Measuring leaves a network as it was, whatever it is."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from cnnlib.measure import (
    BadArgument,
    DoesNotFit,
    activation_bytes,
    allocated_peak,
    block_flow,
    block_responses,
    bottleneck_projections,
    channel_weights,
    count_parameters,
    effective_receptive_field,
    features,
    gradient_correlation,
    gradient_flow,
    head_gradients,
    inference,
    initial_losses,
    layer_table,
    lesions,
    multiply_adds,
    perceptual_distance,
    receptive_field,
    smallest_input,
    training_memory,
)
from cnnlib.models import create
from cnnlib.models.layers import WithAuxiliary
from cnnlib.models.resnet import ResNet

MEASUREMENTS = {
    "activation_bytes": lambda net: activation_bytes(net, (3, 16, 16)),
    "layer_table": lambda net: layer_table(net, (3, 16, 16)),
    "multiply_adds": lambda net: multiply_adds(net, (3, 16, 16)),
    "receptive_field": lambda net: receptive_field(net, (3, 16, 16)),
    "training_memory": lambda net: training_memory(net, (3, 16, 16), 4),
    "effective_receptive_field": lambda net: effective_receptive_field(net, (3, 16, 16), samples=2),
    "smallest_input": smallest_input,
}
measurements = pytest.mark.parametrize("measure", MEASUREMENTS.values(), ids=MEASUREMENTS)


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.MaxPool2d(2))


@measurements
def test_a_network_is_left_as_it_was(measure):
    net = small_net().train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[0].bias.grad = torch.ones(4)
    seen = []
    net[2].register_forward_hook(lambda *_: seen.append("hook"))
    net.register_forward_pre_hook(lambda *_: seen.append("hook"))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    addresses = [parameter.data_ptr() for parameter in net.parameters()]
    random_state = torch.get_rng_state()

    measure(net)

    assert [module.training for module in net] == [True, False, True, True, True]
    assert not net[0].weight.requires_grad
    assert torch.equal(net[0].bias.grad, torch.ones(4))
    assert net[1].weight.grad is None
    assert not seen
    assert len(net[2]._forward_hooks) == len(net._forward_pre_hooks) == 1
    assert sum(len(module._forward_hooks) for module in net) == 1
    assert [parameter.data_ptr() for parameter in net.parameters()] == addresses
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


class WritesIntoItsInput(ResNet):
    """A network whose first operation works in place."""

    def forward(self, x):
        return super().forward(x.relu_())


@pytest.mark.parametrize(
    "measure",
    [
        lambda net, images, labels: gradient_flow(net, images, labels),
        lambda net, images, labels: block_flow(net, images, labels),
        lambda net, images, labels: gradient_correlation(net, images, ["stem"]),
        lambda net, images, labels: block_responses(net, images),
        lambda net, images, labels: bottleneck_projections(net, images),
        lambda net, images, labels: features(net, images, "stem"),
        lambda net, images, labels: perceptual_distance(net, images, images.flip(0), ["stem"]),
        lambda net, images, labels: channel_weights(net, images, labels),
        lambda net, images, labels: effective_receptive_field(net, images, layer="stem"),
        lambda net, images, labels: initial_losses(lambda: copy.deepcopy(net), images, labels),
        lambda net, images, labels: lesions(net, images, labels),
    ],
)
def test_images_are_left_as_they_were(measure):
    net = create("se-resnet20")
    net.__class__ = WritesIntoItsInput
    images = torch.randn(4, 3, 16, 16)
    before = images.clone()
    measure(net, images, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(images, before)


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
@measurements
def test_it_does_not_matter_whether_gradients_are_on(measure, without_gradients):
    net = small_net()
    expected = str(measure(net))
    with without_gradients():
        assert str(measure(net)) == expected
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize(
    "measure",
    [
        lambda net, images, labels: allocated_peak(net, (3, 16, 16), 4, backward=True),
        lambda net, images, labels: effective_receptive_field(net, images, "0").tolist(),
        gradient_flow,
        functools.partial(block_flow, branch="0"),
        lambda net, images, labels: gradient_correlation(net, images, ["", "0"]),
        lambda net, images, labels: head_gradients(TwoAnswers(net), images, labels),
    ],
)
def test_gradients_are_measured_on_what_was_made_in_inference_mode(measure):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1])
    expected = measure(net, images, labels)
    with torch.inference_mode():
        made = copy.deepcopy(net), images.clone(), labels.clone()
        assert measure(*made) == expected
        assert torch.is_inference_mode_enabled()
    assert measure(*made) == expected


class TwoAnswers(nn.Module):
    """A network that is its own auxiliary head."""

    auxiliary_weight = 0.5

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return WithAuxiliary(self.net(x), (self.net(x),))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_have_the_type_of_the_weights(dtype):
    assert layer_table(small_net().to(dtype), (3, 16, 16)).total.parameters == 3 * 4 * 9 + 4 + 8


class ReadsValues(nn.Module):
    """Cannot run without data: it looks at a value, and mixes in a tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        if x.sum().item() > 1e6:
            return x
        return self.drop(self.conv(x)) * torch.tensor([2.0, 2.0, 2.0, 2.0])[:, None, None]


def test_a_network_that_reads_values_is_measured_with_data():
    net = ReadsValues()
    random_state = torch.get_rng_state()
    assert layer_table(net, (3, 16, 16)).total.multiply_adds == 14 * 14 * 4 * 27
    assert training_memory(net, (3, 16, 16), 2).parameters == 4 * 112
    assert net.runs == 0
    assert torch.equal(torch.get_rng_state(), random_state)


def test_tensors_that_are_no_buffers_follow_to_the_copy():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.mask = torch.ones(4, 1, 1)
            self.scaled = self.conv.weight * 2  # not a leaf: deepcopy refuses such tensors
            self.taps = {"all": [self.conv.weight * 2]}

        def forward(self, x):
            return self.conv(x) * self.mask + self.taps["all"][0].sum()

    assert layer_table(Masked(), (3, 16, 16)).total.parameters == 112


OF_A_SHAPE = {
    "activation_bytes": activation_bytes,
    "layer_table": layer_table,
    "multiply_adds": multiply_adds,
    "receptive_field": receptive_field,
    "training_memory": lambda net, size: training_memory(net, size, 2),
    "allocated_peak": allocated_peak,
    "inference": inference,
}


@pytest.mark.parametrize("measure", OF_A_SHAPE.values(), ids=OF_A_SHAPE)
def test_what_is_no_shape_of_an_image_is_refused(measure):
    for wrong in (32, "32", (), (3, 16, 0), (3, 16.0, 16), (3, True, 16)):
        with pytest.raises(BadArgument, match="input_size must be the shape of one image"):
            measure(small_net(), wrong)
    measure(small_net(), np.array([3, 16, 16]))


@pytest.mark.parametrize("measure", [training_memory, allocated_peak])
def test_what_is_no_number_of_images_is_refused(measure):
    for wrong in (0, -1, 2.5, True, "2", None):
        with pytest.raises(BadArgument, match=r"batch_size must be (a whole number|at least 1), not"):
            measure(small_net(), (3, 16, 16), wrong)
    measure(small_net(), (3, 16, 16), np.int64(2))


@measurements
def test_what_torch_compile_made_of_a_part_is_measured_as_that_part(measure):
    net, same = small_net(), small_net()
    net[0], net[2] = torch.compile(net[0]), torch.compile(nn.Sequential(net[2]))
    same[2] = nn.Sequential(same[2])
    same.load_state_dict({name.replace("._orig_mod", ""): value for name, value in net.state_dict().items()})
    assert str(measure(net)) == str(measure(same))


@measurements
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused(measure):
    with pytest.raises(BadArgument, match="Sequential is TorchScript; measure the network that it was made of"):
        measure(nn.Sequential(torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 16, 16)), nn.ReLU()))


def test_a_name_is_no_network():
    with pytest.raises(
        BadArgument, match=r"^a network is measured, such as cnnlib.create\('resnet20'\), not 'resnet56'$"
    ):
        layer_table("resnet56", (3, 32, 32))


@pytest.mark.parametrize("count", [count_parameters, receptive_field])
def test_what_is_only_counted_is_a_network_too(count):
    with pytest.raises(BadArgument, match=r"a network is measured, .* not 'resnet20'"):
        count("resnet20")
    with pytest.raises(BadArgument, match="Sequential has lazy layers without shapes; run it once"):
        count(nn.Sequential(nn.LazyConv2d(4, 3)))


@pytest.mark.parametrize("channels", [0, 1.5, "a"])
def test_the_smallest_input_has_channels(channels):
    with pytest.raises(BadArgument, match="channels must be"):
        smallest_input(nn.Conv2d(3, 4, 3), channels)


def test_lazy_layers_must_have_seen_an_image():
    net = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(BadArgument, match="run it once"):
        layer_table(net, (3, 8, 8))
    net(torch.zeros(1, 3, 8, 8))
    assert layer_table(net, (3, 8, 8)).total.parameters == 112


@pytest.mark.parametrize("measure", [activation_bytes, receptive_field])
def test_skipped_arithmetic_still_notices_what_does_not_fit(measure):
    with pytest.raises(DoesNotFit, match="running_mean should contain 4 elements not 5"):
        measure(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)), (3, 16, 16))


@pytest.mark.parametrize("inplace", [False, True])
def test_skipped_arithmetic_uses_memory_as_before(inplace):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.MaxPool2d(2))
    assert activation_bytes(net, (3, 8, 8)) == 4 * 4 * (64 * (2 if inplace else 3) + 16)
    assert activation_bytes(net, (3, 8, 8)) == layer_table(net, (3, 8, 8)).total.activation_bytes


def test_errors_of_the_network_itself_are_not_hidden():
    class Broken(nn.Module):
        def forward(self, x):
            return self.nothing(x)

    with pytest.raises(AttributeError, match="nothing"):
        layer_table(Broken(), (3, 8, 8))


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn(x.shape[-2:])


def test_the_random_numbers_of_a_network_are_not_taken_from_the_caller():
    random_state = torch.get_rng_state()
    assert smallest_input(Noisy()) == 1
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_smallest_input():
    assert smallest_input(nn.Sequential(nn.Conv2d(3, 4, 11, stride=4), nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2))) == 35
    fixed = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 10 * 10, 3))
    assert smallest_input(fixed, channels=1) == 14
    assert smallest_input(fixed, channels=3) is None
    assert smallest_input(ReadsValues()) is None  # it cannot run without data
    assert smallest_input(nn.Conv2d(3, 1, 200)) == 200
    assert smallest_input(nn.Conv2d(3, 1, 513)) is None
