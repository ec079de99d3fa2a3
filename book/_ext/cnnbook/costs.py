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
from cnnlib.models import card, create
from cnnlib.studies import STUDIES, Record, load_records
from cnnlib.studies.record import SHIPPED
from cnnlib.training import Run, find_recipe, recipe_for
from cnnlib.training.words import in_brackets, in_words

CIFAR = 50_000
"""Training images of CIFAR-10."""
NETWORKS = ("resnet18", "resnet50", "resnet152")
"""Those whose cost on ImageNet is estimated."""
COUNTS = (1, 4, 8)
"""Processes that train together, each with hardware of its own."""
LEAST_STEPS = {"cpu": 1, "cuda": 1000}
"""A shorter training says nothing about speed: on a GPU it is over before its start no longer counts."""
DAY = 86_400
MEASURED = """\
| Network | Multiply-adds | Hardware | Images/s | An epoch | The default recipe |
|---|---:|---|---:|---:|---:|"""
ESTIMATED = """\
| Network | Multiply-adds | Hardware | {} |
|---|---:|---|{}|"""


@dataclass(frozen=True)
class Speed:
    """What was measured of one network on one kind of hardware: the median over ``runs`` of images per second.

    Where several trainings shared the hardware, the speed is that of each, and ``together`` says how many they were.
    """

    model: str
    multiply_adds: int
    hardware: str
    images_per_second: float
    runs: int
    together: int = 1
    steps: int = 0
    changes: str = ""


@functools.cache
def records() -> dict[str, list[Record]]:
    """The records that come with the package, by the name of their study."""
    return {name: load_records(study) for name, study in STUDIES.items()}


@functools.cache
def recorded() -> list[Speed]:
    """The speeds that these records hold."""
    return speeds(record.run for group in records().values() for record in group)


def speeds(runs: Iterable[Run]) -> list[Speed]:
    """Of each family, on each hardware, the network that was measured longest and most often; small ones first.

    In a short training the start counts for more, so a network's longest trainings are taken.
    """
    groups: dict[tuple[str, int, str, str, int], list[Run]] = {}
    for run in runs:
        if run.steps < LEAST_STEPS.get(run.device_type, 1):
            continue
        cost = cost_of(run.model, json.dumps(run.overrides))
        changes = in_brackets(run.overrides)
        groups.setdefault((run.hardware, run.together, run.model, changes, cost), []).append(run)
    chosen: dict[tuple[str, str], Speed] = {}
    for (hardware, together, model, changes, cost), group in groups.items():
        steps = max(run.steps for run in group)
        values = [run.images_per_second for run in group if run.steps == steps]
        speed = Speed(model, cost, hardware, median(values), len(values), together, steps, changes)
        place = (hardware, card(model).family)
        if place not in chosen or _weight(speed) > _weight(chosen[place]):
            chosen[place] = speed
    return sorted(chosen.values(), key=lambda speed: (speed.hardware, speed.multiply_adds))


def _weight(speed: Speed) -> tuple[float, ...]:
    """What makes one measurement better than another. Last the speed: a machine in use is slower, and never faster."""
    return speed.steps, speed.runs, speed.images_per_second


@functools.cache
def cost_of(model: str, overrides: str) -> int:
    """Multiply-adds of one forward pass of a network with its overrides, as JSON."""
    return multiply_adds(create(model, **json.loads(overrides)), card(model).input_size)


def duration(images: float, images_per_second: float) -> str:
    """How long it takes to train on so many images."""
    seconds = images / images_per_second
    return in_words(seconds) if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"


def measured(found: Sequence[Speed]) -> str:
    """The table of what was measured on CIFAR-10, with an epoch and the recipe of ``train`` computed from it."""
    rows = []
    for speed in found:
        recipe = recipe_for(speed.model)
        images = (CIFAR, recipe.steps(CIFAR) * recipe.batch_size)
        cells = (*speed_cells(speed), *(duration(count, speed.images_per_second) for count in images))
        rows.append(f"| {' | '.join(cells)} ({recipe.name}) |")
    return "\n".join([MEASURED, *rows])


def speed_cells(speed: Speed) -> tuple[str, ...]:
    cost = f"{speed.multiply_adds / 1e6:,.1f} M"
    each = f"{speed.images_per_second:,.0f}"
    if speed.together > 1:
        each += f", together {speed.together * speed.images_per_second:,.0f}"
    return f"`{speed.model}`{speed.changes}", cost, speed.hardware, each


def estimated(found: Sequence[Speed]) -> str:
    """The table of ImageNet's recipe, if every multiply-add took as long as at best in what was measured.

    Networks that skip blocks in training are left out of that.
    """
    recipe = find_recipe("resnet-imagenet")
    images = recipe.steps(IMAGENET[1]) * recipe.batch_size
    rates: dict[str, float] = {}
    for speed in found:
        if card(speed.model).family == "stochastic-depth":
            continue  # its training skips blocks, and so computes less than is counted
        rate = speed.together * speed.multiply_adds * speed.images_per_second
        rates[speed.hardware] = max(rates.get(speed.hardware, 0), rate)
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
        return self.parse_text_to_nodes(table(recorded()))


def setup(app: Sphinx) -> None:
    app.add_directive("costs", Costs)
