"""Pre-activation ResNet against pytorchcv, and the five orders against the paper's equations written out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from pytorchcv.model_provider import get_model
from pytorchcv.models.preresnet import PreResNet
from pytorchcv.models.preresnet_cifar import get_preresnet_cifar
from pytorchcv.models.resnet_cifar import get_resnet_cifar
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import BadOption, card, create
from cnnlib.models.preact import (
    FULL,
    ORDERS,
    BNAfterAddition,
    PreActUnit,
    ReLUBeforeAddition,
    SharedPreActUnit,
    basic_net,
    bn_relu,
    bottleneck_net,
    full_pre_activation,
    imagenet_net,
    one_layer_net,
    original,
    relu_only,
    without_last_bn,
)
from cnnlib.models.resnet import (
    WIDE,
    ResidualBlock,
    bottleneck,
    bottleneck_v1_5,
    imagenet_stem,
    option_a,
    two_convolutions,
)

NETS = {"basic": partial(basic_net, depth=20), "bottleneck": partial(bottleneck_net, depth=20)}
STAGES = {"depths": (2, 2, 2), "widths": (64, 128, 256)}


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def components(net: nn.Module) -> Counter:
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear)
    return Counter(type(module) for module in net.modules() if isinstance(module, kinds))


@pytest.mark.parametrize("f", [two_convolutions, bottleneck])
def test_a_unit_of_any_order_has_the_same_components(f):
    bare = partial(without_last_bn, f)
    units = [
        ResidualBlock(16, 16, 1, f, option_a),
        BNAfterAddition(16, 16, 1, bare, option_a),
        ReLUBeforeAddition(16, 16, 1, f, option_a),
        PreActUnit(16, 16, 1, f, relu_only),
        PreActUnit(16, 16, 1, bare, bn_relu),
        SharedPreActUnit(16, 16, 1, bare),
    ]
    counts = {count(unit) for unit in units}
    if f is two_convolutions:
        assert counts == {2 * 9 * 16 * 16 + 2 * 2 * 16}
        assert {tuple(components(unit).values()) for unit in units} == {(2, 2, 2)}
    else:  # before a bottleneck stands a batch norm of all maps, as after it
        assert counts == {16 * 4 + 9 * 4 * 4 + 4 * 16 + 2 * (4 + 4 + 16)}
        assert {tuple(components(unit).values()) for unit in units} == {(3, 3, 3)}


def test_nets_of_all_orders_have_the_same_components():
    with torch.device("meta"):
        for build in (partial(basic_net, depth=110), partial(one_layer_net, depth=110)):
            nets = [build(order) for order in ORDERS]
            assert {count(net) for net in nets} == {1_727_962}
            assert len({tuple(sorted(components(net).values())) for net in nets}) == 1
        counts = [count(bottleneck_net(order, 164)) for order in ORDERS]
    projections = 2 * (64 + 128 + 256)  # the full pre-activation has no batch norm there
    assert counts == [1_704_154] * 4 + [1_704_154 - projections]


@pytest.mark.parametrize(("shortcut", "parameters"), [("A", 1_727_962), ("B", 1_730_522)])
def test_count_of_110_layers_by_shortcut(shortcut, parameters):
    with torch.device("meta"):
        assert count(create("preact110", shortcut=shortcut)) == parameters


@pytest.mark.parametrize("name", ["preact110", "resnet110-bn-after-addition", "preact110-one-layer-skip", "preact164"])
def test_depth_is_the_number_of_layers_with_weights(name):
    with torch.device("meta"):
        net = create(name)
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in net.modules())
    assert layers == (164 + 3 if name == "preact164" else 110)  # three projections


class Written:
    """The nets of the paper on a flat list of weights, in the order in which the modules hold them."""

    def __init__(self, net: nn.Module, convolutions: int, option: str):
        self.tensors = iter([tensor for tensor in net.state_dict().values() if tensor.is_floating_point()])
        self.convolutions, self.option = convolutions, option

    def conv(self, x: Tensor, stride: int = 1) -> Tensor:
        weight = next(self.tensors)
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def next_bn(self) -> Callable[[Tensor], Tensor]:
        weight, bias, mean, var = (next(self.tensors) for _ in range(4))
        return lambda x: F.batch_norm(x, mean, var, weight, bias)

    def bn(self, x: Tensor) -> Tensor:
        return self.next_bn()(x)

    def shortcut(self, x: Tensor, y: Tensor, stride: int, bare: bool = False) -> Tensor:
        if x.shape == y.shape:
            return x
        if self.option == "B":
            return self.conv(x, stride) if bare else self.bn(self.conv(x, stride))
        longer = torch.zeros_like(y)
        longer[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
        return longer

    def strides(self, stride: int) -> Iterator[tuple[int, bool]]:
        """The stride of each convolution of a unit, and whether it is the last one."""
        for index in range(self.convolutions):
            yield (stride if index == 0 else 1), index == self.convolutions - 1

    def original(self, x: Tensor, stride: int, first: bool) -> Tensor:
        y = x
        for stride_, last in self.strides(stride):
            y = self.bn(self.conv(y, stride_))
            y = y if last else F.relu(y)
        return F.relu(self.shortcut(x, y, stride) + y)

    def bn_after(self, x: Tensor, stride: int, first: bool) -> Tensor:
        y = x
        for stride_, last in self.strides(stride):
            y = self.conv(y, stride_)
            y = y if last else F.relu(self.bn(y))
        bn = self.next_bn()
        return F.relu(bn(self.shortcut(x, y, stride) + y))

    def relu_before(self, x: Tensor, stride: int, first: bool) -> Tensor:
        y = x
        for stride_, _ in self.strides(stride):
            y = F.relu(self.bn(self.conv(y, stride_)))
        return self.shortcut(x, y, stride) + y

    def relu_only(self, x: Tensor, stride: int, first: bool) -> Tensor:
        y = F.relu(x)
        x = y if first else x
        for stride_, last in self.strides(stride):
            y = self.bn(self.conv(y, stride_))
            y = y if last else F.relu(y)
        return self.shortcut(x, y, stride) + y

    def full(self, x: Tensor, stride: int, first: bool) -> Tensor:
        y = F.relu(self.bn(x))
        x = y if first else x
        for stride_, last in self.strides(stride):
            y = self.conv(y, stride_)
            y = y if last else F.relu(self.bn(y))
        return self.shortcut(x, y, stride, bare=True) + y

    def logits(self, x: Tensor, order: str, units: int) -> Tensor:
        unit = dict(
            zip(ORDERS, (self.original, self.bn_after, self.relu_before, self.relu_only, self.full), strict=True)
        )[order]
        post = "pre-activation" not in order
        x = self.conv(x)
        if order != FULL:
            x = self.bn(x)
        if post:
            x = F.relu(x)
        for stage in range(3):
            for index in range(units):
                x = unit(x, 2 if stage > 0 and index == 0 else 1, index == 0)
        if order == FULL:
            x = self.bn(x)
        if not post:
            x = F.relu(x)
        return F.linear(x.mean((2, 3)), next(self.tensors), next(self.tensors))


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_figure_4_written_out(order, kind, option, randomise, difference):
    net = NETS[kind](order, shortcut=option).eval()
    randomise(net)
    x = torch.randn(2, 3, 17, 16, generator=torch.Generator().manual_seed(0))
    written = Written(net, 2 if kind == "basic" else 3, option)
    with torch.no_grad():
        assert difference(net(x), written.logits(x, order, 3 if kind == "basic" else 2)) < 1e-5
    assert list(written.tensors) == []


@pytest.mark.parametrize("order", ORDERS)
def test_signals_add_up_where_nothing_follows_the_addition(order, randomise):
    """Equation 4: within a stage the last output is any earlier one plus the branches between."""
    net = basic_net(order, 32).eval()
    randomise(net)
    first, *others = net.stages[1]
    branches = []
    for unit in others:
        ends = unit.relu if order == "ReLU before addition" else unit.f
        ends.register_forward_hook(lambda module, args, output: branches.append(output))
    x = first(torch.randn(2, 16, 8, 8))
    with torch.no_grad():
        y = nn.Sequential(*others)(x)
    assert torch.allclose(y, x + sum(branches), rtol=1e-4, atol=1e-4) == (
        order not in ("original", "BN after addition")
    )


def stride_first(oracle: nn.Module) -> nn.Module:
    """Move the strides of pytorchcv's bottlenecks for small images to where the authors have them."""
    for stage in (oracle.features.stage2, oracle.features.stage3):
        body = stage.unit1.body
        body.conv1.conv.stride, body.conv2.conv.stride = (2, 2), (1, 1)
    return oracle


