import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.models import BadOption, create
from cnnlib.models.lenet import BITMAPS, C3_TABLE, DistanceToBitmaps, PartialConvolution, ScaledTanh, Subsampling


def parameters_by_layer(net: nn.Module) -> list[int]:
    counts = [sum(parameter.numel() for parameter in layer.parameters()) for layer in net.children()]
    return [count for count in counts if count > 0]


def test_parameters_of_each_layer_are_those_of_the_paper():
    assert parameters_by_layer(create("lenet5-1998")) == [156, 12, 1516, 32, 48_120, 10_164]
    assert parameters_by_layer(create("lenet5")) == [156, 2416, 48_120, 10_164, 850]


def test_connections_are_those_of_the_paper():
    """Section II.B counts each use of a weight or bias, layer by layer; in all, with the output layer, 340,908."""
    net, inputs = create("lenet5-1998"), {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda layer, args, output, name=name: inputs.update({name: output[0].numel()}))
    net(torch.zeros(1, 1, 32, 32))
    connections = {
        "c1": inputs["c1"] * (25 + 1),
        "s2": inputs["s2"] * (4 + 1),
        "c3": inputs["c3"] // 16 * (25 * sum(map(len, C3_TABLE)) + 16),
        "s4": inputs["s4"] * (4 + 1),
        "c5": inputs["c5"] * (25 * 16 + 1),
        "f6": inputs["f6"] * (120 + 1),
        "output": inputs["output"] * 84,
    }
    assert (connections["c1"], connections["s2"], connections["s4"]) == (122_304, 5880, 2000)
    assert connections["c3"] == 151_600
    assert sum(connections.values()) == 340_908


def test_each_map_of_c3_sees_the_maps_of_table_1():
    rows = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    c3 = PartialConvolution()
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    for output, value in enumerate(c3(x).flatten()):
        seen = torch.autograd.grad(value, x, retain_graph=True)[0].abs().sum((0, 2, 3)) > 0
        assert seen.tolist() == [row[output] == "X" for row in rows]


def test_c3_is_a_full_convolution_with_zeros_where_the_table_has_none():
    c3 = PartialConvolution()
    full = torch.zeros(16, 6, 5, 5)
    for output, (conv, maps) in enumerate(zip(c3.convs, C3_TABLE, strict=True)):
        full[output, list(maps)] = conv.weight[0].detach()
    bias = torch.cat([conv.bias for conv in c3.convs])
    x = torch.randn(2, 6, 14, 14)
    torch.testing.assert_close(c3(x), F.conv2d(x, full, bias))


def test_subsampling_is_a_weighted_sum_of_each_window():
    s2 = Subsampling(2)
    nn.init.uniform_(s2.coefficient)
    nn.init.uniform_(s2.bias)
    x = torch.randn(1, 2, 4, 4)
    window = x[0, 1, 2:, :2].sum()  # second map, lower left
    torch.testing.assert_close(s2(x)[0, 1, 1, 0], s2.coefficient[1, 0, 0] * window + s2.bias[1, 0, 0])


def test_scaled_tanh_keeps_one():
    torch.testing.assert_close(
        ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0
    )


def test_bitmaps_are_twelve_rows_of_seven_and_all_different():
    rows = [line.split() for line in BITMAPS.strip().splitlines()]
    assert [len(row) for row in rows] == [10] * 12
    assert {len(digit) for row in rows for digit in row} == {7}
    codes = DistanceToBitmaps().codes
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert codes[1].view(12, 7)[1].tolist() == [-1, -1, 1, 1, -1, -1, -1]  # the second row of the digit 1
    apart = (codes[:, None] != codes[None]).sum(2) + 84 * torch.eye(10, dtype=torch.long)
    assert apart.min() >= 4


def test_output_is_the_distance_and_drawing_a_digit_wins():
    output = DistanceToBitmaps()
    logits = output(output.codes)
    assert logits.argmax(1).tolist() == list(range(10))
    assert (logits.diagonal() == 0).all()
    assert logits[3, 8] == -4 * (output.codes[3] != output.codes[8]).sum()


def test_cross_entropy_is_equation_9_without_its_constant():
    output = DistanceToBitmaps()
    distances = -output(output.codes[4:5] + 0.2 * torch.randn(1, 84))[0]
    expected = distances[4] + torch.log(torch.exp(-distances).sum())
    torch.testing.assert_close(F.cross_entropy(-distances[None], torch.tensor([4])), expected)


def test_weights_are_drawn_by_the_fan_in():
    torch.manual_seed(0)
    net = create("lenet5-1998")
    for weight, fan_in in ((net.c1.weight, 25), (net.s4.coefficient, 4), (net.c5.weight, 400), (net.f6.weight, 120)):
        assert weight.abs().max() <= 2.4 / fan_in
        assert weight.abs().max() > 0.8 * 2.4 / fan_in
    for conv in net.c3.convs:
        assert conv.weight.abs().max() <= 2.4 / conv.weight[0].numel()


def test_the_published_form_has_ten_classes():
    with pytest.raises(BadOption, match="ten digits; 5 classes need 'lenet5'"):
        create("lenet5-1998", num_classes=5)


def test_modern_form_takes_colour():
    assert create("lenet5", in_channels=3)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(("name", "lr"), [("lenet5-1998", 0.002), ("lenet5", 0.02)])
def test_overfits(name, lr, overfits):
    torch.manual_seed(0)
    overfits(create(name), (1, 32, 32), lr=lr, steps=60)


@pytest.mark.parametrize("name", ["lenet5-1998", "lenet5"])
def test_compiles(name, compiles):
    compiles(create(name), (1, 32, 32))
