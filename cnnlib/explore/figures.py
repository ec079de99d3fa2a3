"""Figures of tables, images and trainings. Each function returns a matplotlib figure, drawn in the book's style.

A cell that ends with the figure shows it. ``describe(figure)`` says in words what it shows, with its numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_alike
from cnnlib.training.words import data_in_words, in_brackets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnnlib.data import ImageSet
    from cnnlib.measure import LayerTable
    from cnnlib.studies import Record
    from cnnlib.training import Run

_LIGHT = style.PALETTE["light"]


def describe(figure: Figure) -> str:
    """Return what a figure of this module shows, in words: its text alternative."""
    return figure.get_label()


# ---- layer tables ----------------------------------------------------------------------------------------------------


def layer_bars(table: LayerTable, *, title: str | None = None) -> Figure:
    """Draw parameters, multiply-adds and memory of the outputs of each layer side by side, for one image.

    Layers that have none of the three (dropout, say) are left out.

    Raises:
        NothingToDraw: if no layer has any, or this is no table.
    """
    if not hasattr(table, "rows"):
        raise NothingToDraw("layer_bars needs a layer table; pass layer_table(network, (3, 224, 224))")
    rows = [row for row in table.rows if row.parameters or row.multiply_adds or row.activation_bytes]
    if not rows:
        raise NothingToDraw(f"{table.model} has no layer with parameters, multiply-adds or outputs of its own")
    measures = (
        ("parameters", "", [row.parameters for row in rows], "blue"),
        ("multiply-adds", "", [row.multiply_adds for row in rows], "orange"),
        ("memory of outputs", "B", [row.activation_bytes for row in rows], "teal"),
    )
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 1.1 + 0.23 * len(rows)), layout="constrained")
        for axes, (name, unit, values, colour) in zip(figure.subplots(1, 3, sharey=True), measures, strict=True):
            total = sum(values)
            axes.barh(range(len(rows)), values, height=0.72, color=_LIGHT[colour])
            for index, value in enumerate(values):
                if value:
                    text = short(value) + unit
                    axes.annotate(text, (value, index), (3, 0), textcoords="offset points", va="center", size=8)
            axes.set_title(f"{name}\n{short(total)}{unit} in all", fontsize=9.5)
            axes.set_xlim(0, 1.28 * max(*values, 1))
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: short(value) + unit))
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        figure.suptitle(
            title or f"{table.model}, one image of {'×'.join(map(str, table.input_size))}", ha="left", x=0.01
        )

    def most(name: str, unit: str, values: list[int]) -> str:
        value, total = max(values), sum(values)
        if not total:
            return f"no {name}"
        where = rows[values.index(value)].name
        return f"most {name} in {where}, {short(value)}{unit} of {short(total)}{unit} ({value / total:.0%})"

    facts = "; ".join(most(name, unit, values) for name, unit, values, _ in measures)
    figure.set_label(f"Bars for the layers of {table.model}: {facts}.")
    return figure


def short(value: float) -> str:
    """Write a count in three digits with k, M or G for thousands, millions or thousands of millions."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


# ---- images ----------------------------------------------------------------------------------------------------------


