"""The depth explorer: how much of the gradient reaches each layer, in a plain net and in a residual one side by side.

The numbers are those of the records of the study ``degradation``. Python prepares every setting; the script in
``assets/depth.js`` puts the chosen one on the page, and draws it as :func:`_draw` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean

from cnnlib.errors import CnnlibError, require_integers
from cnnlib.explore.checks import holds_flow, require_alike
from cnnlib.explore.degradation import KINDS, kind_and_depth
from cnnlib.explore.html import Html, asset, buttons, figure, script, tag
from cnnlib.studies import Record

STATES = {"initial": "before training", "trained": "after training"}
LEFT, WIDTH, TOP, HEIGHT, STRIP = 96, 620, 16, 260, 300
"""The drawing in its 720 by 360: the plot, and below it the strip of blocks."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WORDS = (
    "Layer {layer} of {depth}, {name}, {state}: {plain} in the plain net, {resnet} in the residual net. From the last "
    "convolution back to the first the gradient becomes {plain_change} in the plain net, {resnet_change} in the "
    "residual net."
)


class NothingMeasured(CnnlibError, ValueError):
    """The records do not hold what the explorer shows."""


@dataclass(frozen=True)
class Net:
    """One of the two nets of a depth, before the training or after it.

    Attributes:
        heights: of each layer, 0 to 1000 on the scale of this depth.
        values: the gradient at each layer, in words.
        change: from the last convolution back to the first, in words.
        told: the whole in one sentence.
    """

    heights: tuple[int, ...]
    values: tuple[str, ...]
    change: str
    told: str


@dataclass(frozen=True)
class Setting:
    """All that is shown of one depth.

    Attributes:
        depth: number of layers.
        names: of the layers.
        blocks: first layer of each block, and the number of layers after the last.
        grid: height on the page of each line of the scale, and its label.
        errors: of both kinds of net after the training, in words.
        nets: by state and kind.
    """

    depth: int
    names: tuple[str, ...]
    blocks: tuple[int, ...]
    grid: tuple[tuple[int, str], ...]
    errors: dict[str, str]
    nets: dict[str, dict[str, Net]]


class Measured:
    """What the records say, depth by depth.

    Raises:
        NothingMeasured: if there is no depth of which both a plain and a residual net were probed, or the records are
            of several budgets or images.
        NothingToDraw: if a probed net is of another kind.
    """

    def __init__(self, records: Sequence[Record]):
        require_alike(NothingMeasured, (record.run for record in records))
        self.records: dict[int, dict[str, list[Record]]] = {}
        for record in records:
            if holds_flow(record):
                kind, depth = kind_and_depth(record.arm)
                self.records.setdefault(depth, {}).setdefault(kind, []).append(record)
        self.records = {d: kinds for d, kinds in sorted(self.records.items()) if len(kinds) == len(KINDS)}
        if not self.records:
            raise NothingMeasured(
                "the depth explorer needs records of a plain and a residual net of the same depth, with their probes: "
                "those of the study 'degradation'"
            )

    @cached_property
    def settings(self) -> dict[int, Setting]:
        """What is shown of each depth."""
        return {depth: self._setting(depth) for depth in self.records}

    def gradients(self, depth: int, state: str, kind: str) -> list[float]:
        """Return the gradient at every layer, as the geometric mean over the seeds."""
        runs = [getattr(record.probe, state) for record in self.records[depth][kind]]
        return [
            math.exp(fmean(math.log(max(row["gradient"], 1e-30)) for row in rows)) for rows in zip(*runs, strict=True)
        ]

    def _setting(self, depth: int) -> Setting:
        found = {state: {kind: self.gradients(depth, state, kind) for kind in KINDS} for state in STATES}
        logs = [math.log10(value) for kinds in found.values() for values in kinds.values() for value in values]
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        rows = self.records[depth]["resnet"][0].probe.initial
        names = tuple(row["layer"] for row in rows)
        step = math.ceil((high - low) / 5)

        def net(kind: str, state: str) -> Net:
            values = found[state][kind]
            first, last = values[0], values[-2]
            ratio = first / last
            change = f"{words(ratio)} times larger" if ratio >= 1 else f"{words(1 / ratio)} times smaller"
            return Net(
                heights=tuple(round(1000 * (math.log10(value) - low) / (high - low)) for value in values),
                values=tuple(map(words, values)),
                change=change,
                told=f"The gradient in the {KINDS[kind]} net of {depth} layers {STATES[state]}: {words(last)} at the "
                f"last convolution, {words(first)} at the first, {change}.",
            )

        return Setting(
            depth=depth,
            names=names,
            blocks=(*(i for i, name in enumerate(names) if not i or _block(name) != _block(names[i - 1])), depth),
            grid=tuple(
                (TOP + HEIGHT - HEIGHT * (power - low) // (high - low), "10" + str(power).translate(_SUPERSCRIPT))
                for power in range(low, high + 1, step)
            ),
            errors={kind: _error(records) for kind, records in self.records[depth].items()},
            nets={state: {kind: net(kind, state) for kind in KINDS} for state in STATES},
        )


def _block(layer: str) -> str:
    return ".".join(layer.split(".")[:3])


def _error(records: Sequence[Record]) -> str:
    error = fmean(record.run.train_error for record in records)
    count = len(records)
    return f"training error {error:.1f} % after {records[0].run.steps:,} steps ({count} seed{'s' * (count > 1)})"


def words(value: float) -> str:
    """Return a number in two digits: 0.024, 3.7·10⁻¹³, 20,000."""
    value = float(f"{value:.1e}")
    if 1e-3 <= value < 1e6:
        digits = max(0, 1 - math.floor(math.log10(value)))
        return f"{value:,.{digits}f}"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa}·10{str(int(power)).translate(_SUPERSCRIPT)}"


