"""The conv-arithmetic explorer: one square convolution on grid paper, with its formula and its numbers.

Python computes every output size and draws the first frame; the script in ``assets/convolution.js`` looks the sizes up
and redraws. The tests compare the script with Python and with ``nn.Conv2d`` for all combinations of the sliders.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

from cnnlib.errors import DoesNotFit, require_integers
from cnnlib.explore.checks import OutOfRange
from cnnlib.explore.html import Html, asset, figure, script, tag
from cnnlib.measure.arithmetic import ConvArithmetic

RANGES = {
    "size": range(3, 15),
    "kernel": range(1, 8),
    "stride": range(1, 5),
    "padding": range(0, 4),
    "dilation": range(1, 4),
}
"""What each slider covers. A larger picture cannot be read; the formula holds for any size."""

PRESETS = {
    "3×3, same size": (7, 3, 1, 1, 1),
    "LeNet-5 C1": (12, 5, 1, 0, 1),
    "AlexNet, 227": (11, 7, 4, 0, 1),
    "AlexNet, 224": (12, 7, 4, 0, 1),
    "224, padded": (12, 7, 4, 2, 1),
    "Pool 3×3, stride 2": (11, 3, 2, 0, 1),
    "Dilated": (9, 3, 1, 0, 2),
    "Too small": (5, 7, 1, 0, 1),
}
"""Settings worth seeing. AlexNet's first convolution is shown in miniature: 11 and 12 leave the remainders, divided by
the stride of 4, that 227 and 224 leave, and so do windows of 7 and of 11."""

_LABELS = {
    "size": ("Input size", "W"),
    "kernel": ("Kernel", "F"),
    "stride": ("Stride", "S"),
    "padding": ("Padding", "P"),
    "dilation": ("Dilation", "D"),
}

# The sentences of the caption, for Python's first frame and for the script alike.
_WORDS = {
    "fits": "The window spans {span} of {padded} cells and fits {output} times along each side: "
    "the output is {output} × {output}.",
    "once": "The window spans {span} of {padded} cells and fits once along each side: the output is 1 × 1.",
    "exact": "The division leaves no remainder.",
    "left1": "The division leaves 1: the last row and column are never seen (hatched).",
    "left": "The division leaves {remainder}: the last {remainder} rows and columns are never seen (hatched).",
    "zeros": "Only padding is lost.",
    "gaps1": "Between the taps, one row and column is never seen (hatched).",
    "gaps": "Between the taps, {gaps} rows and columns are never seen (hatched).",
    "unfit": "This does not fit. The window spans {span}, but the padded input is only {padded} wide. "
    "Reduce the kernel or the dilation, or add padding.",
    "unit": "Output row {row}, column {column} sees rows {top} to {bottom} and columns {left} to {right} "
    "of the padded input.",
    "unit1": "Output row {row}, column {column} sees row {top}, column {left} of the padded input.",
    "every2": "It takes every second one.",
    "every3": "It takes every third one.",
    "seen": "The cell in row {row}, column {column} of the padded input is seen by {count} output units (dotted).",
    "seen1": "The cell in row {row}, column {column} of the padded input is seen by one output unit (dotted).",
    "seen0": "The cell in row {row}, column {column} of the padded input is seen by no output unit.",
}

_ALPHABET = string.ascii_letters + string.digits + "!#$%()*+,-./:;=?@[]^_{|}~"


@dataclass(frozen=True)
class Walk:
    """One square convolution along one side. Sizes are in cells; ``output`` is 0 where the window does not fit."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    @cached_property
    def _fitting(self) -> ConvArithmetic | None:
        try:
            return ConvArithmetic(self.size, self.kernel, self.stride, self.padding, self.dilation)
        except DoesNotFit:
            return None

    @property
    def padded(self) -> int:
        """The side of the padded input, W + 2P."""
        return self.size + 2 * self.padding

    @property
    def span(self) -> int:
        """The cells from the first tap of the window to the last, D(F - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def output(self) -> int:
        """The side of the output, W', or 0."""
        return self._fitting.output if self._fitting else 0

    @property
    def remainder(self) -> int:
        """The cells at the end that no window reaches: what the division by S leaves."""
        return self._fitting.remainder if self._fitting else 0

    def taps(self, position: int) -> list[int]:
        """Return the cells of the padded input that the output at ``position`` reads."""
        return [position * self.stride + tap * self.dilation for tap in range(self.kernel)]

    def unseen(self) -> list[int]:
        """Return the cells of the padded input that no output reads."""
        seen = set(itertools.chain.from_iterable(map(self.taps, range(self.output))))
        return [cell for cell in range(self.padded) if cell not in seen]


@cache
def table() -> str:
    """Return output size and remainder for every setting of the sliders, one character each.

    Settings come in the order of ``itertools.product(*RANGES.values())``; the character is number
    ``4 * output + remainder`` of the alphabet that the explorer embeds.
    """
    walks = itertools.starmap(Walk, itertools.product(*RANGES.values()))
    return "".join(_ALPHABET[4 * walk.output + walk.remainder] for walk in walks)