def samples(image_set: ImageSet, *, per_class: int = 3, classes: Sequence[str] | None = None) -> Figure:
    """Show the first training images of each class, one column a class. A stand-in says so in the picture.

    Args:
        image_set: the images.
        per_class: how many of each class.
        classes: names; by default the first ten.

    Raises:
        NothingToDraw: if the data set has no class of a given name, or too few images of one; if there is no class, or
            ``per_class`` is not a whole number of at least 1.
    """
    require_whole(NothingToDraw, 1, per_class=per_class)
    if isinstance(classes, str):  # a list of letters, otherwise
        raise NothingToDraw(f"classes must be a list of names, such as [{classes!r}], not {classes!r}")
    chosen = list(image_set.classes[:10]) if classes is None else list(classes)
    if not chosen:
        raise NothingToDraw("samples needs at least one class")
    missing = [name for name in chosen if name not in image_set.classes]
    if missing:
        raise NothingToDraw(f"{image_set.name} has no class {missing[0]!r}; it has {', '.join(image_set.classes)}")
    columns = []
    for name in chosen:
        of_class = (image_set.train_labels == image_set.classes.index(name)).nonzero().flatten()[:per_class]
        if len(of_class) < per_class:
            raise NothingToDraw(f"{image_set.name} has {len(of_class)} training images of {name!r}, not {per_class}")
        columns.append(image_set.train_images[of_class].cpu())
    pictures = torch.stack(columns, dim=1).flatten(0, 1)
    title = f"{image_set.name}: training images"
    if image_set.stands_in_for:
        title = f"{image_set.name.upper()}, GENERATED, IN PLACE OF {image_set.stands_in_for}"
    figure = images(pictures, columns=len(chosen), title=title, headings=chosen)
    figure.set_label(f"{title}, {per_class} of each class: {', '.join(chosen)}.")
    return figure


