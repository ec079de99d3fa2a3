"""Stochastic depth to look at: which blocks live in one training step, and how many there are in many steps.

Python draws the explorer's first frame; the script in ``assets/survival.js`` draws again for every setting, in whole
numbers, and the tests compare the two for all of them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING

from cnnlib.errors import require_integers
from cnnlib.explore import style
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.checks import OutOfRange
from cnnlib.explore.html import Html, asset, figure, script, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = (20, 32, 44, 56, 110)
"""Depths of the nets for 32x32 images; layers = 2 blocks + 2."""

TENTHS = range(11)
"""The last survival probability p_L, in tenths."""

STEPS = range(1, 21)
"""Training steps. Their random numbers are fixed, so that a page shows the same to everybody."""

# The sentences of the caption, for Python's first frame and for the script alike.
_WORDS = {
    "live": "Step {step}: {live} of {blocks} blocks live, {gone} are skipped.",
    "all": "Step {step}: all {blocks} blocks live.",
    "mean": "On average {expected} live. All {blocks} live together with probability {together}.",
}


@cache
def drawn() -> tuple[tuple[int, ...], ...]:
    """Return a number from 0 to 999 for each of 20 steps and each of 54 blocks, the same ones every time."""
    uniform = random.Random(1603).random
    return tuple(tuple(int(1000 * uniform()) for _ in range((LAYERS[-1] - 2) // 2)) for _ in STEPS)


@dataclass(frozen=True)
class Setting:
    """One training step of a net of ``layers`` layers whose last block survives with ``tenths`` / 10."""

    layers: int
    tenths: int
    step: int

    @property
    def blocks(self) -> int:
        """The number L of residual blocks."""
        return (self.layers - 2) // 2

    def tenth(self, block: int) -> int:
        """Return 10 L p_l of the linear rule for block l = 1, ..., L: a whole number."""
        return 10 * self.blocks - block * (10 - self.tenths)

    @property
    def gates(self) -> list[bool]:
        """Which blocks live: those whose number of this step is below 1000 p_l."""
        numbers = drawn()[self.step - 1]
        return [
            number * 10 * self.blocks < 1000 * self.tenth(block)
            for block, number in zip(range(1, self.blocks + 1), numbers, strict=False)
        ]

    @property
    def facts(self) -> dict[str, str]:
        """What the caption says of the rule, whatever the step."""
        probabilities = [self.tenth(block) / (10 * self.blocks) for block in range(1, self.blocks + 1)]
        return {"expected": f"{sum(probabilities):.2f}", "together": _probability(math.prod(probabilities))}


def _probability(value: float) -> str:
    """Write a probability so that a small one can be read."""
    if value in (0, 1):
        return str(round(value))
    return f"{value:.2g}" if value >= 1e-3 else f"1 in {float(f'{1 / value:.1e}'):,.0f}"


def survival_rule(id: str = "survival-rule", *, layers: int = 110, last: float = 0.5, step: int = 1) -> Html:
    """Return the explorer of the linear survival rule, started at the given setting.

    The reader chooses the depth, p_L and the training step, and sees the survival probability of each block and which
    blocks live in this step. The page needs no kernel; without JavaScript the first frame stands.

    Args:
        id: the id of the figure in the page.
        layers: depth of the net: 20, 32, 44, 56 or 110.
        last: p_L, from 0 to 1 in steps of 0.1.
        step: which training step, 1 to 20.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        OutOfRange: if there is no such setting.
    """
    require_integers(OutOfRange, layers=layers, step=step)
    tenths = [tenth for tenth in TENTHS if isinstance(last, Real) and abs(tenth - 10 * last) < 1e-9]
    if layers not in LAYERS or step not in STEPS or not tenths:
        raise OutOfRange(
            f"the explorer has no {layers} layers with p_L = {last!r} in step {step}; choose from {LAYERS} layers, "
            f"p_L from 0 to 1 in steps of 0.1, and steps {STEPS[0]} to {STEPS[-1]}"
        )
    setting = Setting(layers, tenths[0], step)
    data = {
        "words": _WORDS,
        "layers": LAYERS,
        "drawn": ["".join(f"{number:03}" for number in numbers) for numbers in drawn()],
        "facts": [[Setting(depth, tenths, 1).facts for tenths in TENTHS] for depth in LAYERS],
    }
    body = "".join(
        (
            _sliders(setting),
            f'<svg viewBox="0 0 4800 2000" role="img" aria-label="{_LABEL}"><g>{_draw(setting)}</g>{_AXES}</svg>',
            _LEGEND,
            f'<figcaption aria-live="polite">{_caption(setting)}</figcaption>',
            tag("script", json.dumps(data, ensure_ascii=False, separators=(",", ":")), type="application/json"),
        )
    )
    html = figure(body, id=id, kind="cnn-survival", css=asset("survival.css"), script=script("survival.js"))
    return Html(html, f"Explorer of the survival rule. {_caption(setting)}")


def _sliders(setting: Setting) -> str:
    sliders = (
        ("layers", "Layers", len(LAYERS) - 1, LAYERS.index(setting.layers), str(setting.layers)),
        ("tenths", "<span>p<sub>L</sub></span>", 10, setting.tenths, f"{setting.tenths / 10:.1f}"),
        ("step", "Training step", len(STEPS) - 1, setting.step - 1, str(setting.step)),
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
        role="group",
        aria_label="The rule",
    )


# The drawing, 4800 wide: bars as high as the probabilities (1 is 1000 high) on a floor at 1150, and below them the
# blocks of this step on a line from the image to the classes. Everything in whole numbers.

_LABEL = (
    "Above, a bar for the survival probability of each block, from the first to the last. Below, the net of one "
    "training step: a box for each block that lives, a bare line for each that is skipped. Described below."
)
_AXES = (
    '<path class="axis" d="M400 150V1150H4760"/>'
    '<text x="340" y="200" class="end">1</text><text x="340" y="700" class="end">0.5</text>'
    '<text x="340" y="1200" class="end">0</text>'
    '<text x="400" y="1360">first block</text><text x="4760" y="1360" class="end">last block</text>'
)
_LEGEND = (
    '<ul class="legend"><li><span class="key bar"></span>survival probability</li>'
    '<li><span class="key live"></span>lives in this step</li><li><span class="key gone"></span>skipped: identity</li>'
    "</ul>"
)


def _draw(setting: Setting) -> str:
    blocks = setting.blocks
    gap = 20 if blocks > 30 else 40
    bars, live = [], []
    for block, lives in enumerate(setting.gates, start=1):
        left, right = 400 + 4360 * (block - 1) // blocks + gap, 400 + 4360 * block // blocks
        height = 100 * setting.tenth(block) // blocks
        bars.append(f"M{left} 1150v-{height}H{right}v{height}z")
        if lives:
            live.append(f"M{left} 1540H{right}v240H{left}z")
    return (
        f'<path class="bar" d="{"".join(bars)}"/><path class="wire" d="M340 1660H4780"/>'
        f'<path class="live" d="{"".join(live)}"/>'
    )


def _caption(setting: Setting) -> str:
    live = sum(setting.gates)
    facts = setting.facts | {"step": setting.step, "live": live, "blocks": setting.blocks}
    facts["gone"] = setting.blocks - live
    words = _WORDS["live" if facts["gone"] else "all"], _WORDS["mean"]
    return " ".join(sentence.format(**facts) for sentence in words)


def depth_histogram(probabilities: Sequence[float], counts: Mapping[int, int], *, title: str = "") -> Figure:
    """Draw how many blocks live in a step: bars for the exact distribution, dots for what was drawn.

    Args:
        probabilities: of 0, 1, 2, ... living blocks.
        counts: in how many drawn steps so many blocks lived.
        title: of the figure.

    Raises:
        NothingToDraw: if there is no probability, or nothing was drawn.
    """
    if not len(probabilities) or not sum(counts.values()):
        raise NothingToDraw(
            "depth_histogram needs the probability of each number of blocks, and at least one drawn step"
        )
    import matplotlib
    import matplotlib.pyplot  # tells IPython how to show a Figure
    from matplotlib.figure import Figure

    light, steps = style.PALETTE["light"], sum(counts.values())
    shares = {depth: count / steps for depth, count in sorted(counts.items())}
    shown = [depth for depth, p in enumerate(probabilities) if p > 1e-4 or depth in shares]
    mean = sum(depth * p for depth, p in enumerate(probabilities))
    spread = math.sqrt(sum((depth - mean) ** 2 * p for depth, p in enumerate(probabilities)))
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.subplots()
        exact = [probabilities[depth] for depth in shown]
        axes.bar(shown, exact, width=0.8, color=light["blue-soft"], edgecolor=light["blue"], label="computed")
        axes.plot(
            list(shares),
            list(shares.values()),
            "o",
            color=light["orange"],
            label=f"{steps:,} steps drawn",
        )
        axes.axvline(mean, color=light["ink"], linestyle=":", label=f"mean {mean:.2f}")
        axes.set(xlabel="blocks that live in one step", ylabel="probability")
        axes.legend()
        axes.set_title(title)
    figure.set_label(
        f"{title or 'Blocks that live in one step'}: mean {mean:.2f}, standard deviation {spread:.2f}, "
        f"from {shown[0]} to {shown[-1]}; {steps:,} drawn steps beside it."
    )
    return figure
