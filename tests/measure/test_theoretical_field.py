"""Theoretical receptive fields against gradients, closed forms and published tables."""

from __future__ import annotations

import functools
import math
import operator

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import cnnlib
from cnnlib.measure import (
    BadArgument,
    DoesNotFit,
    NotTraceable,
    UnknownLayer,
    UnsupportedOperation,
    layer_table,
    receptive_field,
)
from cnnlib.models import layers
from cnnlib.models.layers import InputTooSmall

SIDE = 120
IMAGE = (2, SIDE, SIDE)


# Random networks. All have two channels and positive weights, so that no two influences cancel.


class Sum(nn.Module):
    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(operator.add, (branch(x) for branch in self.branches))


class Concatenation(nn.Module):
    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.project = nn.Conv2d(2 * len(branches), 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], 1))


class Residual(nn.Module):
    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x).clone()
        y += x
        return F.relu(y, inplace=True)


class Shift(nn.Module):
    """Moves the picture down and to the right, so that branches are not aligned."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.columns, 0, self.rows, 0))[:, :, : x.shape[2], : x.shape[3]]


class Subsample(nn.Module):
    """The shortcut of ResNet's option A."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2]


class Crop(nn.Module):
    def __init__(self, start: int, step: int):
        super().__init__()
        self.start, self.step = start, step

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.start :: self.step, -SIDE // 2 :]


class Applies(nn.Module):
    """Applies one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def same(kernel: tuple[int, int], dilation: int) -> nn.Module:
    padding = tuple(dilation * (k - 1) // 2 for k in kernel)
    return nn.Sequential(nn.Conv2d(2, 2, kernel, padding=padding, dilation=dilation, groups=2), nn.ReLU())


odd = st.sampled_from([1, 3, 5])
keeps_size = st.deferred(
    lambda: st.one_of(
        st.builds(same, st.tuples(odd, odd), st.integers(1, 3)),
        st.builds(lambda k: nn.Conv2d(2, 2, k, padding="same"), st.integers(1, 4)),
        st.just(nn.AvgPool2d(3, stride=1, padding=1)),
        st.builds(Shift, st.integers(0, 2), st.integers(0, 2)),
        st.builds(nn.Sequential, keeps_size, keeps_size),
        st.builds(Residual, keeps_size),
        st.builds(Sum, keeps_size, keeps_size),
        st.builds(Concatenation, keeps_size, keeps_size, keeps_size),
    )
)
halves_size = st.sampled_from(
    [
        lambda: Sum(nn.Conv2d(2, 2, 3, stride=2, padding=1), Subsample()),
        lambda: Sum(nn.Conv2d(2, 2, 5, stride=2, padding=2), nn.Conv2d(2, 2, 1, stride=2)),
        lambda: Concatenation(nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.AvgPool2d(3, stride=2, padding=1)),
    ]
).map(lambda build: build())
changes_size = st.one_of(
    st.builds(nn.Conv2d, st.just(2), st.just(2), st.tuples(odd, odd), st.integers(1, 3), st.integers(0, 2)),
    st.builds(
        lambda k, s, ceil: nn.AvgPool2d(k, s, ceil_mode=ceil), st.integers(1, 3), st.integers(1, 2), st.booleans()
    ),
    st.builds(Crop, st.integers(0, 2), st.integers(1, 2)),
)
networks = st.lists(st.one_of(keeps_size, halves_size, changes_size), min_size=1, max_size=4).map(
    lambda blocks: nn.Sequential(*blocks)
)


def make_positive(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.ones_(module.bias)
    return net.double()


def seen_by_gradient(net: nn.Module, unit: tuple[int, int], images: Tensor) -> list[tuple[int, int]]:
    """First and last input row, and column, that one output unit depends on."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(images)[:, :, unit[0], unit[1]].sum(), images)
    influence = gradient.abs().amax((0, 1))
    return [(int(hit.min()), int(hit.max())) for hit in (influence.amax(1).nonzero(), influence.amax(0).nonzero())]