def conv_arithmetic(
    id: str = "conv-arithmetic",
    *,
    size: int = 7,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Html:
    """Return the explorer of the formula W' = floor((W + 2P - D(F - 1) - 1) / S) + 1, started at the given setting.

    The reader moves the five sliders, walks the window over the padded input (buttons, arrow keys, mouse, touch),
    picks an input cell to see which outputs read it, and reads the formula with its symbols and its numbers. The page
    needs no kernel; without JavaScript the first frame stands.

    Args:
        id: the id of the figure in the page.
        size: side W of the square input, in cells, 3 to 14.
        kernel: side F of the window, 1 to 7.
        stride: step S of the window, 1 to 4.
        padding: rings P of zeros around the input, 0 to 3.
        dilation: distance D between neighbouring taps, 1 to 3.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        OutOfRange: if a value is no integer, or outside these ranges.
    """
    setting = {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    require_integers(OutOfRange, **setting)
    for name, value in setting.items():
        if value not in RANGES[name]:
            low, high = RANGES[name][0], RANGES[name][-1]
            raise OutOfRange(f"the conv-arithmetic explorer has no {name} {value}; choose from {low} to {high}")
    walk = Walk(**setting)
    data = {
        "ranges": [[values[0], len(values)] for values in RANGES.values()],
        "alphabet": _ALPHABET,
        "table": table(),
        "words": _WORDS,
    }
    body = "".join(
        (
            _presets(setting),
            _sliders(setting),
            _formula(walk),
            _stage(walk, id),
            _buttons(),
            _LEGEND,
            _caption(walk),
            tag("script", json.dumps(data, ensure_ascii=False, separators=(",", ":")), type="application/json"),
        )
    )
    text = " ".join(("Explorer of conv arithmetic.", *_result(walk)))
    html = figure(body, id=id, kind="cnn-conv", css=asset("convolution.css"), script=script("convolution.js"))
    return Html(html, text)


def _presets(setting: dict[str, int]) -> str:
    chosen = tuple(setting.values())
    buttons = (
        tag(
            "button",
            label,
            type="button",
            data_set=" ".join(map(str, values)),
            aria_pressed=str(values == chosen).lower(),
        )
        for label, values in PRESETS.items()
    )
    return tag("div", "".join(buttons), class_="cnn-row", role="group", aria_label="Examples")


def _sliders(setting: dict[str, int]) -> str:
    sliders = (
        f'<label class="v-{name}"><span><span>{label} <i>{symbol}</i></span>'
        f'<b aria-hidden="true">{setting[name]}</b></span>'
        f'<input type="range" name="{name}" min="{RANGES[name][0]}" max="{RANGES[name][-1]}" value="{setting[name]}"'
        ' autocomplete="off"></label>'
        for name, (label, symbol) in _LABELS.items()
    )
    return tag("div", "".join(sliders), class_="cnn-controls", role="group", aria_label="The convolution")


_FRACTION = (
    '<span class="floor"><span class="hidden">the floor of </span><span class="over"><span>{}</span>'
    '<span class="hidden"> divided by </span><span>{}</span></span></span>'
)


def _formula(walk: Walk) -> str:
    def symbol(name: str) -> str:
        return f'<i class="v-{name}">{_LABELS[name][1]}</i>'

    def value(name: str) -> str:
        return f'<b class="v-{name}" data-value="{name}">{_values(walk)[name]}</b>'

    def line(show: Callable[[str], str]) -> str:
        top = f"{show('size')} + 2·{show('padding')} − {show('dilation')}·({show('kernel')} − 1) − 1"
        return _FRACTION.format(top, show("stride")) + " + 1"

    return (
        '<div class="formula">'
        f'<span><i class="v-output">W′</i> = {line(symbol)}</span>'
        f"<span>= {line(value)}</span>"
        f"<span>= {_FRACTION.format(value('numerator'), value('stride'))} + 1 = {value('output')}</span>"
        "</div>"
    )


def _values(walk: Walk) -> dict[str, str]:
    return {name: str(getattr(walk, name)) for name in _LABELS} | {
        "numerator": str(walk.padded - walk.span).replace("-", "−"),
        "output": str(walk.output or "no output"),
    }


def _stage(walk: Walk, id: str) -> str:
    n = max(walk.padded, walk.span)
    style = f"--n:{n};--o:{max(walk.output, 1)}"
    panes = (
        ("in", "Padded input", walk.padded, n, _draw_input(walk, id), "Arrow keys choose a cell of the input."),
        ("out", "Output", walk.output, max(walk.output, 1), _draw_output(walk, id), "Arrow keys walk the window."),
    )
    body = "".join(
        f'<div class="pane"><div class="name">{name} <b data-size="{kind}">{_square_text(side)}</b></div>'
        f'<svg class="{kind}" viewBox="-.1 -.1 {extent + 0.2:.1f} {extent + 0.2:.1f}" role="img" tabindex="0"'
        f' aria-label="{name} of the convolution, described below. {help}" fill="none" stroke="currentColor">'
        f"{_patterns(id) if kind == 'in' else ''}<g>{drawing}</g></svg></div>"
        for kind, name, side, extent, drawing, help in panes
    )
    return f'<div class="stage"><div class="panes" style="{style}">{body}</div></div>'


def _square_text(side: int) -> str:
    return f"{side} × {side}" if side else "none"


def _patterns(id: str) -> str:
    return (
        f'<defs><pattern id="{id}-pad" width="1" height="1" patternUnits="userSpaceOnUse">'
        '<ellipse class="zero" cx=".5" cy=".5" rx=".1" ry=".15"/></pattern>'
        f'<pattern id="{id}-never" width=".5" height=".5" patternUnits="userSpaceOnUse">'
        '<path class="hatch" d="M0 .5L.5 0M-.1 .1L.1 -.1M.4 .6L.6 .4"/></pattern></defs>'
    )


def _square(x: int, y: int, side: int) -> str:
    return f"M{x} {y}h{side}v{side}h-{side}z"


def _grid(side: int) -> str:
    return "".join(f"M0 {i}h{side}M{i} 0v{side}" for i in range(side + 1))


def _draw_input(walk: Walk, id: str) -> str:
    """Draw the first frame as the script does: zeros, input, hatched cells, then the window and its taps."""
    n, fits = walk.padded, walk.output > 0
    real = range(walk.padding, walk.padding + walk.size)  # the rest is zeros
    taps = [(x, y) for y in walk.taps(0) for x in walk.taps(0)]
    paths = [
        ("pad", _square(0, 0, n)),
        ("image", _square(walk.padding, walk.padding, walk.size)),
        ("lines", _grid(n)),
        ("never", "".join(f"M0 {i}h{n}v1h-{n}zM{i} 0h1v{n}h-1z" for i in walk.unseen()) if fits else ""),
        ("tap", "".join(_square(x, y, 1) for x, y in taps) if fits else ""),
        ("dot", "".join(f"M{x + 0.5} {y + 0.5}h0" for x, y in taps if x in real and y in real) if fits else ""),
        ("window" if fits else "window unfit", _square(0, 0, walk.span)),
    ]
    return _paths(paths, id)


def _draw_output(walk: Walk, id: str) -> str:
    if not walk.output:
        return '<path class="none" d="M0 0h1v1h-1zM.2 .2l.6 .6M.8 .2l-.6 .6"/>'
    paths = [
        ("result", _square(0, 0, walk.output)),
        ("lines", _grid(walk.output)),
        ("unit", _square(0, 0, 1)),
        ("dot", "M0.5 0.5h0"),
    ]
    return _paths(paths, id)


def _paths(paths: list[tuple[str, str]], id: str) -> str:
    def fill(kind: str) -> str:
        return f' fill="url(#{id}-{kind})"' if kind in ("pad", "never") else ""

    return "".join(f'<path class="{kind}" d="{d}"{fill(kind)}/>' for kind, d in paths)


def _buttons() -> str:
    moves = {"left": "←", "up": "↑", "down": "↓", "right": "→"}
    arrows = "".join(
        f'<button type="button" data-move="{name}" aria-label="Move the window {name}">{sign}</button>'
        for name, sign in moves.items()
    )
    play = '<button type="button" data-play>Play</button>'
    return f'<div class="cnn-row" role="group" aria-label="Walk the window">{arrows}{play}</div>'


_LEGEND = (
    '<ul class="legend" aria-label="Legend">'
    '<li><span class="key image"></span>input</li><li><span class="key pad">0</span>padding</li>'
    '<li><span class="key tap">•</span>window</li><li><span class="key result"></span>output</li>'
    '<li><span class="key never"></span>never seen</li></ul>'
)


def _result(walk: Walk) -> list[str]:
    """Return the sentences that say what the setting gives."""
    gaps = len(walk.unseen()) - walk.remainder
    if not walk.output:
        keys = ["unfit"]
    else:
        keys = ["once" if walk.output == 1 else "fits", {0: "exact", 1: "left1"}.get(walk.remainder, "left")]
        if 0 < walk.remainder <= walk.padding:
            keys.append("zeros")
        if gaps:
            keys.append("gaps1" if gaps == 1 else "gaps")
    facts = {name: getattr(walk, name) for name in ("span", "padded", "output", "remainder")} | {"gaps": gaps}
    return [_WORDS[key].format_map(facts) for key in keys]


def _position(walk: Walk) -> list[str]:
    """Return the sentences that say what the first output sees."""
    if not walk.output:
        return []
    keys = ["unit1" if walk.span == 1 else "unit"]
    if walk.kernel > 1 and walk.dilation > 1:
        keys.append(f"every{walk.dilation}")
    facts = {"row": 1, "column": 1, "top": 1, "bottom": walk.span, "left": 1, "right": walk.span}
    return [_WORDS[key].format_map(facts) for key in keys]


def _caption(walk: Walk) -> str:
    state = "outcome" if walk.output else "outcome error"
    return (
        f'<figcaption aria-live="polite"><span class="{state}">{" ".join(_result(walk))}</span> '
        f'<span class="position">{" ".join(_position(walk))}</span></figcaption>'
    )
