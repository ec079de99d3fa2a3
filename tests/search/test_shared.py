"""Shared weights: which steps have the same ones, and that the net computes what the cell's own network computes."""

import pytest
import torch

from cnnlib.models.cells import Cell
from cnnlib.search import SharedNet, Space, SpaceError, network
from cnnlib.search.shared import SharedCell, batch_statistics

SPACE = Space()
ONE = SPACE.plan((0, 0, 1, 1, 0, 0, 2, 2, 1, 3, 3, 4))
OTHER = SPACE.plan((0, 0, 1, 0, 1, 1, 2, 4, 3, 1, 2, 0))


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def own_network(shared, plan):
    """The network of one cell with copies of the shared weights, copied step by step."""
    net = batch_statistics(network(plan, 4))
    for name in ("stem", "relu", "fc"):
        getattr(net, name).load_state_dict(getattr(shared, name).state_dict())
    for own, cell in zip(net.cells, shared.cells, strict=True):
        if isinstance(cell, Cell):
            own.load_state_dict(cell.state_dict())
            continue
        own.h.load_state_dict(cell.h.state_dict())
        own.p.load_state_dict(cell.p.state_dict())
        for number, (steps, modules) in enumerate(zip(plan.nodes, own.nodes, strict=True)):
            for step, module in zip(steps, modules, strict=True):
                module.load_state_dict(cell.step(number, step).state_dict())
    return net


@pytest.mark.parametrize("plan", [ONE, OTHER])
def test_a_cell_computes_what_its_own_network_computes(plan, images):
    torch.manual_seed(0)
    shared = SharedNet(SPACE, 4).choose(plan)
    own = own_network(shared, plan)
    torch.testing.assert_close(shared(images), own(images))
    shared.eval()
    own.eval()
    torch.testing.assert_close(shared(images), own(images))


def test_cells_differ(images):
    torch.manual_seed(0)
    shared = SharedNet(SPACE, 4)
    assert not torch.allclose(shared.choose(ONE)(images), shared.choose(OTHER)(images), atol=1e-3)


def test_a_common_step_has_the_same_weights_and_another_does_not():
    shared = SharedNet(SPACE, 4)
    cells = [cell for cell in shared.cells if isinstance(cell, SharedCell)]
    assert len(cells) == 3
    common = ("sep3x3", "p")
    assert common in ONE.nodes[0]
    assert common in OTHER.nodes[0]
    for cell in cells:
        before = [*shared.choose(ONE).cells[0].step(0, common).parameters()]
        after = [*shared.choose(OTHER).cells[0].step(0, common).parameters()]
        assert before
        assert all(a is b for a, b in zip(before, after, strict=True))
        ours = {id(p) for p in cell.step(0, common).parameters()}
        for node, step in ((1, common), (0, ("sep3x3", "h")), (0, ("sep5x5", "p"))):
            assert not ours & {id(p) for p in cell.step(node, step).parameters()}


def test_training_one_cell_changes_what_others_share_with_it_and_nothing_else(images):
    torch.manual_seed(0)
    shared = SharedNet(SPACE, 4).choose(ONE)
    shared(images).square().sum().backward()
    changed = {name for name, parameter in shared.named_parameters() if parameter.grad is not None}
    for number in (0, 2, 4):
        trained = {name.split(".")[3] for name in changed if name.startswith(f"cells.{number}.steps.")}
        with_weights = {
            f"{node}-{name}-{state}" for node, steps in enumerate(ONE.nodes) for name, state in steps if "sep" in name
        }
        assert trained == with_weights
        assert any(name.startswith(f"cells.{number}.h.") for name in changed)


def test_all_weights_of_all_cells_are_there():
    shared = SharedNet(SPACE, 4)
    cell = shared.cells[0]
    assert len(cell.steps) == 5 * (2 + 3 + 4)
    assert not any("running" in name for name, _ in shared.named_buffers())


def test_a_step_taken_twice_counts_twice(images):
    torch.manual_seed(0)
    space = Space(1)
    shared = SharedNet(space, 4)
    cell, maps = shared.cells[0], torch.randn(2, 4, 8, 8)
    shared.choose(space.plan((1, 0, 1, 0)))
    torch.testing.assert_close(cell(maps, maps), 2 * cell.step(0, ("sep3x3", "h"))(cell.h(maps)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"plan": (0, 0, 1, 4)}, "a cell is a Plan"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"channels": 1.5}, "channels must be a whole number"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
    ],
)
def test_what_makes_no_network_is_refused(wrong, said):
    with pytest.raises(SpaceError, match=said):
        network(**{"plan": ONE, **wrong})


def test_only_a_cell_of_the_space_can_be_chosen():
    shared = SharedNet(Space(1), 4)
    with pytest.raises(SpaceError, match="this space does not have the cell"):
        shared.choose(ONE)
    with pytest.raises(SpaceError, match="a cell is a Plan"):
        shared.choose((0, 0, 1, 4))
