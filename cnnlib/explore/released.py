"""Released weights: error against multiply-adds, and what no other beats."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import matplotlib
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies.released import Released, frontier

_LIGHT = style.PALETTE["light"]
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
        NothingToDraw: if there are no weights of ``two``, or of one of ``named``, or that is a single name.
    """
    if isinstance(named, str):  # a list of letters, otherwise
        raise NothingToDraw(f"named must be a list of names, such as [{named!r}], not {named!r}")
    names = {one.name for one in weights}
    if unknown := [name for name in (two, *named) if name not in names]:
        raise NothingToDraw(f"released_errors was given no weights of {', '.join(unknown)}")
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
        first, second = ([one for one in weights if one.name == two][index] for index in (0, -1))
        ends = [(one.multiply_adds, one.top1_error) for one in (second, first)]
        arrow = {"arrowstyle": "->", "color": _LIGHT["orange"], "linewidth": 1.6, "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", *ends, arrowprops=arrow, zorder=4)
        for name in named:
            one = next(one for one in (*best, *weights) if one.name == name)
            below = one in best[1:]  # the staircase has the marks above it; below it is room, but for its beginning
            axes.annotate(
                name,
                (one.multiply_adds, one.top1_error),
                (-5, -10) if below else (5, 4),
                textcoords="offset points",
                ha="right" if below else "left",
                fontsize=8,
                bbox=style.BEHIND_TEXT,
                zorder=2.5,  # over the lines, under the marks
            )
        axes.set_xscale("log")
        axes.set_xlabel("multiply-adds for one image")
        axes.set_title("top-1 error on ImageNet, one crop, %")
        axes.legend()
    told = "; ".join(f"{one.name} {one.top1_error:.1f} % with {one.multiply_adds / 1e9:.2f} G" for one in best)
    figure.set_label(
        f"{len(weights)} sets of weights. No convolutional net is better and cheaper than: {told}. {two}: "
        f"{first.top1_error:.1f} % as first trained, {second.top1_error:.1f} % with the later recipe."
    )
    return figure


def _kind(one: Released) -> str:
    if not one.convolutional:
        return "transformer"
    return f"convolutional, {'first' if one.weights.endswith('V1') else 'later'} training"
