"""The complexity explorer: accuracy on ImageNet against what a network costs, after Figure 2 of Canziani et al. 2017.

The numbers are those of :mod:`cnnlib.studies.imagenet`. Python places every network for every kind of cost and finds
the frontier of every year; the script in ``assets/complexity.js`` shows the chosen one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cnnlib.errors import CnnlibError, require_integers
from cnnlib.explore.figures import short
from cnnlib.explore.html import Html, asset, buttons, figure, script, tag
from cnnlib.studies.imagenet import FLOAT, ImageNetNet, frontier, nets

COSTS = {"multiply_adds": "multiply-adds", "parameters": "parameters", "activations": "activations"}
LEFT, RIGHT, TOP, BOTTOM = 76, 700, 14, 430
"""Edges of the plot in the drawing's 720 by 500."""
LOWEST, HIGHEST = 54, 86
"""Accuracies at the bottom and the top, in percent."""
FAMILIES = {  # colour and shape; the shapes are paths around the origin
    "AlexNet": ("ink", "M-9-9 9 9M-9 9 9-9"),
    "VGG": ("orange", "M-8-8H8V8H-8z"),
    "Inception": ("purple", "M0-11 11 0 0 11-11 0z"),
    "ResNet": ("blue", "M-9 0a9 9 0 1 0 18 0 9 9 0 1 0-18 0z"),
    "DenseNet": ("teal", "M0-10 10 8H-10z"),
    "small nets": ("gold", "M0 10-10-8H10z"),
    "EfficientNet": ("ink", "M-3-9H3V-3H9V3H3V9H-3V3H-9V-3H-3z"),
}
NAMED = (
    *("AlexNet, one column", "VGG-16", "GoogLeNet", "ResNet-50", "Inception-v4"),
    *("DenseNet-121", "MobileNet V2", "EfficientNet-B0", "EfficientNet-B7"),
)
"""Networks whose names stand beside their marks; the chosen one has its name, too, and hides those that it meets."""
PLACES = ((14, 26), (-14, -10), (14, -10), (-14, 26), (16, 6), (-16, 6), (0, -18), (0, 32))
"""Where a name may stand: how far across from its mark it begins, ends (if negative) or has its middle (0), and how far
below. Of those with the least on them the first is taken."""
NAME, PHONE = 18, 28
"""Sizes of the letters of a name; on a phone there is only that of the chosen network."""
BOLD = 1.14
"""How much wider that one is."""
Box = tuple[float, float, float, float]
_WORDS = (
    "{label} ({year}): {accuracy} % top-1 with {multiply_adds} multiply-adds, {parameters} parameters and "
    "{activations} activations ({megabytes} MB), images of {side}×{side}; {source}. {verdict}"
)
_VERDICTS = {
    "first": "Up to {until}, no net shown is as good with as few {cost}.",
    "beaten": "Up to {until}, {better} is at least as good with no more {cost}.",
    "later": "It is younger than {until}.",
}


class NoSuchNet(CnnlibError, LookupError):
    """The explorer has no network of this name, or no such kind of cost or year."""


