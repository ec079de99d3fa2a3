"""Figures of how signal and gradient travel along a residual network: block by block, and with growing depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

if TYPE_CHECKING:
    from cnnlib.measure import BlockFlow

_LIGHT = style.PALETTE["light"]
_TITLES = ("signal", "gradient", "by shortcuts alone")
_TOP, _BOTTOM = 1e12, 1e-12
"""Beyond these a ratio is drawn at the edge."""


def flow_by_block(flows: Mapping[str, Sequence[BlockFlow]], *, title: str | None = None) -> Figure:
    """Draw signal and gradient at the output of each block, one line a network, on logarithmic scales.

    Gradients are divided by that at the last block, so that every line ends at 1. The third panel has the part that
    came back by the shortcuts alone; where there is none (a plain network), no point is drawn.

    Args:
        flows: results of ``cnnlib.measure.block_flow`` by label.
        title: of the figure.

    Raises:
        NothingToDraw: if there are no flows, or one has no blocks.
    """
    require_by_label(NothingToDraw, "flow_by_block", flows)
    if not flows or not all(flows.values()):
        raise NothingToDraw("flow_by_block needs at least one network with blocks")
    lines = {label: [_values(flow, block) for block in flow] for label, flow in flows.items()}
    numbers = {label: list(range(1, len(flow) + 1)) for label, flow in flows.items()}
    figure = _panels(lines, numbers, _TITLES, "block", title or "Signal and gradient at the output of each block")
    facts = "; ".join(
        f"{label}: signal {points[0][0]:.2g} after the first block and {points[-1][0]:.2g} after the last, gradient at "
        f"the first {points[0][1]:.2g} times that at the last, by shortcuts alone {points[0][2]:.2g} times"
        for label, points in lines.items()
    )
    figure.set_label(f"Signal and gradient by block. {facts}.")
    return figure


def flow_by_depth(flows: Mapping[str, Mapping[int, Sequence[BlockFlow]]], *, title: str | None = None) -> Figure:
    """Draw what becomes of signal and gradient on the whole way through networks of several depths.

    The first panel has the signal after the last block, the others the gradient at the first block divided by that at
    the last, in all and by the shortcuts alone.

    Args:
        flows: by label and by number of layers, results of ``cnnlib.measure.block_flow``.
        title: of the figure.

    Raises:
        NothingToDraw: if there are no flows, or one has no blocks.
    """
    require_by_label(NothingToDraw, "flow_by_depth", flows)
    if not flows or not all(by_depth and all(by_depth.values()) for by_depth in flows.values()):
        raise NothingToDraw("flow_by_depth needs at least one network with blocks")
    lines, depths = {}, {}
    for label, by_depth in flows.items():
        depths[label] = sorted(by_depth)
        ends = [(by_depth[depth], by_depth[depth][0], by_depth[depth][-1]) for depth in depths[label]]
        lines[label] = [(last.signal, *_values(flow, first)[1:]) for flow, first, last in ends]
    titles = ("signal after the last block", "gradient at the first", "by shortcuts, at the first")
    figure = _panels(lines, depths, titles, "layers", title or "From the first block to the last, by depth")
    facts = "; ".join(
        f"{label} at {depths[label][-1]} layers: signal {points[-1][0]:.2g}, gradient at the first block "
        f"{points[-1][1]:.2g} times that at the last, by shortcuts alone {points[-1][2]:.2g} times"
        for label, points in lines.items()
    )
    figure.set_label(f"Signal and gradient by depth. {facts}.")
    return figure


def _values(flow: Sequence[BlockFlow], block: BlockFlow) -> tuple[float, float, float]:
    """Return a block's signal and its gradients, relative to the last block's."""
    end = flow[-1].gradient or float("nan")
    return block.signal, block.gradient / end, block.shortcut_gradient / end


def _panels(
    lines: Mapping[str, Sequence[tuple[float, float, float]]],
    positions: Mapping[str, Sequence[int]],
    titles: Sequence[str],
    across: str,
    title: str,
) -> Figure:
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.9), layout="constrained")
        for panel, (axes, name) in enumerate(zip(figure.subplots(1, 3), titles, strict=True)):
            for index, (label, points) in enumerate(lines.items()):
                index %= len(style.ACCENTS)
                drawn = [
                    (x, min(max(point[panel], _BOTTOM), _TOP))
                    for x, point in zip(positions[label], points, strict=True)
                    if point[panel] > 0
                ]
                axes.plot(
                    *(zip(*drawn, strict=True) if drawn else ((), ())),
                    color=_LIGHT[style.ACCENTS[index]],
                    linestyle=style.DASHES[index],
                    marker=style.MARKERS[index],
                    markevery=max(1, len(points) // 6),
                    label=label if panel == 0 else None,
                )
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            narrow = high < 100 * low  # powers of ten alone would be one tick, or two
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=6))
            if narrow:
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(name, fontsize=9.5)
            axes.set_xlabel(across)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.suptitle(title, ha="left", x=0.01)
        figure.legend(loc="outside lower left", ncols=3, handlelength=3.2)
    return figure
