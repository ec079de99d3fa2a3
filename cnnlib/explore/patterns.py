"""Test patterns on which one sees what a filter and its stride do, without any training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnnlib.errors import require_whole
from cnnlib.explore.boxes import NothingToDraw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def zone_plate(size: int, finest: float = 2.0) -> Tensor:
    """Return rings that become finer from the centre outwards: a picture (1, 1, size, size) in [-1, 1].

    Across the middle of an edge one period has ``finest`` pixels; 2 is the finest that pixels can show.

    Raises:
        NothingToDraw: if ``size`` is not a whole number of at least 2 pixels, or ``finest`` not positive.
    """
    require_whole(NothingToDraw, 2, size=size)
    _require_positive(finest=finest)
    axis = torch.arange(size) - (size - 1) / 2
    squared_radius = axis[:, None] ** 2 + axis**2
    return torch.cos(2 * torch.pi * squared_radius / (2 * finest * axis[-1]))[None, None]


def stripe_filter(size: int, period: float) -> Tensor:
    """Return a filter (1, 1, size, size) that answers to vertical stripes of this period in pixels.

    A Gabor filter: stripes under a bell of standard deviation size / 4, with mean zero.

    Raises:
        NothingToDraw: if ``size`` is not a whole number of at least 3 pixels, or ``period`` not positive.
    """
    require_whole(NothingToDraw, 3, size=size)
    _require_positive(period=period)
    axis = torch.arange(size) - (size - 1) / 2
    bell = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (size / 4) ** 2))
    stripes = torch.cos(2 * torch.pi * axis / period) * bell
    stripes = stripes - stripes.mean()
    return (stripes / stripes.abs().sum())[None, None]


def _require_positive(**lengths: float) -> None:
    for name, length in lengths.items():
        if not 0 < length < math.inf:
            raise NothingToDraw(f"{name} must be a positive number of pixels, not {length!r}")


def grey(picture: Tensor, title: str) -> Figure:
    """Show a picture (H, W) in grey, its smallest value black and its largest white, one pixel a value.

    Raises:
        NothingToDraw: if the picture has another form.
    """
    from matplotlib.figure import Figure

    if picture.ndim != 2 or not picture.numel():
        raise NothingToDraw(f"grey shows a picture (H, W), not one of shape {tuple(picture.shape)}")
    low, high = picture.min(), picture.max()
    pixels = ((picture - low) / (high - low).clamp(min=1e-12) * 255).round().byte()
    figure = Figure(figsize=(3.6, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
    axes.set_title(title)
    axes.set_axis_off()
    figure.set_label(f"{title}: {pixels.shape[0]} by {pixels.shape[1]} values in grey.")
    return figure
