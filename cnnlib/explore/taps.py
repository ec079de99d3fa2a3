"""Figures of which input pixels a unit reads, one small map a branch."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from cnnlib.errors import require_whole
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

_LIGHT = style.PALETTE["light"]

FINE = 40
"""On maps with more pixels across, each pixel read is drawn larger than it is."""


def reach(fields: Mapping[str, np.ndarray], *, columns: int = 4, title: str = "") -> Figure:
    """Show which pixels the central unit of several layers reads: those where its gradient is not zero.

    Pixels read are dark; a cross marks the unit's own place. Above each map stand the size of the field, from the first
    pixel read to the last, and the number of pixels read in it.

    Args:
        fields: results of ``cnnlib.measure.effective_receptive_field`` by label.
        columns: maps in a row.
        title: of the figure.

    Raises:
        NothingToDraw: if there are no fields, one of them reads nothing, or there is no column.
    """
    require_whole(NothingToDraw, 1, columns=columns)
    require_by_label(NothingToDraw, "reach", fields)
    if not fields or not all(np.any(field) for field in fields.values()):
        raise NothingToDraw("reach needs at least one field, and each must read a pixel")
    columns = min(columns, len(fields))
    rows = -(-len(fields) // columns)
    facts = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(max(3.6, 1.9 * columns), 2.4 * rows + 0.3 * bool(title)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(fields) :]:
            axes.set_axis_off()
        for axes, (label, field) in zip(panels, fields.items(), strict=False):
            read = field > 0
            size, count = extent(field), int(read.sum())
            height, width = read.shape
            axes.imshow(read, cmap=ListedColormap([_LIGHT["surface"], _LIGHT["blue"]]), vmin=0, vmax=1)
            if max(height, width) > FINE:
                y, x = np.nonzero(read)
                axes.plot(x, y, "s", color=_LIGHT["blue"], markersize=2.2)
            axes.plot(width // 2, height // 2, "+", color=_LIGHT["orange"], markersize=9, markeredgewidth=2)
            axes.set_title(f"{label}\n{size[0]}×{size[1]}, reads {count:,}", fontsize=9)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(True)
            facts.append(f"{label}: field {size[0]} by {size[1]}, reads {count} pixels")
        if title:
            figure.suptitle(title, ha="left", x=0.01)
    figure.set_label(f"{title or 'Pixels read by one unit'}. {'; '.join(facts)}.")
    return figure


def extent(field: np.ndarray) -> tuple[int, int]:
    """Return height and width of the smallest box around all pixels that are read. In pixels.

    Raises:
        NothingToDraw: if none is read.
    """
    rows, columns = np.nonzero(field > 0)
    if not len(rows):
        raise NothingToDraw("this field reads nothing")
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
