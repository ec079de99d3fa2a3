"""Width and cardinality to scale: a wide residual network layer by layer, and the matrices of a block of paths.

Both are drawings for :func:`cnnlib.explore.frames`: one setting each, small, and counted on cnnlib's own modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from numbers import Real

from cnnlib.errors import CnnlibError, require_integers
from cnnlib.explore.html import Html, number, tag
from cnnlib.explore.inception import short

BLOCK_MAPS = 256
"""Maps that the block of paths reads and puts out: those of the first stage of ResNet-50."""
BLOCK_SIDE = 56
"""Side of these maps, in pixels."""
MOST_MAPS = 4096
"""Of all paths of a block together; the matrices of more would be too small to see."""
RESNET = (1, 64)
"""Paths and width of ResNet's own block."""
_PER_MAP = 0.42
_LAYER = 6.0
_STAGE_COLOURS = ("blue", "teal", "purple")


class NotDrawn(CnnlibError, ValueError):
    """There is no such network, block, convolution or shuffle, or it does not fit into the drawing."""


@dataclass(frozen=True)
class Cost:
    """What a network costs: trainable parameters, and multiply-adds for one image."""

    parameters: int
    multiply_adds: int


# ---- wide residual networks ------------------------------------------------------------------------------------------


@cache
def wide_cost(depth: int, k: float) -> Cost:
    """Return the cost of WRN-``depth``-``k`` for one image of 32x32 pixels, counted on the network.

    Raises:
        BadOption: if ``depth`` is not 6n + 4.
    """
    import torch

    from cnnlib.models.wrn import wrn

    with torch.device("meta"):
        net = wrn(depth, k)
    return _count(net, (3, 32, 32))


def wide_network(depth: int, k: float) -> Html:
    """Draw WRN-``depth``-``k`` to scale, a bar for each 3x3 convolution, as long as it has maps; beside it one block.

    Args:
        depth: number of layers, 6n + 4.
        k: how many times as wide as ResNet.

    Raises:
        BadOption: if ``depth`` is not 6n + 4.
        NotDrawn: if ``depth`` is no integer, or ``k`` is not in [1/16, 12]. Below, the first stage would have no map.
    """
    require_integers(NotDrawn, depth=depth)
    if not isinstance(k, Real) or not 1 / 16 <= k <= 12:
        raise NotDrawn(f"a network {k!r} times as wide cannot be drawn; k goes from 1/16 to 12")
    cost = wide_cost(depth, k)
    blocks = (depth - 4) // 6
    widths = [int(maps * k) for maps in (16, 32, 64)]
    middle = _PER_MAP * 64 * 12 / 2 + 4
    labels = 2 * middle + 14
    y, parts = 10.0, [_bar(middle, 10.0, 16, "line"), _words(labels, 16.0, "1 convolution: 16 maps, 32×32", "muted")]
    for stage, (maps, colour) in enumerate(zip(widths, _STAGE_COLOURS, strict=True)):
        y += _LAYER + 8
        size = 32 >> stage
        parts.append(_words(labels, y + blocks * _LAYER + 4, f"{2 * blocks} convolutions: {maps} maps, {size}×{size}"))
        for _ in range(2 * blocks):
            parts.append(_bar(middle, y, maps, colour))
            y += _LAYER
    parts.append(_unit(labels + 245, widths[0]))
    words = (
        f"WRN-{depth}-{k:g}: {depth - 3} convolutions of 3×3 one after another, the first with 16 maps, then "
        f"{2 * blocks} each with {widths[0]}, {widths[1]} and {widths[2]} maps. {short(cost.parameters)} parameters, "
        f"{short(cost.multiply_adds)} multiply-adds."
    )
    return Html(_svg(labels + 425, max(y + 10, 190.0), "".join(parts), words), words)


def _unit(x: float, maps: int) -> str:
    """Draw a block of the first stage: its shortcut, two convolutions, and what stands before each."""
    middle = x + 70
    layers = (
        (22, "BN, ReLU", "surface"),
        (54, f"3×3 conv, {maps}", "blue-soft"),
        (86, "BN, ReLU, dropout", "surface"),
        (118, f"3×3 conv, {maps}", "blue-soft"),
    )
    line = "fill:none;stroke:var(--cnn-line);stroke-width:1.5"
    boxes = "".join(
        tag("rect", x=x, y=y, width=140, height=25, rx=5, style=f"fill:var(--cnn-{colour});stroke:var(--cnn-line)")
        + _words(middle, y + 17.0, text, anchor="middle")
        for y, text, colour in layers
    )
    ways = f"M{number(middle)} 4V160M{number(middle)} 12H{number(x + 158)}V160H{number(middle + 11)}"
    plus = tag("circle", cx=middle, cy=160, r=11, style="fill:var(--cnn-paper);stroke:var(--cnn-line);stroke-width:1.5")
    end = tag("path", d=f"M{number(middle)} 171V182", style=line)
    return tag("path", d=ways, style=line) + boxes + plus + end + _words(middle, 165.0, "+", anchor="middle")


