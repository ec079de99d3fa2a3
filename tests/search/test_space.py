"""The space of cells: what is counted is what there is."""

import pytest

from cnnlib.models.cells import OPERATIONS as KNOWN
from cnnlib.search import OPERATIONS, Space, SpaceError


@pytest.mark.parametrize("space", [Space(1), Space(2), Space(2, ("sep3x3", "identity")), Space(3, ("identity",))])
def test_counts_are_those_of_an_enumeration(space):
    plans = [space.plan(decisions) for decisions in space]
    assert len(plans) == space.sequences
    assert len(set(plans)) == space.cells


def test_the_space_of_the_book():
    space = Space()
    assert space.choices == (2, 5, 2, 5, 3, 5, 3, 5, 4, 5, 4, 5)
    assert (space.sequences, space.cells) == (9_000_000, 1_386_000)
    assert set(OPERATIONS) <= set(KNOWN)


def test_every_cell_reads_what_is_there_and_puts_out_all_nodes():
    for decisions in Space(2):
        plan = Space(2).plan(decisions)
        assert plan.concat == (0, 1)
        for number, node in enumerate(plan.nodes):
            assert all(state in ("p", "h") or state < number for _, state in node)


def test_the_order_of_two_steps_does_not_matter():
    space = Space(1)
    assert space.plan((0, 1, 1, 4)) == space.plan((1, 4, 0, 1))
    assert space.plan((0, 1, 1, 4)).nodes == ((("sep5x5", "p"), ("identity", "h")),)


def test_decisions_of_a_plan_give_it_again():
    for decisions in Space(2, OPERATIONS[:3]):
        plan = Space(2, OPERATIONS[:3]).plan(decisions)
        assert Space(2, OPERATIONS[:3]).plan(Space(2, OPERATIONS[:3]).decisions(plan)) == plan


@pytest.mark.parametrize("decisions", [(0, 0, 0), (0, 0, 0, 5), (2, 0, 0, 0), (0, -1, 0, 0), (0.0,) * 4, "0000"])
def test_decisions_that_stand_for_nothing_are_refused(decisions):
    with pytest.raises(SpaceError, match="no cell of this space"):
        Space(1).plan(decisions)


def test_operations_that_there_are_not_are_refused():
    with pytest.raises(SpaceError, match=r"there is no operation 'nope'; there are sep3x3, .*identity"):
        Space(1, ("sep7x7", "nope"))


def test_cells_of_other_spaces_are_refused():
    plan = Space(1).plan((0, 0, 1, 4))
    with pytest.raises(SpaceError, match="does not have"):
        Space(1, ("sep3x3",)).decisions(plan)
    with pytest.raises(SpaceError, match="put out all"):
        Space(1).decisions(plan._replace(concat=("h", 0)))
    with pytest.raises(SpaceError, match="nodes must be at least 1, not 0"):
        Space(0)
    with pytest.raises(SpaceError, match="nodes must be a whole number, not '3'"):
        Space("3")
    with pytest.raises(SpaceError, match="has one twice"):
        Space(1, ("identity", "identity"))


@pytest.mark.parametrize("operations", ["sep3x3", 5])
def test_operations_are_a_sequence(operations):
    with pytest.raises(SpaceError, match=f"operations are a sequence of names, even of one, not {operations!r}"):
        Space(1, operations)


def test_decisions_are_those_of_a_cell():
    with pytest.raises(SpaceError, match=r"a cell is a Plan, .*, not \(0, 0, 1, 4\)"):
        Space(1).decisions((0, 0, 1, 4))
