"""Figures of effects: what gradients arrive, the gap of two errors, the error by depth, what seeds can resolve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cnnlib.errors import require_integers
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import holds_flow, require_alike, require_by_label
from cnnlib.studies.statistics import student

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnnlib.studies import Record

_LIGHT = style.PALETTE["light"]
OUTSIDE = {"shortcut", "fc"}
"""Layers that are not on the way that :func:`arriving_gradients` draws: in a shortcut, or after the pooling."""


def arriving_gradients(panels: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw the gradient at every convolution before and after training: a column a panel, a line an arm.

    Args:
        panels: heading: records of one budget that hold a probe of :func:`cnnlib.studies.degradation.flow`. Seeds are
            averaged as logarithms. A panel without records is left out.

    Raises:
        NothingToDraw: if there is no record, or one without such a probe, or a panel holds several budgets or images.
    """
    panels = _with_records("arriving_gradients", panels)
    records = [record for panel in panels.values() for record in panel]
    if not records or not all(map(holds_flow, records)):
        raise NothingToDraw("arriving_gradients needs records of a study that probes the gradient, as degradation does")
    words = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 5.2), layout="constrained")
        grid = figure.subplots(2, len(panels), squeeze=False, sharey=True, sharex=True)
        for column, (heading, panel) in enumerate(panels.items()):
            for row, when in enumerate(("initial", "trained")):
                axes = grid[row][column]
                for index, (arm, group) in enumerate(_by_arm(panel).items()):
                    values = _gradients(group, when)
                    places = [place / (len(values) - 1) for place in range(len(values))]
                    _line(axes, places, values, index, label=arm, every=max(1, len(values) // 6))
                    ratio = values[0] / values[-1]
                    words.append(f"{arm} {when}: {values[0]:.1e} at the first layer, {ratio:.1e} times the last")
                axes.set_yscale("log")
                axes.set_title(f"{heading}, {'before' if when == 'initial' else 'after'} training")
        for axes in grid[-1]:
            axes.set_xlabel("place in the network: 0 first convolution, 1 last")
        for axes in grid[0]:
            axes.legend(fontsize=8)
        for axes in grid[:, 0]:
            axes.set_ylabel("gradient, root mean square")
    figure.set_label(f"The gradient of the loss by the output of each convolution. {'; '.join(words)}.")
    return figure


def _with_records(name: str, panels: Mapping[str, Sequence[Record]]) -> dict[str, Sequence[Record]]:
    """Return the panels that hold records.

    Raises:
        NothingToDraw: if they are no mapping, or one holds several budgets or images.
    """
    require_by_label(NothingToDraw, name, panels, "records", "heading")
    for records in panels.values():
        require_alike(NothingToDraw, (record.run for record in records))
    return {heading: records for heading, records in panels.items() if records}


def _by_arm(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each arm, in whatever order they come."""
    arms: dict[str, list[Record]] = {}
    for record in records:
        arms.setdefault(record.arm, []).append(record)
    return arms


def _gradients(records: Sequence[Record], when: str) -> list[float]:
    """Return the geometric mean over seeds of what each convolution gets back; those in shortcuts are left out."""
    each = [
        [max(row["gradient"], 1e-30) for row in getattr(record.probe, when) if not OUTSIDE & {*row["layer"].split(".")}]
        for record in records
    ]
    return [math.exp(fmean(map(math.log, values))) for values in zip(*each, strict=True)]


def error_gaps(panels: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw training and test error of each arm, joined by a line as long as the gap between the two.

    Args:
        panels: heading: records of one study and budget. Errors are means over seeds with one standard deviation. A
            panel without records is left out.

    Raises:
        NothingToDraw: if there is no record, or a panel holds several budgets or images.
    """
    panels = _with_records("error_gaps", panels)
    if not panels:
        raise NothingToDraw("error_gaps needs at least one record")
    groups = {heading: _by_arm(records) for heading, records in panels.items()}
    counts = [len(arms) for arms in groups.values()]
    words = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 1.0 + 0.36 * sum(counts) + 0.55 * len(counts)), layout="constrained")
        grid = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=[n + 0.6 for n in counts])
        for axes, (heading, arms) in zip(grid[:, 0], groups.items(), strict=True):
            for index, (arm, records) in enumerate(arms.items()):
                train, test = ([getattr(r.run, name) for r in records] for name in ("train_error", "test_error"))
                low, high = fmean(train), fmean(test)
                axes.plot([low, high], [index, index], color=_LIGHT["line"], linestyle="-", linewidth=1.5, zorder=1)
                for values, colour, marker, face in ((train, "blue", "o", "none"), (test, "orange", "s", None)):
                    axes.errorbar(
                        fmean(values),
                        index,
                        xerr=stdev(values) if len(values) > 1 else None,
                        color=_LIGHT[colour],
                        marker=marker,
                        markersize=6,
                        markerfacecolor=face or _LIGHT[colour],
                        capsize=2,
                        linestyle="none",
                    )
                place = (max(fmean(v) + (stdev(v) if len(v) > 1 else 0) for v in (train, test)), index)
                axes.annotate(
                    f"{high - low:z.1f} ({len(records)})",
                    place,
                    (11, 0),
                    textcoords="offset points",
                    va="center",
                    size=8,
                )
                words.append(f"{arm}: training {low:.1f}, test {high:.1f}, gap {high - low:z.1f}")
            axes.set_yticks(range(len(arms)), list(arms))
            axes.set_ylim(len(arms) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.set_title(heading)
        axes.set_xlim(left=-2)
        axes.margins(x=0.12)
        axes.set_xlabel("error, %: circle training, square test; beside it the gap and the number of seeds")
    figure.set_label(f"Training and test error in percent. {'; '.join(words)}.")
    return figure


def error_by_depth(panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> Figure:
    """Draw errors against the number of layers: a panel for each heading, a line for each label.

    Args:
        panels: heading: label: number of layers: errors in percent, one a seed; several give a standard deviation.

    Raises:
        NothingToDraw: if there is no error.
    """
    require_by_label(NothingToDraw, "error_by_depth", panels)
    panels = {heading: lines for heading, lines in panels.items() if lines}
    if not panels or not all(errors and all(errors.values()) for lines in panels.values() for errors in lines.values()):
        raise NothingToDraw("error_by_depth needs at least one line, and at least one error at each of its depths")
    words = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.8, 3.9), layout="constrained")
        for axes, (heading, lines) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for index, (label, errors) in enumerate(lines.items()):
                depths = sorted(errors)
                means = [fmean(errors[depth]) for depth in depths]
                _line(axes, depths, means, index, label=label)
                spread = [(d, m, stdev(errors[d])) for d, m in zip(depths, means, strict=True) if len(errors[d]) > 1]
                if spread:
                    colour = _LIGHT[style.ACCENTS[index % len(style.ACCENTS)]]
                    axes.errorbar(
                        *zip(*((d, m) for d, m, _ in spread), strict=True),
                        yerr=[s for *_, s in spread],
                        color=colour,
                        capsize=2,
                        linestyle="none",
                    )
                words.append(
                    f"{label}: " + ", ".join(f"{d} layers {m:.2f}" for d, m in zip(depths, means, strict=True))
                )
            every = sorted({depth for errors in lines.values() for depth in errors})
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(every))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda depth, _: f"{depth:g}"))
            axes.tick_params(axis="x", labelrotation=90, labelsize=8)
            axes.set_title(heading, fontsize=9.5)
            axes.set_xlabel("layers")
            axes.legend(fontsize=7.5)
        figure.axes[0].set_ylabel("error, %")
    figure.set_label(f"Error by depth, in percent. {'; '.join(words)}.")
    return figure


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], index: int, *, label: str, every: int = 1) -> None:
    index %= len(style.ACCENTS)
    axes.plot(
        x,
        y,
        color=_LIGHT[style.ACCENTS[index]],
        linestyle=style.DASHES[index],
        marker=style.MARKERS[index],
        markersize=5,
        markevery=every,
        label=label,
    )