def _bar(middle: float, y: float, maps: int, colour: str) -> str:
    width = max(_PER_MAP * maps, 1.5)
    return tag("rect", x=middle - width / 2, y=y, width=width, height=_LAYER - 1.5, style=f"fill:var(--cnn-{colour})")


# ---- blocks of paths -------------------------------------------------------------------------------------------------


@cache
def block_weights(cardinality: int, width: int) -> tuple[int, int, int]:
    """Return the weights of the three convolutions of a block of paths between 256 maps, counted on the block."""
    import torch

    from cnnlib.models.resnext import grouped_convolution

    with torch.device("meta"):
        block = grouped_convolution(BLOCK_MAPS, BLOCK_MAPS, 1, cardinality, width)
    return tuple(conv.weight.numel() for conv in (block.conv1, block.conv2, block.conv3))


def path_matrices(cardinality: int, width: int) -> Html:
    """Draw the three convolutions of a ResNeXt block between 256 maps as matrices: outputs down, inputs across.

    The first path stands out. The 3x3 convolution is block-diagonal, a square for each path; each of its cells holds
    nine weights. All three have one scale, which is smaller where the block is wider than 256 maps.

    Args:
        cardinality: number of paths.
        width: maps of each.

    Raises:
        NotDrawn: if one of them is no positive integer.
    """
    require_integers(NotDrawn, cardinality=cardinality, width=width)
    if cardinality < 1 or width < 1:
        raise NotDrawn("a block has at least one path of at least one map")
    inner = cardinality * width
    if inner > MOST_MAPS:
        raise NotDrawn(f"{cardinality} paths of {width} maps are {inner:,} maps, and up to {MOST_MAPS:,} can be drawn")
    scale = 200 / max(inner, BLOCK_MAPS)
    side, across, step = scale * BLOCK_MAPS, scale * inner, scale * width
    one, two, three = block_weights(cardinality, width)
    squares = "".join(
        f"M{number(i * step)} {number(i * step)}h{number(step)}v{number(step)}h-{number(step)}z"
        for i in range(1, cardinality)
    )
    drawn = (
        ("1×1", f"{BLOCK_MAPS} → {inner}", one, side, across, _area(side, across), _area(side, step, "orange")),
        ("3×3", f"{inner} → {inner}", two, across, across, _path(squares), _area(step, step, "orange")),
        ("1×1", f"{inner} → {BLOCK_MAPS}", three, across, side, _area(across, side), _area(step, side, "orange")),
    )
    parts, x = [], 8.0
    for kernel, maps, count, wide, high, all_paths, first in drawn:
        frame = tag("rect", width=wide, height=high, style="fill:none;stroke:var(--cnn-line)")
        parts.append(
            f'<g transform="translate({number(x)} 44)">{all_paths}{first}{frame}</g>'
            + _words(x, 16.0, f"{kernel}, {maps}")
            + _words(x, 34.0, f"{count:,} weights", "muted")
        )
        x += max(wide, 150.0) + 28
    weights, resnets = one + two + three, sum(block_weights(*RESNET))
    words = (
        f"{cardinality} path{'s' if cardinality > 1 else ''} of {width} maps: {one:,} + {two:,} + {three:,} = "
        f"{weights:,} weights, {weights / resnets:.2f} times those of ResNet's block, and "
        f"{short(weights * BLOCK_SIDE**2)} multiply-adds on maps of {BLOCK_SIDE}×{BLOCK_SIDE}. The matrix of the 3×3 "
        f"convolution is {inner} by {inner}"
        + (f", and {cardinality} squares of {width} by {width} on its diagonal are filled." if cardinality > 1 else ".")
    )
    return Html(_svg(x, 44 + max(side, across) + 8, "".join(parts), words), words)


def _area(width: float, height: float, colour: str = "blue-soft") -> str:
    return tag("rect", width=width, height=height, style=f"fill:var(--cnn-{colour})")


def _path(d: str) -> str:
    return tag("path", d=d, style="fill:var(--cnn-blue)") if d else ""


# ---- common ----------------------------------------------------------------------------------------------------------


def _count(net: object, image: tuple[int, int, int]) -> Cost:
    from cnnlib.measure import count_parameters, multiply_adds

    return Cost(count_parameters(net), multiply_adds(net, image))


def _words(x: float, y: float, text: str, colour: str = "ink", anchor: str | None = None) -> str:
    return tag("text", escape(text), x=x, y=y, font_size=14, text_anchor=anchor, style=f"fill:var(--cnn-{colour})")


def _svg(width: float, height: float, content: str, words: str) -> str:
    return (
        f'<svg viewBox="0 0 {number(width)} {number(height)}" role="img" aria-label="{escape(words)}" '
        f'style="width:{number(width)}px;min-width:{number(0.75 * width)}px">{content}</svg>'
    )
