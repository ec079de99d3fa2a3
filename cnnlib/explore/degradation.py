"""Figures of depth: errors of plain and residual nets over their depth, and what happens along the layers of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import matplotlib
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_alike
from cnnlib.studies import Record
from cnnlib.training.words import data_in_words

_LIGHT = style.PALETTE["light"]
_MEASURES = {"train_error": "training error, %", "test_error": "test error, %"}
KINDS = {"plain": "plain", "resnet": "residual"}


def kind_and_depth(arm: str) -> tuple[str, int]:
    """Return ``("plain", 56)`` for the arm ``"plain56"``.

    Raises:
        NothingToDraw: if the arm is neither a plain net nor a ResNet.
    """
    match = re.fullmatch(f"({'|'.join(KINDS)})([0-9]+)", arm)
    if not match:
        raise NothingToDraw(f"{arm!r} is neither a plain net nor a ResNet")
    return match[1], int(match[2])


def depth_errors(records: Sequence[Record]) -> Figure:
    """Draw the errors after the last step over the depth: a line for each kind of net, a dot for each training.

    Lines join the means over seeds. Bars are one standard deviation, where there are several seeds.

    Raises:
        NothingToDraw: if there is no record, or one of another kind of net, or they are of several budgets or images.
    """
    if not records:
        raise NothingToDraw("depth_errors needs at least one record")
    require_alike(NothingToDraw, (record.run for record in records))
    groups: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        kind, depth = kind_and_depth(record.arm)
        groups.setdefault(kind, {}).setdefault(depth, []).append(record)
    told = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        for axes, (measure, name) in zip(figure.subplots(1, 2, sharey=True), _MEASURES.items(), strict=True):
            for index, (kind, by_depth) in enumerate(sorted(groups.items())):
                depths = sorted(by_depth)
                values = [[getattr(record.run, measure) for record in by_depth[depth]] for depth in depths]
                means = [fmean(at) for at in values]
                spread = [stdev(at) if len(at) > 1 else 0 for at in values]
                colour = _LIGHT[style.ACCENTS[index]]
                axes.errorbar(
                    depths,
                    means,
                    spread,
                    color=colour,
                    linestyle=style.DASHES[index],
                    marker=style.MARKERS[index],
                    capsize=4,
                )
                dots = [(depth, value) for depth, at in zip(depths, values, strict=True) for value in at]
                axes.scatter(*zip(*dots, strict=True), s=9, color=colour, alpha=0.6, linewidths=0)
                middle = len(depths) // 2
                axes.annotate(
                    KINDS[kind],
                    (depths[middle], means[middle] + (0 if index else spread[middle])),
                    (0, -32 if index else 9),
                    textcoords="offset points",
                    color=colour,
                    ha="center",
                    va="center",
                )
                told += [
                    f"{name[:-3]} of {kind}{depth} {mean:.1f} %" for depth, mean in zip(depths, means, strict=True)
                ]
            axes.set_title(name)
            axes.set_xlabel("layers")
            axes.set_xticks(sorted({depth for by_depth in groups.values() for depth in by_depth}))
            axes.set_ylim(0, 100)
        run = records[0].run
        data = data_in_words(run.data, run.stands_in_for)
        figure.suptitle(f"{data}, {run.steps:,} steps", ha="left", x=0.01)
    figure.set_label(f"Errors on {data} after {run.steps:,} steps: {'; '.join(told)}.")
    return figure


def along_the_net(
    lines: Mapping[str, Sequence[float]],
    *,
    title: str,
    spread: Mapping[str, Sequence[float]] | None = None,
    log: bool = False,
    ticks: Sequence[str] = (),
    level: tuple[float, str] | None = None,
) -> Figure:
    """Draw what was measured at every layer or block of one or more nets, from the input on the left to the output.

    Args:
        lines: a name, and a value for each layer or block. Nets of other depths are stretched to the same width.
        title: of the figure: what was measured.
        spread: a deviation for each value of a line, drawn as a bar above and below it.
        log: whether the axis of the values is logarithmic.
        ticks: names of the layers or blocks, if all lines have the same.
        level: a value to compare with, and its name.

    Raises:
        NothingToDraw: if there is no line, or one has fewer than two values, or not as many as there are ticks, or a
            spread belongs to no line or has not as many values as its line.
    """
    if not lines or min(map(len, lines.values())) < 2:
        raise NothingToDraw("along_the_net needs lines of at least two values")
    lengths = {name: len(values) for name, values in lines.items()}
    if ticks and set(lengths.values()) != {len(ticks)}:
        raise NothingToDraw(f"{len(ticks)} ticks need lines of as many values, not of {sorted(set(lengths.values()))}")
    if wrong := [name for name, bars in (spread or {}).items() if lengths.get(name) != len(bars)]:
        raise NothingToDraw(f"the spread of {wrong[0]!r} needs a line of this name with as many values")
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, (name, values) in enumerate(lines.items()):
            index %= len(style.ACCENTS)
            places = [place / (len(values) - 1) for place in range(len(values))]
            axes.plot(
                places,
                values,
                color=_LIGHT[style.ACCENTS[index]],
                linestyle=style.DASHES[index],
                marker=style.MARKERS[index],
                markevery=max(1, len(values) // 12),
                label=name,
            )
            if spread and name in spread:
                colour = _LIGHT[style.ACCENTS[index]]
                axes.errorbar(places, values, spread[name], color=colour, capsize=3, linestyle="none")
        if level:
            axes.axhline(level[0], color=_LIGHT["muted"], linewidth=1)
            axes.annotate(level[1], (0, level[0]), (0, 4), textcoords="offset points", color=_LIGHT["muted"])
        if log:
            axes.set_yscale("log")
        if ticks:
            axes.set_xticks([place / (len(ticks) - 1) for place in range(len(ticks))], ticks)
        else:
            axes.set_xticks([0, 1], ["input", "output"])
        axes.set_title(title)
        axes.legend(ncols=min(4, len(lines)), loc="upper center", bbox_to_anchor=(0.5, -0.1))
    told = "; ".join(f"{name} from {values[0]:.3g} to {values[-1]:.3g}" for name, values in lines.items())
    figure.set_label(f"{title}, from the input to the output: {told}.")
    return figure
