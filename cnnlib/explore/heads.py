"""The figure of what auxiliary heads add to the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

if TYPE_CHECKING:
    from cnnlib.measure import HeadGradient

_LIGHT = style.PALETTE["light"]
_SERIES = (("together", "with heads"), ("main", "without"))


def head_gradients(
    measured: Mapping[str, Sequence[Sequence[HeadGradient]]], *, heads_after: Sequence[str] = (), title: str = ""
) -> Figure:
    """Draw the size of the gradient with and without the losses of the heads, part by part, one panel a network.

    Lines are geometric means over the networks measured (seeds, say), bands reach from the smallest to the largest.

    Args:
        measured: by title of the panel, results of ``cnnlib.measure.head_gradients`` for the same parts.
        heads_after: parts that a head reads; marked by a dotted line. Of a name such as ``to_4a.inception3a`` only
            what follows ``inception`` is shown, and meant here.
        title: of the figure.

    Raises:
        NothingToDraw: if there is nothing to draw, the parts of a panel differ, or no part of a panel has a name of
            ``heads_after``.
    """
    require_by_label(NothingToDraw, "head_gradients", measured)
    if not measured or not all(measured.values()):
        raise NothingToDraw("head_gradients needs at least one measurement a panel")
    facts = []
    with matplotlib.rc_context(style.rc()):
        columns = len(measured) if len(measured) <= 3 else 2
        rows = -(-len(measured) // columns)
        figure = Figure(figsize=(7.6, 3.3 if rows == 1 else 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in panels[len(measured) :]:
            axes.remove()
        for axes, (label, runs) in zip(panels, measured.items(), strict=False):
            parts = [row.part.rpartition("inception")[2] for row in runs[0]]
            if any([row.part for row in run] != [row.part for row in runs[0]] for run in runs):
                raise NothingToDraw(f"the measurements of {label!r} are of different parts")
            if unknown := [part for part in heads_after if part not in parts]:
                raise NothingToDraw(f"{label!r} has no part {unknown[0]!r}; choose from {', '.join(parts)}")
            where = np.arange(len(parts))
            for index, (attribute, name) in enumerate(_SERIES):
                sizes = np.array([[getattr(row, attribute) for row in run] for run in runs])
                colour = _LIGHT[style.ACCENTS[1 - index]]
                axes.plot(
                    where,
                    np.exp(np.log(sizes).mean(0)),
                    color=colour,
                    linestyle=style.DASHES[index],
                    marker=style.MARKERS[index],
                    label=name,
                )
                axes.fill_between(where, sizes.min(0), sizes.max(0), color=colour, alpha=0.18, linewidth=0)
            for part in heads_after:
                axes.axvline(parts.index(part) + 0.5, color=_LIGHT["line"], linestyle=":", linewidth=1.2)
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
            axes.minorticks_off()
            axes.set_xticks(where, parts, rotation=90 if columns > 2 else 0)
            axes.tick_params(axis="both", labelsize=8)
            axes.grid(axis="x", visible=False)
            axes.set_title(label, fontsize=9.5)
            factors = [float(np.exp(np.mean([np.log(run[i].factor) for run in runs]))) for i in range(len(parts))]
            facts.append(
                f"{label}: with heads the gradient is {factors[0]:.1f} times as large in {parts[0]}, "
                f"{factors[-1]:.1f} times in {parts[-1]}"
            )
        panels[0].set_ylabel("gradient by the weights, rms")
        panels[0].legend(**style.LEGEND_ON_PAPER)
        if title:
            figure.suptitle(title, ha="left", x=0.01)
    figure.set_label(f"{title or 'Gradient with and without auxiliary heads'}. {'; '.join(facts)}.")
    return figure
