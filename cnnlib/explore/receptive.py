"""The receptive-field explorer: rows of units, one row a layer, and what one unit sees of the input.

A stack of up to six layers is drawn unit by unit along one axis, and the reader changes it. Whole networks are too long
for that: they are drawn as one bar a layer, with the numbers that ``cnnlib.measure.receptive_field`` reads from the
graphs of cnnlib's own models. The symbols are those of Araujo, Norris and Sim 2019, "Computing Receptive Fields of
Convolutional Neural Networks" (https://distill.pub/2019/computing-receptive-fields).

Python draws the first frame; the script in ``assets/receptive.js`` redraws. The tests compare the two, and both with
``cnnlib.measure`` and with gradients, for many stacks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from cnnlib.errors import CnnlibError, DoesNotFit, require_integers
from cnnlib.explore.html import Html, asset, figure, script, tag
from cnnlib.measure.arithmetic import ConvArithmetic

SIZES = range(5, 25)
"""Input sizes that the explorer draws."""

RANGES = {"kernel": range(1, 8), "stride": range(1, 5), "padding": range(0, 4), "dilation": range(1, 5)}
"""What the sliders of a layer cover."""

MOST_LAYERS = 6
"""The most layers of a stack that can be changed."""

MARGIN = 6
"""The most pixels drawn beyond each border of the input."""

_3X3 = (3, 1, 1, 1)
STACKS = {
    "One 7×7": (15, ((7, 1, 0, 1),)),
    "Three 3×3": (15, ((3, 1, 0, 1),) * 3),
    "VGG, first layers": (16, (_3X3, _3X3, (2, 2, 0, 1), _3X3, _3X3, (2, 2, 0, 1))),
    "Dilated 1, 2, 4": (21, ((3, 1, 0, 1), (3, 1, 0, 2), (3, 1, 0, 4))),
    "Stride in the 1×1": (16, (_3X3, (1, 2, 0, 1), _3X3, (1, 1, 0, 1))),
    "Stride in the 3×3": (16, (_3X3, (1, 1, 0, 1), (3, 2, 1, 1), (1, 1, 0, 1))),
    "Too small": (12, ((3, 2, 0, 1), (3, 2, 0, 1), (3, 1, 0, 1))),
}
"""Stacks worth seeing: the size of the input, and kernel, stride, padding and dilation of each layer."""

_NETS = {
    "AlexNet": ("alexnet", 227),
    "VGG-16": ("vgg16", 224),
    "ResNet-50 v1": ("resnet50", 224),
    "ResNet-50 v1.5": ("resnet50-v1.5", 224),
}
_VERSIONS = ("ResNet-50 v1", "ResNet-50 v1.5")

_LABELS = {
    "size": ("Input size", "n₀"),
    "kernel": ("Kernel", "k"),
    "stride": ("Stride", "s"),
    "padding": ("Padding", "p"),
    "dilation": ("Dilation", "d"),
}

# The sentences of the caption, for Python's first frame and for the script alike.
_WORDS = {
    "fits": "The last layer has {n} units. Each sees {r} pixels, and neighbours are {j} apart.",
    "fits1": "The last layer has {n} units. Each sees one pixel, and neighbours are {j} apart.",
    "once": "The last layer has one unit. It sees {r} pixels.",
    "once1": "The last layer has one unit. It sees one pixel.",
    "unfit": "Layer {failed} does not fit. Its window spans {span}, but the row below has only {padded}, padding "
    "included. Reduce its kernel or dilation, add padding, or reduce a stride below it.",
    "unit": "Unit {unit} of layer {layer} sees pixels {first} to {last}, counted from 0.",
    "unit1": "Unit {unit} of layer {layer} sees pixel {first}, counted from 0.",
    "outside": "{outside} of these are outside the image.",
    "outside1": "One of these is outside the image.",
    "none": "It reads nothing but padding.",
    "holes": "It reads {read} of them; no path leads to the rest.",
    "path": "One path leads to each pixel.",
    "paths": "From {least} to {most} paths lead to a pixel (bars).",
    "same": "{most} paths lead to each pixel (bars).",
    "net": "A unit of {name} sees {r} × {r} pixels, {grown} more than a unit below; neighbours are {j} apart.",
}


class NoSuchStack(CnnlibError, ValueError):
    """The explorer was asked for a stack that its sliders cannot set."""


@dataclass(frozen=True)
class Row:
    """The units of one layer along one axis: their number ``n``, 0 where the layer does not fit; their receptive field
    ``r``; the distance ``j`` of neighbours and the centre ``start`` of the first unit, all in pixels from pixel 0.
    """

    n: int
    r: int
    j: int
    start: float

    def centre(self, unit: int) -> float:
        """The centre of the field of a unit, counted from 0."""
        return self.start + unit * self.j


@dataclass(frozen=True)
class Stack:
    """A few layers, each a tuple of kernel k, stride s, padding p and dilation d, over an input of ``size`` pixels.

    Raises:
        NoSuchStack: if ``layers`` is not a sequence of sequences.
    """

    size: int
    layers: tuple[tuple[int, int, int, int], ...]

    def __post_init__(self) -> None:
        try:
            layers = tuple(map(tuple, self.layers))
        except TypeError:
            raise NoSuchStack(
                f"layers must hold a tuple of kernel, stride, padding and dilation each, such as ((3, 1, 0, 1),), "
                f"not {self.layers!r}"
            ) from None
        object.__setattr__(self, "layers", layers)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The input and every layer, from the bottom up."""
        rows = [Row(self.size, 1, 1, 0)]
        for k, s, p, d in self.layers:
            below = rows[-1]
            rows.append(
                Row(
                    _output(below.n, k, s, p, d),
                    below.r + d * (k - 1) * below.j,
                    below.j * s,
                    below.start + (d * (k - 1) / 2 - p) * below.j,
                )
            )
        return tuple(rows)

    @property
    def failed(self) -> int:
        """The number, from 1, of the layer that does not fit, or 0."""
        return next((layer for layer, row in enumerate(self.rows) if not row.n), 0)

    def taps(self, layer: int, unit: int) -> list[int]:
        """Return the units of the row below that a unit of ``layer`` reads; those outside the row are zeros."""
        k, s, p, d = self.layers[layer - 1]
        return [unit * s - p + tap * d for tap in range(k)]

    def paths(self, layer: int, unit: int) -> list[dict[int, int]]:
        """Return for the input and every row up to ``layer`` how many paths lead from one unit to each unit there."""
        found = [{unit: 1}]
        for above in range(layer, 0, -1):
            reached: dict[int, int] = {}
            for position, count in found[0].items():
                for tap in self.taps(above, position):
                    if 0 <= tap < self.rows[above - 1].n:
                        reached[tap] = reached.get(tap, 0) + count
            found.insert(0, reached)
        return found


