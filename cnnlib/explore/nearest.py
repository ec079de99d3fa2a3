"""A figure of images and their nearest neighbours under several measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot  # tells IPython how to show a Figure
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import require_by_label

_LIGHT = style.PALETTE["light"]
_GAP = 12
"""Pixels of paper between two images; the class is written there."""
_APART = 14
"""More of them before each group of neighbours."""


def neighbours(
    pictures: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    queries: Sequence[int],
    found: Mapping[str, Tensor],
    *,
    title: str = "",
) -> Figure:
    """Show images, one a row, each followed by its nearest neighbours under one measure after the other.

    Neighbours of the same class have a frame, the others a ``≠`` before the name of their class.

    Args:
        pictures: uint8 (N, 3, H, W), all images.
        labels: int64 (N,), their classes.
        classes: names of the classes.
        queries: which images to show, one a row.
        found: by measure, the neighbours of these images: int64 (len(queries), count).
        title: of the figure.

    Raises:
        NothingToDraw: if there is no query or no measure, or the numbers of rows differ.
    """
    require_by_label(NothingToDraw, "neighbours", found)
    if not len(queries) or not found or {len(rows) for rows in found.values()} != {len(queries)}:
        raise NothingToDraw("neighbours needs queries and, for each measure, one row of neighbours a query")
    pictures, labels = pictures.cpu(), labels.cpu()
    height, width = pictures.shape[-2:]
    groups = [torch.as_tensor(queries).view(-1, 1), *(rows.cpu() for rows in found.values())]
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + group.shape[1] * (width + _GAP) + _APART)
    paper = torch.tensor([int(_LIGHT["paper"][i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
    sheet = paper.repeat(len(queries) * (height + _GAP), starts[-1] - _APART - _GAP, 1)
    alike = [0] * len(groups)
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.6, 0.6 + 7.6 * sheet.shape[0] / sheet.shape[1]), layout="constrained")
        axes = figure.subplots()
        for number, (start, group) in enumerate(zip(starts, groups, strict=False)):
            for row, indices in enumerate(group.tolist()):
                for column, index in enumerate(indices):
                    left, top = start + column * (width + _GAP), row * (height + _GAP)
                    sheet[top : top + height, left : left + width] = pictures[index].permute(1, 2, 0)
                    same = labels[index] == labels[queries[row]]
                    alike[number] += int(same)
                    name = classes[labels[index]]
                    axes.text(
                        *(left + width / 2 - 0.5, top + height + _GAP / 2 - 0.5, name if same else f"≠ {name}"),
                        **{"ha": "center", "va": "center", "fontsize": 6.5},
                        color=_LIGHT["ink" if same else "muted"],
                    )
                    if same and number:
                        box = (left - 1, top - 1), width + 1, height + 1
                        axes.add_patch(Rectangle(*box, fill=False, edgecolor=_LIGHT["orange"], linewidth=1.8))
        axes.imshow(sheet.numpy(), interpolation="none")
        heads = ["image", *(f"nearest by {name}" for name in found)]
        for start, group, head in zip(starts, groups, heads, strict=False):
            middle = start + (group.shape[1] * (width + _GAP) - _GAP) / 2
            axes.text(middle, -7, head, ha="center", va="bottom", fontsize=8.5)
        axes.set(xlim=(-2.5, sheet.shape[1] + 1.5), ylim=(sheet.shape[0] - 0.5, -22))
        axes.set_axis_off()
        figure.suptitle(title or "Nearest neighbours", ha="left", x=0.01)
    total = len(queries)
    facts = "; ".join(
        f"by {name} {same} of {rows.numel()} neighbours have the class of their image"
        for (name, rows), same in zip(found.items(), alike[1:], strict=True)
    )
    figure.set_label(f"{title or 'Nearest neighbours'} of {total} images: {facts}.")
    return figure
