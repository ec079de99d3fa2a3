"""The lecture's table of VGG, ResNet and DenseNet, rebuilt from records and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import nn

from cnnlib.measure import multiply_adds, training_memory
from cnnlib.settings import BUDGETS
from cnnlib.studies.comparison import IMAGE
from cnnlib.studies.errors import StudyError
from cnnlib.studies.record import Record, in_order
from cnnlib.studies.statistics import summarise
from cnnlib.studies.study import Arm, Study
from cnnlib.table import Column, Table
from cnnlib.training.network import registered

JOINED = {"vgg": "no shortcut", "plain": "no shortcut", "resnet": "addition", "densenet": "concatenation"}
"""How the layers are connected, by how the model's name begins."""


def overview(study: Study, records: Sequence[Record]) -> Table:
    """Return what an arm is, what it costs and what came of it, a row for each arm and budget.

    Memory is computed for one image of a training batch: the activations that are kept for the backward pass. The
    gradient is that of the loss by the output of the first convolution, divided by that at the last one, from the
    study's probe before and after the training; its mean over the seeds is one of logarithms.

    Args:
        study: one of :mod:`cnnlib.studies.families`.
        records: of one data set; a budget that has none has no rows.

    Raises:
        StudyError: if there are none, or one has no probe.
    """
    if not records:
        raise StudyError(f"there are no records of the study {study.name!r}; make some with cnnlib.studies.run")
    if any(record.probe is None for record in records):
        raise StudyError("the overview needs the gradients that the study's probe measures")
    records = in_order(study, records)
    groups = {
        (budget, arm): [record for record in records if (record.run.budget, record.arm) == (budget, arm)]
        for budget in BUDGETS
        for arm in study.arms
    }
    groups = {key: group for key, group in groups.items() if group}
    first = records[0].run
    data = f"{first.data.upper()}, IN PLACE OF {first.stands_in_for}" if first.stands_in_for else first.data
    return Table(
        caption=f"{study.question} {data}",
        columns=(
            *(Column("", numeric=False), Column("budget", numeric=False), Column("layers")),
            *(Column("connection", numeric=False), Column("parameters"), Column("multiply-adds")),
            *(Column("memory of training", "MB an image"), Column("speed", "images/s"), Column("steps")),
            *(
                Column("training error", "%"),
                Column("test error", "%"),
                Column("first-layer gradient"),
                Column("after"),
            ),
        ),
        rows=tuple(_row(arm, study.arms[arm], budget, group) for (budget, arm), group in groups.items()),
        notes=(
            "Errors are mean ± standard deviation (number of seeds), after the last step. Memory is computed: "
            "activations kept for the backward pass, fp32. First-layer gradient: that of the loss by the first "
            "convolution's output, as a multiple of that at the last convolution, before and after the training.",
            *(
                f"{budget}: speed and time on {'; '.join(dict.fromkeys(r.run.hardware for r in of_budget))}; "
                + ", ".join(
                    f"{arm} {fmean(map(training_seconds, group)):,.0f} s"
                    for (name, arm), group in groups.items()
                    if name == budget
                )
                + " of training steps a run."
                for budget, of_budget in _by_budget(groups).items()
            ),
        ),
    )


def _by_budget(groups: dict[tuple[str, str], list[Record]]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for (budget, _), group in groups.items():
        found.setdefault(budget, []).extend(group)
    return found


def _row(label: str, arm: Arm, budget: str, group: Sequence[Record]) -> tuple[str, ...]:
    with torch.device("meta"):
        net = registered(arm.model, arm.overrides)
    kept = training_memory(net, IMAGE, batch_size=2).activations / 2
    runs = [record.run for record in group]
    speeds = [run.images_per_second for run in runs]
    steps = sorted({run.steps for run in runs})
    return (
        *(label, budget, str(layers(net))),
        next(words for name, words in JOINED.items() if arm.model.startswith(name)),
        *(f"{runs[0].parameters:,}", f"{multiply_adds(net, IMAGE):,}", f"{kept / 1e6:.2f}"),
        f"{fmean(speeds):,.0f}",
        " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1]))),
        *(f"{summarise([getattr(run, name) for run in runs])} ({len(runs)})" for name in ("train_error", "test_error")),
        *(f"{first_to_last(group, when):.2g}" for when in ("initial", "trained")),
    )


def training_seconds(record: Record) -> float:
    """Return how long the steps of a training took, without its evaluations and its start."""
    return record.run.steps * record.run.recipe.batch_size / record.run.images_per_second


def layers(net: nn.Module) -> int:
    """Return the number of convolutions and linear layers, shortcuts left out: the depth as papers count it."""
    return sum(isinstance(part, nn.Conv2d | nn.Linear) and "shortcut" not in name for name, part in net.named_modules())


def first_to_last(records: Sequence[Record], when: str) -> float:
    """Return the gradient at the first convolution divided by that at the last one, as a geometric mean over records.

    Args:
        records: with the probe of :func:`cnnlib.studies.families.inside`.
        when: ``"initial"`` or ``"trained"``.
    """
    logs = []
    for record in records:
        rows = [row["gradient"] for row in convolutions(getattr(record.probe, when)["flow"])]
        logs.append(math.log(max(rows[0], 1e-30)) - math.log(max(rows[-1], 1e-30)))
    return math.exp(fmean(logs))


def convolutions(flow: Sequence[dict]) -> list[dict]:
    """Return the rows of a probed flow that belong to convolutions on the main way, in the order of their calls."""
    return [row for row in flow if "shortcut" not in row["layer"] and not row["layer"].startswith(("fc", "classifier"))]
