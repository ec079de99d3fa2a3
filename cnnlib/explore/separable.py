"""Depthwise separable convolutions and channel shuffles to look at: drawings for :func:`cnnlib.explore.frames`."""

from __future__ import annotations

from functools import cache

from cnnlib.errors import require_integers
from cnnlib.explore.html import Html, number, tag
from cnnlib.explore.width import NotDrawn, _svg, _words

_SIDE = 230.0
GROUP_COLOURS = ("blue", "orange", "teal", "purple", "gold")


@cache
def separable_weights(channels: int, kernel: int) -> tuple[int, int, int]:
    """Return the weights of a dense, a depthwise and a pointwise convolution from C maps to C, counted on PyTorch's.

    They are the multiply-adds for each output pixel, too.
    """
    from torch import nn

    def weights(size: int, groups: int = 1) -> int:
        layer = nn.Conv2d(channels, channels, size, groups=groups, bias=False, device="meta")
        return layer.weight.numel()

    return weights(kernel), weights(kernel, channels), weights(1)


def separable_cost(channels: int, kernel: int = 3) -> Html:
    """Draw the multiply-adds that a dense and a separable convolution spend on one pixel, as areas of one scale.

    The dense convolution is a square of ``kernel`` times ``channels``; the pointwise one a square of ``channels``; the
    depthwise one a strip as high as that and kernel * kernel wide.

    Args:
        channels: number C of maps, in and out.
        kernel: side k of the filters.

    Raises:
        NotDrawn: if one of them is no positive integer.
    """
    require_integers(NotDrawn, channels=channels, kernel=kernel)
    if channels < 1 or kernel < 1:
        raise NotDrawn("a convolution has at least one map and one pixel")
    dense, depthwise, pointwise = separable_weights(channels, kernel)
    unit = _SIDE / (kernel * channels)
    small, strip = channels * unit, kernel * kernel * unit
    x, top = 8.0, 48.0
    first = x + _SIDE + 40
    second = first + max(strip, 120.0) + 46
    together = depthwise + pointwise
    parts = (
        _area(x, top, _SIDE, _SIDE, "blue"),
        _words(x, 18.0, f"dense {kernel}×{kernel}"),
        _words(x, 38.0, f"{kernel * kernel}C² = {dense:,}", "muted"),
        _area(first, top, strip, small, "teal"),
        _words(first, 18.0, f"depthwise {kernel}×{kernel}"),
        _words(first, 38.0, f"{kernel * kernel}C = {depthwise:,}", "muted"),
        _words(second - 24, top + small / 2 + 6, "+", anchor="middle"),
        _area(second, top, small, small, "orange"),
        _words(second, 18.0, "pointwise 1×1"),
        _words(second, 38.0, f"C² = {pointwise:,}", "muted"),
        _words(first, top + _SIDE - 34, f"together {together:,},"),
        _words(first, top + _SIDE - 12, f"{100 * together / dense:.1f} % of the dense convolution"),
    )
    ratio = f"{dense / together:.2f} times fewer" if together < dense else f"{together / dense:.2f} times as many"
    words = (
        f"C = {channels}: a dense {kernel}×{kernel} convolution spends {dense:,} multiply-adds on each pixel, the "
        f"depthwise one {depthwise:,} and the pointwise one {pointwise:,}, together {together:,}: {ratio}."
    )
    return Html(_svg(second + 130, top + _SIDE + 10, "".join(parts), words), words)


def _area(x: float, y: float, width: float, height: float, colour: str) -> str:
    return tag(
        "rect",
        x=x,
        y=y,
        width=max(width, 1.0),
        height=max(height, 1.0),
        style=f"fill:var(--cnn-{colour}-soft);stroke:var(--cnn-{colour});stroke-width:1.5",
    )


def shuffled(maps: int, groups: int) -> tuple[int, ...]:
    """Return which map stands at each place after cnnlib's channel shuffle."""
    import torch

    from cnnlib.models.shufflenet import channel_shuffle

    order = channel_shuffle(torch.arange(maps).view(1, maps, 1, 1), groups)
    return tuple(order.flatten().tolist())


