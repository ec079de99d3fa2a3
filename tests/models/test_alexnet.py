"""AlexNet has no sound oracle of its own: pytorchcv's has no groups and weaker normalisation, torchvision's is the net
of 2014. So the one-stream form is tested against a functional one written here, and the two forms against each other.
"""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from cnnlib.models import InputTooSmall, create
from cnnlib.models.alexnet import to_towers


@pytest.fixture(scope="module")
def alexnet(randomise) -> nn.Module:
    net = create("alexnet", num_classes=10).eval()
    randomise(net)
    return net


def images(side: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def section_3_5(x: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The paper's network as two lists of maps, one a GPU, with every exchange written out."""

    def conv(name, x, gpu, **geometry):
        return F.relu(
            F.conv2d(x, weights[f"{name}.weight"].chunk(2)[gpu], weights[f"{name}.bias"].chunk(2)[gpu], **geometry)
        )

    def norm_and_pool(a):
        padded = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
        scale = 2 + 1e-4 * sum(padded[:, i : i + a.shape[1]] for i in range(5))
        return F.max_pool2d(a / scale**0.75, 3, 2)

    maps = [norm_and_pool(conv("conv1", x, gpu, stride=4)) for gpu in (0, 1)]
    maps = [norm_and_pool(conv("conv2", maps[gpu], gpu, padding=2)) for gpu in (0, 1)]
    maps = [conv("conv3", torch.cat(maps, 1), gpu, padding=1) for gpu in (0, 1)]
    maps = [conv("conv4", maps[gpu], gpu, padding=1) for gpu in (0, 1)]
    maps = [F.max_pool2d(conv("conv5", maps[gpu], gpu, padding=1), 3, 2) for gpu in (0, 1)]
    x = torch.cat(maps, 1).flatten(1)
    x = F.relu(F.linear(x, weights["fc6.weight"], weights["fc6.bias"]))
    x = F.relu(F.linear(x, weights["fc7.weight"], weights["fc7.bias"]))
    return F.linear(x, weights["fc8.weight"], weights["fc8.bias"])


def test_is_the_network_of_section_3_5(alexnet, difference):
    x = images(227)
    with torch.no_grad():
        assert difference(alexnet(x), section_3_5(x, alexnet.state_dict())) < 1e-5


def test_two_towers_are_the_same_function(alexnet, difference):
    towers = to_towers(alexnet)
    x = images(67)
    with torch.no_grad():
        assert difference(towers(x), alexnet(x)) < 1e-5


def test_a_tower_does_not_see_the_other_before_conv3(alexnet):
    towers = to_towers(alexnet)
    x = images(67)
    with torch.no_grad():
        before = [gpu(x) for gpu in towers.conv12]
        towers.conv12[1].conv1.weight.zero_()
        after = [gpu(x) for gpu in towers.conv12]
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1], after[1])
    for layer, seen in (("conv2", 48), ("conv3", 256), ("conv4", 192), ("conv5", 192)):
        assert getattr(alexnet, layer).weight.shape[1] == seen


def test_towers_keep_the_options():
    with torch.device("meta"):
        net = create("alexnet", num_classes=3, padding=2, dropout=0.1)
        towers = to_towers(net)
    assert towers.min_size == net.min_size == 63
    assert towers.fc8.out_features == 3
    assert towers.hidden7[1].drop7.p == 0.1


@pytest.mark.parametrize("training", [True, False])
def test_towers_have_the_number_type_device_and_mode_of_the_net(training):
    with torch.device("meta"):
        net = create("alexnet").to(torch.bfloat16).train(training)
    towers = to_towers(net)
    assert {(weight.dtype, weight.device.type) for weight in towers.parameters()} == {(torch.bfloat16, "meta")}
    assert all(layer.training == training for layer in towers.modules())


@pytest.mark.parametrize(("padding", "side"), [(0, 227), (2, 224)])
def test_both_inputs_give_the_maps_of_figure_2(padding, side):
    shapes = {}
    with torch.device("meta"):
        net = create("alexnet", padding=padding)
        for name, layer in net.named_children():
            layer.register_forward_hook(lambda layer, args, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
        net(torch.empty(1, 3, side, side))
    wanted = {"conv1": (96, 55, 55), "conv2": (256, 27, 27), "conv3": (384, 13, 13), "conv5": (256, 13, 13)}
    assert {name: shapes[name] for name in wanted} == wanted
    assert shapes["pool5"] == shapes["resize"] == (256, 6, 6)


def test_cifar_images_are_too_small():
    with torch.device("meta"):
        net = create("alexnet")
        with pytest.raises(InputTooSmall, match="AlexNet needs images of at least 67x67 pixels, but these are 32x32"):
            net(torch.empty(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["alexnet", "alexnet-two-towers"])
def test_starts_as_in_section_5(name):
    torch.manual_seed(0)
    for parameter_name, parameter in create(name).named_parameters():
        if parameter_name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(0.01, rel=0.02)
        else:
            layer = parameter_name.split(".")[-2]
            assert (parameter == float(layer in {"conv2", "conv4", "conv5", "fc6", "fc7"})).all()


@pytest.mark.parametrize("train", [False, True])
def test_one_column_form_is_torchvisions_dropout_included(train, same_logits):
    oracle = torchvision.models.alexnet(weights=None, num_classes=10)
    same_logits(create("alexnet-torchvision", num_classes=10), oracle, (3, 95, 95), train=train)


def test_cifar_form_takes_another_activation():
    net = create("alexnet-cifar", activation=nn.Tanh)
    assert sum(isinstance(layer, nn.Tanh) for layer in net.modules()) == 7
    assert not any(isinstance(layer, nn.ReLU) for layer in net.modules())


def test_cifar_form_takes_another_width_and_dropout():
    net = create("alexnet-cifar", width=0.5, dropout=0.0, num_classes=3)
    assert [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)] == [16, 32, 48, 48, 32]
    assert [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)] == [256, 256, 3]
    x = images(32)
    torch.testing.assert_close(net.train()(x), net.eval()(x))


@pytest.mark.parametrize(("activation", "lr"), [(nn.ReLU, 0.005), (nn.Tanh, 0.02)])
def test_cifar_form_overfits(activation, lr, overfits):
    # From this start the loss falls in every step. From others it jumps on its way, as far as rounding has it.
    torch.manual_seed(2)
    overfits(create("alexnet-cifar", activation=activation, dropout=0.0, width=0.5), (3, 32, 32), lr=lr)


def test_cifar_form_compiles(compiles):
    compiles(create("alexnet-cifar"), (3, 32, 32))
