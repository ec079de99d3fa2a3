import shutil
from collections.abc import Callable
from functools import partial

import pytest
import torch
from pytorchcv.model_provider import get_model
from pytorchcv.models import resnet as pytorchcv_resnet
from torch import nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

from cnnlib.models import BadOption, create
from cnnlib.models.resnet import (
    PadShortcut,
    PlainBlock,
    ResidualBlock,
    ResNet,
    bottleneck,
    bottleneck_v1_5,
    cifar_plain,
    cifar_resnet,
    imagenet_plain,
    imagenet_resnet,
    imagenet_stem,
    option_a,
    option_b,
    projection,
)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 272_474), (32, 466_906), (44, 661_338), (56, 855_770), (110, 1_730_714), (1202, 19_424_026)],
)
def test_counts_with_projections_where_the_shape_changes(depth, parameters):
    with torch.device("meta"):
        assert count(create(f"resnet{depth}", shortcut="B")) == parameters


def test_counts_with_projections_everywhere():
    same_shape = sum(blocks * (width * width + 2 * width) for blocks, width in ((3, 16), (2, 32), (2, 64)))
    with torch.device("meta"):
        assert count(create("resnet20", shortcut="C")) == 272_474 + same_shape


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("depth", [20, 56])
def test_option_b_is_pytorchcvs(depth, train, same_logits):
    same_logits(create(f"resnet{depth}", shortcut="B"), get_model(f"resnet{depth}_cifar10"), (3, 32, 32), train=train)


def section_4_2(x: torch.Tensor, tensors: list[torch.Tensor], residual: bool) -> torch.Tensor:
    """The CIFAR net of the paper on a flat list of weights, with option A written as slicing."""
    tensors = iter(tensors)

    def conv_bn(x, stride=1):
        x = F.conv2d(x, next(tensors), stride=stride, padding=1)
        weight, bias, mean, var = (next(tensors) for _ in range(4))
        return F.batch_norm(x, mean, var, weight, bias)

    x = F.relu(conv_bn(x))
    for width in (16, 32, 64):
        for index in range(3):
            stride = 2 if width > 16 and index == 0 else 1
            y = conv_bn(F.relu(conv_bn(x, stride)))
            if residual:
                shortcut = torch.zeros_like(y)
                shortcut[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
                y = y + shortcut
            x = F.relu(y)
    return F.linear(x.mean((2, 3)), next(tensors), next(tensors))


@pytest.mark.parametrize(("name", "residual"), [("resnet20", True), ("plain20", False)])
@pytest.mark.parametrize("side", [32, 27])
def test_option_a_and_plain_are_the_paper_written_out(name, residual, side, randomise, difference):
    net = create(name).eval()
    randomise(net)
    tensors = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(net(x), section_4_2(x, tensors, residual)) < 1e-5


def test_plain_net_is_the_residual_net_without_its_shortcuts(randomise, copy_weights):
    residual, plain = create("resnet32").eval(), create("plain32").eval()
    randomise(residual)
    copy_weights(residual, plain)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(plain(x), residual(x))
        for block in (block for stage in residual.stages for block in stage):
            block.shortcut.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
        torch.testing.assert_close(plain(x), residual(x))


def test_a_block_whose_f_is_zero_passes_its_input_on():
    block = ResidualBlock(8, 8)
    nn.init.zeros_(block.f.bn2.weight)
    x = torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_branches_may_begin_weaker():
    nets = {}
    for gain in (1.0, 0.5, 0.0):
        torch.manual_seed(0)
        nets[gain] = create("resnet20", last_gain=gain)
    for whole, half, none in zip(*(net.state_dict().items() for net in nets.values()), strict=True):
        if whole[0].endswith("f.bn2.weight"):
            assert (whole[1].unique(), half[1].unique(), none[1].unique()) == (1, 0.5, 0)
        else:
            assert torch.equal(whole[1], half[1])
    x = torch.rand(4, 16, 8, 8)
    torch.testing.assert_close(nets[0.0].stages[0](x), x)


@pytest.mark.parametrize("gain", [float("nan"), float("inf")])
def test_branches_begin_with_a_finite_gain(gain):
    with pytest.raises(BadOption, match=f"last_gain is a finite number, not {gain}"):
        create("resnet20", last_gain=gain)


def test_option_a_subsamples_and_appends_zeros():
    shortcut = option_a(4, 8, stride=2)
    x = torch.randn(1, 4, 7, 7)
    assert torch.equal(shortcut(x)[:, :4], x[:, :, ::2, ::2])
    assert (shortcut(x)[:, 4:] == 0).all()
    assert list(shortcut.parameters()) == []


def test_shortcuts_differ_only_where_the_options_say():
    same, wider, smaller = (16, 16, 1), (16, 32, 1), (16, 16, 2)
    kinds = [[type(make(*shape)) for shape in (same, wider, smaller)] for make in (option_a, option_b, projection)]
    identity, padded, projected = nn.Identity, PadShortcut, nn.Sequential
    assert kinds == [[identity, padded, padded], [identity, projected, projected], [projected] * 3]


def test_depth_is_the_number_of_layers_with_weights():
    for depth in (20, 56):
        net = create(f"resnet{depth}")
        assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules()) == depth