def resolution(seeds: int, spread: float, effects: Mapping[str, float]) -> Figure:
    """Draw the intervals of two means that just do not overlap, and beside them how large some effects are.

    Args:
        seeds: trainings of each of the two; at least 2.
        spread: standard deviation from seed to seed, in points; the same for both.
        effects: label: a difference in points. Its sign does not matter.

    Raises:
        NothingToDraw: if there are fewer seeds, which have no interval, or the spread is no number from 0 on.
    """
    least = smallest_difference(seeds, spread)
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.0, 1.4 + 0.34 * (len(effects) + 2)), layout="constrained")
        axes = figure.subplots()
        rows = [("one arm's mean", 0.0), ("another's", least)]
        for index, (_, mean) in enumerate(rows):
            axes.errorbar(mean, index, xerr=least / 2, color=_LIGHT["blue"], marker="o", capsize=4, linestyle="none")
        for index, size in enumerate(map(abs, effects.values()), start=len(rows)):
            shown = size > least
            axes.barh(index, size, height=0.55, color=_LIGHT["teal" if shown else "gold"], hatch="" if shown else "//")
            words = f"{size:g}: {'could be shown' if shown else 'could not be shown'}"
            beside = {"textcoords": "offset points", "va": "center", "size": 8.5, "bbox": style.BEHIND_TEXT}
            axes.annotate(words, (size, index), (5, 0), **beside)
        names = [name for name, _ in rows] + list(effects)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.axvline(least, color=_LIGHT["line"], linewidth=1)
        axes.set_xlim(-least, max(2 * least, 1.6 * max(map(abs, effects.values()), default=0)))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("difference, points of error")
        axes.set_title(f"{seeds} seeds, spread {spread:g}: from {least:.2f} points on")
    figure.set_label(
        f"With {seeds} seeds and a spread of {spread:g} points, differences above {least:.2f} can be shown."
    )
    return figure


def smallest_difference(seeds: int, spread: float) -> float:
    """Return the difference of two means at which their 95 % intervals touch: twice t s / sqrt(n).

    Raises:
        NothingToDraw: if there are fewer than two seeds, or the spread is no finite number from 0 on.
    """
    require_integers(NothingToDraw, seeds=seeds)
    if seeds < 2:
        raise NothingToDraw(f"a single training has no interval: take at least two seeds, not {seeds}")
    if not isinstance(spread, Real) or not 0 <= spread < math.inf:
        raise NothingToDraw(f"spread must be a finite number of at least 0, not {spread!r}")
    return 2 * student(seeds - 1) * spread / math.sqrt(seeds)
