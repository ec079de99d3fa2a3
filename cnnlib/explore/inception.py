"""The Inception-module explorer: four branches drawn with their maps to scale, and what each of them costs.

Python draws the first frame; the script in ``assets/inception.js`` counts and draws again for every setting. The tests
compare the script with Python, and Python with the modules of :mod:`cnnlib.models.googlenet`.
"""

from __future__ import annotations

import json
import math
from dataclasses import astuple, dataclass, replace
from functools import cache

from cnnlib.errors import require_integers
from cnnlib.explore.checks import OutOfRange
from cnnlib.explore.html import Html, asset, figure, script, tag
from cnnlib.models import card
from cnnlib.models.googlenet import TABLE_1, Inception, googlenet

RANGES = {
    "size": range(7, 57, 7),
    "in_channels": range(16, 1025, 16),
    "n1x1": range(16, 385, 16),
    "reduce3x3": range(16, 257, 16),
    "n3x3": range(16, 385, 16),
    "reduce5x5": range(8, 97, 8),
    "n5x5": range(16, 129, 16),
    "pool_proj": range(16, 129, 16),
}
"""What each slider covers: all modules of GoogLeNet, and a 3x3 bottleneck that costs the lecture's more than none."""

BOTTLENECKS = ("reduce3x3", "reduce5x5", "pool_proj")
"""The 1x1 convolutions that can be switched off, with 0."""

BRANCHES = ("1×1", "3×3", "5×5", "Pool")

# The sentences of the caption, for Python's first frame and for the script alike.
_WORDS = {
    "module": "{ops} multiply-adds, {parameters} parameters, {maps} maps out.",
    "naive": "This is the naive module.",
    "compare": "The naive module of the same widths needs {ratio} times as many multiply-adds and puts out "
    "{naive_maps} maps.",
    "wide": "These bottlenecks are too wide to save anything.",
    "grows": "Pooling keeps all {in_channels} maps, so their number can only grow from module to module.",
}


@dataclass(frozen=True)
class Layer:
    """One convolution of the module: padded, stride 1, with a bias for each map."""

    kernel: int
    in_channels: int
    out_channels: int

    @property
    def weights(self) -> int:
        """The weights without the biases; also the multiply-adds at one pixel."""
        return self.out_channels * self.kernel**2 * self.in_channels


@dataclass(frozen=True)
class Cost:
    """What a branch or a module costs and gives."""

    ops: int
    parameters: int
    maps: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ops + other.ops, self.parameters + other.parameters, self.maps + other.maps)


@dataclass(frozen=True)
class Module:
    """An Inception module on maps of ``size`` x ``size``; names as in Table 1. A bottleneck of 0 is left out."""

    size: int
    in_channels: int
    n1x1: int
    reduce3x3: int
    n3x3: int
    reduce5x5: int
    n5x5: int
    pool_proj: int

    @property
    def branches(self) -> list[list[Layer]]:
        """The convolutions of each branch, in order."""
        steps = (
            [(1, self.n1x1)],
            [(1, self.reduce3x3), (3, self.n3x3)],
            [(1, self.reduce5x5), (5, self.n5x5)],
            [(1, self.pool_proj)],
        )
        return [self._chain(branch) for branch in steps]

    def _chain(self, steps: list[tuple[int, int]]) -> list[Layer]:
        layers, maps = [], self.in_channels
        for kernel, width in steps:
            if width:
                layers.append(Layer(kernel, maps, width))
                maps = width
        return layers

    @property
    def costs(self) -> list[Cost]:
        """What each branch costs."""
        return [
            Cost(
                self.size**2 * sum(layer.weights for layer in layers),
                sum(layer.weights + layer.out_channels for layer in layers),
                layers[-1].out_channels if layers else self.in_channels,
            )
            for layers in self.branches
        ]

    @property
    def total(self) -> Cost:
        """What the module costs."""
        return sum(self.costs, start=Cost(0, 0, 0))

    @property
    def naive(self) -> Module:
        """The module of the same widths without bottlenecks."""
        return replace(self, **dict.fromkeys(BOTTLENECKS, 0))

    @property
    def key(self) -> str:
        """The setting as the page writes it."""
        return " ".join(map(str, astuple(self)))


LECTURE = Module(size=28, in_channels=256, n1x1=128, reduce3x3=64, n3x3=192, reduce5x5=64, n5x5=96, pool_proj=64)
"""The lecture's module with bottlenecks."""


@cache
def googlenet_modules() -> dict[str, Module]:
    """Return the nine modules of GoogLeNet as they stand in the net, for an image of 224 x 224."""
    import torch

    with torch.device("meta"):
        modules = dict(googlenet().named_modules())
    inputs = {
        name.rpartition("inception")[2]: module.branch1.conv.in_channels
        for name, module in modules.items()
        if isinstance(module, Inception)
    }
    return {name: Module(224 >> int(name[0]), inputs[name], *row) for name, row in TABLE_1.items()}