def images(
    pictures: Tensor, *, columns: int = 8, title: str = "", headings: Sequence[str] = (), gap: int = 2
) -> Figure:
    """Show images in a grid, row by row.

    Args:
        pictures: uint8 (N, C, H, W), or floats in [0, 1]; C is 1 or 3.
        columns: images in a row.
        title: of the figure.
        headings: a word above each column.
        gap: pixels of paper between images.

    Raises:
        NothingToDraw: if this is no tensor of this shape, its floats lie outside [0, 1], or there is no column.
    """
    require_whole(NothingToDraw, 1, columns=columns)
    if not isinstance(pictures, Tensor):
        raise NothingToDraw(f"images needs a tensor, not a {type(pictures).__name__}; torch.as_tensor makes one")
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not len(pictures):
        raise NothingToDraw(f"images needs a tensor (N, 1 or 3, H, W), not {tuple(pictures.shape)}")
    pixels = pictures.detach().cpu()
    if not pixels.is_floating_point():
        pixels = pixels.float() / 255
    low, high = pixels.min().item(), pixels.max().item()
    if not -1e-3 <= low <= high <= 1 + 1e-3:  # NaN, too
        raise NothingToDraw(f"images needs floats in [0, 1]; these go from {low:.2g} to {high:.2g}")
    n, _, height, width = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    paper = torch.tensor([int(_LIGHT["paper"][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    sheet = paper.repeat(rows * (height + gap) - gap, columns * (width + gap) - gap, 1)
    for index, picture in enumerate(pixels):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture.clamp(0, 1).permute(1, 2, 0)
    with matplotlib.rc_context(style.rc()):
        across = min(7.2, 0.75 * columns)
        figure = Figure(figsize=(across, across * sheet.shape[0] / sheet.shape[1] + 0.35 + 0.2 * bool(headings)))
        axes = figure.subplots()
        axes.imshow((sheet * 255).round().byte().numpy(), interpolation="none")
        axes.set_xticks([(width - 1) / 2 + (width + gap) * column for column in range(len(headings))], headings)
        axes.tick_params(top=True, labeltop=bool(headings), bottom=False, labelbottom=False, length=0, labelsize=8)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(title)
        figure.set_layout_engine("constrained")
    figure.set_label(f"{title or 'Images'}: {n} images of {height}×{width} pixels.")
    return figure


def kernels(source: nn.Module | Tensor, *, columns: int = 16, title: str | None = None) -> Figure:
    """Show the filters of a first convolution as images: grey is 0, and each filter is scaled by its largest weight.

    Args:
        source: a network, of which the first convolution is shown, or weights (N, C, H, W) with C = 1 or 3.
        columns: filters in a row.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no convolution, its filters do not look at 1 or 3 channels, or there is no column.
    """
    name = "filters"
    weights = source
    if isinstance(source, nn.Module):
        found = next(((path, m) for path, m in source.named_modules() if isinstance(m, nn.Conv2d)), None)
        if found is None:
            raise NothingToDraw(f"{type(source).__name__} has no convolution")
        name, weights = f"filters of {found[0] or type(source).__name__}", found[1].weight
    if not isinstance(weights, Tensor):
        raise NothingToDraw(f"kernels needs a network or a tensor of weights, not {source!r:.80}")
    weights = weights.detach().float().cpu()
    if weights.ndim != 4 or weights.shape[1] not in (1, 3):
        raise NothingToDraw(f"filters can be shown if they look at 1 or 3 channels, not as {tuple(weights.shape)}")
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    count, _, height, width = weights.shape
    title = title or f"{count} {name}, {height}×{width}"
    figure = images(0.5 + weights / (2 * largest), columns=columns, title=title, gap=1)
    figure.set_label(f"{title}: grey is zero, each filter scaled by its largest weight.")
    return figure


# ---- trainings -------------------------------------------------------------------------------------------------------

_MEASURES = {
    "train_error": "training error, %",
    "test_error": "test error, %",
    "train_loss": "training loss",
    "test_loss": "test loss",
}


@dataclass(frozen=True)
class _Curve:
    """Mean and standard deviation over seeds, at each point that all seeds have."""

    epochs: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    seeds: int


def learning_curves(
    records: Sequence[Record | Run] | Mapping[str, Sequence[Record | Run]],
    *,
    measures: str | Sequence[str] = ("train_error", "test_error"),
    title: str | None = None,
) -> Figure:
    """Draw the learning curves of trainings: a line for the mean over seeds, a band of one standard deviation.

    Args:
        records: records of a study, one line an arm; or runs, one line for all of the same network and recipe; or a
            mapping from label to either.
        measures: one panel each, or a single one: train_error, test_error, train_loss or test_loss.
        title: of the figure; by default the data set, with the number of seeds.

    Raises:
        NothingToDraw: if there is no training, a measure is unknown, or a line would join several budgets or images.
    """
    measures = [measures] if isinstance(measures, str) else measures
    unknown = [name for name in measures if name not in _MEASURES]
    if unknown or not measures:
        raise NothingToDraw(f"there is no measure {', '.join(unknown) or '(none)'}; choose from {', '.join(_MEASURES)}")
    groups = _by_label(records)
    if not groups:
        raise NothingToDraw("learning_curves needs at least one record or run")
    for runs in groups.values():
        require_alike(NothingToDraw, runs)

    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.5), layout="constrained")
        panels = figure.subplots(1, len(measures), squeeze=False, sharex=True, sharey=_same_unit(measures))[0]
        ends: dict[str, dict[str, float]] = {}
        for axes, measure in zip(panels, measures, strict=True):
            curves = {label: _curve(runs, measure) for label, runs in groups.items()}
            for index, (label, curve) in enumerate(curves.items()):
                _draw_curve(axes, curve, index)
                ends.setdefault(label, {})[measure] = curve.mean[-1]
            axes.set_title(_MEASURES[measure])
            axes.set_xlabel("epoch")
            axes.set_ylim(bottom=0)
            axes.margins(x=0.02)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _label_ends(panels[-1], curves)
        runs = [run for group in groups.values() for run in group]
        figure.suptitle(title or _title(groups, runs), ha="left", x=0.01)

    results = "; ".join(
        f"{label} ends at "
        + ", ".join(f"{_MEASURES[name].split(',')[0]} {value:.2f}" for name, value in at_end.items())
        for label, at_end in ends.items()
    )
    figure.set_label(f"Learning curves on {data_in_words(runs[0].data, runs[0].stands_in_for)}. {results}.")
    return figure


def _by_label(records: Any) -> dict[str, list[Run]]:
    for each in records.values() if isinstance(records, Mapping) else [records]:
        if not isinstance(each, Iterable):
            raise NothingToDraw(f"learning_curves needs trainings, not one {type(each).__name__}; pass a list of it")
    if isinstance(records, Mapping):
        return {label: [getattr(run, "run", run) for run in runs] for label, runs in records.items() if runs}
    groups: dict[str, list[Run]] = {}
    for record in records:
        run = getattr(record, "run", record)
        label = getattr(record, "arm", None) or f"{run.model}{in_brackets(getattr(run, 'overrides', {}))}"
        groups.setdefault(label, []).append(run)
    return groups


def _same_unit(measures: Iterable[str]) -> bool:
    return len({name.split("_")[1] for name in measures}) == 1


def _curve(runs: Sequence[Run], measure: str) -> _Curve:
    """Average over runs, at the steps where every one of them has a value."""
    seeds = [
        {
            point.step: (point.epoch, getattr(point, measure))
            for point in run.history
            if getattr(point, measure) is not None and math.isfinite(getattr(point, measure))
        }
        for run in runs
    ]
    steps = sorted(set(seeds[0]).intersection(*seeds[1:]))
    if not steps:
        raise NothingToDraw(f"these trainings have no point in common where the {_MEASURES[measure]} is known")
    values = [[seed[step][1] for seed in seeds] for step in steps]
    spread: Callable[[Sequence[float]], float] = statistics.stdev if len(runs) > 1 else lambda _: 0.0
    return _Curve(
        np.array([seeds[0][step][0] for step in steps]),
        np.array([statistics.fmean(at_step) for at_step in values]),
        np.array([spread(at_step) for at_step in values]),
        len(runs),
    )


def _draw_curve(axes: Axes, curve: _Curve, index: int) -> None:
    turn, index = divmod(index, len(style.ACCENTS))
    colour = _LIGHT[style.ACCENTS[index]]
    axes.plot(
        curve.epochs,
        curve.mean,
        color=colour,
        linestyle=style.DASHES[(index + 2 * turn) % len(style.DASHES)],  # a colour comes back with another dash,
        marker=style.MARKERS[index],
        markerfacecolor=_LIGHT["paper"] if turn else colour,  # and its marks are hollow
        markevery=max(1, len(curve.mean) // 8),
    )
    if curve.seeds > 1 and len(curve.mean) == 1:  # a band at one point cannot be seen
        axes.errorbar(curve.epochs, curve.mean, curve.deviation, color=colour, capsize=3)
    elif curve.seeds > 1:
        low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
        axes.fill_between(curve.epochs, low, high, color=colour, alpha=0.18, linewidth=0)


def _label_ends(axes: Axes, curves: Mapping[str, _Curve]) -> None:
    """Write each label beside the end of its line, apart from each other."""
    order = sorted(curves, key=lambda label: curves[label].mean[-1])
    low, high = axes.get_ylim()
    apart = 0.085 * (high - low)
    heights: list[float] = []
    for label in order:
        heights.append(max(curves[label].mean[-1], heights[-1] + apart if heights else low))
    excess = max(0.0, heights[-1] - high)
    labels = list(curves)
    for label, height in zip(order, heights, strict=True):
        index = labels.index(label) % len(style.ACCENTS)
        end = curves[label].epochs[-1]
        axes.annotate(
            label,
            (end, curves[label].mean[-1]),
            (16, height - excess),
            xycoords="data",
            textcoords=("offset points", "data"),
            color=_LIGHT[style.ACCENTS[index]],
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _LIGHT[style.ACCENTS[index]],
                "linewidth": 0.8,
                "relpos": (0, 0.5),
                "shrinkA": 1,
            },
        )


def _title(groups: Mapping[str, Sequence[Run]], runs: Sequence[Run]) -> str:
    counts = {len(group) for group in groups.values()}
    n = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    several = f"mean and one standard deviation of {n} seeds" if max(counts) > 1 else "one seed"
    return f"{data_in_words(runs[0].data, runs[0].stands_in_for)}, {several}"
