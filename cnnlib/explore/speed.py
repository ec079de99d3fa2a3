"""Times of layers: what few multiply-adds promise, what they hold, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies.speed import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnnlib.studies import Speed

_LIGHT = style.PALETTE["light"]


def speed_up(speeds: Sequence[Speed], *, work: str = "forward") -> Figure:
    """Draw how many times faster than a dense convolution a separable one is, measured, and what its count promises.

    A panel for each device: over the number of maps the ratio of the multiply-adds, and a line of measured ratios for
    each batch size. Below 1 the separable convolution is slower.

    Args:
        speeds: records of times.
        work: ``"forward"`` or ``"training"``.

    Raises:
        NothingToDraw: if there is no record, or one without such times.
    """
    _require(speeds, work)
    told = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 4.3), layout="constrained")
        panels = figure.subplots(1, len(speeds), sharey=True, squeeze=False)[0]
        for axes, speed in zip(panels, speeds, strict=True):
            rows = [row for row in speed.layers if row.work == work and row.kind == KINDS[0]]
            channels = sorted({row.channels for row in rows})
            promised = [9 * C / (9 + C) for C in channels]
            axes.plot(channels, promised, color=_LIGHT["ink"], linestyle=":", marker="", label="multiply-adds")
            batches = sorted({row.batch_size for row in rows})
            for index, batch in enumerate(batches):
                ratios = []
                for C in channels:
                    dense, separable = (speed.layer(kind, C, batch, work) for kind in (KINDS[0], KINDS[3]))
                    ratios.append(dense.least / separable.least)
                axes.plot(
                    *(channels, ratios),
                    color=_LIGHT[style.ACCENTS[index]],
                    linestyle=style.DASHES[index],
                    marker=style.MARKERS[index],
                    label=f"time, batch {batch}",
                )
                values = ", ".join(f"{ratio:.1f} at {C} maps" for C, ratio in zip(channels, ratios, strict=True))
                told.append(f"{speed.hardware}, batch {batch}: {values}")
            axes.axhline(1, color=_LIGHT["line"], linewidth=1)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(channels, [str(C) for C in channels])
            axes.minorticks_off()
            axes.set_title(f"{_short(speed)}\nbatches of {' and '.join(map(str, batches))}")
            axes.set_xlabel("maps")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8.5)
        drawn = [ratio for axes in panels for line in axes.lines for ratio in line.get_ydata()]
        ticks = [2.0**e for e in range(math.floor(math.log2(min(drawn))), math.ceil(math.log2(max(drawn))) + 1)]
        panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panels[0].set_ylabel(f"times faster than dense, {work}")
    figure.set_label(f"How many times faster than a dense convolution the separable one is. {'; '.join(told)}.")
    return figure


def roofline(speeds: Sequence[Speed], *, batch_size: int | None = None, work: str = "forward") -> Figure:
    """Draw what each layer reaches under the roof of its device: operations a second over operations for each byte.

    The roof rises where memory limits and is flat where arithmetic does. Both parts were measured. A panel for each
    device, a marker for each kind of layer, larger for more maps.

    Args:
        speeds: records of times.
        batch_size: default the largest of each record for this work.
        work: ``"forward"`` or ``"training"``.

    Raises:
        NothingToDraw: if there is no record, or one without such times.
    """
    _require(speeds, work, batch_size)
    told = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        panels = figure.subplots(1, len(speeds), squeeze=False)[0]
        for axes, speed in zip(panels, speeds, strict=True):
            told.append(_draw_roof(axes, speed, batch_size, work))
        panels[0].set_ylabel("GFLOP/s")
        marks = [mark for mark in panels[0].collections if mark.get_label() in KINDS]
        figure.legend(handles=marks, loc="outside lower center", ncols=3)
    figure.set_label(f"What layers reach, {work}. {'; '.join(told)}.")
    return figure


def _draw_roof(axes: Axes, speed: Speed, batch_size: int | None, work: str) -> str:
    batch_size = batch_size or max(row.batch_size for row in speed.layers if row.work == work)
    rows = [row for row in speed.layers if (row.batch_size, row.work) == (batch_size, work) and row.kind in KINDS[:3]]
    channels = sorted({row.channels for row in rows})
    edge = speed.limits.operations / speed.limits.bytes
    least, most = min(row.intensity for row in rows) / 2, max(*(row.intensity for row in rows), edge) * 2
    roof = [min(x * speed.limits.bytes, speed.limits.operations) / 1e9 for x in (least, edge, most)]
    axes.plot([least, edge, most], roof, color=_LIGHT["ink"], linestyle="-", marker="", linewidth=1.4)
    told = []
    for index, kind in enumerate(KINDS[:3]):
        these = [row for row in rows if row.kind == kind]
        axes.scatter(
            [row.intensity for row in these],
            [row.operations_per_second / 1e9 for row in these],
            s=[20 + 35 * channels.index(row.channels) for row in these],
            color=_LIGHT[style.ACCENTS[index]],
            marker=style.MARKERS[index],
            label=kind,
            zorder=3,
        )
        reached = ", ".join(f"{row.operations_per_second / 1e9:,.0f}" for row in these)
        told.append(f"{kind} {reached} GFLOP/s")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [m * 10**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for m in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(shown, [f"{tick:,g}" for tick in shown])
    axes.minorticks_off()
    axes.set_title(f"{_short(speed)}, batch {batch_size}")
    axes.set_xlabel("operations for each byte")
    return f"{speed.hardware}, batch {batch_size}: {', '.join(told)}, with {', '.join(map(str, channels))} maps"


def _short(speed: Speed) -> str:
    """Return the name of the device, short enough for a panel."""
    name, _, how = speed.hardware.partition(" (")
    return f"{name.replace('NVIDIA ', '')[:24]}, {how.rstrip(')').removesuffix(', eager')}"


def _require(speeds: Sequence[Speed], work: str, batch_size: int | None = None) -> None:
    if not speeds:
        raise NothingToDraw("there is no record of times; `python -m cnnlib speed` measures one")
    for speed in speeds:
        recorded = sorted({(row.work, row.batch_size) for row in speed.layers})
        if not any(done == work and batch_size in (None, size) for done, size in recorded):
            wanted = f"{work!r}" if batch_size is None else f"{work!r} with batch {batch_size}"
            choices = ", ".join(f"{done!r} with batch {size}" for done, size in recorded)
            raise NothingToDraw(f"{speed.hardware} has no times of {wanted}; recorded are {choices or 'none'}")