def pair(length) -> tuple:
    return length if isinstance(length, tuple) else (length, length)


def seen_by_rule(row, unit: tuple[int, int]) -> list[tuple[float, float]]:
    centres = [start + k * stride for start, k, stride in zip(pair(row.start), unit, pair(row.stride), strict=True)]
    return [(c - (size - 1) / 2, c + (size - 1) / 2) for c, size in zip(centres, pair(row.size), strict=True)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=40)
@given(networks)
def test_size_stride_and_place_agree_with_gradients_on_random_networks(net):
    make_positive(net)
    images = torch.rand(1, *IMAGE, dtype=torch.float64)
    height, width = net(images).shape[-2:]
    assume(min(height, width) >= 6)
    row = receptive_field(net, IMAGE).final
    assert row.output == (height, width)
    # What a shift moves over the edge is lost, and with it pixels of the image: as many as the stride for each row.
    lost = sum(max(part.rows, part.columns) for part in net.modules() if isinstance(part, Shift)) * max(
        pair(row.stride)
    )
    for unit in [(height // 2, width // 2), (height // 2 + 1, width // 2 - 1)]:
        expected = seen_by_rule(row, unit)
        assume(all(first >= 2 and last < SIDE - 2 - lost for first, last in expected))
        assert seen_by_gradient(net, unit, images) == expected


def test_max_pooling_agrees_with_gradients():
    """Each image leads to one maximum in every window: many images lead to all."""
    net = nn.Sequential(
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        make_positive(nn.Conv2d(1, 1, 3, dilation=2)),
        nn.MaxPool2d((2, 3), (2, 1), dilation=(2, 1)),
    )
    row = receptive_field(net, (1, 48, 48)).final
    torch.manual_seed(0)
    images = torch.rand(400, 1, 48, 48, dtype=torch.float64)
    assert seen_by_gradient(net, (3, 9), images) == seen_by_rule(row, (3, 9))
    assert (row.size, row.stride) == (3 + 2 * 2 * 2 + 2 * 2, (4, 2))


@pytest.mark.parametrize(("kernel", "layers"), [(3, 3), (5, 2), (3, 5), (7, 1)])
def test_a_stack_sees_its_layers_times_kernel_less_one(kernel, layers):
    net = nn.Sequential(*[nn.Conv2d(1, 1, kernel, padding=kernel // 2) for _ in range(layers)])
    final = receptive_field(net, (1, 32, 32)).final
    assert (final.size, final.stride, final.start) == (layers * (kernel - 1) + 1, 1, 0)


def test_a_stride_multiplies_what_later_layers_add():
    net = nn.Sequential(nn.Conv2d(1, 1, 11, stride=4), nn.MaxPool2d(3, stride=2), nn.Conv2d(1, 1, 5, padding=2))
    rows = receptive_field(net, (1, 227, 227)).rows
    assert [(row.name, row.size, row.stride, row.start) for row in rows] == [
        ("input", 1, 1, 0),
        ("0", 11, 4, 5),
        ("1", 11 + 2 * 4, 8, 9),
        ("2", 19 + 4 * 8, 8, 9),
    ]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 195),
        ("vgg16", 212),
        ("resnet18", 435),
        ("resnet50", 427),
        ("densenet121", 2071),
        ("mobilenet_v2", 491),
    ],
)
def test_torchvision(name, size):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
    final = receptive_field(net, (3, 224, 224)).final
    assert (final.size, final.stride, final.whole) == (size, 32, False)


def test_inception_v3_has_the_published_field():
    """1311, as in the table of Araujo et al. 2019."""
    with torch.device("meta"):
        net = torchvision.models.inception_v3(init_weights=False)
    assert receptive_field(net, (3, 299, 299)).final.size == 1311


def test_resnet50_sees_483_with_its_strides_where_the_paper_has_them():
    """Published tables say 483: the paper strides in the first 1x1 convolution, torchvision in the 3x3."""
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        paper, torchvision_like = get_model("resnet50"), get_model("resnet50b")
    assert receptive_field(paper, (3, 224, 224))["features.stage4"].size == 483
    assert receptive_field(torchvision_like, (3, 224, 224))["features.stage4"].size == 427


def test_our_models():
    for name, size in [("alexnet", 195), ("alexnet-two-towers", 195), ("alexnet-torchvision", 195)]:
        assert receptive_field(cnnlib.create(name), cnnlib.card(name).input_size).final.size == size, name


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_shortcuts_of_resnet_do_not_widen_the_field(shortcut):
    """Each 3x3 convolution adds twice the stride of its input; the first of a stage still reads the finer map."""
    field = receptive_field(cnnlib.create("resnet20", shortcut=shortcut), (3, 32, 32))
    sizes_added = [2] + [2] * 6 + [2] + [4] * 5 + [4] + [8] * 5
    assert field.final.size == 1 + sum(sizes_added)
    assert field.final.stride == 4
    assert all(row.aligned for row in field.rows)


def test_branches_that_are_not_centred_alike_are_marked_from_there_on():
    net = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1),
        Sum(nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.AvgPool2d(2)),  # as in ResNet-D
        nn.ReLU(),
    )
    field = receptive_field(net, (2, 32, 32))
    assert [row.aligned for row in field.rows] == [True, True, True, True, False, False]
    assert field["1.add"].size == 5
    assert "not aligned" in str(field)


