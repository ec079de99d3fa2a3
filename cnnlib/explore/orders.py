"""The figure of methods of several orders: error against step, both logarithmic."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label
from cnnlib.measure import convergence_order

_LIGHT = style.PALETTE["light"]


def convergence(errors: Mapping[str, Mapping[float, float]], *, title: str = "Error after the last step") -> Figure:
    """Draw the error of each method by the size of its steps, on logarithmic axes, with the slope in the legend.

    Args:
        errors: by label, step to error.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no method, or more than there are kinds of line.
    """
    require_by_label(NothingToDraw, "convergence", errors)
    if not 1 <= len(errors) <= len(style.ACCENTS):
        raise NothingToDraw(f"convergence draws 1 to {len(style.ACCENTS)} methods, not {len(errors)}")
    facts = []
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        kinds = zip(style.ACCENTS, style.DASHES, style.MARKERS, strict=True)
        for (label, values), (colour, dash, marker) in zip(errors.items(), kinds, strict=False):
            slope = convergence_order(values)
            steps = sorted(values)
            axes.loglog(
                steps,
                [values[step] for step in steps],
                color=_LIGHT[colour],
                linestyle=dash,
                marker=marker,
                label=f"{label}: slope {slope:.2f}",
            )
            facts.append(f"{label}: slope {slope:.2f}, from {values[steps[-1]]:.1e} to {values[steps[0]]:.1e}")
        axes.set(xlabel="step h", ylabel="error")
        axes.legend()
        axes.set_title(title)
    figure.set_label(f"{title}, by the size of the step. {'; '.join(facts)}.")
    return figure
