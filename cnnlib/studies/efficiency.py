"""What is published on efficiency: the compute to reach AlexNet's accuracy year by year, and ways to scale a net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from cnnlib.table import Column, Table

SOURCE = "Hernandez and Brown 2020; github.com/openai/ai-and-efficiency, efficiency_sota.csv"
LEVEL = 79.1
"""Top-5 accuracy on ImageNet in percent that :data:`ALEXNET_LEVEL` asks for: AlexNet's."""


@dataclass(frozen=True)
class Milestone:
    """The least compute known at a date to train a net to a fixed accuracy.

    Attributes:
        name: of the network.
        date: of its publication.
        compute: of the training, in teraflop/s-days: so many days at 10^12 operations a second.
        reduction: by which factor less than the first, as printed in the source.
        model: the network's name in this package.
    """

    name: str
    date: date
    compute: float
    reduction: float
    model: str

    @property
    def operations(self) -> float:
        """The compute as a number of operations."""
        return self.compute * 1e12 * 24 * 60 * 60


ALEXNET_LEVEL = (
    Milestone("AlexNet", date(2012, 6, 1), 3.1, 1, "alexnet"),
    Milestone("GoogLeNet", date(2014, 9, 17), 0.71, 4.3, "googlenet"),
    Milestone("MobileNet", date(2017, 4, 17), 0.28, 11, "mobilenet-v1"),
    Milestone("ShuffleNet", date(2017, 7, 3), 0.15, 21, "shufflenet-g3"),
    Milestone("ShuffleNet V2", date(2018, 6, 30), 0.12, 25, "shufflenet-v2"),
    Milestone("EfficientNet-B0", date(2019, 5, 28), 0.069, 44, "efficientnet-b0"),
)
"""Each set a record. The file names ShuffleNets of width 1, but not the number of groups; ours has three."""


def years_between(first: Milestone, last: Milestone) -> float:
    """Return the years from one milestone to another."""
    return (last.date - first.date).days / 365.25


def doubling_months(first: Milestone, last: Milestone) -> float:
    """Return after how many months the compute had halved, on average, between two milestones."""
    return 12 * years_between(first, last) / math.log2(first.compute / last.compute)


def milestones_table() -> Table:
    """Return :data:`ALEXNET_LEVEL` as a table."""
    first = ALEXNET_LEVEL[0]
    return Table(
        caption=f"Least compute to reach a top-5 accuracy of {LEVEL} % on ImageNet",
        columns=(
            *(Column("network", numeric=False), Column("published", numeric=False)),
            *(Column("compute", "teraflop/s-days"), Column("reduction, computed"), Column("as printed")),
        ),
        rows=tuple(
            (
                *(point.name, f"{point.date:%Y-%m-%d}", f"{point.compute:g}"),
                *(f"{first.compute / point.compute:.1f}", f"{point.reduction:g}"),
            )
            for point in ALEXNET_LEVEL
        ),
        notes=(f"{SOURCE}.",),
    )


@dataclass(frozen=True)
class Scaled:
    """One way to scale a network, as published.

    Attributes:
        network: what is scaled.
        way: how.
        operations: multiply-adds, in billions, as printed.
        error: top-1 error on ImageNet, 1 crop, validation, in percent.
    """

    network: str
    way: str
    operations: float
    error: float


def _scaled(network: str, rows: tuple[tuple[str, float, float], ...]) -> tuple[Scaled, ...]:
    return tuple(Scaled(network, way, operations, round(100 - top1, 1)) for way, operations, top1 in rows)


SCALED = (
    *_scaled(
        "MobileNet V2",
        (
            ("base", 0.3, 72.0),
            *(("depth", 1.2, 76.8), ("width", 1.1, 76.4), ("resolution", 1.2, 74.8), ("all three", 1.3, 77.4)),
        ),
    ),
    *_scaled(
        "ResNet-50",
        (
            ("base", 4.1, 76.0),
            *(("depth", 16.2, 78.1), ("width", 14.7, 77.7), ("resolution", 16.4, 77.5), ("all three", 16.7, 78.8)),
        ),
    ),
    *_scaled(
        "EfficientNet-B0",
        (
            ("base", 0.4, 77.3),
            *(("depth", 1.8, 79.0), ("width", 1.8, 78.9), ("resolution", 1.9, 79.1), ("all three", 1.8, 81.1)),
        ),
    ),
)
"""Tan and Le 2019 (arXiv 1905.11946, fifth version), Tables 3 and 7: depth 4, width 2 or resolution 2 times that of the
base, or all three at once."""


def scaled_table() -> Table:
    """Return :data:`SCALED` as a table, a row for each network."""
    ways = tuple(dict.fromkeys(row.way for row in SCALED))
    networks = tuple(dict.fromkeys(row.network for row in SCALED))
    cells = {(row.network, row.way): f"{row.error:.1f}  ({row.operations:g}G)" for row in SCALED}
    return Table(
        caption="Top-1 error on ImageNet in %, and multiply-adds",
        columns=(Column("network", numeric=False), *(Column(way) for way in ways)),
        rows=tuple((network, *(cells[network, way] for way in ways)) for network in networks),
        notes=("Tan and Le 2019, Tables 3 and 7; 1 crop, validation. The number of trainings is not said.",),
    )
