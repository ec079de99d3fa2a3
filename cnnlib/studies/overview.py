"""The lecture's table of VGG, ResNet and DenseNet, rebuilt from records and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import nn

from cnnlib.measure import multiply_adds, training_memory
from cnnlib.models import create
from cnnlib.settings import BUDGETS
from cnnlib.studies import equal_time
from cnnlib.studies.comparison import IMAGE, MEASURES, NOTHING
from cnnlib.studies.errors import StudyError
from cnnlib.studies.families import inside
from cnnlib.studies.record import Record, in_order, require_records
from cnnlib.studies.statistics import summarise
from cnnlib.studies.study import Arm, Study, require_study
from cnnlib.table import Column, Table
from cnnlib.training import Run
from cnnlib.training.words import data_in_words

JOINED = {"vgg": "no shortcut", "plain": "no shortcut", "resnet": "addition", "densenet": "concatenation"}
"""How the layers are connected, by how the model's name begins."""


def overview(study: Study, records: Sequence[Record], budget: str | None = None) -> Table:
    """Return what the arms are, what they cost and what came of them: a column for each arm.

    Memory is computed for one image of a training batch: the activations that are kept for the backward pass. The
    gradient is that of the loss by the output of the first convolution, divided by that at the last one, from the
    study's probe before and after the training; its mean over the seeds is one of logarithms.

    Args:
        study: one of :mod:`cnnlib.studies.families`.
        records: of one data set.
        budget: of these records only; by default the longest that there are.

    Raises:
        StudyError: if there are none, or one is of another study, or the study has another probe, or one of them has
            none.
    """
    require_study("overview", study)
    records = require_records("overview", records, study)
    budgets = {record.run.budget for record in records}
    budget = budget or max(budgets, key=BUDGETS.index, default=None)
    records = in_order(study, [record for record in records if record.run.budget == budget])
    if not records:
        raise StudyError(f"there are no such records of the study {study.name!r}; make some with cnnlib.studies.run")
    if study.probe is not inside or any(record.probe is None for record in records):
        raise StudyError(
            f"the overview shows what one probe measures (families.inside); {study.name!r} has another, or none"
        )
    groups = {arm: [record for record in records if record.arm == arm] for arm in study.arms}
    groups = {arm: group for arm, group in groups.items() if group}
    alone = equal_time.speeds_behind(study, budget, {record.arm: record.run.steps for record in records})
    columns = [_column(study.arms[arm], group, alone.get(arm)) for arm, group in groups.items()]
    first = records[0].run
    data = data_in_words(first.data, first.stands_in_for)
    return Table(
        caption=f"{study.question} {data}, {budget} budget",
        columns=(Column("", numeric=False), *(Column(arm) for arm in groups)),
        rows=tuple((row, *(column[row] for column in columns)) for row in columns[0]),
        notes=(
            "Errors are mean ± standard deviation (number of seeds), after the last step. Memory is computed: "
            "activations kept for the backward pass, fp32. The gradient is that of the loss by the first convolution's "
            "output, as a multiple of that at the last convolution.",
            f"Trained on {'; '.join(dict.fromkeys(record.run.hardware for record in records))}."
            + (" Speed and time are those of one training alone, measured there before the first." if alone else ""),
        ),
    )


def _column(arm: Arm, group: Sequence[Record], alone: float | None) -> dict[str, str]:
    with torch.device("meta"):
        net = create(arm.model, **arm.overrides)
    kept = training_memory(net, IMAGE, batch_size=2).activations / 2
    runs = [record.run for record in group]
    steps = sorted({run.steps for run in runs})
    return {
        "layers": str(layers(net)),
        "connection": next(words for name, words in JOINED.items() if arm.model.startswith(name)),
        "parameters": f"{runs[0].parameters:,}",
        "multiply-adds": f"{multiply_adds(net, IMAGE) / 1e6:.1f} M",
        "memory of training, MB an image": f"{kept / 1e6:.2f}",
        **_times(runs, steps[-1], alone),
        "steps": " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1]))),
        **{
            f"{name}, %": f"{summarise([getattr(run, measure) for run in runs])} ({len(runs)})"
            for name, measure in MEASURES.items()
        },
        "first-layer gradient, before": f"{first_to_last(group, 'initial'):.2g}",
        "first-layer gradient, after": f"{first_to_last(group, 'trained'):.2g}",
    }


def _times(runs: Sequence[Run], steps: int, alone: float | None) -> dict[str, str]:
    """Return the rows of speed: as measured alone, if that was recorded, else in the trainings, if on one machine."""
    if len({run.hardware for run in runs}) > 1:
        return {"speed of training, images/s": NOTHING, "time of all steps, s": NOTHING}
    speed = alone or fmean(run.images_per_second for run in runs)
    seconds = steps * runs[0].recipe.batch_size / speed
    return {
        "speed of training, images/s": f"{speed:,.0f}",
        "time of all steps, s": f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2f}",
    }


def layers(net: nn.Module) -> int:
    """Return the number of convolutions and linear layers, shortcuts left out: the depth as papers count it."""
    return sum(isinstance(part, nn.Conv2d | nn.Linear) and "shortcut" not in name for name, part in net.named_modules())


def first_to_last(records: Sequence[Record], when: str) -> float:
    """Return the gradient at the first convolution divided by that at the last one, as a geometric mean over records.

    Args:
        records: with the probe of :func:`cnnlib.studies.families.inside`.
        when: ``"initial"`` or ``"trained"``.

    Raises:
        StudyError: if there are none.
    """
    if not records:
        raise StudyError("a mean needs at least one record")
    logs = []
    for record in records:
        rows = [row["gradient"] for row in convolutions(getattr(record.probe, when)["flow"])]
        logs.append(math.log(max(rows[0], 1e-30)) - math.log(max(rows[-1], 1e-30)))
    return math.exp(fmean(logs))


def convolutions(flow: Sequence[dict]) -> list[dict]:
    """Return the rows of a probed flow that belong to convolutions on the main way, in the order of their calls."""
    return [row for row in flow if "shortcut" not in row["layer"] and not row["layer"].startswith(("fc", "classifier"))]
