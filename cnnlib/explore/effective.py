"""Figures of the effective receptive field: where it lies in the theoretical one, and how it grows with depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label
from cnnlib.measure.effective import effective_size, effective_spread

if TYPE_CHECKING:
    from cnnlib.measure import FieldRow

_LIGHT = style.PALETTE["light"]


def effective_fields(fields: Mapping[str, np.ndarray], row: FieldRow, *, title: str = "") -> Figure:
    """Show effective receptive fields of the same unit beside each other, in the square of its theoretical field.

    Above, a map: the share of each pixel in the gradient, relative to its peak, with the theoretical field as a dashed
    square. Below, its profile (the sum of each column) with the normal distribution of the same mean and spread.

    Args:
        fields: results of ``cnnlib.measure.effective_receptive_field`` by label, for one layer and one input size.
        row: the row of that layer in ``cnnlib.measure.receptive_field``; it says where the theoretical field lies.
        title: of the figure.

    Raises:
        NothingToDraw: if there are no fields, or a unit of this row has no field of its own, or one that is not square.
    """
    require_by_label(NothingToDraw, "effective_fields", fields)
    if not fields:
        raise NothingToDraw("effective_fields needs at least one field")
    if row.whole or isinstance(row.size, tuple):
        raise NothingToDraw(f"{row.name} has no square receptive field on the image")
    unit = np.array(row.output) // 2  # the central one, as effective_receptive_field takes it
    middle = unit * row.stride + row.start
    top, left = middle - row.size / 2
    bottom, right = middle + row.size / 2
    facts = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(max(3.6, 2.5 * len(fields)), 4.7), layout="constrained")
        axes = figure.subplots(2, len(fields), squeeze=False, height_ratios=(3, 1), sharex="col")
        for (label, field), above, below in zip(fields.items(), *axes, strict=True):
            size, spread = effective_size(field), effective_spread(field)[1]
            height, width = field.shape
            above.imshow(field / field.max(), vmin=0, vmax=1)
            above.add_patch(
                Rectangle((left, top), row.size, row.size, fill=False, edgecolor=_LIGHT["orange"], linestyle="--", lw=2)
            )
            above.set_title(f"{label}\neffective size {size:.1f} px", fontsize=9.5)
            above.grid(visible=False)
            above.spines[:].set_visible(False)
            above.tick_params(bottom=False)
            above.set(xlim=(min(-0.5, left) - 1, max(width - 0.5, right) + 1), yticks=[])
            above.set_ylim(max(height - 0.5, bottom) + 1, min(-0.5, top) - 1)

            columns, pixels = field.sum(0), np.arange(width)
            mean = columns @ pixels
            normal = np.exp(-((pixels - mean) ** 2) / (2 * spread**2)) / (spread * math.sqrt(2 * math.pi))
            below.fill_between(pixels, columns, step="mid", color=_LIGHT["blue-soft"])
            below.step(pixels, columns, where="mid", color=_LIGHT["blue"], linestyle="-", linewidth=1.2)
            below.plot(pixels, normal, color=_LIGHT["ink"], linestyle=":")
            below.set_box_aspect(np.ptp(above.get_ylim()) / np.ptp(above.get_xlim()) / 3)  # as wide as the map
            for edge in (left, right):
                below.axvline(edge, color=_LIGHT["orange"], linestyle="--", linewidth=1.5)
            below.set_yticks([])
            below.set_ylim(0, 1.1 * max(columns.max(), normal.max()))
            below.set_xlabel(f"pixel; dotted: normal, σ = {spread:.1f} px")
            facts.append(f"{label}: effective size {size:.1f} pixels, standard deviation {spread:.1f} pixels")
        name = title or f"Effective receptive field in {row.name}, theoretical {row.size} px (dashed)"
        figure.suptitle(name, ha="left", x=0.01)
    figure.set_label(f"{name}. {'; '.join(facts)}. The theoretical field is {row.size} pixels.")
    return figure


def effective_growth(measured: Mapping[str, Mapping[int, float]], theoretical: Mapping[int, float]) -> Figure:
    """Draw effective sizes by depth beside the theoretical ones, each with its fitted square root.

    The curve through a series is the square root that fits it best, ``a √depth``; its label tells the exponent that
    fits best if the exponent is free (0.5 would be a square root, 1 a straight line).

    Args:
        measured: by label, the effective size in pixels at each depth (number of layers).
        theoretical: the theoretical size in pixels at each depth.

    Raises:
        NothingToDraw: if a series has fewer than two depths.
    """
    require_by_label(NothingToDraw, "effective_growth", measured)
    if not measured or min(map(len, measured.values())) < 2:
        raise NothingToDraw("effective_growth needs series of at least two depths")
    facts = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*sorted(theoretical.items()), strict=True), color=_LIGHT["ink"], ls="--", label="theoretical")
        names = style.ACCENTS
        for index, (label, sizes) in enumerate(measured.items()):
            depths, values = map(np.array, zip(*sorted(sizes.items()), strict=True))
            exponent = growth_exponent(sizes)
            root = (values @ np.sqrt(depths)) / depths.sum()
            fine = np.linspace(depths[0], depths[-1], 60)
            colour, marker = _LIGHT[names[index % len(names)]], style.MARKERS[index % len(names)]
            axes.plot(depths, values, marker, color=colour, label=f"{label}: grows as depth$^{{{exponent:.2f}}}$")
            axes.plot(fine, root * np.sqrt(fine), ":", color=colour, label=f"{root:.2f} √depth")
            facts.append(
                f"{label}: {values[0]:.1f} pixels at depth {depths[0]}, {values[-1]:.1f} at {depths[-1]}, "
                f"exponent {exponent:.2f}"
            )
        axes.set(xlabel="depth (layers)", ylabel="size (pixels)", ylim=(0, None))
        axes.legend()
        axes.set_title("Effective and theoretical receptive field by depth")
    figure.set_label(f"Effective receptive field by depth. {'; '.join(facts)}. A square root has exponent 0.5.")
    return figure


def growth_exponent(sizes: Mapping[int, float]) -> float:
    """Return the slope of log size over log depth, by least squares."""
    depths, values = zip(*sizes.items(), strict=True)
    return float(np.polyfit(np.log(depths), np.log(values), 1)[0])
