"""Figures of dense connections: which maps a trained DenseNet reads, and what keeping them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label
from cnnlib.studies import Record

_LIGHT = style.PALETTE["light"]
_WHEN = {"initial": "before training", "trained": "after training"}
KINDS = {"weights": "mean absolute weight", "with_gain": "mean absolute weight times gain"}


def feature_reuse(records: Sequence[Record], *, kind: str = "weights") -> Figure:
    """Draw Figure 5 of the DenseNet paper: how strongly each layer is connected with each source, block by block.

    A square for each pair, with an area in proportion to the mean weight: across the readers, down the sources. The
    strongest source of each reader has a full square. The last reader is the transition or the classifier. Above before
    the training, below after it. Seeds are averaged.

    Args:
        records: of DenseNets of one kind, with the probe of :func:`cnnlib.studies.families.inside`.
        kind: ``"weights"``, as in the paper, or ``"with_gain"``: times the gain of the batch normalisation before.

    Raises:
        NothingToDraw: if no record holds the weights of a DenseNet, or there is no such kind.
    """
    probes = [(record, getattr(record.probe, "trained", None)) for record in records]  # another study's has none
    found = [record for record, trained in probes if isinstance(trained, Mapping) and trained.get("sources")]
    if not found or kind not in KINDS:
        raise NothingToDraw(
            f"feature_reuse needs records of a DenseNet with its sources, and a kind of {', '.join(KINDS)}"
        )
    words = []
    with matplotlib.rc_context(style.rc()):
        blocks = len(found[0].probe.trained["sources"])
        figure = Figure(figsize=(7.6, 5.4), layout="constrained")
        grid = figure.subplots(2, blocks, squeeze=False)
        means = {when: [_mean(found, when, kind, block) for block in range(blocks)] for when in _WHEN}
        for row, when in enumerate(_WHEN):
            for block, (axes, weights) in enumerate(zip(grid[row], means[when], strict=True)):
                _hinton(axes, weights, _LIGHT["teal" if row else "muted"])
                axes.set_title(f"block {block + 1}, {_WHEN[when]}", fontsize=9.5)
                if row:
                    axes.set_xlabel("reader")
                if not block:
                    axes.set_ylabel("source")
        for block, weights in enumerate(means["trained"], start=1):
            last, first = weights[-1], [reader[0] for reader in weights]
            words.append(
                f"block {block}: the last reader reads its newest source {last[-1] / (last[0] or 1e-12):.1f} times as "
                f"strongly as the block's input; the block's input is read with {min(first):.3f} to {max(first):.3f}"
            )
        figure.suptitle(f"{KINDS[kind]}, largest of each reader = full square", ha="left", x=0.01)
    figure.set_label(f"Who reads what, {KINDS[kind]}, {len(found)} trainings. After training, {'; '.join(words)}.")
    return figure


def _mean(records: Sequence[Record], when: str, kind: str, block: int) -> list[list[float]]:
    seeds = [getattr(record.probe, when)["sources"][block][kind] for record in records]
    return [[fmean(values) for values in zip(*rows, strict=True)] for rows in zip(*seeds, strict=True)]


def _hinton(axes: matplotlib.axes.Axes, weights: Sequence[Sequence[float]], colour: str) -> None:
    squares = []
    for reader, sources in enumerate(weights, start=1):
        for source, weight in enumerate(sources):
            side = 0.92 * (weight / (max(sources) or 1)) ** 0.5
            squares.append(Rectangle((reader - side / 2, source - side / 2), side, side))
    axes.add_collection(PatchCollection(squares, facecolor=colour, edgecolor="none"))
    count = len(weights)
    axes.set(xlim=(0.4, count + 0.6), ylim=(count - 0.4, -0.6), aspect="equal")
    axes.set_xticks([1, count], ["1", "out"])
    axes.set_yticks([0, count - 1], ["in", str(count - 1)])
    axes.grid(visible=False)


def memory_by_depth(lines: Mapping[str, Mapping[int, int]], *, title: str) -> Figure:
    """Draw the memory of networks over their depth, both on logarithmic scales.

    Args:
        lines: by name and number of layers, bytes.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no line, or one has fewer than two depths.
    """
    require_by_label(NothingToDraw, "memory_by_depth", lines)
    if not lines or min(map(len, lines.values())) < 2:
        raise NothingToDraw("memory_by_depth needs lines of at least two depths")
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        for index, (name, by_depth) in enumerate(lines.items()):
            index %= len(style.ACCENTS)
            axes.plot(
                list(by_depth),
                [size / 1e6 for size in by_depth.values()],
                color=_LIGHT[style.ACCENTS[index]],
                linestyle=style.DASHES[index],
                marker=style.MARKERS[index],
                label=name,
            )
        axes.set(xscale="log", yscale="log", xlabel="layers")
        ticks: list[int] = []
        for depth in sorted({depth for by_depth in lines.values() for depth in by_depth}):
            if not ticks or depth > 1.15 * ticks[-1]:  # so that no number lies on another
                ticks.append(depth)
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} MB")
        axes.set_title(title)
        axes.legend()
    told = "; ".join(
        f"{name} " + ", ".join(f"{size / 1e6:.1f} MB at {depth} layers" for depth, size in by_depth.items())
        for name, by_depth in lines.items()
    )
    figure.set_label(f"{title}: {told}.")
    return figure
