"""NASNet-A against pytorchcv and timm, and the cells that AmoebaNet and ENAS share with it.

The oracles write every cell by hand. They register what adjusts p before what adjusts h, unless a factorised reduction
does it; :func:`h_first` puts h first everywhere. pytorchcv's nets, which take the authors' weights, fix the padding of
each strided layer for one image size, of which ours is the general form. timm pads as needed, but its average pooling
counts the padding, which TensorFlow's does not: with ours in its place it is the same net.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pytorchcv.models.nasnet import NASNet, get_nasnet, nasnet_4a1056
from timm.layers.pool2d_same import AvgPool2dSame
from timm.models.nasnet import NASNetALarge
from torch import nn

from cnnlib.models import BadOption, InputTooSmall, card, create
from cnnlib.models.cells import (
    Cell,
    CellNet,
    DropPath,
    FactorizedReduction,
    Genotype,
    Plan,
    StridedAvgPool,
    StridedMaxPool,
    average,
    cifar_cells,
    cifar_stem,
    conv,
    identity,
    imagenet_cells,
    maximum,
)
from cnnlib.models.layers import WithAuxiliary
from cnnlib.models.nasnet import NASNET_A


def h_first(oracle: nn.Module) -> nn.Module:
    for unit in oracle.modules():
        for name in {"conv1x1", "conv_1x1"} & unit._modules.keys():
            unit._modules = {name: unit._modules.pop(name), **unit._modules}
    return oracle


def for_any_size(oracle: NASNet) -> NASNet:
    oracle.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return h_first(oracle)


def small_large(**options: bool) -> CellNet:
    return imagenet_cells(NASNET_A, 8, 6, 6, 6, num_classes=10, drop_path=0.0, **({"same_p": True} | options))


def tiny(genotype: Genotype = NASNET_A, channels: int = 4, repeats: int = 1, **options: float) -> CellNet:
    return cifar_cells(genotype, channels, repeats, **options)


# The nets


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("nasnet-a-cifar-6-768", "3.3M", None),  # Table 1
        ("nasnet-a-mobile", "5.3M", "564M"),  # Table 3
        ("nasnet-a-large", "88.8M", "23.8B"),  # Table 2, where it is 88.9M
    ],
)
def test_sizes_are_those_of_the_paper(name, parameters, multiply_adds):
    assert f"{card(name).parameters / 1e6:.1f}M" == parameters
    if multiply_adds:
        size = card(name).multiply_adds
        assert (f"{size / 1e6:.0f}M" if size < 1e9 else f"{size / 1e9:.1f}B") == multiply_adds


def test_mobile_equals_pytorchcv(same_logits):
    # Maps of 31, 16, 8, 4 and 2 pixels: even and odd where those of the paper's 224 pixels are.
    same_logits(create("nasnet-a-mobile"), for_any_size(nasnet_4a1056()), (3, 63, 63))


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_mobile_equals_pytorchcv_in_training(same_logits, double_precision):
    same_logits(create("nasnet-a-mobile"), for_any_size(nasnet_4a1056()), (3, 63, 63), train=True)


def test_large_with_few_maps_equals_pytorchcv(same_logits):
    # Maps of 21, 11, 6, 3 and 2 pixels, like those of the paper's 331 pixels.
    oracle = get_nasnet(6, 192, 6, 1, False, True, (43, 43), num_classes=10)
    same_logits(small_large(), for_any_size(oracle), (3, 43, 43))


@pytest.mark.parametrize("side", [50, 67])
def test_large_with_few_maps_equals_timm_but_for_the_padding_of_averages(side, same_logits):
    oracle = h_first(NASNetALarge(num_classes=10, stem_size=6, num_features=192, drop_rate=0.5))
    with pytest.raises(AssertionError):
        same_logits(small_large(), oracle, (3, side, side))
    for cell in oracle.children():
        for name, module in cell.named_children():
            if isinstance(module, AvgPool2dSame):
                setattr(cell, name, StridedAvgPool())
    same_logits(small_large(), oracle, (3, side, side))


def test_large_net_has_its_own_wiring_after_reduction_cells(difference):
    ours, other = small_large().eval(), small_large(same_p=False).eval()
    other.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 35, 35)
    with torch.no_grad():
        assert difference(other(x), ours(x)) > 1e-3


def test_cells_of_the_darts_repository_give_its_count():
    """It has the same steps but puts out fewer nodes, and adjusts p in the first cell as well."""
    normal = NASNET_A.normal._replace(concat=(0, 1, 2, 3, 4))
    reduction = NASNET_A.reduction._replace(concat=(2, 3, 4))
    with torch.device("meta"):
        net = CellNet(Genotype(normal, reduction), 32, 6, cifar_stem(96), 96, raw_p=False)
    assert len(net.cells) == 20
    assert sum(parameter.numel() for parameter in net.parameters()) == 3_061_738


def test_maps_of_each_stack():
    with torch.device("meta"):
        net = imagenet_cells(NASNET_A, 168, 2, 96, 6).eval()
    shapes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    net(torch.empty(1, 3, 331, 331, device="meta"))
    stacks = [[(6 * 168 * 2**i, side, side)] * 2 for i, side in enumerate((42, 21, 11))]
    between = [(4 * 168 * 2**i, side, side) for i, side in ((-2, 83), (-1, 42), (1, 21), (2, 11))]
    assert shapes == [*between[:2], *stacks[0], between[2], *stacks[1], between[3], *stacks[2]]
    assert net.fc.in_features == 4032


# The cell


@pytest.mark.parametrize("halve_p", [False, True])
def test_cell_of_identities_is_a_concatenation(halve_p):
    plan = Plan(((("identity", "h"), ("identity", "p")), (("identity", 0), ("identity", "h"))), ("p", 0, 1, "h"))
    cell = Cell(plan, 5, 3, 4, halve_p=halve_p).eval()
    h, p = torch.randn(2, 5, 6, 6), torch.randn(2, 3, *([12, 12] if halve_p else [6, 6]))
    inner_h, inner_p = cell.h(h), cell.p(p)
    torch.testing.assert_close(cell(h, p), torch.cat([inner_p, inner_h + inner_p, 2 * inner_h + inner_p, inner_h], 1))
    assert inner_p.shape == inner_h.shape == (2, 4, 6, 6)
    assert cell.out_channels == 16


@pytest.mark.parametrize("raw_p", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_that_are_put_out_are_made_to_fit(stride, raw_p):
    cell = Cell(Plan(((("max3x3", "p"), ("identity", "h")),), ("h", "p", 0)), 5, 3, 4, stride, raw_p=raw_p)
    assert cell(torch.randn(2, 5, 7, 7), torch.randn(2, 3, 7, 7)).shape == (
        2,
        12,
        7 // stride + stride - 1,
        4 if stride == 2 else 7,
    )


@pytest.mark.parametrize("size", [1, 2, 5, 6])
@pytest.mark.parametrize(
    ("layer", "strided", "steps"),
    [
        (partial(maximum, 2, 2, 1), StridedMaxPool, (2, 2)),
        (partial(average, 2, 2, 1), StridedAvgPool, (2, 2)),
        (partial(conv, 2, 2, (3, 3)), partial(conv, 2, 2, (3, 3), (2, 2)), (2, 2)),
        (partial(conv, 2, 2, (7, 7), groups=2), partial(conv, 2, 2, (7, 7), (2, 2), groups=2), (2, 2)),
        (partial(conv, 2, 2, (1, 7)), partial(conv, 2, 2, (1, 7), (1, 2)), (1, 2)),
        (partial(conv, 2, 2, (7, 1)), partial(conv, 2, 2, (7, 1), (2, 1)), (2, 1)),
    ],
)
def test_strided_layers_see_the_windows_of_tensorflow(layer, strided, steps, size):
    """Of the windows of stride 1 they take those around the pixels 1, 3, ..., or 0, 2, ... on maps of odd size."""
    layer, strided = layer(), strided()
    if layer.state_dict():
        strided.load_state_dict(dict(zip(strided.state_dict(), layer.state_dict().values(), strict=True)))
    x = torch.randn(1, 2, size, size)
    rows, columns = (slice((1 - size % 2) if step == 2 else 0, None, step) for step in steps)
    torch.testing.assert_close(strided(x), layer(x)[..., rows, columns])


def test_averages_do_not_count_the_padding():
    ones = torch.ones(1, 1, 4, 5)
    assert (average(1, 1, 1)(ones) == 1).all()
    assert (average(1, 1, 2)(ones) == 1).all()


@pytest.mark.parametrize("size", [5, 6])
def test_factorised_reduction_reads_even_pixels_and_odd_ones(size):
    layer = FactorizedReduction(2, 5).eval()
    half = -(-size // 2)
    for maps, first in (((0, 1), 0), ((2, 3, 4), 1)):
        x = torch.randn(1, 2, size, size, requires_grad=True)
        y = layer(x)
        assert y.shape == (1, 5, half, half)
        y[:, maps].sum().backward()
        read = torch.zeros(size, size, dtype=torch.bool)
        read[first::2, first::2] = True
        assert torch.equal(x.grad.abs().sum((0, 1)) > 0, read)


def test_identity_changes_what_must_change():
    assert isinstance(identity(4, 4, 1), nn.Identity)
    x = torch.randn(2, 3, 5, 5)
    assert identity(3, 4, 1)(x).shape == (2, 4, 5, 5)
    assert identity(3, 3, 2)(x).shape == (2, 3, 3, 3)


# Drop path


def test_drop_path_drops_whole_images_as_often_as_it_says_and_rescales():
    torch.manual_seed(0)
    layer = DropPath(0.4)
    layer.set_progress(0.75)  # p = 0.3
    x = torch.rand(10_000, 2, 2, 2) + 1
    ratio = layer(x) / x
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    dropped = ratio[:, 0, 0, 0] == 0
    torch.testing.assert_close(ratio[~dropped], torch.full_like(ratio[~dropped], 1 / 0.7))
    assert abs(dropped.float().mean() - 0.3) < 0.02
    assert torch.equal(layer.eval()(x), x)


def test_drop_path_grows_with_depth_and_progress():
    net = tiny(repeats=2, drop_path=0.4)
    finals = [cell.drop_path.final for cell in net.cells]
    assert finals == pytest.approx([0.4 * (i + 1) / 8 for i in range(8)])
    for progress in (0.5, 1.0):
        net.set_progress(progress)
        assert [1 - cell.drop_path.kept.item() for cell in net.cells] == pytest.approx([progress * p for p in finals])
    assert not any("drop_path" in name for name in net.state_dict())
    for wrong in (-0.1, 1.1, 90):
        with pytest.raises(BadOption, match=f"from 0 to 1, not {wrong}"):
            net.set_progress(wrong)


@pytest.mark.parametrize("final", [-0.1, 1.0, float("nan")])
def test_drop_path_drops_not_all(final):
    with pytest.raises(BadOption, match=f"drop_path: .* from 0 to less than 1, not {final:g}"):
        DropPath(final)
    with pytest.raises(BadOption, match=f"^drop_path: .* not {final:g}$"):
        create("nasnet-a-cifar-6-768", drop_path=final)


def test_training_is_deterministic_until_progress_is_set():
    net, x = tiny(channels=8, drop_path=0.4), torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)
        net.set_progress(1.0)
        assert not torch.equal(net(x), net(x))


def test_all_operations_but_identities_may_be_dropped():
    plan = Plan(((("identity", "h"), ("avg3x3", "h")), (("sep3x3", 0), ("max3x3", "p"))), (0, 1))
    cell = Cell(plan, 3, 3, 4, drop_path=0.5)
    calls = []
    cell.drop_path.register_forward_hook(lambda *_: calls.append(1))
    cell(torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5))
    assert len(calls) == 3


def test_compiled_drop_path_is_not_compiled_again():
    torch._dynamo.reset()
    layer = DropPath(0.5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for progress in (0.0, 0.5, 1.0):
            layer.set_progress(progress)
            compiled(torch.ones(8, 1, 1, 1))


# The auxiliary head


@pytest.mark.parametrize(
    ("name", "maps", "side"),
    [
        ("nasnet-a-cifar-6-768", (6 * 64, 16, 16), 4),
        ("nasnet-a-mobile", (6 * 88, 14, 14), 4),
        ("nasnet-a-large", (6 * 336, 21, 21), 6),
    ],
)
def test_head_reads_the_end_of_the_second_stack(name, maps, side):
    build = card(name).build
    genotype, channels, _, *stem_and_head = build.args
    with torch.device("meta"):
        net = build.func(genotype, channels, 2, *stem_and_head, auxiliary=True).train()
    shapes = []
    net.head.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape[1:])))
    net.head.pool.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[2:])))
    net.head.conv2.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    output = net(torch.empty(2, *card(name).input_size, device="meta"))
    assert isinstance(output, WithAuxiliary)
    assert [logits.shape for logits in (output.logits, *output.auxiliary)] == [(2, net.fc.out_features)] * 2
    assert shapes == [(side, side), (768, 1, 1), maps]
    assert net.cells[net.head_after + 1].plan is NASNET_A.reduction
    assert net.auxiliary_weight == 0.4


def test_head_trains_the_cells_before_it():
    net = tiny(auxiliary=True)
    (logits,) = net(torch.randn(2, 3, 16, 16)).auxiliary
    logits.square().mean().backward()
    reached = {
        name.split(".")[1] for name, weight in net.named_parameters() if weight.grad is not None and "cells" in name
    }
    assert reached == {"0", "1", "2"}


def test_head_changes_nothing_in_evaluation():
    with_head, without = tiny(auxiliary=True).eval(), tiny().eval()
    shared = {name: tensor for name, tensor in with_head.state_dict().items() if not name.startswith("head.")}
    without.load_state_dict(shared)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(with_head(x), without(x))


@pytest.mark.parametrize(("build", "side"), [(tiny, 9), (partial(imagenet_cells, NASNET_A, 8, 1, 6, 4), 67)])
def test_smallest_image_with_a_head(build, side):
    with torch.device("meta"):
        net = build(auxiliary=True).train()
    net(torch.empty(2, 3, side, side, device="meta"))
    with pytest.raises(InputTooSmall, match=f"{side}x{side}"):
        net(torch.empty(2, 3, side - 1, side - 1, device="meta"))
    net.min_size = 1
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, side - 1, side - 1, device="meta"))


# Training


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    overfits(tiny(channels=8, drop_path=0.0), (3, 8, 8))


def test_compiles(compiles):
    normal = Plan(((("avg3x3", "p"), ("identity", "h")),), ("p", 0))
    reduction = Plan(((("sep3x3", "h"), ("max3x3", "p")),), (0,))
    compiles(tiny(Genotype(normal, reduction)), (3, 8, 8))
