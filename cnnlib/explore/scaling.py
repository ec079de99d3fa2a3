"""Compound scaling: how far the released EfficientNets follow their own rule."""

from __future__ import annotations

import math

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.models.efficientnet import RELEASED, Scaling

_LIGHT = style.PALETTE["light"]
CONSTANTS = {"depth": 1.2, "width": 1.1, "resolution": 1.15}
"""Alpha, beta and gamma of Tan and Le 2019."""


def implied_phi(scaling: Scaling) -> dict[str, float]:
    """Return for each factor of a net the phi that would give it: log(factor) / log(constant)."""
    factors = {"depth": scaling.depth, "width": scaling.width, "resolution": scaling.resolution / 224}
    return {name: math.log(factors[name]) / math.log(constant) for name, constant in CONSTANTS.items()}


def scaling_factors() -> Figure:
    """Draw for B0 to B7 the phi that each released factor implies, and the one that the real cost does.

    If the nets followed the rule, the factors would agree for every net. The cost would nearly: widths and numbers of
    blocks are rounded, and the product of the constants is 1.92 and not 2.
    """
    from cnnlib.models import card

    names = list(RELEASED)
    lines = {factor: [implied_phi(scaling)[factor] for scaling in RELEASED.values()] for factor in CONSTANTS}
    costs = [card(f"efficientnet-{name}").multiply_adds for name in names]
    lines["multiply-adds (a factor of 2 each)"] = [math.log2(cost / costs[0]) for cost in costs]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for index, (label, values) in enumerate(lines.items()):
            axes.plot(
                *(range(len(names)), values),
                color=_LIGHT[style.ACCENTS[index]],
                linestyle=style.DASHES[index],
                marker=style.MARKERS[index],
                label=label,
            )
        axes.set_xticks(range(len(names)), [name.upper() for name in names])
        axes.set_ylabel("the phi that would give it")
        axes.legend()
    told = "; ".join(f"{label}: {', '.join(f'{value:.1f}' for value in values)}" for label, values in lines.items())
    figure.set_label(f"Phi implied by the factors of EfficientNet-B0 to B7. {told}.")
    return figure
