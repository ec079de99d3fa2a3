"""The feature maps of a network as boxes drawn to scale, in the manner of Figure 2 of the AlexNet paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from cnnlib.errors import CnnlibError
from cnnlib.explore.graph import pair, size_text
from cnnlib.explore.html import Html, asset, number, picture, tag

if TYPE_CHECKING:
    from torch import nn

    from cnnlib.measure import LayerTable

_TALLEST = 170.0  # pixels of the largest map's height, and of the longest vector
_THICKEST = 64.0  # pixels of the most channels
_DEPTH = (0.42, -0.34)  # where one pixel of width goes on the page, for one pixel of height
_LEAST_THICKNESS = 2.0
_LETTER = 6.9  # width of one letter of a label, about
_GAP = 18.0  # between two boxes, and between two labels
_PASSED_OVER = ("Dropout", "Flatten", "Norm", "Identity")


class NothingToDraw(CnnlibError, ValueError):
    """A drawing was asked for something that it cannot show."""


@dataclass(frozen=True)
class Volume:
    """One box: the output of a layer. ``window`` is how much of its input one unit spans, (height, width) in units."""

    name: str
    shape: tuple[int, ...]
    window: tuple[int, int] | None = None


def volumes(
    network: nn.Module | LayerTable,
    input_size: Sequence[int] | None = None,
    *,
    id: str,
    title: str | None = None,
    caption: str = "",
) -> Html:
    """Draw what each layer of a chain-like network puts out, from left to right.

    Height and width of a box are those of the maps, its thickness the number of channels, each to its own scale.
    Vectors stand upright, their length to a third scale. Outputs that are neither are left out. With a module instead
    of a table, the window of each convolution and pooling is drawn on the map that it reads.

    Args:
        network: a layer table, or a module, which is measured for ``input_size``.
        input_size: shape of one image (channels, height, width); only for a module.
        id: the id of the figure in the page.
        title: what is drawn; by default the name of the class.
        caption: shown under the drawing; by default the title.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NothingToDraw: if a module comes without ``input_size``, or nothing has the shape of a map.
    """
    boxes, name = _volumes(network, input_size)
    title = title or f"The feature maps of {name}"
    words = ", ".join(f"{box.name} {size_text(box.shape)}" for box in boxes)
    svg = _svg(boxes, title, f"From left to right: {words}.")
    html = picture(svg, id=id, kind="cnn-volumes", css=asset("volumes.css"), title=title, caption=caption)
    return Html(html, f"{title}: {words}.")


def _volumes(network: nn.Module | LayerTable, input_size: Sequence[int] | None) -> tuple[list[Volume], str]:
    windows: dict[str, tuple[int, ...]] = {}
    if hasattr(network, "rows"):
        table = network
    else:
        from cnnlib.measure import layer_table

        if input_size is None:
            raise NothingToDraw("volumes needs the input_size of the module, such as (3, 224, 224)")
        table = layer_table(network, input_size)
        for name, module in network.named_modules():
            kernel = getattr(module, "kernel_size", None)
            if kernel is not None:
                axes = zip(pair(kernel), pair(getattr(module, "dilation", 1)), strict=False)  # maps have two at most
                windows[name or "forward"] = tuple(dilation * (taps - 1) + 1 for taps, dilation in axes)
    boxes = [Volume("input", tuple(table.input_size))]
    for row in table.rows:
        same = row.output_shape == boxes[-1].shape and not row.parameters
        if len(row.output_shape) in (1, 3) and not same and not any(kind in row.kind for kind in _PASSED_OVER):
            boxes.append(Volume(row.name, row.output_shape, windows.get(row.name)))
    if not any(len(box.shape) == 3 for box in boxes):
        raise NothingToDraw(f"{table.model} has no feature maps (channels, height, width) to draw")
    return boxes, table.model


@dataclass(frozen=True)
class _Body:
    """A box on the page: its front is a rectangle, ``depth`` leads from the front to the back."""

    x: float
    height: float
    thickness: float
    depth: tuple[float, float]

    @property
    def top(self) -> float:
        """The y of the front's upper edge; the middle of every body lies at y = 0."""
        return -self.height / 2 - self.depth[1] / 2

    def on_side(self, across: float, down: float) -> tuple[float, float]:
        """Return the point on the right side at these shares (0 to 1) of its width and height."""
        x = self.x + self.thickness + across * self.depth[0]
        return x, self.top + down * self.height + across * self.depth[1]