def test_what_pools_or_flattens_the_map_sees_everything():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    conv, *others = receptive_field(net, (1, 20, 30)).rows[1:]
    assert (conv.size, conv.whole, conv.output) == (3, False, (18, 28))
    assert all(row.whole and row.size == (20, 30) and row.stride is None and row.output == () for row in others)


def test_a_gate_from_the_whole_image_makes_the_whole_map_see_it():
    class SqueezeAndExcite(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 2, 3, stride=2), nn.Linear(2, 2)

        def forward(self, x):
            x = self.conv(x)
            return x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]

    final = receptive_field(SqueezeAndExcite(), (2, 33, 33)).final
    assert (final.kind, final.whole, final.size, final.stride, final.output) == ("mul", True, 33, 2, (16, 16))


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
def test_an_adaptive_pooling_is_a_pooling_where_it_divides(pool):
    net = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), pool((4, 8)))
    final = receptive_field(net, (1, 32, 32)).final  # 16 -> (4, 8)
    assert (final.size, final.stride, final.aligned) == ((3 + 3 * 2, 3 + 2), (8, 4), True)
    uneven = receptive_field(nn.Sequential(pool(6)), (1, 7, 7)).final  # windows of 2
    assert (uneven.size, uneven.stride, uneven.aligned) == (2, 7 / 6, False)


def test_an_even_pooling_does_not_mend_branches_that_are_not_aligned():
    net = nn.Sequential(Sum(nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.AvgPool2d(2)), nn.AdaptiveAvgPool2d(4))
    assert not receptive_field(net, (2, 32, 32)).final.aligned


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)]
)
def test_statistics_over_the_image_see_it_all(norm):
    final = receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), norm), (2, 16, 16)).final
    assert (final.whole, final.stride) == (True, 1)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_running_statistics_see_no_more(norm):
    final = receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), norm), (2, 16, 16)).final
    assert (final.size, final.whole) == (3, False)


@pytest.mark.parametrize("dim", [1, -3, None])  # None leaves the choice to PyTorch, which takes the channels
@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
def test_a_softmax_over_channels_sees_no_more(dim):
    final = receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softmax(dim)), (2, 16, 16)).final
    assert (final.kind, final.size, final.whole, final.output) == ("Softmax", 3, False, (14, 14))