@dataclass(frozen=True)
class Plot:
    """Where everything lies, in the units of the drawing.

    Attributes:
        nets: the networks, by year and family.
    """

    nets: tuple[ImageNetNet, ...]

    @cached_property
    def years(self) -> list[int]:
        """The years in which a network was published."""
        return sorted({net.year for net in self.nets})

    def x(self, net: ImageNetNet, cost: str) -> int:
        """Return the place of a network on the logarithmic axis of a cost."""
        low, high = self._range(cost)
        return round(LEFT + (RIGHT - LEFT) * (math.log10(getattr(net, cost)) - low) / (high - low))

    def ticks(self, cost: str) -> list[tuple[int, str]]:
        """Return place and label of each tick: 1, 3, 10, ... of a unit."""
        low, high = self._range(cost)
        found = []
        for power in range(math.floor(low), math.ceil(high) + 1):
            for digit in (1, 3):
                place = math.log10(digit) + power
                if low <= place <= high:
                    found.append(
                        (round(LEFT + (RIGHT - LEFT) * (place - low) / (high - low)), short(digit * 10**power))
                    )
        return found

    def _range(self, cost: str) -> tuple[float, float]:
        values = [math.log10(getattr(net, cost)) for net in self.nets]
        margin = 0.06 * (max(values) - min(values))
        return min(values) - margin, max(values) + margin

    def until(self, year: int) -> list[ImageNetNet]:
        """Return the networks published up to a year."""
        return [net for net in self.nets if net.year <= year]

    @cached_property
    def fixed(self) -> dict[str, dict[int, int]]:
        """For each cost, by the number of the network: which of :data:`PLACES` its name has."""
        order = sorted((NAMED.index(net.label), index) for index, net in enumerate(self.nets) if net.label in NAMED)
        found: dict[str, dict[int, int]] = {cost: {} for cost in COSTS}
        for cost, places in found.items():
            for _, index in order:
                places[index] = self._place(index, cost, 1, places)
        return found

    @cached_property
    def chosen(self) -> dict[str, list[int]]:
        """For each cost: which of :data:`PLACES` the name of each network has while it is the chosen one."""
        return {
            cost: [self._place(i, cost, BOLD, fixed) for i in range(len(self.nets))]
            for cost, fixed in self.fixed.items()
        }

    def hidden(self, index: int, cost: str) -> list[int]:
        """Return the numbers of the networks whose names that of a chosen one would meet, with its own."""
        name = self.name(index, cost, self.chosen[cost][index], BOLD)
        fixed = self.fixed[cost]
        return [i for i, place in fixed.items() if i == index or _shared(name, self.name(i, cost, place))]

    def name(self, index: int, cost: str, place: int, scale: float = 1) -> Box:
        """Return left, top, right and bottom of a name, of about the width that it has in wide letters."""
        net, (across, down) = self.nets[index], PLACES[place]
        width = scale * sum(6.5 if letter in "fijlt ,.-" else 12 for letter in net.label)
        left = self.x(net, cost) + across - (width if across < 0 else width / 2 if across == 0 else 0)
        bottom = y(net) + down + 4 * scale
        return left, bottom - NAME * scale, left + width, bottom

    def _place(self, index: int, cost: str, scale: float, fixed: Mapping[int, int]) -> int:
        """Return the place where a name lies within the drawing and covers least of the marks and the fixed names."""
        taken = [(x - 12, at - 12, x + 12, at + 12) for x, at in ((self.x(net, cost), y(net)) for net in self.nets)]
        taken += [self.name(i, cost, place) for i, place in fixed.items() if i != index]

        def covered(place: int) -> float:
            left, top, right, _ = self.name(index, cost, place, BOLD * PHONE / NAME)
            if left < 0 or right > 720 or top < 0 or self.name(index, cost, place)[3] > BOTTOM:
                return math.inf
            return sum(_shared(self.name(index, cost, place, scale), other) for other in taken)

        return min(range(len(PLACES)), key=covered)

    def line(self, cost: str, year: int) -> str:
        """Return the path of the frontier, as steps: what accuracy can be had at what cost."""
        points = [(self.x(net, cost), y(net)) for net in frontier(self.until(year), cost)]
        (left, top), *rest = points
        return f"M{left} {top}" + "".join(f"H{x}V{height}" for x, height in rest) + f"H{RIGHT}"

    def verdict(self, net: ImageNetNet, cost: str, year: int) -> str:
        """Say whether a net published up to a year is as good with as little of a cost."""
        if net.year > year:
            return _VERDICTS["later"].format(until=year)
        best = frontier(self.until(year), cost)
        if net in best:
            return _VERDICTS["first"].format(until=year, cost=COSTS[cost])
        better = [other for other in best if getattr(other, cost) <= getattr(net, cost) and other.error <= net.error]
        return _VERDICTS["beaten"].format(until=year, cost=COSTS[cost], better=better[0].label)


def y(net: ImageNetNet) -> int:
    """Return the height of a network in the drawing."""
    return _height(net.accuracy)


def _height(accuracy: float) -> int:
    return round(BOTTOM - (BOTTOM - TOP) * (accuracy - LOWEST) / (HIGHEST - LOWEST))