def channel_shuffle(groups: int, maps: int = 12, shuffle: bool = True) -> Html:
    """Draw two grouped 1x1 convolutions with a shuffle of the maps between them, or without.

    Each map is a box with the letter of the group that made it; a line leads to its place after the shuffle. The frames
    below are the groups of the second convolution, each with the letters that reach it.

    Args:
        groups: number of groups, at most five.
        maps: number of maps, a multiple of ``groups``.
        shuffle: whether the maps are shuffled.

    Raises:
        NotDrawn: if the maps cannot be divided so, or there are too many.
    """
    require_integers(NotDrawn, groups=groups, maps=maps)
    if not 1 <= groups <= len(GROUP_COLOURS) or maps % groups or not 0 < maps <= 24:
        raise NotDrawn(f"{maps} maps in {groups} groups: draw up to 24 maps in up to 5 groups of the same size")
    order = shuffled(maps, groups) if shuffle else tuple(range(maps))
    each = maps // groups
    step, gap, left = 34.0, 18.0, 150.0

    def at(place: int) -> float:
        return left + place * step + place // each * gap

    letters = "ABCDE"
    lines, boxes = [""] * groups, [""] * groups
    names = frames = sees_text = ""
    for place, source in enumerate(order):
        made_by = source // each
        x, to = at(source) + 13, at(place) + 13
        lines[made_by] += f"M{number(x)} 54C{number(x)} 115 {number(to)} 100 {number(to)} 174"
        boxes[place // each] += _box(at(place), 27.0)
        boxes[made_by] += _box(at(place), 177.0)
        names += tag("text", letters[place // each], x=to, y=45.5) + tag("text", letters[made_by], x=to, y=195.5)
    reached = []
    for group in range(groups):
        x, wide = at(group * each) - 5, each * step + 2
        frames += (
            f"M{number(x)} 21h{number(wide)}v38h-{number(wide)}zM{number(x)} 171h{number(wide)}v38h-{number(wide)}z"
        )
        reached.append(sorted({letters[source // each] for source in order[group * each : (group + 1) * each]}))
        sees_text += tag("text", f"sees {', '.join(reached[-1])}", x=x + wide / 2, y=229, style="fill:var(--cnn-muted)")
    colours = GROUP_COLOURS[:groups]
    parts = (
        *(_words(8, y, text) for y, text in ((45.0, "1×1, in groups"), (195.0, "1×1, in groups"))),
        _words(8, 120.0, "shuffle" if shuffle else "no shuffle"),
        *(
            tag("path", d=line, style=f"fill:none;stroke:var(--cnn-{colour});stroke-width:1.8")
            + tag("path", d=box, style=f"fill:var(--cnn-{colour}-soft);stroke:var(--cnn-{colour})")
            for line, box, colour in zip(lines, boxes, colours, strict=True)
        ),
        tag("path", d=frames, style="fill:none;stroke:var(--cnn-line);stroke-width:1.5"),
        f'<g font-size="14" text-anchor="middle" style="fill:var(--cnn-ink)">{names}{sees_text}</g>',
    )
    if all(sees == reached[0] for sees in reached):
        seen = f"every group of the second convolution sees maps of the groups {', '.join(reached[0])}"
    elif all(len(sees) == 1 for sees in reached):
        seen = "each group of the second convolution sees the maps of one group of the first"
    else:
        seen = "the groups of the second convolution see maps of " + "; ".join(map(", ".join, reached))
    words = f"{maps} maps in {groups} groups of {each}. {'With' if shuffle else 'Without'} the shuffle {seen}."
    return Html(_svg(at(maps - 1) + step + 8, 240, "".join(parts), words), words)


def _box(x: float, y: float) -> str:
    """Return the path of a box for one map."""
    return f"M{number(x)} {number(y)}h26v26h-26z"
