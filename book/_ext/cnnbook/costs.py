"""What a training costs, computed from the speeds that the package's records hold."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cnnlib.data.folders import IMAGENET
from cnnlib.measure import multiply_adds
from cnnlib.models import card
from cnnlib.studies.record import SHIPPED, Record
from cnnlib.training import Run, find_recipe, recipe_for
from cnnlib.training.network import registered
from cnnlib.training.words import in_words

CIFAR = 50_000
"""Training images of CIFAR-10."""
NETWORKS = ("resnet18", "resnet50", "resnet152")
"""Those whose cost on ImageNet is estimated."""
COUNTS = (1, 4, 8)
"""Processes that train together, each with hardware of its own."""
DAY = 86_400
MEASURED = """\
| Network | Multiply-adds | Hardware | Images/s | An epoch | The paper's recipe |
|---|---:|---|---:|---:|---:|"""
ESTIMATED = """\
| Network | Multiply-adds | Hardware | {} |
|---|---:|---|{}|"""


@dataclass(frozen=True)
class Speed:
    """What was measured of one network on one kind of hardware: the median over ``runs`` of images per second."""

    model: str
    multiply_adds: int
    hardware: str
    images_per_second: float
    runs: int


def recorded() -> list[Run]:
    """The runs of all records that come with the package."""
    return [Record.load(path).run for path in sorted(SHIPPED.glob("*/*-seed*.json"))]


def speeds(runs: Iterable[Run]) -> list[Speed]:
    """Of each family, on each hardware, the network that was measured most often; small ones first."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        cost = cost_of(run.model, json.dumps(run.overrides))
        groups.setdefault((run.hardware, run.model, cost), []).append(run.images_per_second)
    chosen: dict[tuple[str, str], Speed] = {}
    for (hardware, model, cost), values in groups.items():
        speed = Speed(model, cost, hardware, median(values), len(values))
        place = (hardware, card(model).family)
        if place not in chosen or speed.runs > chosen[place].runs:
            chosen[place] = speed
    return sorted(chosen.values(), key=lambda speed: (speed.hardware, speed.multiply_adds))


@functools.cache
def cost_of(model: str, overrides: str) -> int:
    """Multiply-adds of one forward pass of a network with its overrides, as JSON."""
    return multiply_adds(registered(model, json.loads(overrides)), card(model).input_size)


def duration(images: float, images_per_second: float) -> str:
    """How long it takes to train on so many images."""
    seconds = images / images_per_second
    return in_words(seconds) if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"


def measured(found: Sequence[Speed]) -> str:
    """The table of what was measured on CIFAR-10, with an epoch and the paper's recipe computed from it."""
    rows = []
    for speed in found:
        recipe = recipe_for(speed.model)
        images = (CIFAR, recipe.steps(CIFAR) * recipe.batch_size)
        cells = (*speed_cells(speed), *(duration(count, speed.images_per_second) for count in images))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([MEASURED, *rows])


def speed_cells(speed: Speed) -> tuple[str, ...]:
    cost = f"{speed.multiply_adds / 1e6:,.1f} M"
    return f"`{speed.model}`", cost, speed.hardware, f"{speed.images_per_second:,.0f}"


def estimated(found: Sequence[Speed]) -> str:
    """The table of ImageNet's recipe, if every multiply-add took as long as at best in what was measured."""
    recipe = find_recipe("resnet-imagenet")
    images = recipe.steps(IMAGENET[1]) * recipe.batch_size
    rates: dict[str, float] = {}
    for speed in found:
        rates[speed.hardware] = max(rates.get(speed.hardware, 0), speed.multiply_adds * speed.images_per_second)
    rows = []
    for hardware, rate in rates.items():
        for name in NETWORKS:
            cost = card(name).multiply_adds
            durations = (duration(images, count * rate / cost) for count in COUNTS)
            rows.append(f"| `{name}` | {cost / 1e6:,.0f} M | {hardware} | {' | '.join(durations)} |")
    headings = " | ".join(f"{count} process{'es, at best' if count > 1 else ''}" for count in COUNTS)
    return "\n".join([ESTIMATED.format(headings, "|".join("---:" for _ in COUNTS)), *rows])


class Costs(SphinxDirective):
    """One of the two tables: ``measured`` or ``estimated``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for path in SHIPPED.glob("*/*.json"):
            self.env.note_dependency(str(path))
        table = {"measured": measured, "estimated": estimated}[self.arguments[0]]
        return self.parse_text_to_nodes(table(speeds(recorded())))


def setup(app: Sphinx) -> None:
    app.add_directive("costs", Costs)
