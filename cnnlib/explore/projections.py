"""Figures of maps and of what a projection keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from cnnlib.errors import require_whole
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

if TYPE_CHECKING:
    from cnnlib.measure import Projection

_LIGHT = style.PALETTE["light"]
_SERIES = (("best", "principal components"), ("learned", "the convolution"), ("random", "random directions"))


def feature_maps(maps: Mapping[str, Tensor], *, columns: int = 11, gap: int = 1, title: str = "") -> Figure:
    """Show maps of one image as pictures in groups, dark where a map is smallest and bright where it is largest.

    Each map is scaled by itself, so brightness can be compared within a map only.

    Args:
        maps: by heading, maps (C, H, W).
        columns: maps in a row.
        gap: pixels of paper between maps.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no group, one has another shape, or there is no column.
    """
    require_whole(NothingToDraw, 1, columns=columns)
    require_by_label(NothingToDraw, "feature_maps", maps)
    wrong = [label for label, group in maps.items() if group.ndim != 3]
    if wrong or not maps:
        raise NothingToDraw(f"feature_maps needs maps (C, H, W), but {wrong[0] if wrong else 'there is nothing'}")
    sheets = {label: _sheet(group.detach().float().cpu(), columns, gap) for label, group in maps.items()}
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets.values()]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 7 * sum(heights) + 0.35 * len(heights) + 0.3 * bool(title)), layout="constrained")
        panels = figure.subplots(len(sheets), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (label, sheet) in zip(panels, sheets.items(), strict=True):
            axes.imshow(sheet.numpy(), vmin=0, vmax=1, interpolation="none")
            axes.set_title(label, fontsize=9.5)
            axes.set_axis_off()
        if title:
            figure.suptitle(title, ha="left", x=0.01)
    counts = "; ".join(f"{label}: {len(group)} maps" for label, group in maps.items())
    figure.set_label(f"{title or 'Feature maps'}. {counts}.")
    return figure


def _sheet(group: Tensor, columns: int, gap: int) -> Tensor:
    """Lay scaled maps out in rows; between them is nan, which is drawn as paper."""
    count, height, width = group.shape
    rows = -(-count // columns)
    sheet = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap), torch.nan)
    for index, values in enumerate(group):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        low, high = values.min(), values.max()
        sheet[top : top + height, left : left + width] = (values - low) / (high - low).clamp(min=1e-12)
    return sheet


def variance_kept(projections: Mapping[str, Projection], *, title: str = "") -> Figure:
    """Draw how much of the variance of its input each projection keeps, between the best and random directions.

    Args:
        projections: by label, results of ``cnnlib.measure.projection``.
        title: of the figure.

    Raises:
        NothingToDraw: if there are none.
    """
    require_by_label(NothingToDraw, "variance_kept", projections)
    if not projections:
        raise NothingToDraw("variance_kept needs at least one projection")
    labels = [f"{name}: {kept.maps_in} to {kept.maps_out}" for name, kept in projections.items()]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 1.1 + 0.24 * len(labels)), layout="constrained")
        axes = figure.subplots()
        low, high = ([getattr(kept, key) for kept in projections.values()] for key in ("random", "best"))
        axes.hlines(range(len(labels)), low, high, color=_LIGHT["rule"], linewidth=3, zorder=1)
        axes.grid(axis="y", visible=False)
        for index, (attribute, name) in enumerate(_SERIES):
            axes.plot(
                [getattr(kept, attribute) for kept in projections.values()],
                range(len(labels)),
                style.MARKERS[index],
                color=_LIGHT[style.ACCENTS[index]],
                linestyle="",
                label=name,
            )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("variance kept")
        axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0, 1.0), borderaxespad=-1.6)
        if title:
            figure.suptitle(title, ha="left", x=0.01)
    means = ", ".join(
        f"{name} {sum(getattr(kept, attribute) for kept in projections.values()) / len(labels):.0%}"
        for attribute, name in _SERIES
    )
    figure.set_label(f"{title or 'Variance kept by projections'}. Mean over {len(labels)}: {means}.")
    return figure
