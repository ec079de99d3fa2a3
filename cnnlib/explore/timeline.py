"""Years: the winners of ILSVRC, whose error fell while the nets grew deeper, and the compute that AlexNet's took."""

from __future__ import annotations

from datetime import date

import matplotlib
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.studies.efficiency import ALEXNET_LEVEL, LEVEL, years_between
from cnnlib.studies.ilsvrc import ANNOTATOR, END, WINNERS

_LIGHT = style.PALETTE["light"]
_ABOVE = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8.5}


def ilsvrc_timeline(*, end: bool = False) -> Figure:
    """Draw top-5 error and depth of the winners of ILSVRC, 2010 to 2017, with the error of one trained person.

    Every number stands beside its bar; ``end`` marks where the contest ended. Numbers and sources are those of
    :mod:`cnnlib.studies.ilsvrc`.
    """
    years = [winner.year for winner in WINNERS]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        errors, depths = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        errors.bar(years, [winner.error for winner in WINNERS], width=0.62, color=_LIGHT["blue"])
        errors.axhline(ANNOTATOR, color=_LIGHT["orange"], linestyle="--", linewidth=1.4)
        words = f"one trained person: {ANNOTATOR:g}"
        errors.annotate(words, (2017, ANNOTATOR), (0, 12), color=_LIGHT["orange"], **_ABOVE | {"ha": "right"})
        for winner in WINNERS:
            errors.annotate(f"{winner.error:g}", (winner.year, winner.error), (0, 4), bbox=style.BEHIND_TEXT, **_ABOVE)
        errors.set_ylim(0, 32)
        errors.set_title("top-5 error of the winner, %")
        depths.bar(years, [winner.layers or 0 for winner in WINNERS], width=0.62, color=_LIGHT["teal"], hatch="//")
        for winner in WINNERS:
            words = str(winner.layers) if winner.layers else "no net" if winner.year < 2012 else "several\nkinds"
            depths.annotate(words, (winner.year, winner.layers or 0), (0, 3), **_ABOVE)
        depths.set_ylim(0, 195)
        depths.set_title("layers of its deepest net")
        depths.set_xticks(years, [f"{winner.year}\n{winner.team}" for winner in WINNERS], fontsize=8.5)
        for axes in (errors, depths):
            axes.grid(axis="x", visible=False)
            if end:
                axes.axvline(years[-1] + 0.6, color=_LIGHT["ink"], linewidth=1.4)
        if end:
            beside = {"textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8.5}
            errors.annotate(END, (years[-1] + 0.6, 31), (-8, 0), bbox=style.BEHIND_TEXT, **beside)
            errors.set_xlim(years[0] - 0.6, years[-1] + 0.8)
    told = "; ".join(f"{w.year} {w.team} {w.error:g} %" + f", {w.layers} layers" * bool(w.layers) for w in WINNERS)
    figure.set_label(f"Winners of ILSVRC: {told}. One trained person: {ANNOTATOR:g} %." + f" {END}." * end)
    return figure


def efficiency_timeline() -> Figure:
    """Draw the compute that reaches AlexNet's accuracy, year by year, beside what Moore's law alone would give.

    Numbers and sources are those of :mod:`cnnlib.studies.efficiency`. Moore's law halves the cost every two years.
    """
    first, last = ALEXNET_LEVEL[0], ALEXNET_LEVEL[-1]
    years = [first.date.year + (point.date - date(first.date.year, 1, 1)).days / 365.25 for point in ALEXNET_LEVEL]
    ends = [years[0], years[-1]]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            *(years, [point.compute for point in ALEXNET_LEVEL]),
            color=_LIGHT["blue"],
            marker="o",
            linestyle="",
            label="least compute published",
        )
        axes.step(years, [point.compute for point in ALEXNET_LEVEL], where="post", color=_LIGHT["blue"], linewidth=1)
        axes.plot(
            *(ends, [first.compute, first.compute * 2 ** (-years_between(first, last) / 2)]),
            color=_LIGHT["orange"],
            linestyle="--",
            label="halved every two years (Moore's law)",
        )
        for point, x in zip(ALEXNET_LEVEL, years, strict=True):
            axes.annotate(
                f"{point.name}: {point.compute:g}",
                (x, point.compute),
                (0, 8) if point is first else (-6, -12),
                textcoords="offset points",
                ha="left" if point is first else "right",
                fontsize=8.5,
                bbox=style.BEHIND_TEXT,
            )
        axes.set_yscale("log")
        axes.set_ylim(0.04, 5)
        axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 4], ["0.05", "0.1", "0.2", "0.5", "1", "2", "4"])
        axes.minorticks_off()
        axes.set_ylabel("teraflop/s-days")
        axes.set_title(f"compute to reach a top-5 accuracy of {LEVEL} % on ImageNet")
        axes.legend(loc="lower left")
    told = "; ".join(f"{point.date:%B %Y} {point.name} {point.compute:g}" for point in ALEXNET_LEVEL)
    figure.set_label(
        f"Compute in teraflop/s-days: {told}. Moore's law alone would have come to "
        f"{first.compute * 2 ** (-years_between(first, last) / 2):.2f}."
    )
    return figure
