"""ENAS micro. No library has it: the counts are the paper's, and the cells are unrolled by hand from their numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnlib.models import BadOption, InputTooSmall, card, create
from cnnlib.models.cells import Cell, FactorizedReduction, Genotype, Plan
from cnnlib.models.enas import CODES, ENAS_MICRO, enas_micro, parse


def test_size_is_that_of_the_paper():
    assert f"{card('enas-micro').parameters / 1e6:.1f}M" == "4.6M"
    assert f"{card('enas-micro-15').parameters / 1e6:.1f}M" == "3.9M"


# The notation


def test_parse_reads_the_notation_of_the_authors():
    plan = parse("0 0 1 1 | 2 2 0 3 | 1 4 2 4")
    assert plan.nodes == (
        (("sep3x3", "p"), ("sep5x5", "h")),
        (("avg3x3", 0), ("max3x3", "p")),
        (("identity", "h"), ("identity", 0)),
    )
    assert plan.concat == (1, 2)
    assert parse("0 0 0 0").concat == ("h", 0)


def test_cells_put_out_what_no_step_reads():
    assert ENAS_MICRO.normal.concat == (0, 1, 2, 3, 4)
    assert ENAS_MICRO.reduction.concat == (0, 2, 3, 4)


@pytest.mark.parametrize(
    "text", ["0 0 1", "0 0 1 1 1", "0 0 1 5", "0 0 2 0", "0 0 1 1 | 3 0 0 0", "", "a 0 0 0", "-1 0 0 0", "0 0 0 -1"]
)
def test_parse_says_which_node_is_wrong(text):
    node = text.count("|")
    with pytest.raises(BadOption, match=f"node {node} is .*from 0 to {node + 1} and from 0 to {len(CODES) - 1}"):
        parse(text)


# The net


def normal(h: Tensor, p: Tensor, steps: nn.ModuleList) -> list[Tensor]:
    (average_p, sep3_p), (_, sep5_p), (_, sep5_h), (sep3_h, sep5_p_again), (average_p_again, sep5_h_again) = steps
    return [
        average_p(p) + sep3_p(p),
        p + sep5_p(p),
        p + sep5_h(h),
        sep3_h(h) + sep5_p_again(p),
        average_p_again(p) + sep5_h_again(h),
    ]


def reduction(h: Tensor, p: Tensor, steps: nn.ModuleList) -> list[Tensor]:
    (
        (sep3_h, sep3_h_again),
        (max_p, average_p),
        (sep5_h, sep5_1),
        (sep3_h_third, halve_p),
        (max_p_again, sep5_h_again),
    ) = steps
    node1 = max_p(p) + average_p(p)
    return [
        sep3_h(h) + sep3_h_again(h),
        sep5_h(h) + sep5_1(node1),
        sep3_h_third(h) + halve_p(p),
        max_p_again(p) + sep5_h_again(h),
    ]


def test_cells_are_those_of_the_numbers(randomise):
    net = enas_micro(channels=4, repeats=1).eval()
    randomise(net)
    for cell, unrolled, side in ((net.cells[1], reduction, 8), (net.cells[2], normal, 4)):
        h = torch.randn(2, net.cells[0].out_channels if side == 8 else net.cells[1].out_channels, side, side)
        p = torch.randn(2, 12 if side == 8 else net.cells[0].out_channels, 8, 8)
        torch.testing.assert_close(cell(h, p), torch.cat(unrolled(cell.h(h), cell.p(p), cell.nodes), 1))


def test_entrance_has_two_convolutions_for_h_and_one_for_p():
    def convs(module: nn.Module) -> int:
        return sum(isinstance(m, nn.Conv2d) for m in module.modules())

    net = enas_micro(channels=4, repeats=1)
    assert [convs(cell.h) for cell in net.cells] == [2] * 5
    assert [convs(cell.p) for cell in net.cells] == [1, 1, 2, 1, 2]  # two where p is halved


def test_identity_of_stride_2_is_a_factorised_reduction():
    net = enas_micro(channels=4, repeats=1)
    steps = [step for cell in net.cells for pair in cell.nodes for step in pair]
    assert sum(isinstance(step, FactorizedReduction) for step in steps) == 2
    assert isinstance(net.cells[1].nodes[3][1], FactorizedReduction)


def test_head_reads_the_first_normal_cell_of_the_third_stack():
    with torch.device("meta"):
        net = create("enas-micro", auxiliary=True).train()
    shapes = []
    net.head.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape[1:])))
    net.head.conv2.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    net.cells[14].register_forward_hook(lambda *_: shapes.append("cell 14"))
    output = net(torch.empty(2, 3, 32, 32, device="meta"))
    assert shapes == ["cell 14", (768, 2, 2), (5 * 144, 8, 8)]
    assert len(net.cells) == 20
    assert [logits.shape for logits in (output.logits, *output.auxiliary)] == [(2, 10)] * 2


def test_smallest_image_with_the_head():
    with torch.device("meta"):
        net = enas_micro(channels=4, repeats=1, auxiliary=True).train()
    net(torch.empty(2, 3, 17, 17, device="meta"))
    with pytest.raises(InputTooSmall, match="17x17"):
        net(torch.empty(2, 3, 16, 16, device="meta"))
    net.min_size = 1
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, 16, 16, device="meta"))


def test_drop_path_keeps_0_6_in_the_last_cell_at_the_end():
    net = create("enas-micro-15")
    net.set_progress(1.0)
    assert net.cells[-1].drop_path.kept.item() == pytest.approx(0.6)


class Alone(nn.Module):
    """A cell that reads the same maps as h and as p."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x, x)


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    overfits(enas_micro(channels=8, repeats=1, dropout=0.0, drop_path=0.0), (3, 8, 8), steps=30)


def test_compiles(compiles):
    compiles(Alone(enas_micro(channels=4, repeats=1).cells[0]), (12, 8, 8))


STEP = ("sep3x3", "h")


@pytest.mark.parametrize(
    ("nodes", "concat", "message"),
    [
        (((STEP, ("conv3x3", "p")),), (0,), "node 0: there is no operation 'conv3x3'; there are "),
        (((STEP, ("sep3x3", 3)),), (0,), "node 0 reads 3; before it there are 'p', 'h'"),
        (((STEP, STEP, STEP),), (0,), "a node adds up two steps, but node 0 has 3"),
        (((STEP, STEP),), (5,), "the cell puts out 5; there are 'p', 'h', 0"),
        (((STEP, STEP),), (), "concat is empty"),
    ],
)
def test_a_cell_that_cannot_be_built_is_explained(nodes, concat, message):
    wrong = Plan(nodes=nodes, concat=concat)
    with pytest.raises(BadOption, match=message):
        create("enas-micro", genotype=Genotype(normal=wrong, reduction=wrong))
