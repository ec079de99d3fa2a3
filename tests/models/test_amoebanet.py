"""AmoebaNet-A. No library has it: the counts are the paper's, and the cells are unrolled by hand after Figure 5."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnlib.models import card
from cnnlib.models.amoebanet import AMOEBANET_A
from cnnlib.models.cells import Cell, cifar_cells, imagenet_cells, one_by_seven


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("amoebanet-a-cifar-6-32", "2.6M", None),  # Table 1
        ("amoebanet-a-cifar-6-36", "3.2M", None),
        ("amoebanet-a-190", "86.7M", "23.1B"),  # Table 2
        ("amoebanet-a-448", "468.2M", "103.9B"),  # 469M and 104B there
    ],
)
def test_sizes_are_those_of_the_paper(name, parameters, multiply_adds):
    assert f"{card(name).parameters / 1e6:.1f}M" == parameters
    assert multiply_adds is None or f"{card(name).multiply_adds / 1e9:.1f}B" == multiply_adds


def normal(h: Tensor, p: Tensor, steps: nn.ModuleList) -> list[Tensor]:
    (average_h, max_h), (sep3_p, _), (_, average_p), (sep3_h, sep5_0), (average_3, sep3_h_again) = steps
    node0 = average_h(h) + max_h(h)
    node1 = sep3_p(p) + p
    node2 = h + average_p(p)
    node3 = sep3_h(h) + sep5_0(node0)
    node4 = average_3(node3) + sep3_h_again(h)
    return [p, node1, node2, node4]


def reduction(h: Tensor, p: Tensor, steps: nn.ModuleList) -> list[Tensor]:
    (sep3_p, average_h), (max_h, sep7_0), (max_p, max_h_again), (sep3_2, seven_h), (average_p, sep7_h) = steps
    node0 = sep3_p(p) + average_h(h)
    node1 = max_h(h) + sep7_0(node0)
    node2 = max_p(p) + max_h_again(h)
    node3 = sep3_2(node2) + seven_h(h)
    node4 = average_p(p) + sep7_h(h)
    return [node0, node1, node2, node3, node4]


@pytest.mark.parametrize(
    ("plan", "unrolled", "stride"), [(AMOEBANET_A.normal, normal, 1), (AMOEBANET_A.reduction, reduction, 2)]
)
def test_cells_are_those_of_figure_5(plan, unrolled, stride, randomise):
    cell = Cell(plan, 5, 6, 8, stride).eval()
    randomise(cell)
    h, p = torch.randn(2, 5, 9, 9), torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(cell(h, p), torch.cat(unrolled(cell.h(h), cell.p(p), cell.nodes), 1))


def test_operations_are_those_of_figure_5():
    def layers(step: nn.Module) -> list[str]:
        convs = [m for m in step.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
        pools = [type(m).__name__ for m in step.modules() if "Pool" in type(m).__name__]
        return pools + ["x".join(map(str, m.kernel_size)) for m in convs]

    def operations(cell: Cell) -> list[list[str]]:
        return [layers(step) for steps in cell.nodes for step in steps]

    average, maximum = ["AvgPool2d"], ["MaxPool2d"]
    assert operations(Cell(AMOEBANET_A.normal, 8, 8, 8)) == [
        *(average, maximum, ["3x3"] * 2, [], [], average, ["3x3"] * 2, ["5x5"] * 2, average, ["3x3"] * 2)
    ]
    average, maximum = ["StridedAvgPool"], ["StridedMaxPool"]
    assert operations(Cell(AMOEBANET_A.reduction, 8, 8, 8, stride=2)) == [
        *(["3x3"] * 2, average, maximum, ["7x7"] * 2, maximum, maximum),
        *(["3x3"] * 2, ["1x7", "7x1"], average, ["7x7"] * 2),
    ]


@pytest.mark.parametrize("stride", [1, 2])
def test_1x7_and_7x1_work_on_a_quarter_of_the_maps(stride):
    step = one_by_seven(8, 16, stride)
    assert (
        sum(m.weight.numel() for m in step if isinstance(m, nn.Conv2d))
        == 8 * 4 + 2 * (stride == 1) * 7 * 4 * 4 + 4 * 16
    )
    assert step(torch.randn(2, 8, 9, 8)).shape == (2, 16, -(-9 // stride), 8 // stride)


def test_uneven_widths():
    """190 maps are 95 in the second cell and 47 in the first: the halves of a factorised reduction differ."""
    with torch.device("meta"):
        net = imagenet_cells(AMOEBANET_A, 190, 1, 32, 6)
    assert [cell.out_channels for cell in net.cells[:2]] == [5 * 47, 5 * 95]
    assert net(torch.empty(2, 3, 33, 33, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(("side", "head_side"), [(331, 6), (299, 5)])
def test_head_reads_maps_of_the_size_it_is_made_for(side, head_side):
    with torch.device("meta"):
        net = imagenet_cells(AMOEBANET_A, 16, 1, 32, head_side, auxiliary=True)
    pooled = []
    net.head.pool.register_forward_hook(lambda _, __, output: pooled.append(tuple(output.shape[2:])))
    net(torch.empty(2, 3, side, side, device="meta"))
    assert pooled == [(head_side, head_side)]


class Alone(nn.Module):
    """A cell that reads the same maps as h and as p."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x, x)


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    overfits(cifar_cells(AMOEBANET_A, 8, 1, drop_path=0.0), (3, 8, 8), steps=30)


def test_compiles(compiles):
    compiles(Alone(Cell(AMOEBANET_A.reduction, 5, 5, 4, stride=2)), (5, 8, 8))
