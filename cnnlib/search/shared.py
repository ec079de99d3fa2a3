"""The networks that a search trains: one for each cell, or one that holds all cells.

Pham, Guan, Zoph, Le and Dean 2018, "Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268):
all cells are parts of one large graph, and a step that two cells have in common has the same weights in both.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.models import layers
from cnnlib.models.cells import OPERATIONS, Cell, CellNet, Genotype, Plan, Step, cifar_stem
from cnnlib.search.space import Space, SpaceError, require_plan

REDUCTION = Plan(nodes=((("sep3x3", "h"), ("max3x3", "p")),), concat=(0,))
"""The reduction cell of all networks here. It is not searched for."""


def network(plan: Plan, channels: int = 8, num_classes: int = 10) -> CellNet:
    """Return a network of one cell: normal, reduction, normal, reduction, normal, without drop path.

    Args:
        plan: the normal cell.
        channels: number of maps of a node in the first cell.
        num_classes: number of logits.

    Raises:
        SpaceError: if ``plan`` is no :class:`~cnnlib.models.cells.Plan`, or a number is not a whole one of at least 1.
        BadOption: if a step of the plan, or what it puts out, cannot be built.
    """
    return SearchedNet(plan, channels, num_classes)


class SearchedNet(CellNet):
    """See :func:`network`. Some cells put out much larger values than others, so the last maps are normalised."""

    def __init__(self, plan: Plan, channels: int, num_classes: int):
        require_plan(plan)
        require_whole(SpaceError, 1, channels=channels, num_classes=num_classes)
        super().__init__(
            Genotype(normal=plan, reduction=REDUCTION),
            *(channels, 1, cifar_stem(channels), channels),
            num_classes=num_classes,
            raw_p=False,
        )
        self.relu = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(self.fc.in_features), relu=nn.ReLU()))


def batch_statistics(net: nn.Module) -> nn.Module:
    """Let every batch normalisation use the mean and variance of the batch, in evaluation mode too, and return the net.

    With shared weights there is no one mean to remember, for each cell gives the same layer other inputs.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return net


class SharedCell(nn.Module):
    """All normal cells of a space in one: maps h and p as :class:`Cell` does with the plan that was chosen last.

    Every node has its own weights for each operation on each input. A step that a node takes twice counts twice, with
    the same weights.
    """

    def __init__(self, space: Space, cell: Cell, channels: int):
        super().__init__()
        self.h, self.p = cell.h, cell.p
        self.steps = nn.ModuleDict(
            {
                _key(node, (name, state)): OPERATIONS[name](channels, channels, 1)
                for node in range(space.nodes)
                for state in space.inputs(node)
                for name in space.operations
            }
        )
        layers.init_weights(self.steps, nn.init.kaiming_normal_)
        self.plan = cell.plan

    def step(self, node: int, step: Step) -> nn.Module:
        """Return the layers of a step of a node."""
        return self.steps[_key(node, step)]

    def forward(self, h: Tensor, p: Tensor) -> Tensor:
        """Return the maps of all nodes of the chosen cell."""
        maps = {"h": self.h(h), "p": self.p(p)}
        for number, node in enumerate(self.plan.nodes):
            left, right = (self.step(number, step)(maps[step[1]]) for step in node)
            maps[number] = left + right
        return torch.cat([maps[state] for state in self.plan.concat], 1)


def _key(node: int, step: Step) -> str:
    name, state = step
    return f"{node}-{name}-{state}"


class SharedNet(SearchedNet):
    """The networks of all cells of a space with one set of weights. Images (N, 3, 32, 32) to logits.

    Args:
        space: the cells.
        channels, num_classes: as for :func:`network`.

    Raises:
        SpaceError: likewise.
    """

    def __init__(self, space: Space, channels: int = 8, num_classes: int = 10):
        first = space.plan((0,) * len(space.choices))
        super().__init__(first, channels, num_classes)
        self.space = space
        for number, cell in enumerate(self.cells):
            if cell.plan is first:
                width = cell.out_channels // space.nodes
                self.cells[number] = SharedCell(space, cell, width)
        batch_statistics(self)

    def choose(self, plan: Plan) -> SharedNet:
        """Let the net compute with this cell from now on, and return it.

        Raises:
            SpaceError: if the space does not have it.
        """
        self.space.decisions(plan)
        for cell in self.cells:
            if isinstance(cell, SharedCell):
                cell.plan = plan
        return self