def depth_explorer(records: Sequence[Record], id: str = "depth", *, depth: int | None = None) -> Html:
    """Return the explorer, started at the given depth, before the training, at the first layer.

    The reader chooses the depth, looks before or after the training, and walks along the layers with the slider or the
    arrow keys. Both nets share one logarithmic scale. Blocks are lit by the gradient that reaches them. The page needs
    no kernel; without JavaScript the first frame stands.

    Args:
        records: of the study ``degradation``, of one budget. Several seeds of a net are averaged.
        id: the id of the figure in the page.
        depth: number of layers; by default the second largest.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NothingMeasured: if there are no records of both kinds of net at a depth, or none at this one, or the records
            are of several budgets or images.
        NothingToDraw: if a record is of another kind of net.
    """
    measured = Measured(records)
    settings = measured.settings
    depth = ([*settings][-2:])[0] if depth is None else depth
    require_integers(NothingMeasured, depth=depth)
    if depth not in settings:
        raise NothingMeasured(f"there are no records of {depth} layers; choose from {', '.join(map(str, settings))}")
    setting = settings[depth]
    data = {
        "words": _WORDS,
        "states": STATES,
        "settings": {str(depth): asdict(setting) for depth, setting in settings.items()},
    }
    panes = "".join(
        f'<div class="pane {kind}"><div class="name"><b>{KINDS[kind]}, <span class="depth">{depth}</span> layers</b> '
        f'<span class="error">{setting.errors[kind]}</span></div>'
        f'<svg viewBox="0 0 720 360" role="img" aria-label="{setting.nets["initial"][kind].told}">'
        f"{_draw(setting, 'initial', kind, 0)}</svg></div>"
        for kind in KINDS
    )
    body = "".join(
        (
            buttons("Depth", "depth", {str(d): f"{d} layers" for d in settings}, str(depth)),
            buttons("When", "state", {state: name.capitalize() for state, name in STATES.items()}, "initial"),
            '<div class="cnn-controls"><label><span><span>Layer</span>'
            f'<b aria-hidden="true">1</b></span><input type="range" min="1" max="{depth}" step="1" value="1"'
            ' autocomplete="off"></label></div>',
            f'<div class="panes">{panes}</div>',
            f'<figcaption aria-live="polite">{_result(setting, "initial", 0)}</figcaption>',
            _NOTE,
            tag("script", json.dumps(data, ensure_ascii=False, separators=(",", ":")), type="application/json"),
        )
    )
    html = figure(body, id=id, kind="cnn-depth", css=asset("depth.css"), script=script("depth.js"))
    told = " ".join(setting.nets[state][kind].told for state in STATES for kind in KINDS)
    return Html(html, f"Depth explorer. {told}")


def _draw(setting: Setting, state: str, kind: str, layer: int) -> str:
    """Draw the gradient as steps over the layers, the blocks lit by it, their shortcuts, and the chosen layer."""
    heights = setting.nets[state][kind].heights

    def x(place: int) -> int:
        return LEFT + WIDTH * place // setting.depth

    grid = "".join(
        f'<path class="grid" d="M{LEFT} {y}H{LEFT + WIDTH}"/><text x="{LEFT - 10}" y="{y + 9}">{label}</text>'
        for y, label in setting.grid
    )
    steps = "".join(f"V{TOP + HEIGHT - HEIGHT * h // 1000}H{x(i + 1)}" for i, h in enumerate(heights))
    blocks = arcs = ""
    for first, end in pairwise(setting.blocks):
        left, right = x(first), x(end)
        frame = f'x="{left}" y="{STRIP}" width="{right - left - 1}" height="26"'
        light = f"{max(heights[first:end]) / 1000:g}"
        blocks += f'<rect {frame}/><rect class="lit" {frame} fill-opacity="{light}"/>'
        if kind == "resnet" and first and end < setting.depth:
            arcs += f'<path class="arc" d="M{left} {STRIP + 28}q{(right - left) // 2} 34 {right - left - 1} 0"/>'
    bottom = TOP + HEIGHT
    return (
        f'{grid}<path class="area" d="M{LEFT} {bottom}{steps}V{bottom}z"/>'
        f'{blocks}{arcs}<rect class="here" x="{x(layer)}" y="{TOP}" width="{max(3, x(layer + 1) - x(layer))}"'
        f' height="{STRIP + 26 - TOP}"/>'
    )


def _result(setting: Setting, state: str, layer: int) -> str:
    """Return the caption."""
    nets = setting.nets[state]
    return _WORDS.format(
        layer=layer + 1,
        depth=setting.depth,
        name=setting.names[layer],
        state=STATES[state],
        **{kind: net.values[layer] for kind, net in nets.items()},
        **{f"{kind}_change": net.change for kind, net in nets.items()},
    )


_NOTE = (
    '<p class="cnn-note">The size of the gradient of one image’s loss by a layer’s output: root mean square over the '
    "output’s values and 128 training images, on a logarithmic scale. It flows from right to left. A block is the "
    "brighter the more of it arrives; the curves below the residual blocks are their shortcuts.</p>"
)