@pytest.mark.parametrize("train", [False, True])
def test_bottlenecks_of_the_paper_are_pytorchcvs_with_the_stride_moved(train, same_logits):
    pre = stride_first(get_preresnet_cifar(num_classes=10, blocks=20, bottleneck=True))
    same_logits(bottleneck_net(FULL, 20), pre, (3, 32, 32), train=train)
    post = stride_first(get_resnet_cifar(num_classes=10, blocks=20, bottleneck=True))
    same_logits(bottleneck_net("original", 20), post, (3, 32, 32), train=train)


@pytest.mark.parametrize("train", [False, True])
def test_bottlenecks_with_the_stride_in_the_middle_are_pytorchcvs(train, same_logits):
    pre = get_preresnet_cifar(num_classes=10, blocks=20, bottleneck=True)
    same_logits(full_pre_activation(bottleneck_v1_5, "B", **STAGES), pre, (3, 32, 32), train=train)
    post = get_resnet_cifar(num_classes=10, blocks=20, bottleneck=True)
    same_logits(original(bottleneck_v1_5, "B", **STAGES), post, (3, 32, 32), train=train)


def test_164_layers_are_pytorchcvs(same_logits):
    same_logits(create("preact164"), stride_first(get_model("preresnet164bn_cifar10")), (3, 32, 32))


