"""Figures of channel weights: how squeeze and excitation scales the maps, by class and by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

if TYPE_CHECKING:
    from cnnlib.measure import ChannelWeights

_LIGHT = style.PALETTE["light"]


def channels_by_class(
    blocks: Mapping[str, ChannelWeights], classes: Sequence[str], *, title: str = "Mean weight of each channel"
) -> Figure:
    """Show the mean weight of each channel for each class: a picture a block, a row a class, a column a channel.

    Where the rows of a picture are alike, all classes get the same weights.

    Args:
        blocks: results of ``cnnlib.measure.channel_weights`` by label.
        classes: the names of the rows.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no block, or a block has not one row for each class.
    """
    require_by_label(NothingToDraw, "channels_by_class", blocks)
    if not blocks or any(len(block.by_class) != len(classes) for block in blocks.values()):
        raise NothingToDraw(f"channels_by_class needs blocks with a row for each of the {len(classes)} classes")
    pictures = [block.by_class for block in blocks.values()]
    low, high = min(p.min().item() for p in pictures), max(p.max().item() for p in pictures)
    widths = [max(picture.shape[1], 12) for picture in pictures]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 0.9 + 0.17 * len(classes)), layout="constrained")
        panels = figure.subplots(1, len(pictures), squeeze=False, width_ratios=widths)[0]
        for index, (label, picture, axes) in enumerate(zip(blocks, pictures, panels, strict=True)):
            shown = axes.imshow(picture.numpy(), vmin=low, vmax=high, aspect="auto", interpolation="nearest")
            axes.set_title(label, fontsize=9)
            axes.set_yticks(range(len(classes)), classes if index == 0 else [""] * len(classes))
            axes.set_xticks([0, picture.shape[1] - 1], [1, picture.shape[1]])
            axes.tick_params(length=0, labelsize=8.5)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
        panels[len(panels) // 2].set_xlabel("channel")
        figure.colorbar(shown, ax=list(panels), fraction=0.03, pad=0.01)
        figure.suptitle(title, ha="left", x=0.01)
    facts = "; ".join(
        f"{label}: mean {block.mean:.2f}, standard deviation {block.across_channels:.3f} over channels and "
        f"{block.between_classes:.3f} over classes"
        for label, block in blocks.items()
    )
    figure.set_label(f"{title}, a row a class and a column a channel. {facts}.")
    return figure


def channel_spread(measured: Mapping[str, Sequence[ChannelWeights]]) -> Figure:
    """Draw by depth how much the channel weights of the classes differ, and how much of all differences that is.

    Left the standard deviation of the class means, right the share of the variance over images that the class explains.

    Args:
        measured: by label, the results of ``cnnlib.measure.channel_weights`` for one network.

    Raises:
        NothingToDraw: if there is nothing.
    """
    require_by_label(NothingToDraw, "channel_spread", measured)
    if not measured or not all(measured.values()):
        raise NothingToDraw("channel_spread needs the channel weights of at least one network")
    panels = (
        ("between_classes", 1, "standard deviation over classes"),
        ("class_share", 100, "share of the variance over images\nthat the class explains, %"),
    )
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 3.3), layout="constrained")
        for axes, (name, factor, label) in zip(figure.subplots(1, 2), panels, strict=True):
            for index, (network, blocks) in enumerate(measured.items()):
                index %= len(style.ACCENTS)
                axes.plot(
                    range(1, len(blocks) + 1),
                    [factor * getattr(block, name) for block in blocks],
                    color=_LIGHT[style.ACCENTS[index]],
                    linestyle=style.DASHES[index],
                    marker=style.MARKERS[index],
                    label=network,
                )
            axes.set_title(label, fontsize=9.5)
            axes.set_xlabel("block, from the image to the classes")
            axes.set_ylim(bottom=0)
            axes.set_xticks(range(1, max(map(len, measured.values())) + 1))
        axes.legend()
    facts = "; ".join(
        f"{network}: from {blocks[0].between_classes:.3f} in the first block to {blocks[-1].between_classes:.3f} "
        f"in the last, the class explains {blocks[0].class_share:.0%} and {blocks[-1].class_share:.0%} of the variance"
        for network, blocks in measured.items()
    )
    figure.set_label(f"Standard deviation of the channel weights over classes, by depth. {facts}.")
    return figure
