"""The palette can be read by everyone, and comes without heavy imports."""

import itertools
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnlib.explore import style
from cnnlib.explore.svg import render

# Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1, on linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Ottosson 2020, "A perceptual color space for image processing" (Oklab).
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

THEMES = ("light", "dark")


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def distance(one: str, other: str, sight: np.ndarray) -> float:
    labs = [TO_LAB @ np.cbrt(TO_LMS @ np.clip(sight @ linear(colour), 0, 1)) for colour in (one, other)]
    return float(100 * np.linalg.norm(labs[0] - labs[1]))


def test_contrast_formula_agrees_with_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("background", ["paper", "surface"])
def test_text_and_strokes_stand_out(theme, background):
    colours = style.PALETTE[theme]
    for name in ("ink", "muted", *style.ACCENTS):
        assert contrast(colours[name], colours[background]) >= 4.5, name
    assert contrast(colours["line"], colours[background]) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_tints_carry_text_and_are_bounded_by_their_accent(theme):
    colours = style.PALETTE[theme]
    for name in style.ACCENTS:
        assert contrast(colours["ink"], colours[f"{name}-soft"]) >= 4.5, name
        assert contrast(colours[name], colours[f"{name}-soft"]) >= 3, name


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHTS)
def test_accents_differ_for_every_sight(theme, sight):
    for one, other in itertools.combinations(style.ACCENTS, 2):
        apart = distance(style.PALETTE[theme][one], style.PALETTE[theme][other], SIGHTS[sight])
        assert apart >= 9, (one, other)


def test_lines_differ_without_colour():
    assert len(style.ACCENTS) == len(set(style.DASHES)) == len(set(style.MARKERS))


def test_css_has_every_colour_once_a_theme_and_both_are_the_palette():
    light, dark, preferred = re.findall(r"\{(--cnn-scheme[^}]*)\}", style.css())
    for declarations, theme in ((light, "light"), (dark, "dark"), (preferred, "dark")):
        assert f"--cnn-scheme:{theme}" in declarations
        found = dict(re.findall(r"--cnn-([\w-]+):(#\w+)", declarations))
        assert found == dict(style.PALETTE[theme])


def test_components_use_only_colours_of_the_palette():
    css = style.components_css()
    names = set(re.findall(r"var\(--cnn-([\w-]+)\)", css)) - {"scheme"}
    assert names <= set(style.PALETTE["light"])
    assert not re.findall(r"#[0-9a-f]{3,8}\b", css)


def test_palette_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        style.PALETTE["light"]["ink"] = "#000000"


def test_style_and_logo_load_no_heavy_library():
    code = (
        "import sys; from cnnlib.explore import logo, style; style.css(); logo.logo_svg();"
        "print([name for name in ('matplotlib', 'IPython', 'cnnlib.measure') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_use_sets_the_style():
    with matplotlib.rc_context():
        style.use()
        assert matplotlib.rcParams["figure.facecolor"] == style.PALETTE["light"]["paper"]
        assert matplotlib.rcParams["svg.fonttype"] == "none"
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()
        assert cycle["color"] == [style.PALETTE["light"][name] for name in style.ACCENTS]
        assert len(cycle["linestyle"]) == len(cycle["color"])


def test_svg_of_a_figure_is_the_same_every_time():
    def draw() -> str:
        with matplotlib.rc_context(style.rc()):
            figure = Figure()
            figure.subplots().plot([1, 2], marker="o")
        return render(figure)

    assert draw() == draw()
    assert "dc:date" not in draw()