@cache
def presets() -> dict[str, tuple[Module, str]]:
    """Return the settings worth seeing, each with what there is to say about it."""
    wide = LECTURE.branches[1][1].weights * LECTURE.size**2
    ops = LECTURE.total.ops
    lecture = {
        "Lecture, naive": (
            LECTURE.naive,
            f"The lecture says the same: {short(LECTURE.naive.total.ops)} and {LECTURE.naive.total.maps} maps.",
        ),
        "Lecture, bottlenecks": (
            LECTURE,
            f"The lecture says {short(ops + wide)}: its six products add up to {short(ops)}, and its sum has the 3×3 "
            f"convolution ({short(wide)}) in it twice.",
        ),
    }
    whole = card("googlenet").multiply_adds
    net = {
        f"GoogLeNet {name}": (
            googlenet_modules()[name],
            f"Module {name} does {100 * googlenet_modules()[name].total.ops / whole:.0f}% of the multiply-adds of "
            "GoogLeNet.",
        )
        for name in ("3a", "4a", "5b")
    }
    return lecture | net


def short(count: int) -> str:
    """Return a count in three digits: 854M for 854,196,224."""
    drop = len(str(count)) - 3
    if drop <= 0:
        return str(count)
    digits = (count + 10**drop // 2) // 10**drop
    if digits == 1000:
        digits, drop = 100, drop + 1
    group = (drop + 2) // 3
    decimals = 3 * group - drop
    return f"{digits / 10**decimals:.{decimals}f}{'kMG'[group - 1]}"


def inception_module(
    id: str = "inception-module",
    *,
    size: int = LECTURE.size,
    in_channels: int = LECTURE.in_channels,
    n1x1: int = LECTURE.n1x1,
    reduce3x3: int = LECTURE.reduce3x3,
    n3x3: int = LECTURE.n3x3,
    reduce5x5: int = LECTURE.reduce5x5,
    n5x5: int = LECTURE.n5x5,
    pool_proj: int = LECTURE.pool_proj,
) -> Html:
    """Return the explorer of the Inception module, started at the given setting, by default the lecture's module.

    The reader sets the maps that come in and the widths of the branches, switches each bottleneck on and off, and sees
    multiply-adds, parameters and maps of every branch, beside those of the naive module of the same widths. The page
    needs no kernel; without JavaScript the first frame stands.

    Args:
        id: the id of the figure in the page.
        size: side of the maps, in pixels, 7 to 56 in steps of 7.
        in_channels: number of maps that come in, 16 to 1024 in steps of 16.
        n1x1: maps of the 1x1 branch, 16 to 384 in steps of 16.
        reduce3x3: maps of the bottleneck before the 3x3 convolution, 16 to 256 in steps of 16; 0 for none.
        n3x3: maps of the 3x3 convolution, 16 to 384 in steps of 16.
        reduce5x5: maps of the bottleneck before the 5x5 convolution, 8 to 96 in steps of 8; 0 for none.
        n5x5: maps of the 5x5 convolution, 16 to 128 in steps of 16.
        pool_proj: maps of the 1x1 convolution after the pooling, 16 to 128 in steps of 16; 0 for none.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        OutOfRange: if a value is no integer, or none of these.
    """
    module = Module(size, in_channels, n1x1, reduce3x3, n3x3, reduce5x5, n5x5, pool_proj)
    require_integers(OutOfRange, **vars(module))
    for name, values in RANGES.items():
        value = getattr(module, name)
        if value not in values and not (name in BOTTLENECKS and value == 0):
            none = ", or 0 for none" if name in BOTTLENECKS else ""
            raise OutOfRange(
                f"the Inception explorer has no {name} {value}; "
                f"choose from {values[0]} to {values[-1]} in steps of {values.step}{none}"
            )
    data = {"words": _WORDS, "notes": {preset.key: note for preset, note in presets().values()}}
    body = "".join(
        (
            _preset_buttons(module),
            _controls(module),
            f'<div class="panes"><svg viewBox="0 0 720 540" role="img" aria-label="{_describe(module)}">'
            f"{_draw(module)}</svg>{_table(module)}</div>",
            f'<figcaption aria-live="polite">{_result(module)}</figcaption>',
            f'<p class="pixel">{_pixel(module)}</p>',
            f'<details><summary>Multiply-adds, written out</summary><div class="products">{_products(module)}</div>'
            f"{_CONVENTION}</details>",
            tag("script", json.dumps(data, ensure_ascii=False, separators=(",", ":")), type="application/json"),
        )
    )
    html = figure(body, id=id, kind="cnn-inception", css=asset("inception.css"), script=script("inception.js"))
    return Html(html, f"Explorer of the Inception module. {_result(module)}")


def _preset_buttons(module: Module) -> str:
    buttons = (
        tag("button", label, type="button", data_set=preset.key, aria_pressed=str(preset == module).lower())
        for label, (preset, _) in presets().items()
    )
    return tag("div", "".join(buttons), class_="cnn-row", role="group", aria_label="Examples")


def _controls(module: Module) -> str:
    groups = (
        ("Input", _slider(module, "size", "Size"), _slider(module, "in_channels", "Maps")),
        ("1×1 branch", _slider(module, "n1x1", "1×1 to")),
        ("3×3 branch", _slider(module, "reduce3x3", "Bottleneck"), _slider(module, "n3x3", "3×3 to")),
        ("5×5 branch", _slider(module, "reduce5x5", "Bottleneck"), _slider(module, "n5x5", "5×5 to")),
        ("Pool branch", _slider(module, "pool_proj", "Projection")),
    )
    return tag(
        "div",
        "".join(
            f'<div role="group" aria-label="{name}" class="b{number}"><div class="name">{name}</div>'
            f"{''.join(sliders)}</div>"
            for number, (name, *sliders) in enumerate(groups)
        ),
        class_="cnn-controls",
        role="group",
        aria_label="The module",
    )


def _slider(module: Module, name: str, label: str) -> str:
    value, values = getattr(module, name), RANGES[name]
    start = value or getattr(LECTURE, name)
    switch = (
        f'<input type="checkbox" role="switch" aria-label="{label} on" autocomplete="off"{" checked" * bool(value)}>'
        if name in BOTTLENECKS
        else ""
    )
    return (
        f'<div class="line"><label><span><span>{label}</span><b aria-hidden="true">{value or "off"}</b></span>'
        f'<input type="range" name="{name}" min="{values[0]}" max="{values[-1]}" step="{values.step}" value="{start}"'
        f' autocomplete="off"{" disabled" * (not value)}></label>{switch}</div>'
    )


# The drawing, 720 wide: a column of 180 for each branch, and up to 160 for a ribbon of maps. What comes in spreads to
# all branches; bottlenecks (or pooling) sit at one height, the convolutions at another.


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _draw(module: Module) -> str:
    """Draw the first frame as the script does: ribbons as wide as they have maps, with boxes where these change."""
    flows = [
        (layers[0].out_channels if len(layers) == 2 else module.in_channels, cost.maps)
        for layers, cost in zip(module.branches, module.costs, strict=True)
    ]
    most = max(module.in_channels, *(maps for flow in flows for maps in flow))
    total = module.total.maps

    def half(maps: int) -> int:
        return _nearest(80 * maps / most)

    wide = half(module.in_channels)
    ribbons, boxes, bars, before = [], [], [], 0
    for i, ((middle, last), layers) in enumerate(zip(flows, module.branches, strict=True)):
        x = 90 + 180 * i
        m, n = half(middle), half(last)
        left = _nearest(360 + 160 * (before - total / 2) / most)
        before += last
        right = _nearest(360 + 160 * (before - total / 2) / most)
        ribbons.append(
            f'<path class="b{i + 1}" d="M{360 - wide} 64C{360 - wide} 107 {x - wide} 107 {x - wide} 150V190'
            f"L{x - m} 238V290L{x - n} 338V388C{x - n} 429 {left} 429 {left} 470H{right}"
            f"C{right} 429 {x + n} 429 {x + n} 388V338L{x + m} 290V238L{x + wide} 190V150"
            f'C{x + wide} 107 {360 + wide} 107 {360 + wide} 64z"/>'
        )
        first = "pool" if i == 3 else "1×1" if len(layers) == 2 else ""
        if first:
            boxes.append(_text(x, 177, module.in_channels) + _box(i, x, 190, first))
        boxes.append(_text(x, 273, middle))
        if layers:
            kernel = layers[-1].kernel
            boxes.append(_box(i, x, 290, f"{kernel}×{kernel}") + _text(x, 371, last))
        bars.append(f'<path class="bar b{i + 1}" d="M{left} 470H{right}V488H{left}z"/>')
    return (
        f'{"".join(ribbons)}<path class="bar" d="M{360 - wide} 46H{360 + wide}V64H{360 - wide}z"/>{"".join(bars)}'
        f"{_text(360, 32, f'in: {module.size} × {module.size} × {module.in_channels}')}{''.join(boxes)}"
        f"{_text(360, 524, f'concatenated: {module.size} × {module.size} × {total}')}"
    )


def _box(branch: int, x: int, y: int, label: str) -> str:
    kind = "pool " * (label == "pool")
    rect = f'<rect class="{kind}b{branch + 1}" x="{x - 46}" y="{y}" width="92" height="48" rx="9"/>'
    return rect + _text(x, y + 33, label)


def _text(x: int, y: int, content: object) -> str:
    return f'<text x="{x}" y="{y}">{content}</text>'


def _describe(module: Module) -> str:
    """Say what the drawing shows."""
    *convolutions, projection = (
        ", ".join(f"{layer.kernel}×{layer.kernel} to {layer.out_channels}" for layer in layers)
        for layers in module.branches
    )
    pool = ", ".join(filter(None, ("3×3 max pooling", projection)))
    return (
        f"{module.in_channels} maps go four ways: {'; '.join(convolutions)}; {pool}. "
        f"Side by side they are {module.total.maps} maps."
    )


def _table(module: Module) -> str:
    return (
        '<table class="cnn-table" aria-label="Cost by branch">'
        '<thead><tr><th scope="col">Branch</th><th scope="col">Multiply-adds</th>'
        f'<th scope="col">Parameters</th><th scope="col">Maps out</th></tr></thead>{_rows(module)}</table>'
    )


def _rows(module: Module) -> str:
    here, naive = module.total, module.naive.total
    most = list(map(max, astuple(here), astuple(naive)))

    def row(name: str, parts: list[tuple[int, Cost]]) -> str:
        columns = zip(*(astuple(cost) for _, cost in parts), strict=True)
        cells = (
            f"<td>{show(sum(values))}<span>"
            + "".join(
                f'<i class="b{branch}" style="--w:{_nearest(1000 * value / largest)}"></i>'
                for (branch, _), value in zip(parts, values, strict=True)
            )
            + "</span></td>"
            for values, largest, show in zip(columns, most, (short, short, str), strict=True)
        )
        return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'

    ours = list(enumerate(module.costs, start=1))
    theirs = list(enumerate(module.naive.costs, start=1))
    body = "".join(row(name, [part]) for name, part in zip(BRANCHES, ours, strict=True))
    return f"<tbody>{body}</tbody><tfoot>{row('Module', ours)}{row('Naive', theirs)}</tfoot>"


def _result(module: Module) -> str:
    """Return the sentences that say what the setting gives."""
    here, naive = module.total, module.naive.total
    tenths = (20 * naive.ops + here.ops) // (2 * here.ops)
    keys = ["module"]
    if module == module.naive:
        keys.append("naive")
    else:
        keys.append("compare")
        if here.ops >= naive.ops:
            keys.append("wide")
    if not module.pool_proj:
        keys.append("grows")
    facts = {
        "ops": short(here.ops),
        "parameters": short(here.parameters),
        "maps": here.maps,
        "ratio": f"{tenths / 10:.1f}",
        "naive_maps": naive.maps,
        "in_channels": module.in_channels,
    }
    notes = [note for preset, note in presets().values() if preset == module]
    return " ".join([*(_WORDS[key].format_map(facts) for key in keys), *notes])


def _pixel(module: Module) -> str:
    """Say what a 1x1 convolution is, with the numbers of the setting."""

    def value(name: str) -> str:
        return f'<b data-value="{name}">{getattr(module, name)}</b>'

    return (
        "<strong>A 1×1 convolution is a linear (fully connected) layer at each pixel.</strong> The 1×1 branch "
        f"multiplies the {value('in_channels')} values of a pixel by one matrix of {value('n1x1')} × "
        f"{value('in_channels')}, the same at all {value('size')} · {value('size')} pixels. A bottleneck is the same "
        "with a smaller matrix: it projects many maps onto few before the costly convolution reads them."
    )


def _products(module: Module) -> str:
    """Write the multiply-adds of each branch as the lecture does: pixels, filters, kernel, maps in."""
    size = f"{module.size}·{module.size}"
    lines = []
    for number, (name, layers, cost) in enumerate(zip(BRANCHES, module.branches, module.costs, strict=True), start=1):
        products = " + ".join(f"{size}·{at.out_channels}·{at.kernel}·{at.kernel}·{at.in_channels}" for at in layers)
        equals = " = " if products else ""
        lines.append(f'<div><b class="b{number}">{name}</b> {products}{equals}{cost.ops:,}</div>')
    return f"{''.join(lines)}<div><b>Module</b> {module.total.ops:,}</div>"


_CONVENTION = (
    '<p class="cnn-note">Height · width · maps out · kernel · kernel · maps in, for each convolution. A multiply-add '
    "is one multiplication with its addition; biases are left out of them. Parameters are the weights and one bias for "
    "each map of a convolution.</p>"
)