def _output(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    try:
        return ConvArithmetic(size, kernel, stride, padding, dilation).output if size else 0
    except DoesNotFit:
        return 0


@dataclass(frozen=True)
class NetRow:
    """One layer of a network: its window, and its :class:`Row` as read from the graph."""

    name: str
    window: tuple[int, int, int, int]
    row: Row


@cache
def networks() -> dict[str, tuple[NetRow, ...]]:
    """Return the rows of the four networks, the image first: all layers that have a window in one version or the other.

    Shortcuts are left out, for no longer path leads through them.
    """
    nets = {label: _windows(*spec) for label, spec in _NETS.items()}
    a, b = (nets[label] for label in _VERSIONS)
    moving = {one.name for net in (a, b) for one in net if one.window[:2] != (1, 1)} | {"image"}
    for label in _VERSIONS:
        nets[label] = tuple(one for one in nets[label] if one.name in moving)
    return {label: tuple(_with_short_name(one) for one in net) for label, net in nets.items()}


def _windows(name: str, side: int) -> tuple[NetRow, ...]:
    import torch

    from cnnlib.measure import receptive_field
    from cnnlib.models import create

    with torch.device("meta"):  # shapes without weights
        model = create(name)
    modules = dict(model.named_modules())
    rows = [NetRow("image", (1, 1, 0, 1), Row(side, 1, 1, 0))]
    for row in receptive_field(model, (3, side, side)).rows:
        module = modules.get(row.name)
        if hasattr(module, "kernel_size") and ".shortcut" not in row.name:
            window = (module.kernel_size, module.stride, module.padding, module.dilation)
            window = tuple(value[0] if isinstance(value, tuple) else value for value in window)
            rows.append(NetRow(row.name, window, Row(row.output[0], row.size, row.stride, row.start)))
    return tuple(rows)


def _with_short_name(one: NetRow) -> NetRow:
    """Name layers as the papers do: ``stages.1.0.f.conv2`` is the second convolution of conv3_1."""
    name = one.name.removeprefix("features.")
    if name.startswith("stem."):
        name = name.removeprefix("stem.") + "1"
    if block := re.fullmatch(r"stages\.(\d+)\.(\d+)\.f\.conv(\d)", name):
        name = f"conv{int(block[1]) + 2}_{int(block[2]) + 1}" + "abc"[int(block[3]) - 1]
    return NetRow(name, one.window, one.row)


def notes() -> dict[str, str]:
    """Return what each network shows, in a few sentences with computed numbers."""
    nets = networks()
    fields = {label: net[-1].row.r for label, net in nets.items()}
    pool2 = next(one.row.r for one in nets["VGG-16"] if one.name == "pool2")
    v1, v1_5 = _VERSIONS
    added = [[nets[label][i].row.r - nets[label][i - 1].row.r for i in _marked()] for label in _VERSIONS]
    more, less, lost = (" + ".join(map(str, counts)) for counts in (*added, map(int.__sub__, *added)))
    return {
        "AlexNet": f"A unit of pool5 sees {fields['AlexNet']} of {nets['AlexNet'][0].row.n} pixels a side. "
        "The stride of 4 in conv1 lets every later layer reach far.",
        "VGG-16": f"A unit of pool5 sees {fields['VGG-16']} of {nets['VGG-16'][0].row.n} pixels a side. "
        f"{fields['VGG-16'] - pool2} of these come after pool2, where units are 4 pixels or more apart.",
        v1: f"Published tables say {fields[v1]}. The stages conv3 to conv5 take their stride in the first 1×1, "
        f"so the 3×3 after it (marked) already steps twice as far: these three add {more}. In v1.5 they add {less}.",
        v1_5: f"torchvision's net has {fields[v1_5]}, not the published {fields[v1]}. The stride is in the 3×3 "
        f"itself (marked), which still steps over the finer map: these three add {less}, not {more}. "
        f"{fields[v1]} − ({lost}) = {fields[v1_5]}.",
    }


def _marked() -> list[int]:
    """Return the numbers of the rows where the field grows by more in one version of ResNet-50 than in the other."""
    one, other = ([row.row.r for row in networks()[label]] for label in _VERSIONS)
    return [i for i in range(1, len(one)) if one[i] - one[i - 1] != other[i] - other[i - 1]]


def receptive_field(id: str = "receptive-field", start: str | Stack | tuple = "Three 3×3") -> Html:
    """Return the explorer of receptive fields, started with an example of its own or with any :class:`Stack`.

    The reader points at a unit, or walks there with arrow keys, buttons or a tap, and sees its cone down to the input,
    the number of paths to each pixel, and the recurrence with the numbers of the chosen layer; changes kernel, stride,
    padding and dilation of that layer; adds and removes layers. AlexNet, VGG-16 and both ResNet-50 are shown as one bar
    a layer. The page needs no kernel; without JavaScript the first frame stands.

    Args:
        id: the id of the figure in the page.
        start: a name in :data:`STACKS`, one of the networks ("AlexNet", "VGG-16", "ResNet-50 v1", "ResNet-50 v1.5"),
            or a stack whose numbers the sliders have, also as the pair (size, layers).

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NoSuchStack: if there is no such example, or the sliders cannot set this stack.
    """
    start = start if isinstance(start, str) else _stack(start)
    view = _net_view(start) if start in _NETS else _stack_view(_checked(start))
    data = {
        "start": start if view.net else _code(Stack(view.rows[0].n, view.windows[1:])),
        "words": _WORDS,
        "most": MOST_LAYERS,
        "margin": MARGIN,
        "versions": _VERSIONS,
        "notes": notes(),
        "nets": {
            label: [[one.name, *one.window, *vars(one.row).values()] for one in net]
            for label, net in networks().items()
        },
    }
    shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    body = "".join(
        (
            _examples(start),
            _sliders(view),
            _formula(view),
            _stage(view),
            _buttons(view),
            _legend(view),
            _caption(view),
            tag("script", shown, type="application/json"),
        )
    )
    text = f"Explorer of receptive fields. {view.outcome} {view.position}"
    html = figure(body, id=id, kind="cnn-field", css=asset("receptive.css"), script=script("receptive.js"))
    return Html(html, text)


def _stack(start: Stack | tuple) -> Stack:
    if isinstance(start, Stack):
        return start
    try:
        return Stack(*start)
    except TypeError:
        raise NoSuchStack(f"{start!r} is no stack; give size and layers, such as (15, ((3, 1, 0, 1),))") from None


def _checked(start: str | Stack) -> Stack:
    if isinstance(start, str):
        if start not in STACKS:
            raise NoSuchStack(f"there is no example {start!r}; choose from {', '.join([*STACKS, *_NETS])}")
        return Stack(*STACKS[start])
    require_integers(NoSuchStack, size=start.size)
    if start.size not in SIZES:
        raise NoSuchStack(f"the explorer draws inputs of {SIZES[0]} to {SIZES[-1]} pixels, not {start.size}")
    if not 1 <= len(start.layers) <= MOST_LAYERS:
        raise NoSuchStack(f"the explorer draws 1 to {MOST_LAYERS} layers, not {len(start.layers)}")
    for number, layer in enumerate(start.layers, 1):
        if len(layer) != len(RANGES):
            raise NoSuchStack(f"layer {number} has {len(layer)} numbers; give {', '.join(RANGES)}")
        require_integers(NoSuchStack, **dict(zip(RANGES, layer, strict=True)))
        for (name, values), value in zip(RANGES.items(), layer, strict=True):
            if value not in values:
                raise NoSuchStack(f"layer {number} has a {name} of {value}; choose from {values[0]} to {values[-1]}")
    return start


# ---- what is shown ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """One frame: what the parts of the figure show, the same for a stack and for a network."""

    names: tuple[str, ...]
    windows: tuple[tuple[int, int, int, int], ...]
    rows: tuple[Row, ...]
    layer: int
    box: tuple[float, float, float]
    paths: tuple[tuple[str, str], ...]
    outcome: str
    position: str
    failed: int = 0
    net: str = ""


def _stack_view(stack: Stack, layer: int | None = None, unit: int | None = None) -> _View:
    """Show a stack with one unit chosen: by default the one in the middle of the last layer."""
    layer = len(stack.layers) if layer is None else layer
    unit = stack.rows[layer].n // 2 if unit is None else unit
    low, width = _bounds(stack)
    return _View(
        names=("Input", *(f"Layer {number}" for number in range(1, len(stack.layers) + 1))),
        windows=((1, 1, 0, 1), *stack.layers),
        rows=stack.rows,
        layer=layer,
        box=(low, width, len(stack.rows) + 0.9),
        paths=tuple(_draw_stack(stack, layer, unit)),
        outcome=_result(stack),
        position=_position(stack, layer, unit),
        failed=stack.failed,
    )


def _net_view(label: str, layer: int | None = None) -> _View:
    """Show a network with one layer chosen, by default the last."""
    net = networks()[label]
    layer = len(net) - 1 if layer is None else layer
    one, below = net[layer], net[layer - 1]
    facts = {"name": one.name, "grown": one.row.r - below.row.r} | vars(one.row)
    return _View(
        names=tuple(one.name for one in net),
        windows=tuple(one.window for one in net),
        rows=tuple(one.row for one in net),
        layer=layer,
        box=(-2, max(net[0].row.n, net[-1].row.r) + 4, len(net)),
        paths=tuple(_draw_net(label, layer)),
        outcome=notes()[label],
        position=_WORDS["net"].format_map(facts),
        net=label,
    )


def _result(stack: Stack) -> str:
    if not (failed := stack.failed):
        last = stack.rows[-1]
        return _WORDS[("once" if last.n == 1 else "fits") + ("1" if last.r == 1 else "")].format_map(vars(last))
    k, _, p, d = stack.layers[failed - 1]
    return _WORDS["unfit"].format(failed=failed, span=d * (k - 1) + 1, padded=stack.rows[failed - 1].n + 2 * p)


def _position(stack: Stack, layer: int, unit: int) -> str:
    row = stack.rows[layer]
    if not row.n:
        return ""
    first, last = _field(row, unit)
    counts = list(stack.paths(layer, unit)[0].values())
    outside = sum(not 0 <= pixel < stack.size for pixel in range(first, last + 1))
    facts = {"unit": unit, "layer": layer, "first": first, "last": last, "outside": outside, "read": len(counts)}
    keys = ["unit" if row.r > 1 else "unit1"]
    if outside:
        keys.append("outside1" if outside == 1 else "outside")
    if not counts:
        keys.append("none")
    else:
        facts |= {"most": max(counts), "least": min(counts)}
        if len(counts) < row.r - outside:
            keys.append("holes")
        keys.append("paths" if facts["least"] < facts["most"] else "path" if facts["most"] == 1 else "same")
    return " ".join(_WORDS[key].format_map(facts) for key in keys).replace("-", "−")


def _field(row: Row, unit: int) -> tuple[int, int]:
    """Return the first and the last pixel that a unit sees, on the image or beyond its borders."""
    middle, half = row.centre(unit), (row.r - 1) / 2
    return int(middle - half), int(middle + half)


# ---- drawing: x in pixels of the input, y in rows from the top -------------------------------------------------------


def _number(value: float) -> str:
    return f"{value:z.2f}".rstrip("0").rstrip(".")


def _bounds(stack: Stack) -> tuple[float, float]:
    """Return the left edge and the width of the picture.

    It shows all units, padding and fields, but for the outermost, and all of a window that does not fit.
    """
    ends = []
    for row, (_, _, p, _) in zip(stack.rows, (*stack.layers, (1, 1, 0, 1)), strict=True):
        if row.n:
            half = (row.r - 1) / 2
            ends += [row.start - half, row.centre(-p), row.centre(row.n - 1) + half, row.centre(row.n - 1 + p)]
    low = max(-MARGIN, min(ends))
    high = min(stack.size - 1 + MARGIN, max(ends))
    if stack.failed:
        below, (k, _, p, d) = stack.rows[stack.failed - 1], stack.layers[stack.failed - 1]
        low, high = min(low, below.centre(-p)), max(high, below.centre(d * (k - 1) - p))
    return low - 0.7, high - low + 1.4


def _cell(x: float, y: int) -> str:
    return f"M{_number(x - 0.4)} {_number(y + 0.28)}h.8v.44h-.8z"


def _dot(x: float, y: int) -> str:
    return f"M{_number(x)} {_number(y + 0.5)}h0"


def _draw_stack(stack: Stack, layer: int, unit: int) -> list[tuple[str, str]]:
    top, rows = len(stack.layers), stack.rows
    paths = dict.fromkeys(("cone", "edge", "zero", "input", "unit", "top", "lit", "dot", "chosen", "window"), "")
    for number, row in enumerate(rows):
        y, padding = top - number, stack.layers[number][2] if number < top else 0
        kind = "input" if number == 0 else "top" if number == top else "unit"
        paths[kind] += "".join(_cell(row.centre(i), y) for i in range(row.n))
        zeros = (*range(-padding, 0), *range(row.n, row.n + padding)) if row.n else ()
        paths["zero"] += "".join(_cell(row.centre(i), y) for i in zeros)
    if failed := stack.failed:
        below, (k, _, p, d) = rows[failed - 1], stack.layers[failed - 1]
        length = d * (k - 1) * below.j + 1.1
        x, y = _number(below.centre(-p) - 0.55), _number(top - failed + 1.18)
        paths["window"] = f"M{x} {y}h{_number(length)}v.64h-{_number(length)}z"
    if not rows[layer].n:
        return list(paths.items())

    found, middle = stack.paths(layer, unit), rows[layer].centre(unit)
    left, right = "", ""
    for number in range(layer, -1, -1):
        y, half = top - number, (rows[layer].r - rows[number].r) / 2 + 0.5
        left += f"{'L' if left else 'M'}{_number(middle - half)} {_number(y + 0.5)}"
        right = f"L{_number(middle + half)} {_number(y + 0.5)}" + right
        for i in found[number]:
            x = rows[number].centre(i)
            paths["lit"] += _cell(x, y)
            paths["dot"] += _dot(x, y)
            for tap in stack.taps(number, i) if number else ():
                end = _number(rows[number - 1].centre(tap))
                paths["edge"] += f"M{_number(x)} {_number(y + 0.72)}L{end} {_number(y + 1.28)}"
    paths["cone"] = left + right + "z"
    paths["chosen"] = _cell(middle, top - layer)
    most = max(found[0].values(), default=1)
    paths["count"] = "".join(
        f"M{_number(i - 0.3)} {_number(top + 1.85)}v-{_number(0.72 * count / most)}h.6v{_number(0.72 * count / most)}z"
        for i, count in found[0].items()
    )
    first, last = _field(rows[layer], unit)
    paths["field"] = f"M{_number(first - 0.5)} {_number(top + 0.82)}v.12h{last - first + 1}v-.12"
    return list(paths.items())


def _draw_net(label: str, layer: int) -> list[tuple[str, str]]:
    net = networks()[label]
    top, fields = len(net) - 1, [one.row.r for one in net]

    def bar(x: int, y: int, width: int) -> str:
        return f"M{x} {_number(y + 0.2)}h{width}v.6h-{width}z"

    paths = [
        ("image", f"M{net[0].row.n} 0V{top + 1}"),
        ("input", bar(0, top, net[0].row.n)),
        ("known", "".join(bar(0, top - i, fields[i - 1]) for i in range(1, top + 1))),
        ("grown", "".join(bar(fields[i - 1], top - i, fields[i] - fields[i - 1]) for i in range(1, top + 1))),
    ]
    if label in _VERSIONS:
        other = networks()[_VERSIONS[1 - _VERSIONS.index(label)]]
        ticks = (f"M{other[i].row.r} {_number(top - i + 0.08)}v.84" for i in range(1, top + 1))
        paths.append(("other", "".join(ticks)))
    return [*paths, ("chosen", bar(0, top - layer, fields[layer]))]


# ---- the parts of the figure -----------------------------------------------------------------------------------------


def _examples(start: str | Stack) -> str:
    def button(label: str, value: str, pressed: bool) -> str:
        return tag("button", label, type="button", data_set=value, aria_pressed=str(pressed).lower())

    def group(name: str, buttons: Iterable[str]) -> str:
        return tag("div", "".join(buttons), class_="cnn-row", role="group", aria_label=name)

    chosen = Stack(*STACKS[start]) if start in STACKS else start
    stacks = (button(label, _code(Stack(*stack)), Stack(*stack) == chosen) for label, stack in STACKS.items())
    return group("Stacks", stacks) + group("Networks", (button(label, label, label == start) for label in _NETS))


def _code(stack: Stack) -> str:
    return ";".join((str(stack.size), *(" ".join(map(str, layer)) for layer in stack.layers)))


def _sliders(view: _View) -> str:
    values = dict(zip(_LABELS, (view.rows[0].n, *view.windows[view.layer]), strict=True))
    if view.net:  # the script sets them when a stack is chosen
        values = dict(zip(_LABELS, (SIZES[0], *(values[0] for values in RANGES.values())), strict=True))
    sliders = (
        f'<label class="v-{name}"><span><span>{label} <i>{symbol}</i></span>'
        f'<b aria-hidden="true">{values[name]}</b></span>'
        f'<input type="range" name="{name}" min="{extent[0]}" max="{extent[-1]}" value="{values[name]}"'
        ' autocomplete="off"></label>'
        for (name, (label, symbol)), extent in zip(_LABELS.items(), (SIZES, *RANGES.values()), strict=True)
    )
    title = tag("p", f"Input, and window of <b>{view.names[view.layer]}</b>", class_="cnn-note which")
    group = tag("div", "".join(sliders), class_="cnn-controls", role="group", aria_label="Input and chosen layer")
    return tag("div", title + group, class_="controls", hidden="" if view.net else None)


_NEXT, _LAST = "<sub>l</sub>", "<sub>l−1</sub>"
_FORMULAS = (
    ("{r}", "{r0} + {d}·({k} − 1)·{j0}", "{r1}"),
    ("{j}", "{j0}·{s}", "{j1}"),
    ("{start}", "{start0} + ({d}·({k} − 1)/2 − {p})·{j0}", "{start1}"),
    ("{n}", "⌊({n0} + 2·{p} − {d}·({k} − 1) − 1)/{s}⌋ + 1", "{n1}"),
)


def _formula(view: _View) -> str:
    symbols = {name: f'<i class="v-{name}">{name}</i>' for name in "kspd"}
    for name in ("r", "j", "start", "n"):
        symbols[name] = f'<i class="v-{name}">{name}{_NEXT}</i>'
        symbols[name + "0"] = f'<i class="v-{name}">{name}{_LAST}</i>'
    numbers = {
        name: f'<b class="v-{name.rstrip("01")}" data-value="{name}">{value}</b>'
        for name, value in _values(view).items()
    }
    lines = (
        f"<span>{left.format_map(symbols)} = {right.format_map(symbols)}</span>"
        f"<span>= {right.format_map(numbers)} = {result.format_map(numbers)}</span>"
        for left, right, result in _FORMULAS
    )
    return tag("div", "".join(f"<div>{line}</div>" for line in lines), class_="formula")


def _values(view: _View) -> dict[str, str]:
    below, row = view.rows[view.layer - 1], view.rows[view.layer]
    values = dict(zip("kspd", view.windows[view.layer], strict=True))
    values |= {f"{name}0": value for name, value in vars(below).items()}
    values |= {f"{name}1": value for name, value in vars(row).items()} | {"n1": row.n or "none"}
    return {name: _text(value) for name, value in values.items()}


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else _number(value).replace("-", "−")


def _stage(view: _View) -> str:
    low, width, height = map(_number, view.box)
    kind = "net" if view.net else "stack"
    labels, values = _side(view)
    help_ = "Up and down choose a layer" + ("." if view.net else ", left and right a unit.")
    return (
        f'<div class="stage {kind}" style="--w:{width};--h:{height}"><div class="labels">{labels}</div>'
        f'<svg viewBox="{low} 0 {width} {height}" preserveAspectRatio="none" role="img" tabindex="0"'
        f' aria-label="One row a layer, the input at the bottom, described below. {help_}"><g>'
        + "".join(f'<path class="{name}" d="{d}"/>' for name, d in view.paths)
        + f'</g></svg><div class="values">{values}</div></div>'
    )


def _side(view: _View) -> tuple[str, str]:
    """Return what stands left and right of the rows, from the top down."""
    labels, values = "", ""
    marked = _marked() if view.net in _VERSIONS else ()
    for number in range(len(view.rows) - 1, -1, -1):
        row, name = view.rows[number], view.names[number]
        on = ' class="on"' if number == view.layer else ""
        window = "" if number == 0 else _window(view.windows[number])
        mark = "▸ " if number in marked else ""
        labels += f"<div{on}><b>{mark}{name}</b> <small>{window or f'n {row.n}'}</small></div>"
        shown = f'<b class="v-r">r {row.r}</b> <b class="v-j">j {row.j}</b>' if number else ""
        values += f"<div{on}>{shown if row.n else '<b>no units</b>'}</div>"
    if not view.net:
        labels += "<div><small>paths</small></div>"
    return labels, values


def _window(window: Sequence[int]) -> str:
    k, s, p, d = window
    return f"k {k} s {s}" + (f" p {p}" if p else "") + (f" d {d}" if d > 1 else "")


def _buttons(view: _View) -> str:
    moves = {"left": "←", "up": "↑", "down": "↓", "right": "→"}
    arrows = "".join(
        f'<button type="button" data-move="{name}" aria-label="Go {name}"'
        f"{' hidden' if view.net and name in ('left', 'right') else ''}>{sign}</button>"
        for name, sign in moves.items()
    )
    hidden = " hidden" if view.net else ""
    count = 0 if view.net else len(view.rows) - 1
    full, least = (f' aria-disabled="{str(count == limit).lower()}"' for limit in (MOST_LAYERS, 1))
    edits = (
        f'<button type="button" data-edit="add"{full}{hidden}>Add a layer</button>'
        f'<button type="button" data-edit="remove"{least}{hidden}>Remove the chosen layer</button>'
    )
    return f'<div class="cnn-row" role="group" aria-label="Walk and build">{arrows}{edits}</div>'


def _legend(view: _View) -> str:
    stack = (
        ("input", "input"),
        ("zero", "padding"),
        ("lit", "seen by the chosen unit"),
        ("field", "its receptive field"),
    )
    net = (("input", "image"), ("known", "field of the layer below"), ("grown", "what this layer adds"))
    other = (("other", "the other version"),)

    def items(keys: tuple[tuple[str, str], ...], kind: str, shown: bool) -> str:
        hidden = "" if shown else " hidden"
        return "".join(
            f'<li data-for="{kind}"{hidden}><span class="key {key}"></span>{name}</li>' for key, name in keys
        )

    parts = (
        items(stack, "stack", not view.net),
        items(net, "net", bool(view.net)),
        items(other, "version", view.net in _VERSIONS),
    )
    return tag("ul", "".join(parts), class_="legend", aria_label="Legend")


def _caption(view: _View) -> str:
    state = "outcome error" if view.failed else "outcome"
    return (
        f'<figcaption aria-live="polite"><span class="{state}">{view.outcome}</span> '
        f'<span class="position">{view.position}</span></figcaption>'
    )