@pytest.mark.parametrize("layer", [nn.Softmax(2), nn.Softmax(-1), nn.GLU(), nn.GLU(2)], ids=repr)
def test_layers_that_go_over_rows_or_columns_alone_are_refused(layer):
    with pytest.raises(UnsupportedOperation, match=r"in module '1' is not known: it .*maps"):
        receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), layer), (2, 16, 16))


@pytest.mark.parametrize("gate", [nn.GLU(1), lambda x: F.glu(x, dim=-3)])
def test_gates_of_channels_see_no_more(gate):
    final = receptive_field(Applies(gate), (2, 16, 16)).final
    assert (final.size, final.whole, final.output) == (1, False, (16, 16))


@pytest.mark.parametrize(
    "pool", [lambda x: x.mean((2, 3)), lambda x: x.mean(axis=(-2, -1)), lambda x: x.amax((1, 2, 3)), torch.sum]
)
def test_what_goes_over_rows_and_columns_sees_everything(pool):
    *_, last = receptive_field(Applies(pool), (2, 16, 12)).rows
    assert (last.whole, last.size, last.output) == (True, (16, 12), ())


@pytest.mark.parametrize("convert", [lambda x, y: y.type_as(x), lambda x, y: y.type_as(other=x), lambda x, y: y.to(x)])
def test_a_conversion_reads_the_type_of_its_second_argument_alone(convert):
    class Converts(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(2, 4, 7, padding=3), nn.Conv2d(2, 4, 3, padding=1)

        def forward(self, x):
            return convert(self.wide(x), self.narrow(x))

    assert receptive_field(Converts(), (2, 16, 16)).final.size == 3


class Pair(nn.Module):
    """Applies one function to what a wide convolution sees and what a narrow one sees."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.wide, self.narrow = nn.Conv2d(2, 4, 7, padding=3), nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x):
        return self.function(self.wide(x), self.narrow(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: y.expand_as(x),
        lambda x, y: y.view_as(x),
        lambda x, y: y.reshape_as(other=x),
        lambda x, y: y + torch.zeros_like(x),
        lambda x, y: y * torch.ones_like(input=x),
        lambda x, y: torch.cat([y, torch.full_like(x, 2.0)], 1),
        lambda x, y: y - x.new_zeros(4, 16, 16),
        lambda x, y: y * x.new_ones(()),
    ],
)
def test_the_shape_of_another_map_is_not_seen(function):
    final = receptive_field(Pair(function), (2, 16, 16)).final
    assert (final.size, final.whole, final.output) == (3, False, (16, 16))
    make_positive(net := Pair(function))
    images = torch.rand(1, 2, 16, 16, dtype=torch.float64)
    assert seen_by_gradient(net, (8, 8), images) == seen_by_rule(final, (8, 8))


def test_what_was_written_in_place_is_seen_under_every_name():
    def add_up(x, y):
        total = torch.zeros_like(y)
        alias = y.relu_()
        total.add_(y)
        alias.add_(x)
        return torch.cat([total, y], 1)

    field = receptive_field(Pair(add_up), (2, 16, 16))
    assert [(row.kind, row.size) for row in field.rows[3:]] == [("relu", 3), ("add", 3), ("add", 7), ("cat", 7)]


def test_an_addition_to_a_variable_is_seen_under_its_other_names():
    """torch.fx by itself would write the first line down as y = y + x, and the answer would not see x."""

    def add_up(x, y):
        alias = y
        y += x
        return alias

    field = receptive_field(Pair(add_up), (2, 16, 16))
    assert (field.final.kind, field.final.size) == ("add", 7)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: y[:, :2].add_(x[:, :2]) + y,
        lambda x, y: torch.cat([y, y.unsqueeze(0).squeeze(0).add_(x)], 1),
        lambda x, y: (pieces := y.split(2, 1))[0].add_(x[:, :2]) + pieces[1],
        lambda x, y: torch.add(total := torch.zeros_like(y), total[:, :2].add_(x[:, :2]).sum(1, keepdim=True)),
    ],
)
def test_what_is_written_through_a_view_is_refused(function):
    with pytest.raises(UnsupportedOperation, match=r"'add' .* memory that other views have, too\. effective_receptive"):
        receptive_field(Pair(function), (2, 16, 16))


def test_views_are_written_in_place_where_nothing_new_is_seen():
    field = receptive_field(Pair(lambda x, y: torch.cat([y, y[:, :2].relu_()], 1)), (2, 16, 16))
    assert field.final.size == 3
    only = receptive_field(Pair(lambda x, y: y[:, :2].add_(x[:, :2])), (2, 16, 16))  # nobody asks for the rest
    assert only.final.size == 7


def test_a_gate_that_was_spread_over_the_map_sees_it_all():
    *_, gate, product = receptive_field(Pair(lambda x, y: y * F.avg_pool2d(y, 16).expand_as(x)), (2, 16, 16)).rows
    assert (gate.whole, gate.size) == (True, 16)
    assert (product.whole, product.size, product.stride, product.output) == (True, 16, 1, (16, 16))


def test_a_constant_that_is_converted_sees_nothing():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)
            self.register_buffer("mask", torch.ones(4, 1, 1))

        def forward(self, x):
            x = self.conv(x)
            return x * self.mask.type_as(x) + self.mask.to(x)

    final = receptive_field(Masked(), (2, 16, 16)).final
    assert (final.size, final.whole, final.output) == (3, False, (14, 14))


def test_a_function_that_returns_its_input_adds_no_row():
    """As torchvision's stochastic depth does in evaluation mode; the module's name is still known."""
    field = receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), torchvision.ops.StochasticDepth(0.5, "row")), (2, 9, 9))
    assert [row.name for row in field.rows] == ["input", "0"]
    assert field["1"] is field["0"]


def test_channels_may_be_split_shuffled_and_normalised():
    class Shuffle(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.LocalResponseNorm(3)

        def forward(self, x):
            left, right = x.chunk(2, 1)
            x = torch.cat([self.left(left), right], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            return self.norm(x).softmax(1)

    field = receptive_field(Shuffle(), (4, 16, 16))
    assert (field.final.size, field.final.kind, field.final.whole) == (3, "softmax", False)


@pytest.mark.parametrize(
    "operation",
    [
        *(operator.methodcaller(name) for name in ["contiguous", "clone", "detach", "float", "half", "double"]),
        *(lambda x: x.to(torch.float64), lambda x: x.type(torch.float64), lambda x: x.expand_as(x)),
        *(lambda x: x.permute(0, 1, 2, 3), lambda x: x.permute((1, 0, 2, 3)), lambda x: x.transpose(0, 1)),
    ],
)
def test_what_leaves_positions_alone_sees_no_more(operation):
    final = receptive_field(nn.Sequential(nn.Conv2d(2, 4, 3), Applies(operation)), (2, 16, 16)).final
    assert (final.name.split(".")[0], final.size, final.whole, final.output) == ("1", 3, False, (14, 14))


def test_a_module_of_several_outputs_is_called_by_its_first():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5)

        def forward(self, x):
            return self.narrow(x), [self.wide(x)]

    field = receptive_field(nn.Sequential(Two()), (1, 16, 16))
    assert field["0"] is field["0.narrow"]


def test_functional_layers_are_understood():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1, 5, 5))

        def forward(self, x):
            x = F.conv2d(x, self.weight, None, 2, padding=1)
            x = F.max_pool2d(x.relu_(), 3, stride=2)
            return torch.flatten(F.avg_pool2d(x, 2), 1)

    field = receptive_field(Functional(), (1, 32, 32))
    assert [(row.name, row.size) for row in field.rows] == [
        ("input", 1),
        ("conv2d", 5),
        ("relu", 5),
        ("max_pool2d", 9),
        ("avg_pool2d", 13),
        ("flatten", 32),
    ]


def test_rows_are_found_by_the_name_of_any_module_and_call():
    with torch.device("meta"):
        field = receptive_field(torchvision.models.resnet50(), (3, 224, 224))
    assert [row.size for row in field.calls["layer1.0.relu"]] == [11, 19, 19]
    assert field["layer1.0"] is field["layer1.0.relu"]
    assert field["layer1.0.add"].kind == "add"
    assert field[""] is field["fc"]
    with pytest.raises(UnknownLayer, match="'layer1'"):
        field["layer_1"]


def test_our_size_check_leaves_no_trace_and_still_checks():
    class Checked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            layers.require_size(x, 20, "Checked")
            return self.conv(x)

    assert [row.name for row in receptive_field(Checked(), (1, 20, 20)).rows] == ["input", "conv"]
    with pytest.raises(InputTooSmall, match="at least 20x20"):
        receptive_field(Checked(), (1, 19, 19))


def test_without_a_size_the_usual_ones_are_tried():
    assert receptive_field(nn.Conv2d(3, 8, 5)).input_size == (3, 224, 224)
    lenet = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(6 * 24 * 24, 10))
    assert receptive_field(lenet).input_size == (1, 28, 28)
    for_cifar = nn.Sequential(nn.Conv2d(3, 6, 5), nn.Flatten(), nn.Linear(6 * 28 * 28, 10))
    assert receptive_field(for_cifar).input_size == (3, 32, 32)
    with pytest.raises(BadArgument, match="which input_size"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(1, 10)))


def test_an_unknown_operation_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, 2)

    with pytest.raises(UnsupportedOperation, match=r"'cumsum' in module '0' is not known.*effective_receptive_field"):
        receptive_field(nn.Sequential(Odd()), (1, 8, 8))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x.clone().transpose_(2, 3),
        lambda x: x.clone().cumsum_(2),
        lambda x: x.clone().copy_(x[:, :, :1]),
        lambda x: x.mean(3, keepdim=True),
        lambda x: x.sum(axis=2),
        lambda x: F.glu(x),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x[:, :, 0],
        lambda x: torch.cat([x, x], 2),
        lambda x: x.chunk(2, 3)[0],
        lambda x: x.reshape(1, 1, 16, 4),
        lambda x: x + x[:, :, ::2].repeat(1, 1, 2, 1),
        lambda x: F.linear(x, torch.ones(3, 8)),
    ],
)
def test_operations_that_rearrange_maps_are_refused(operation):
    with pytest.raises(UnsupportedOperation):
        receptive_field(Applies(operation), (1, 8, 8))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, 3, padding=(0, 1), padding_mode="circular"),
        nn.Conv2d(2, 2, 2, padding="same", padding_mode="circular"),  # one pixel at the far end
        Applies(lambda x: F.pad(x, (1, 1, 0, 0), mode="circular")),
        nn.CircularPad2d(1),
    ],
    ids=repr,
)
def test_pixels_of_the_opposite_border_are_refused(layer):
    """The first unit sees both borders, which no ``first`` and ``last`` around its place can tell."""
    with pytest.raises(UnsupportedOperation, match="in module '0' is not known"):
        receptive_field(nn.Sequential(layer), (2, 8, 8))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding_mode="circular"),
        nn.Conv2d(2, 2, 3, padding="valid", padding_mode="circular"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="replicate"),
    ],
    ids=repr,
)
def test_paddings_of_other_kinds_move_the_field_alone(layer):
    row = receptive_field(nn.Sequential(layer), (2, 8, 8)).final
    unit = (row.output[0] // 2, row.output[1] // 2)
    assert row.size == 3
    images = torch.rand(1, 2, 8, 8, dtype=torch.float64)
    assert seen_by_gradient(make_positive(layer), unit, images) == seen_by_rule(row, unit)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: torch.cat([x, x], axis=1),
        lambda x: torch.chunk(x, chunks=2, dim=1),
        lambda x: x.permute(dims=(0, 1, 2, 3)),
    ],
)
def test_arguments_without_a_rule_are_refused(operation):
    with pytest.raises(UnsupportedOperation, match="unexpected keyword argument"):
        receptive_field(Applies(operation), (2, 8, 8))
    table = layer_table(Applies(operation), (2, 8, 8))
    assert "No receptive fields: the receptive field of" in str(table)


def test_a_gate_pooled_by_a_window_over_the_whole_image_makes_the_whole_map_see_it():
    final = receptive_field(Applies(lambda x: x * F.avg_pool2d(x, 8)), (1, 8, 8)).final
    assert (final.whole, final.stride, final.output) == (True, 1, (8, 8))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + x[:, :, :1],
        lambda x: x[:, :, :1] + x[:, :, :, :1],
        lambda x: x * F.adaptive_avg_pool2d(x, (1, 8)),
        lambda x: x * F.avg_pool2d(x, 7),
        lambda x: x * F.avg_pool2d(x[..., 1:, 1:], 7),
        lambda x: x * F.avg_pool2d(F.pad(x, (0, 7)), 8, stride=1),  # of its columns only the first sees all
        lambda x: x[:, :, -1:].expand_as(x),
    ],
)
def test_rows_and_columns_that_are_spread_over_a_map_are_refused(operation):
    with pytest.raises(UnsupportedOperation, match="spreads rows or columns that do not see the whole image"):
        receptive_field(Applies(operation), (1, 8, 8))


def test_branches_at_different_strides_are_refused():
    class Mixed(nn.Module):
        def forward(self, x):
            return x[:, :, ::2, ::2] + x[:, :, :8, :8]

    with pytest.raises(UnsupportedOperation, match="different strides"):
        receptive_field(Mixed(), (1, 16, 16))


def test_a_network_that_fx_cannot_trace_is_told_so():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(NotTraceable, match=r"cannot trace Branching.*effective_receptive_field"):
        receptive_field(Branching(), (1, 8, 8))


def test_images_must_have_an_argument_of_their_own():
    class Starred(nn.Module):
        def forward(self, *images):
            return images[0] * 2

    with pytest.raises(NotTraceable, match=r"forward of Starred must take the images.*not in \*args"):
        receptive_field(Starred(), (2, 8, 8))


def test_a_module_that_does_not_read_the_images_has_no_field():
    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 1, 1))

        def forward(self):
            return self.weight.exp()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = Bias()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            return self.conv(x) + self.bias()

    field = receptive_field(Net(), (2, 8, 8))
    assert field["conv"].size == 3
    with pytest.raises(UnknownLayer, match="no layer 'bias'"):
        field["bias"]


def test_sizes_that_do_not_fit_or_mean_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 7), nn.MaxPool2d(4))
    with pytest.raises(DoesNotFit, match=r"3x8x8.*10x10"):
        receptive_field(net, (3, 8, 8))
    with pytest.raises(BadArgument, match="shape of one image"):
        receptive_field(net, (1, 3, 32, 32))


def test_text_and_html():
    field = receptive_field(nn.Sequential(nn.Conv2d(3, 8, (3, 5)), nn.Flatten()), (3, 16, 16))
    lines = str(field).splitlines()
    assert lines[0] == "Sequential: theoretical receptive field, input 3x16x16"
    assert lines[5].split() == ["0", "Conv2d", "14x12", "3x5", "1", "1x2"]
    assert lines[6].split() == ["1", "Flatten", "-", "all", "-", "-"]
    assert "<td>Conv2d</td>" in field._repr_html_()


def test_the_position_of_the_first_unit():
    """vgg16: five even poolings move the centre of the first unit off pixel 0 by (2^5 - 1) / 2."""
    with torch.device("meta"):
        final = receptive_field(torchvision.models.vgg16(), (3, 224, 224)).final
    assert final.start == (2**5 - 1) / 2
    assert math.isclose(np.mean([final.start + 32 * k for k in range(7)]), (224 - 1) / 2)
