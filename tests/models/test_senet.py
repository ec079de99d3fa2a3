"""Squeeze-and-excitation against pytorchcv (CIFAR, v1, SENet-154) and timm (v1.5, SE-ResNeXt, SENet-154)."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from pytorchcv.models import senet as pytorchcv_senet
from pytorchcv.models import seresnet as pytorchcv_seresnet
from pytorchcv.models.sepreresnet_cifar import CIFARSEPreResNet
from timm.models import resnet as timm_resnet
from timm.models import senet as timm_senet
from torch import nn
from torch.nn import functional as F

from cnnlib.models import BadOption, card, create
from cnnlib.models.preact import (
    PreActResNet,
    PreActUnit,
    without_last_bn,
)
from cnnlib.models.resnet import (
    ResidualBlock,
    ResNet,
    bottleneck,
    bottleneck_v1_5,
    cifar_stem,
    two_convolutions,
)
from cnnlib.models.senet import (
    SE_RESNET,
    SE_RESNET_V1_5,
    SE_RESNEXT,
    SENET,
    SqueezeExcitation,
    cifar_senet,
    se_wrn,
    with_squeeze_excitation,
)
from cnnlib.models.wrn import first_unit, wide_net


def sizes(net: nn.Module) -> list[int]:
    return [parameter.numel() for parameter in net.parameters()]


def test_module_is_equations_2_to_4_written_out(randomise):
    gate = SqueezeExcitation(8, 3)
    randomise(gate)
    x = torch.randn(2, 8, 5, 7)
    w1, b1, w2, b2 = (parameter.flatten(1) if parameter.ndim > 1 else parameter for parameter in gate.parameters())
    hidden = F.relu(F.linear(x.mean((2, 3)), w1, b1))
    factors = torch.sigmoid(F.linear(hidden, w2, b2))
    torch.testing.assert_close(gate(x), x * factors[:, :, None, None])
    assert (w1.shape, w2.shape) == ((3, 8), (8, 3))


def test_factors_do_not_depend_on_where_things_are(randomise):
    gate = SqueezeExcitation(6, 2)
    randomise(gate)
    x = torch.randn(2, 6, 5, 5)
    shuffled = torch.randperm(25, generator=torch.Generator().manual_seed(0))

    def shuffle(maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(2)[:, :, shuffled].unflatten(2, (5, 5))

    torch.testing.assert_close(gate(shuffle(x)), shuffle(gate(x)))


def test_the_activation_is_an_argument():
    kinds = [type(layer) for layer in SqueezeExcitation(4, 2, nn.SiLU).excite]
    assert kinds == [nn.Conv2d, nn.SiLU, nn.Conv2d, nn.Sigmoid]


def test_stands_on_the_branch_after_its_last_bn_and_before_the_addition(randomise):
    block = ResidualBlock(8, 32, 2, f=with_squeeze_excitation(bottleneck, reduction=4))
    randomise(block)
    block.eval()
    x = torch.randn(2, 8, 6, 6)
    maps = block.f.f.bn3(block.f.f[:-1](x))
    factors = block.f.se.excite(maps.mean((2, 3), keepdim=True))
    torch.testing.assert_close(block(x), F.relu(block.shortcut(x) + maps * factors))
    assert block.f.se.excite.conv1.out_channels == 8


BASES = {
    "se-resnet20": lambda: create("resnet20", shortcut="B"),
    "se-preact110": lambda: create("preact110"),
    "se-preact164": lambda: create("preact164"),
    "se-wrn-16-8": lambda: create("wrn-16-8"),
    "se-resnext29-8x64d": lambda: create("resnext29-8x64d"),
    "se-resnet50": lambda: create("resnet50"),
    "se-resnext50-32x4d": lambda: create("resnext50-32x4d"),
}


@pytest.mark.parametrize("name", BASES)
def test_nothing_but_the_modules_is_added(name):
    """In order: the tensors of the net without them."""
    with torch.device("meta"):
        net, base = create(name), BASES[name]()
    modules = [m for m in net.modules() if isinstance(m, SqueezeExcitation)]
    assert len(modules) == sum(len(stage) for stage in base.stages)
    kept = [(key, tensor.shape) for key, tensor in net.state_dict().items() if ".se." not in key]
    assert kept == [(key.replace(".f.", ".f.f."), tensor.shape) for key, tensor in base.state_dict().items()]


def open_all_gates(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, SqueezeExcitation):
            nn.init.zeros_(module.excite.conv2.weight)
            nn.init.constant_(module.excite.conv2.bias, 100.0)


def copy_but_for_gates(source: nn.Module, target: nn.Module) -> None:
    state = source.state_dict()
    for key, tensor in target.state_dict().items():
        if ".se." not in key:
            tensor.copy_(state[key.replace(".f.f.", ".f.")])


@pytest.mark.parametrize(
    ("name", "options"), [("se-preact110", {}), ("se-resnet20", {"shortcut": "A"}), ("se-preact164", {})]
)
@pytest.mark.parametrize("train", [False, True])
def test_open_gates_leave_the_net_without_them(name, options, train, randomise, difference):
    net, base = create(name, **options), create(name.removeprefix("se-"))
    randomise(base)
    copy_but_for_gates(base, net)
    open_all_gates(net)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert difference(net.train(train)(x), base.train(train)(x)) == 0


def test_open_gates_leave_the_wide_net_and_its_dropout(randomise, difference):
    net, base = se_wrn((1, 1, 1), 2, dropout=0.3), wide_net(1, 2, dropout=0.3)
    randomise(base)
    copy_but_for_gates(base, net)
    open_all_gates(net)
    x = torch.randn(4, 3, 16, 16)
    logits = []
    for model in (net, base):
        torch.manual_seed(0)
        logits.append(model(x))
    assert difference(*logits) == 0
    torch.manual_seed(1)
    assert difference(net(x), logits[0]) > 0


@pytest.mark.parametrize("train", [False, True])
def test_cifar_net_is_pytorchcvs(train, same_logits):
    same_logits(create("se-resnet20"), get_model("seresnet20_cifar10"), (3, 32, 32), train=train)


@pytest.mark.parametrize("depth", [56, 110])
def test_deep_cifar_nets_are_stacked_as_pytorchcv_does(depth):
    with torch.device("meta"):
        assert sizes(create(f"se-resnet{depth}")) == sizes(get_model(f"seresnet{depth}_cifar10"))


def pytorchcvs_preact(f, depths: tuple[int, ...], widths: tuple[int, ...]) -> PreActResNet:
    """Our pre-activated net changed to pytorchcv's, which has the stem and the end of a net that is not pre-activated.

    It begins with convolution, batch norm and ReLU and ends without activation; bottlenecks stride in the 3x3
    convolution; and the paths split after the activation only where the shape changes, as in wide nets.
    """
    f = with_squeeze_excitation(partial(without_last_bn, f))
    first, other = partial(first_unit, f=f), partial(PreActUnit, f=f)
    return PreActResNet(first, other, depths, widths, activation=nn.Identity, stem=cifar_stem)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("f", "widths"), [(two_convolutions, (16, 32, 64)), (bottleneck_v1_5, (64, 128, 256))])
def test_preactivated_units_are_pytorchcvs(f, widths, train, same_logits):
    oracle = CIFARSEPreResNet(
        channels=[[width] * 2 for width in widths], init_block_channels=16, bottleneck=f is bottleneck_v1_5
    )
    same_logits(pytorchcvs_preact(f, (2, 2, 2), widths), oracle, (3, 32, 32), train=train)


def test_count_of_the_preactivated_net_by_pytorchcvs():
    """1,744,664 there: less 2 projections, less the batch norm of the stem, and the last batch norm added."""
    with torch.device("meta"):
        changed = pytorchcvs_preact(two_convolutions, (18, 18, 18), (16, 32, 64))
        assert sizes(changed) == sizes(get_model("sepreresnet110_cifar10"))
    assert sum(sizes(changed)) == 1_744_664
    assert card("se-preact110").parameters == 1_744_664 - (16 * 32 + 32 * 64) - 2 * 16 + 2 * 64


DEPTHS = (1, 2, 1, 1)


@pytest.mark.parametrize("train", [False, True])
def test_se_resnet50_is_pytorchcvs(train, same_logits):
    oracle = pytorchcv_seresnet.SEResNet(
        channels=[[width] * depth for width, depth in zip((256, 512, 1024, 2048), DEPTHS, strict=True)],
        init_block_channels=64,
        bottleneck=True,
        conv1_stride=True,
    )
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)  # it pools over 7x7, so it takes only images of 224x224
    same_logits(SE_RESNET(DEPTHS), oracle, (3, 48, 48), train=train)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("ours", "options"),
    [(SE_RESNET_V1_5, {}), (SE_RESNEXT, {"cardinality": 32, "base_width": 4})],
    ids=["v1.5", "resnext"],
)
def test_other_branches_are_timms(ours, options, train, same_logits):
    oracle = timm_resnet.ResNet(timm_resnet.Bottleneck, DEPTHS, block_args={"attn_layer": "se"}, **options)
    same_logits(ours(DEPTHS), oracle, (3, 48, 48), train=train)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("se-resnet50-v1.5", "seresnet50"),
        ("se-resnet101", "seresnet101"),
        ("se-resnet152", "seresnet152"),
        ("se-resnext50-32x4d", "seresnext50_32x4d"),
        ("se-resnext101-32x4d", "seresnext101_32x4d"),
        ("senet154", "legacy_senet154"),
    ],
)
def test_full_depths_are_stacked_as_timm_does(name, oracle):
    with torch.device("meta"):
        assert sizes(create(name)) == sizes(timm.create_model(oracle))


@pytest.mark.parametrize("train", [False, True])
def test_senet154_is_timms_but_for_the_padding_of_one_pool(train, same_logits):
    oracle = timm_senet.SENet(
        timm_senet.SEBottleneck,
        DEPTHS,
        groups=64,
        reduction=16,
        inplanes=128,
        input_3x3=True,
        downsample_kernel_size=3,
        downsample_padding=1,
    )
    oracle.pool0 = nn.MaxPool2d(3, stride=2, padding=1)  # Caffe's is not padded and rounds up
    same_logits(SENET(DEPTHS, dropout=0.2), oracle, (3, 48, 48), train=train)


def test_senet154_is_pytorchcvs(same_logits):
    oracle = pytorchcv_senet.SENet(
        channels=[[256], [512] * 2, [1024], [2048]], init_block_channels=128, cardinality=64, bottleneck_width=4
    )
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)  # it pools over 7x7
    same_logits(SENET(DEPTHS), oracle, (3, 40, 40))


def test_dropout_before_the_last_layer_is_an_option():
    with torch.device("meta"):
        nets = [create("se-resnext50-32x4d"), SENET(DEPTHS, dropout=0.4)]
    assert [net.pool.dropout.p for net in nets] == [0.0, 0.4]


def test_costs_of_the_paper():
    """The paper prints 3.87 billion multiply-adds in place of 3.86, and a tenth more parameters."""
    se, plain = card("se-resnet50"), card("resnet50")
    assert se.multiply_adds / 1e9 == pytest.approx(3.87, abs=0.015)
    assert plain.multiply_adds / 1e9 == pytest.approx(3.86, abs=0.005)
    assert se.parameters / plain.parameters == pytest.approx(1.1, abs=0.005)
    # 2 / r times the sum of depth x width^2 over the stages, and the biases
    stages = zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)
    added = sum(depth * (2 * width * width // 16 + width + width // 16) for depth, width in stages)
    assert se.parameters - plain.parameters == added


def test_reduction_is_an_option():
    net = create("se-resnet20", reduction=4)
    assert [stage[0].f.se.excite.conv1.out_channels for stage in net.stages] == [4, 8, 16]
    assert create("se-resnet20").stages[0][0].f.se.excite.conv1.out_channels == 1


@pytest.mark.parametrize("name", ["se-resnet20", "se-preact20"])
@pytest.mark.parametrize("reduction", [0, 17])
def test_wrong_reduction_is_explained(name, reduction):
    with pytest.raises(BadOption, match=f"from 1 to the 16 maps of the narrowest stage, not {reduction}"):
        create(name, reduction=reduction)


def test_wrong_shortcut_is_explained():
    with pytest.raises(BadOption, match="shortcut is 'A', 'B' or 'C', not 'D'"):
        create("se-resnet20", shortcut="D")


def small(f) -> ResNet:
    return cifar_senet(f, (1, 1), (16, 32), 16, reduction=4)


def test_overfits(overfits):
    torch.manual_seed(0)
    overfits(small(two_convolutions), (3, 12, 12), lr=0.1, steps=40)


def test_compiles(compiles):
    compiles(small(two_convolutions), (3, 12, 12))