def test_stages_halve_the_image_and_widen():
    net = create("resnet20").eval()
    x = net.stem(torch.zeros(1, 3, 32, 32))
    shapes = [x.shape[1:]]
    for stage in net.stages:
        x = stage(x)
        shapes.append(x.shape[1:])
    assert [tuple(shape) for shape in shapes] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_any_block_stages_and_stem_make_a_net():
    def stem(width: int) -> nn.Module:
        return nn.Conv2d(1, width, 7, stride=2, padding=3)

    net = ResNet(partial(PlainBlock), depths=(1, 2), widths=(24, 40), stem=stem, stem_width=8, num_classes=5)
    assert net(torch.zeros(2, 1, 30, 30)).shape == (2, 5)
    assert [len(stage) for stage in net.stages] == [1, 2]
    assert net.stages[0][0].f.conv1.in_channels == 8


def test_starts_by_he():
    torch.manual_seed(0)
    weight = create("resnet20").stages[2][1].f.conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("build", [cifar_resnet, cifar_plain])
@pytest.mark.parametrize("depth", [2, 18, 51])
def test_wrong_depth_is_explained(build, depth):
    with pytest.raises(BadOption, match=rf"6n \+ 2 layers \(8, 14, 20, \.\.\.\), not {depth}"):
        build(depth)


def test_wrong_shortcut_is_explained():
    with pytest.raises(BadOption, match="shortcut is 'A', 'B' or 'C', not 'D'"):
        create("resnet20", shortcut="D")


def test_option_a_drops_no_maps():
    with pytest.raises(BadOption, match="drops none, but 16 come in and 8 go out"):
        create("scaled-resnet", widths=(16, 8, 32))


@pytest.mark.parametrize("train", [False, True])
def test_basic_blocks_are_torchvisions(train, same_logits):
    same_logits(create("resnet18"), torchvision_models.resnet18(), (3, 48, 48), train=train)


def reduced(f: Callable[[int, int, int], nn.Module]) -> ResNet:
    return ResNet(partial(ResidualBlock, f=f), (1, 2, 1, 2), (256, 512, 1024, 2048), imagenet_stem, 64, 1000)


@pytest.mark.parametrize("train", [False, True])
def test_bottlenecks_with_the_stride_in_the_middle_are_torchvisions(train, same_logits):
    oracle = torchvision_models.ResNet(torchvision_models.resnet.Bottleneck, [1, 2, 1, 2])
    same_logits(reduced(bottleneck_v1_5), oracle, (3, 48, 48), train=train)


@pytest.mark.parametrize("train", [False, True])
def test_bottlenecks_of_the_paper_are_pytorchcvs(train, same_logits):
    oracle = pytorchcv_resnet.ResNet(
        channels=[[256], [512] * 2, [1024], [2048] * 2], init_block_channels=64, bottleneck=True, conv1_stride=True
    )
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)  # it pools over 7x7, so it takes only images of 224x224
    same_logits(reduced(bottleneck), oracle, (3, 48, 48), train=train)


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_full_depths_are_stacked_as_torchvision_does(depth):
    with torch.device("meta"):
        ours, theirs = create(f"resnet{depth}-v1.5"), getattr(torchvision_models, f"resnet{depth}")()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]


@pytest.mark.parametrize("name", ["18", "50", "152-v1.5"])
def test_plain_imagenet_nets_are_the_residual_ones_without_projections(name):
    with torch.device("meta"):
        residual, plain = create(f"resnet{name}"), create(f"plain{name}")
    projections = [key for key in residual.state_dict() if ".shortcut." in key]
    assert projections
    assert [key for key in residual.state_dict() if key not in projections] == list(plain.state_dict())


def test_counts_of_the_34_layers_by_shortcut():
    with torch.device("meta"):
        counts = [count(create("resnet34", shortcut=option)) for option in "ABC"]
    assert counts[0] == count(create("plain34"))
    changed = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    same = sum(blocks * (a * a + 2 * a) for blocks, a in ((3, 64), (3, 128), (5, 256), (2, 512)))
    assert counts[1:] == [counts[0] + changed, counts[0] + changed + same]


@pytest.mark.parametrize("build", [imagenet_resnet, imagenet_plain])
def test_wrong_row_is_explained(build):
    with pytest.raises(BadOption, match=r"no net of '42' layers; there are 18, 34, 50, 101, 152, 50-v1\.5"):
        build("42")


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_overfits(name, overfits):
    torch.manual_seed(0)
    overfits(create(name), (3, 16, 16), lr=0.05, steps=20)


def test_compiles(compiles):
    compiles(create("resnet20"), (3, 16, 16))


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default compiler needs g++")
def test_compiles_to_machine_code(compiles):
    compiles(create("resnet20"), (3, 16, 16), backend="inductor", atol=1e-4)


def test_a_row_may_be_a_number():
    assert imagenet_resnet(18).stages[0][0].f is not None
    with pytest.raises(BadOption, match="there is no net of 19 layers"):
        imagenet_resnet(19)


def test_a_width_is_checked_by_the_builder_too():
    with pytest.raises(BadOption, match="width is a factor greater than 0, not 0"):
        cifar_resnet(20, width=0)
