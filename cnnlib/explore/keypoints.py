"""Figures of drawn figures: their joints, and where a network finds them."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure
from torch import Tensor

from cnnlib.data.poses import JOINTS, PoseSet
from cnnlib.errors import require_whole
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw

_LETTERS = {"head": "H", "neck": "N", "pelvis": "P"}
"""What stands beside a joint; the others are left or right, hand or foot: ``lh`` and so on."""

_LIGHT, _DARK = style.PALETTE["light"], style.PALETTE["dark"]
_BOX = {"facecolor": _LIGHT["paper"], "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


def joints(figures: PoseSet, found: Tensor | None = None, *, columns: int = 4, title: str = "") -> Figure:
    """Show drawn figures with a ring and a name at each joint, and a cross where a network finds it.

    A line leads from each joint to its cross. Names: H head, N neck, P pelvis, lh left hand, rf right foot and so on.

    Args:
        figures: those to show, a few.
        found: positions (N, 7, 2) in pixels, as ``cnnlib.studies.keypoints.locate`` returns them.
        columns: figures in a row.
        title: of the figure.

    Raises:
        NothingToDraw: if positions and figures are not equally many, or there is no column.
    """
    require_whole(NothingToDraw, 1, columns=columns)
    count = len(figures)
    if found is not None and len(found) != count:
        raise NothingToDraw(f"there are {count} figures and positions for {len(found)}")
    columns = min(columns, count)
    rows = -(-count // columns)
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(1.85 * columns, 1.9 * rows + 0.3 * bool(title)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for index, axes in zip(range(count), panels, strict=False):
            axes.imshow(figures.images[index, 0].numpy(), cmap="gray", vmin=0, vmax=255)
            side = figures.images.shape[-1]
            x, y = figures.joints[index].T.tolist()
            axes.plot(x, y, "o", markersize=7, fillstyle="none", color=_DARK["gold"], markeredgewidth=1.6)
            if found is None:
                for name, at in zip(JOINTS, figures.joints[index], strict=True):
                    label = _LETTERS.get(name) or "".join(word[0] for word in name.split())
                    ways = at - figures.joints[index]  # from the other joints, and most of all from the nearest
                    away = (ways / ways.norm(dim=1, keepdim=True).clamp_min(0.5) ** 2).sum(0)
                    to = at + 3.2 * away / away.norm().clamp_min(1e-6)
                    axes.text(*to.tolist(), label, size=6.5, ha="center", va="center", color=_LIGHT["ink"], bbox=_BOX)
            else:
                to_x, to_y = found[index].T.tolist()
                axes.plot([x, to_x], [y, to_y], color=_DARK["orange"], linestyle="-", linewidth=1.4)
                axes.plot(to_x, to_y, "x", color=_DARK["orange"], markersize=5, markeredgewidth=1.8)
            axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
        if title:
            figure.suptitle(title, ha="left", x=0.01)
    marks = "a ring at each joint" if found is None else "a ring at each joint and a cross where it was found"
    figure.set_label(f"{title or 'Generated stick figures'}: {count} figures, {marks}.")
    return figure
