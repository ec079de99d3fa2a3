"""A small search space: cells of a few nodes, as sequences of decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral

from cnnlib.errors import CnnlibError, require_whole
from cnnlib.models.cells import OPERATIONS as KNOWN
from cnnlib.models.cells import Plan, State, Step

OPERATIONS = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
"""What a step may be; the list of ENAS's micro search (Pham et al. 2018, section 2.4)."""


class SpaceError(CnnlibError, ValueError):
    """A cell, or a sequence of decisions, that a space does not have."""


@dataclass(frozen=True)
class Space:
    """Cells of so many nodes. Each node adds up two steps; all nodes are put out.

    A step is an operation and what it is applied to: p, h, or an earlier node. So a cell is 4 decisions a node: input,
    operation, input, operation. NASNet and ENAS put out only the nodes that no step reads; here the number of maps is
    the same for all cells, so that they can share the weights of what follows.

    Raises:
        SpaceError: if there is no node or no operation, or one twice, or one that :mod:`cnnlib.models.cells` does not
            have, or ``operations`` is one name.
    """

    nodes: int = 3
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        require_whole(SpaceError, 1, nodes=self.nodes)
        if isinstance(self.operations, str) or not isinstance(self.operations, Sequence):
            raise SpaceError(f"operations are a sequence of names, even of one, not {self.operations!r}")
        if not self.operations:
            raise SpaceError("a space needs at least one operation")
        if len(set(self.operations)) < len(self.operations):
            raise SpaceError(f"each operation is one option, and {self.operations} has one twice")
        if unknown := [name for name in self.operations if name not in KNOWN]:
            raise SpaceError(f"there is no operation {unknown[0]!r}; there are {', '.join(KNOWN)}")

    def inputs(self, node: int) -> tuple[State, ...]:
        """Return what the steps of a node may read."""
        return ("p", "h", *range(node))

    @property
    def choices(self) -> tuple[int, ...]:
        """How many options each decision has, in their order."""
        kinds = len(self.operations)
        return tuple(
            count
            for node in range(self.nodes)
            for count in (len(self.inputs(node)), kinds, len(self.inputs(node)), kinds)
        )

    @property
    def sequences(self) -> int:
        """How many sequences of decisions there are."""
        return math.prod(self.choices)

    @property
    def cells(self) -> int:
        """How many cells there are, if the order of a node's two steps does not count."""
        steps = (len(self.inputs(node)) * len(self.operations) for node in range(self.nodes))
        return math.prod(count * (count + 1) // 2 for count in steps)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Go through all sequences of decisions."""
        return product(*map(range, self.choices))

    def plan(self, decisions: Sequence[int]) -> Plan:
        """Return the cell that decisions describe, the two steps of each node in a fixed order.

        Raises:
            SpaceError: if there are too few or too many, or one has no such option.
        """
        if len(decisions) != len(self.choices) or not all(
            isinstance(one, Integral) and 0 <= one < count for one, count in zip(decisions, self.choices, strict=True)
        ):
            raise SpaceError(f"{tuple(decisions)} is no cell of this space, which has {self.choices} options")
        nodes = []
        for node in range(self.nodes):
            state, kind, other_state, other_kind = decisions[4 * node : 4 * node + 4]
            first, second = sorted(((state, kind), (other_state, other_kind)))
            nodes.append((self._step(node, *first), self._step(node, *second)))
        return Plan(tuple(nodes), tuple(range(self.nodes)))

    def decisions(self, plan: Plan) -> tuple[int, ...]:
        """Return decisions that describe a cell.

        Raises:
            SpaceError: if the space does not have it.
        """
        require_plan(plan)
        try:
            found = tuple(
                place
                for node, steps in enumerate(plan.nodes)
                for name, state in steps
                for place in (self.inputs(node).index(state), self.operations.index(name))
            )
            known = self.plan(found).concat == plan.concat
        except ValueError as error:
            raise SpaceError(f"this space does not have the cell {plan}") from error
        if not known:
            raise SpaceError(f"cells of this space put out all their nodes, and {plan} does not")
        return found

    def _step(self, node: int, state: int, kind: int) -> Step:
        return self.operations[kind], self.inputs(node)[state]


def require_plan(plan: object) -> None:
    """Raise :class:`SpaceError` unless this is a cell."""
    if not isinstance(plan, Plan):
        raise SpaceError(f"a cell is a Plan, as Space.plan(decisions) returns one, not {plan!r}")