@pytest.mark.parametrize("train", [False, True])
def test_basic_units_are_pytorchcvs_but_for_the_first(train, same_logits):
    """There the paths split before the first activation. The appendix of the paper has it before the split."""
    oracle = get_preresnet_cifar(num_classes=10, blocks=20, bottleneck=False)
    oracle.features.stage1.unit1.resize_identity = True
    oracle.features.stage1.unit1.identity_conv = nn.Identity()
    same_logits(basic_net(FULL, 20, shortcut="B"), oracle, (3, 32, 32), train=train)


@pytest.mark.parametrize(("f", "conv1_stride"), [(bottleneck, True), (bottleneck_v1_5, False)])
@pytest.mark.parametrize("train", [False, True])
def test_imagenet_form_is_pytorchcvs(f, conv1_stride, train, same_logits):
    oracle = PreResNet([[256], [512] * 2, [1024], [2048]], 64, bottleneck=True, conv1_stride=conv1_stride)
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)  # it pools over 7x7, so it takes only images of 224x224
    stages = {"depths": (1, 2, 1, 1), "widths": WIDE}
    ours = full_pre_activation(f, "B", stem=imagenet_stem, stem_width=64, num_classes=1000, **stages)
    same_logits(ours, oracle, (3, 48, 48), train=train)


def strides(net: nn.Module) -> list[tuple]:
    return [(m.weight.shape, m.stride) for m in net.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("preact1001", "preresnet1001_cifar10"),
        ("resnet1001", "resnet1001_cifar10"),
        ("preact152", "preresnet152"),
        ("preact200", "preresnet200"),
        ("preact200-v1.5", "preresnet200b"),
        ("resnet200", "resnet200"),
    ],
)
def test_full_depths_are_stacked_as_pytorchcv_does(name, theirs):
    with torch.device("meta"):
        ours, oracle = create(name), get_model(theirs)
        if theirs.endswith("cifar10"):
            oracle = stride_first(oracle)
    assert strides(ours) == strides(oracle)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in oracle.parameters()]


def test_a_module_at_the_end_of_f_acts_before_the_addition():
    def silent(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        zero = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        nn.init.zeros_(zero.weight)
        return without_last_bn(two_convolutions, in_channels, out_channels, stride).append(zero)

    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(PreActUnit(8, 8, 1, silent)(x), x)
    unit = SharedPreActUnit(8, 12, 2, silent)
    torch.testing.assert_close(unit(x), unit.shortcut(unit.activation(x)))


def test_headlines_are_those_of_batch_128():
    assert [card(name).headline.value for name in ("preact164", "preact1001", "resnet1001")] == [5.46, 4.92, 7.61]


@pytest.mark.parametrize(
    ("build", "depth", "possible"),
    [
        (basic_net, 18, "6n + 2 layers (8, 14, 20, ...)"),
        (bottleneck_net, 110 - 3, "9n + 2 layers (11, 20, 29, ...)"),
        (one_layer_net, 2, "3n + 2 layers (5, 8, 11, ...)"),
    ],
)
def test_wrong_depth_is_explained(build, depth, possible):
    with pytest.raises(BadOption, match=re.escape(f"{possible}, not {depth}")):
        build(FULL, depth)


def test_wrong_order_shortcut_and_row_are_explained():
    with pytest.raises(BadOption, match="no order 'none'; there are original, BN after addition, ReLU before"):
        basic_net("none", 20)
    with pytest.raises(BadOption, match="shortcut is 'A' or 'B', not 'C'"):
        create("preact110", shortcut="C")
    with pytest.raises(BadOption, match=r"no net 'preact50'; there are resnet200, preact152"):
        imagenet_net("preact50")


@pytest.mark.parametrize("order", ORDERS)
def test_overfits(order, overfits):
    torch.manual_seed(0)
    overfits(basic_net(order, 8), (3, 16, 16), lr=0.05)


def test_compiles(compiles):
    compiles(basic_net(FULL, 14), (3, 16, 16))
