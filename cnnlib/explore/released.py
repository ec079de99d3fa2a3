"""Released weights: error against multiply-adds, and what no other beats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies.released import Released, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_LIGHT = style.PALETTE["light"]
Place = tuple[float, float, str]
"""Offset of a name from its mark in points, and which side of the name is there."""
_BELOW: tuple[Place, ...] = ((-6, -11, "right"), (6, -11, "left"), (0, -14, "center"))
_ABOVE: tuple[Place, ...] = ((6, 4, "left"), (-6, 4, "right"), (0, 7, "center"))
_KINDS = {
    "convolutional, first training": ("o", {"facecolor": "none", "edgecolor": _LIGHT["blue"]}),
    "convolutional, later training": ("o", {"facecolor": _LIGHT["blue"], "edgecolor": _LIGHT["blue"]}),
    "transformer": ("^", {"facecolor": _LIGHT["gold"], "edgecolor": _LIGHT["gold"]}),
}


def released_errors(weights: Sequence[Released], *, named: Collection[str] = (), two: str = "resnet50") -> Figure:
    """Draw top-1 error against multiply-adds, and the :func:`~cnnlib.studies.released.frontier` of convolutional nets.

    Args:
        weights: what :func:`cnnlib.studies.released.released` returns.
        named: architectures whose name is written beside their first weights.
        two: an architecture of which there are two trainings; an arrow leads from the first to the second.

    Raises:
        NothingToDraw: if there are no weights of ``two``, or of one training only, or none of one of ``named``, or that
            is a single name.
    """
    if isinstance(named, str):  # a list of letters, otherwise
        raise NothingToDraw(f"named must be a list of names, such as [{named!r}], not {named!r}")
    names = {one.name for one in weights}
    if unknown := [name for name in (two, *named) if name not in names]:
        raise NothingToDraw(f"released_errors was given no weights of {', '.join(unknown)}")
    if len(both := [one for one in weights if one.name == two]) < 2:
        raise NothingToDraw(f"released_errors was given one training of {two}, and shows two of it; choose another")
    first, second = both[0], both[-1]
    kinds = {kind: [one for one in weights if _kind(one) == kind] for kind in _KINDS}
    best = frontier(one for one in weights if one.convolutional)
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axes = figure.subplots()
        costs, errors = ([getattr(one, name) for one in best] for name in ("multiply_adds", "top1_error"))
        axes.step(
            costs, errors, where="post", color=_LIGHT["teal"], linewidth=1.6, label="no convolutional net is below"
        )
        for kind, (marker, colours) in _KINDS.items():
            points = [(one.multiply_adds, one.top1_error) for one in kinds[kind]]
            if points:
                axes.scatter(*zip(*points, strict=True), marker=marker, s=26, label=kind, zorder=3, **colours)
        ends = [(one.multiply_adds, one.top1_error) for one in (second, first)]
        arrow = {"arrowstyle": "->", "color": _LIGHT["orange"], "linewidth": 1.6, "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", *ends, arrowprops=arrow, zorder=4)
        axes.set_xscale("log")
        axes.set_xlabel("multiply-adds for one image")
        axes.set_title("top-1 error on ImageNet, one crop, %")
        axes.legend()
        figure.draw_without_rendering()  # from here on it is known where on the page a mark lies
        marks = axes.transData.transform([(one.multiply_adds, one.top1_error) for one in weights])
        taken = [Bbox.from_extents(*(mark - 4), *(mark + 4)) for mark in marks]
        for name in named:
            one = next(one for one in (*best, *weights) if one.name == name)
            # The staircase has the marks above it; below it is room, but for its beginning.
            places = [*_BELOW, *_ABOVE] if one in best[1:] else [*_ABOVE, *_BELOW]
            taken.append(_write_beside(axes, name, (one.multiply_adds, one.top1_error), places, taken))
    told = "; ".join(f"{one.name} {one.top1_error:.1f} % with {one.multiply_adds / 1e9:.2f} G" for one in best)
    figure.set_label(
        f"{len(weights)} sets of weights. No convolutional net is better and cheaper than: {told}. {two}: "
        f"{first.top1_error:.1f} % as first trained, {second.top1_error:.1f} % with the later recipe."
    )
    return figure


def _write_beside(
    axes: Axes, name: str, point: tuple[float, float], places: Sequence[Place], taken: Sequence[Bbox]
) -> Bbox:
    """Write a name beside a mark, at the first place where it lies on the fewest marks and names within the axes.

    Return the place in pixels.
    """

    def write(place: Place) -> Annotation:
        *offset, side = place
        kind = {"textcoords": "offset points", "ha": side, "fontsize": 8, "bbox": style.BEHIND_TEXT}
        return axes.annotate(name, point, offset, zorder=2.5, **kind)  # over the lines, under the marks

    def covered(place: Place) -> tuple[bool, int]:
        label = write(place)
        box = label.get_tightbbox()
        label.remove()
        return box.xmin < axes.bbox.xmin or box.xmax > axes.bbox.xmax, box.count_overlaps(taken)

    return write(min(places, key=covered)).get_tightbbox()


def _kind(one: Released) -> str:
    if not one.convolutional:
        return "transformer"
    return f"convolutional, {'first' if one.weights.endswith('V1') else 'later'} training"