def _svg(boxes: Sequence[Volume], title: str, words: str) -> str:
    maps = [box.shape for box in boxes if len(box.shape) == 3]
    pixel = _TALLEST / max(max(shape[1:]) for shape in maps)
    channel = _THICKEST / max(shape[0] for shape in maps)
    unit = _TALLEST / max((box.shape[0] for box in boxes if len(box.shape) == 1), default=1)

    bodies: list[_Body] = []
    right = label_right = -_GAP
    for box in boxes:
        if len(box.shape) == 3:
            channels, height, width = box.shape
            thickness = max(channel * channels, _LEAST_THICKNESS)
            depth = (_DEPTH[0] * pixel * width, _DEPTH[1] * pixel * width)
            body = _Body(0.0, pixel * height, thickness, depth)
        else:
            body = _Body(0.0, unit * box.shape[0], 9.0, (4.0, -3.0))
        footprint = body.thickness + body.depth[0]
        label = _LETTER * max(map(len, _label_lines(box)))
        x = max(right + _GAP, label_right + _GAP + (label - footprint) / 2)
        bodies.append(_Body(x, body.height, body.thickness, body.depth))
        right, label_right = x + footprint, x + (footprint + label) / 2

    floor = max(-body.top - body.depth[1] for body in bodies) + 14
    drawing = "".join(
        _draw(box, body) + (_window(box, body, *after) if after else "") + _label(box, body, floor)
        for box, body, after in zip(boxes, bodies, [*zip(boxes[1:], bodies[1:], strict=True), None], strict=True)
    )
    left = -6.0
    roof = min(body.top + body.depth[1] for body in bodies) - 6
    width, height = max(right, label_right) - left + 6, floor + 40 - roof
    return (
        f'<svg viewBox="{number(left)} {number(roof)} {number(width)} {number(height)}" role="img" '
        f'style="width:{number(width)}px;min-width:{number(0.85 * width)}px" fill="none" stroke="currentColor">'
        f"<title>{escape(title)}</title><desc>{escape(words)}</desc>{drawing}</svg>"
    )


def _path(points: Sequence[tuple[float, float]], kind: str, closed: bool = True) -> str:
    d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("z" if closed else "")
    return f'<path class="{kind}" d="{d}"/>'


def _draw(box: Volume, body: _Body) -> str:
    """Draw the three faces that one sees: front, top and the right side, which is the map."""
    x, top, (dx, dy) = body.x, body.top, body.depth
    right, bottom = x + body.thickness, body.top + body.height
    faces = (
        ("front", [(x, top), (right, top), (right, bottom), (x, bottom)]),
        ("top", [(x, top), (x + dx, top + dy), (right + dx, top + dy), (right, top)]),
        ("side", [(right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)]),
    )
    kind = "image" if box.name == "input" else "maps" if len(box.shape) == 3 else "vector"
    return f'<g class="{kind}">' + "".join(_path(points, face) for face, points in faces) + "</g>"


def _window(box: Volume, body: _Body, after: Volume, target: _Body) -> str:
    """Draw the window on the map that the next layer reads, and the lines from it to one unit there."""
    if after.window is None or len(box.shape) != 3:
        return ""
    _, height, width = box.shape
    across, down = min(after.window[1] / width, 1.0), min(after.window[0] / height, 1.0)
    corners = [body.on_side(0.5 + a * across / 2, 0.5 + b * down / 2) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    unit = (target.x, target.top + target.height / 2)
    rays = "".join(_path([corner, unit], "ray", closed=False) for corner in corners[1:3])
    return rays + _path(corners, "window")


def _label_lines(box: Volume) -> tuple[str, str]:
    last = box.name.rsplit(".", 1)[-1]
    name = box.name if last.isdigit() else last  # a number alone is the place in a Sequential
    return (name if len(name) < 13 else f"…{name[-11:]}"), size_text(box.shape)


def _label(box: Volume, body: _Body, floor: float) -> str:
    x = body.x + (body.thickness + body.depth[0]) / 2
    name, shape = _label_lines(box)
    return tag("text", escape(name), x=x, y=floor + 12) + tag("text", shape, class_="shape", x=x, y=floor + 28)
