"""One palette for the page, the figures and the explorers, in light and dark.

The five accents were searched for so that any two of them stay apart under protanopia, deuteranopia and tritanopia,
and are read as text (contrast 4.5:1) on both backgrounds; ``tests/explore/test_style.py`` computes all of it. Colour is
never the only sign: lines differ by dash and marker, fills by hatch or dot, cards by their text.

Importing this module is cheap: matplotlib is loaded by :func:`use` only.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

Theme = Literal["light", "dark"]

ACCENTS = ("blue", "orange", "teal", "purple", "gold")
"""The names of the five data colours, in the order in which figures use them."""

_BASE = {
    "light": {
        "paper": "#fdfcf9",  # background of pages, figures and explorers
        "surface": "#f5f3ee",  # raised parts: buttons, table heads
        "ink": "#1d232b",  # text
        "muted": "#596270",  # secondary text
        "line": "#858a92",  # strokes that mean something
        "rule": "#dedad1",  # hairlines that only separate
        "blue": "#1b5080",
        "orange": "#bf470f",
        "teal": "#1a7a72",
        "purple": "#8a4fc4",
        "gold": "#573a00",
    },
    "dark": {
        "paper": "#16191d",
        "surface": "#20242a",
        "ink": "#e9e6df",
        "muted": "#a6adb8",
        "line": "#7a828d",
        "rule": "#363c45",
        "blue": "#8cc2f4",
        "orange": "#ee8650",
        "teal": "#a4efdc",
        "purple": "#a67ce4",
        "gold": "#f2df8e",
    },
}


def mix(colour: str, background: str, share: float) -> str:
    """Return what a ``share`` (0 to 1) of ``colour`` gives on ``background``, all as ``#rrggbb``."""
    pairs = zip(bytes.fromhex(colour[1:]), bytes.fromhex(background[1:]), strict=True)
    return "#" + "".join(f"{round(share * c + (1 - share) * b):02x}" for c, b in pairs)


def _with_tints(theme: Theme) -> dict[str, str]:
    """Add to each accent its tint for areas, ``blue-soft`` and so on."""
    base = _BASE[theme]
    share = 0.16 if theme == "light" else 0.24
    return base | {f"{name}-soft": mix(base[name], base["paper"], share) for name in ACCENTS}


PALETTE = MappingProxyType({theme: MappingProxyType(_with_tints(theme)) for theme in ("light", "dark")})
"""``PALETTE[theme][name]`` is a hex colour. A tint ``<accent>-soft`` carries text in ink."""

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""The dash of each accent, so that lines can be told apart without colour."""

MARKERS = ("o", "s", "^", "D", "v")
"""The marker of each accent, likewise."""


BEHIND_TEXT = {"facecolor": PALETTE["light"]["paper"], "edgecolor": "none", "pad": 1}
"""The box of paper behind words of a figure that lie on lines or marks."""

LEGEND_ON_PAPER = {"frameon": True, "facecolor": PALETTE["light"]["paper"], "edgecolor": "none", "framealpha": 1}
"""The same behind a legend that lies on lines."""


def _variables(theme: Theme) -> str:
    return f"--cnn-scheme:{theme};" + ";".join(f"--cnn-{name}:{colour}" for name, colour in PALETTE[theme].items())


@cache
def css() -> str:
    """Return the palette as CSS custom properties ``--cnn-…`` that follow the reader's theme.

    Light and dark follow the toggle of the book (``html[data-theme]``), Colab (``html[theme]``), JupyterLab and
    Notebook 7 (``body[data-jp-theme-light]``) and VS Code (``body.vscode-dark``); where none of these speaks,
    ``prefers-color-scheme``. Every output of this package embeds these lines, so that it works in a page of its own.
    """
    light, dark = (_variables(theme) for theme in ("light", "dark"))
    return (
        f":root,html[data-theme=light]{{{light}}}\n"
        "html[data-theme=dark],html[theme=dark],body[data-jp-theme-light=false],body.vscode-dark,"
        f"body.vscode-high-contrast:not(.vscode-high-contrast-light){{{dark}}}\n"
        "@media (prefers-color-scheme:dark){html:not([data-theme],[theme])"
        f" body:not([data-jp-theme-light],[class*=vscode]){{{dark}}}}}\n"
    )


@cache
def components_css() -> str:
    """Return the CSS of what all explorers and drawings share (``.cnn``), and of tables (``.cnn-table``)."""
    return files("cnnlib.explore").joinpath("assets/components.css").read_text(encoding="utf-8")


def rc() -> dict[str, Any]:
    """Return the matplotlib settings of the book's figures: the light palette on opaque paper, deterministic SVG.

    The paper is opaque and light in both themes because a page shows a figure as an image, which no toggle reaches.
    """
    from cycler import cycler

    light = PALETTE["light"]
    lines = cycler(color=[light[name] for name in ACCENTS]) + cycler(linestyle=DASHES)
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # Verdana is as wide where DejaVu is not installed
        "font.size": 9.5,
        "text.color": light["ink"],
        "figure.figsize": (7.2, 3.6),
        "figure.dpi": 100,
        "figure.facecolor": light["paper"],
        "figure.constrained_layout.use": True,
        "figure.titlesize": 11,
        "savefig.facecolor": "auto",
        "axes.facecolor": light["paper"],
        "axes.edgecolor": light["line"],
        "axes.labelcolor": light["ink"],
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": lines,
        "grid.color": light["rule"],
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "patch.edgecolor": light["ink"],
        "hatch.linewidth": 0.8,
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        "xtick.color": light["line"],
        "ytick.color": light["line"],
        "xtick.labelcolor": light["ink"],
        "ytick.labelcolor": light["ink"],
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "cnnlib",
    }


def use() -> None:
    """Set the book's figure style in matplotlib; in a notebook, show figures as SVG that is the same on every run."""
    import matplotlib

    matplotlib.rcParams.update(rc())
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        import matplotlib.pyplot  # tells IPython how to show a Figure
        from matplotlib.figure import Figure
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        from cnnlib.explore import svg

        set_matplotlib_formats("svg")
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, svg.document)