def _shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    across, down = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(across, 0) * max(down, 0)


def radius(net: ImageNetNet) -> float:
    """Return the radius of the circle whose area stands for the parameters."""
    return round(2.6 * math.sqrt(net.parameters / 1e6), 1)


def complexity_explorer(
    id: str = "complexity", *, cost: str = "multiply_adds", year: int | None = None, net: str = "GoogLeNet"
) -> Html:
    """Return the explorer, started with one kind of cost, the networks up to a year, and one of them chosen.

    The reader chooses the cost, the last year and a family, and walks through the networks with the slider, or points
    at one. The page needs no kernel; without JavaScript the first frame stands.

    Args:
        id: the id of the figure in the page.
        cost: ``"multiply_adds"``, ``"parameters"`` or ``"activations"``.
        year: of the youngest networks; by default the last.
        net: label of the chosen network.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NoSuchNet: if there is no such network, cost or year.
    """
    plot = Plot(tuple(sorted(nets(), key=lambda net: (net.year, [*FAMILIES].index(net.family), net.multiply_adds))))
    year = plot.years[-1] if year is None else year
    require_integers(NoSuchNet, year=year)
    labels = [each.label for each in plot.nets]
    if cost not in COSTS or year not in plot.years or net not in labels:
        raise NoSuchNet(
            f"the explorer has no {net!r} with {cost!r} in {year}; choose a cost from {', '.join(COSTS)}, a year from "
            f"{', '.join(map(str, plot.years))}, and a net from {', '.join(labels)}"
        )
    chosen = labels.index(net)
    data = {
        "words": _WORDS,
        "x": {kind: [plot.x(each, kind) for each in plot.nets] for kind in COSTS},
        "places": PLACES,
        "fixed": plot.fixed,
        "chosen": plot.chosen,
        "hidden": {kind: [plot.hidden(i, kind) for i in range(len(labels))] for kind in COSTS},
        "ticks": {kind: plot.ticks(kind) for kind in COSTS},
        "lines": {kind: {str(until): plot.line(kind, until) for until in plot.years} for kind in COSTS},
        "verdicts": {
            kind: {str(until): [plot.verdict(each, kind, until) for each in plot.nets] for until in plot.years}
            for kind in COSTS
        },
        "nets": [facts(each) for each in plot.nets],
        "costs": COSTS,
        "years": plot.years,
    }
    body = "".join(
        (
            buttons("Cost", "cost", {kind: name.capitalize() for kind, name in COSTS.items()}, cost),
            buttons("Family", "family", {"": "All", **{family: family for family in FAMILIES}}, ""),
            _sliders(plot, year, chosen),
            f'<svg viewBox="0 0 720 500" role="img" aria-label="{_LABEL}">{_draw(plot, cost, year, chosen)}</svg>',
            _legend(),
            f'<figcaption aria-live="polite">{_caption(plot, plot.nets[chosen], cost, year)}</figcaption>',
            _NOTE,
            tag("script", json.dumps(data, ensure_ascii=False, separators=(",", ":")), type="application/json"),
        )
    )
    html = figure(body, id=id, kind="cnn-complexity", css=asset("complexity.css"), script=script("complexity.js"))
    told = "; ".join(f"{each.label} {each.accuracy:.1f} % at {short(getattr(each, cost))}" for each in plot.nets)
    return Html(html, f"Accuracy against {COSTS[cost]}. {told}. {_caption(plot, plot.nets[chosen], cost, year)}")


def facts(net: ImageNetNet) -> dict[str, object]:
    """Return what the caption says of a network."""
    return {
        "label": net.label,
        "family": net.family,
        "year": net.year,
        "accuracy": f"{net.accuracy:.1f}",
        "multiply_adds": short(net.multiply_adds),
        "parameters": short(net.parameters),
        "activations": short(net.activations),
        "megabytes": f"{net.activations * FLOAT / 1e6:.0f}",
        "side": net.side,
        "source": "torchvision’s weights" if "torchvision" in net.source else net.source,
    }


def _caption(plot: Plot, net: ImageNetNet, cost: str, year: int) -> str:
    return _WORDS.format(**facts(net), verdict=plot.verdict(net, cost, year))


def _sliders(plot: Plot, year: int, chosen: int) -> str:
    sliders = (
        ("year", "Published up to", len(plot.years) - 1, plot.years.index(year), str(year)),
        ("net", "Network", len(plot.nets) - 1, chosen, plot.nets[chosen].label),
    )
    return tag(
        "div",
        "".join(
            f'<label><span><span>{label}</span><b aria-hidden="true">{text}</b></span>'
            f'<input type="range" name="{name}" min="0" max="{most}" value="{value}" aria-valuetext="{text}"'
            ' autocomplete="off"></label>'
            for name, label, most, value, text in sliders
        ),
        class_="cnn-controls",
    )


_LABEL = (
    "A mark for each network: to the right what it costs, on a logarithmic scale, upwards its top-1 accuracy on "
    "ImageNet. Circles are as large as the networks have parameters. A line of steps joins those that none beats. "
    "The chosen network is described below."
)
_NOTE = (
    '<p class="cnn-note">Counts are those of this book’s networks for one image; a multiply-add is one operation. '
    "Accuracy is the published one of a single net on a single crop. The area of a circle stands for the parameters. "
    "The dashed line is the frontier: nets that no other one shown equals at a lower cost.</p>"
)


def _draw(plot: Plot, cost: str, year: int, chosen: int) -> str:
    heights = {percent: _height(percent) for percent in range(55, HIGHEST, 5)}
    grid = "".join(
        f'<path class="grid" d="M{LEFT} {at}H{RIGHT}"/><text class="end" x="{LEFT - 8}" y="{at + 7}">{percent} %</text>'
        for percent, at in heights.items()
    )
    ticks = "".join(
        f'<path class="grid" d="M{x} {TOP}V{BOTTOM}"/><text class="mid" x="{x}" y="{BOTTOM + 26}">{label}</text>'
        for x, label in plot.ticks(cost)
    )
    marks = "".join(_mark(plot, index, cost, year, chosen) for index in range(len(plot.nets)))
    net = plot.nets[chosen]
    across, down, end = _at(plot.chosen[cost][chosen])
    late = " late" * (net.year > year)
    return (
        f'{grid}<g class="ticks">{ticks}</g><text class="mid" x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 58}">'
        f'<tspan class="cost">{COSTS[cost]}</tspan> for one image</text>'
        f'<path class="frontier" d="{plot.line(cost, year)}"/><g class="marks">{marks}</g>'
        f'<text class="name{end}{late}" x="{plot.x(net, cost) + across}" y="{y(net) + down}">{net.label}</text>'
    )


def _mark(plot: Plot, index: int, cost: str, year: int, chosen: int) -> str:
    net = plot.nets[index]
    colour, shape = FAMILIES[net.family]
    hides = plot.nets[chosen].year <= year and index in plot.hidden(chosen, cost)
    kinds = [kind for kind, holds in (("late", net.year > year), ("here", index == chosen), ("met", hides)) if holds]
    text = ""
    if index in plot.fixed[cost]:
        across, down, end = _at(plot.fixed[cost][index])
        text = f'<text class="{end.strip()}" x="{across}" y="{down}">{net.label}</text>'
    return (
        f'<g class="{" ".join(kinds)}" style="--c:var(--cnn-{colour})"'
        f' transform="translate({plot.x(net, cost)} {y(net)})">'
        f'<circle r="{radius(net):g}"/><path d="{shape}"/>{text}</g>'
    )


def _at(place: int) -> tuple[int, int, str]:
    """Return how far across and below a name stands, and the class that anchors it there."""
    across, down = PLACES[place]
    return across, down, " end" if across < 0 else " mid" if across == 0 else ""


def _legend() -> str:
    keys = "".join(
        f'<li><svg viewBox="-12 -12 24 24" aria-hidden="true" style="--c:var(--cnn-{colour})"><path d="{shape}"/></svg>'
        f"{family}</li>"
        for family, (colour, shape) in FAMILIES.items()
    )
    return f'<ul class="legend">{keys}</ul>'
