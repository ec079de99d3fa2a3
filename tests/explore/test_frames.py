import base64
import io
import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from cnnlib.explore import style
from cnnlib.explore.html import Html
from cnnlib.explore.interactive import NoFrames, frames
from cnnlib.explore.svg import Sheet, render


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("CNNLIB_STATIC", "1")


@pytest.fixture
def live(monkeypatch):
    """A kernel with widgets; returns what was handed to interact and what was displayed."""
    monkeypatch.delenv("CNNLIB_STATIC", raising=False)
    seen = SimpleNamespace(displayed=[], show=None, sliders=None)

    def interact(show, **sliders):
        seen.show, seen.sliders = show, sliders
        return show

    def slider(options, description, continuous_update):
        return SimpleNamespace(options=options, description=description)

    def display(shown):
        seen.displayed.append(shown)

    fake_shell = SimpleNamespace(
        version_info=(9, 0),  # read by matplotlib when it draws for the first time
        get_ipython=lambda: SimpleNamespace(kernel=object()),
        display=SimpleNamespace(HTML=str, display=display),
    )
    monkeypatch.setitem(sys.modules, "IPython", fake_shell)
    monkeypatch.setitem(sys.modules, "IPython.display", fake_shell.display)
    widgets = SimpleNamespace(interact=interact, SelectionSlider=slider, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    return seen


def test_all_combinations_are_drawn_the_first_is_visible(static, line_figure):
    calls = []

    def f(k, shift):
        calls.append((k, shift))
        return line_figure(k + shift)

    shown = frames(f, alt="k is {k}, shift {shift}", caption="Case {k}", id="x", k=[1, 2, 3], shift=[0, 5])
    assert calls == [(k, shift) for k in (1, 2, 3) for shift in (0, 5)]
    assert shown.html.count('<div class="frame" hidden>') == 5
    assert shown.html.count('<div class="frame">') == 1
    assert re.findall(r'aria-label="(k is [^"]+)"', shown.html) == [f"k is {k}, shift {s}" for k, s in calls]
    assert '<figcaption aria-live="polite">Case 1</figcaption>' in shown.html
    assert shown.html.count('type="range"') == 2
    assert repr(shown) == "k is 1, shift 0"


def test_figures_of_pyplot_are_not_shown_twice(static):
    def draw(k):
        figure, axes = pyplot.subplots()
        axes.plot([0, k])
        return figure

    before = pyplot.get_fignums()
    assert "<svg" in frames(draw, alt="k = {k}", id="x", k=[1, 2]).html
    assert pyplot.get_fignums() == before


def test_what_holds_a_figure_may_be_drawn(static):
    class Grid:
        def __init__(self, k, named):
            drawn, axes = pyplot.subplots()
            axes.plot([0, k])
            self.savefig = drawn.savefig
            setattr(self, named, drawn)

    before = pyplot.get_fignums()
    assert "<svg" in frames(lambda k: Grid(k, "figure"), alt="k = {k}", id="x", k=[1, 2]).html
    assert pyplot.get_fignums() == before
    assert "<svg" in frames(lambda k: Grid(k, "other"), alt="k = {k}", id="x", k=[1]).html
    pyplot.close()


def test_words_may_be_functions(static, line_figure):
    shown = frames(line_figure, alt=lambda k: f"twice is {2 * k}", caption=lambda k: f"<{k}>", id="x", k=[4])
    assert 'aria-label="twice is 8"' in shown.html
    assert '<figcaption aria-live="polite">&lt;4&gt;</figcaption>' in shown.html


def test_frames_may_be_html(static):
    shown = frames(lambda k: Html(f"<b>{k}</b>", ""), alt="a", id="x", k=[1, 2])
    assert shown.html.count("<b>") == 2
    assert "<i>7</i>" in frames(lambda k: f"<i>{k}</i>", alt="a", id="x", k=[7]).html


def test_result_is_deterministic_compact_and_self_contained(static, line_figure):
    options = {"alt": "k = {k}", "id": "x", "k": list(range(8))}
    html = frames(line_figure, **options).html
    assert html == frames(line_figure, **options).html
    assert len(html) < 60_000
    assert len(html) < 0.6 * sum(len(render(line_figure(k))) for k in range(8))
    assert not re.search(r'(src|href)="(?!#|data:)|url\((?!#)|xmlns:', html)
    assert "style=" not in re.sub(r'style="width:\d+px"', "", html)


def test_ids_are_unique_and_references_lead_to_them(static, line_figure):
    html = frames(line_figure, alt="k = {k}", id="x", k=[1, 2, 3]).html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 3
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)


def test_drawing_follows_the_theme(static, line_figure):
    html = frames(line_figure, alt="", id="x", k=[1]).html
    drawing_style = html[html.index("#x svg *") : html.index("</style>")]
    assert "stroke:var(--cnn-blue,#1b5080)" in drawing_style
    assert "fill:var(--cnn-paper,#fdfcf9)" in drawing_style
    assert not re.search(r":#[0-9a-f]{6}", drawing_style)


def test_frame_is_well_formed_svg_with_its_text(line_figure):
    figure = line_figure(2)
    figure.axes[0].set_title("a < b & c")
    root = ElementTree.fromstring(Sheet("x").inline(render(figure), alt='"quoted"', prefix="x-"))
    assert root.get("aria-label") == '"quoted"'
    assert "a < b & c" in "".join(root.itertext())


@pytest.mark.parametrize("colours", ["gray", "cividis", None])
def test_pictures_become_smaller_and_keep_their_pixels(colours):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40) if colours else (40, 40, 3), dtype=np.uint8)
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(1, 1), layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(pixels, cmap=colours, vmin=0, vmax=255, interpolation="none")
        axes.set_axis_off()
    document = render(figure)
    small = Sheet("x").inline(document, alt="", prefix="x-")
    before, after = (
        Image.open(io.BytesIO(base64.b64decode(re.search(r'"data:image/(?:png|webp);base64,([^"]+)"', text)[1])))
        for text in (document, small)
    )
    assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))
    assert after.format == "WEBP"
    assert len(small) < len(document)


def test_pictures_keep_their_scale():
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(2, 2))
        figure.subplots().imshow(np.zeros((131, 131)), interpolation="none")
    document = render(figure)
    (scale,) = re.findall(r'transform="(matrix\([^"]+)"', document)
    assert len(scale) > len("matrix(0.8 0 0 0.8 10.1 10.1)")
    assert f'transform="{scale}"' in Sheet("x").inline(document, alt="", prefix="x-")


def test_a_kernel_gets_widgets_and_nothing_is_returned(live, line_figure):
    assert frames(line_figure, alt="k = {k}", caption="c {k}", id="x", k=[1, 2]) is None
    assert live.sliders["k"].options == [("1", 1), ("2", 2)]
    assert not live.displayed
    live.show(k=2)
    (html,) = live.displayed
    assert 'aria-label="k = 2"' in html
    assert "<figcaption>c 2</figcaption>" in html
    assert html.count("<svg") == 1


def test_executed_book_gets_frames_although_a_kernel_runs(live, monkeypatch, line_figure):
    monkeypatch.setenv("CNNLIB_STATIC", "1")
    assert "<svg" in frames(line_figure, alt="a", id="x", k=[1]).html
    assert live.show is None


def test_without_kernel_or_widgets_frames_are_static(live, monkeypatch, line_figure):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(frames(line_figure, alt="a", id="x", k=[1]), Html)


def test_values_are_several(static):
    with pytest.raises(NoFrames, match=r"all values of k, not 3; pass, say, k=\[1, 3, 5\]"):
        frames(lambda k: "", alt="", id="x", k=3)


@pytest.mark.parametrize("words", ["x {j}", "x {}"])
def test_words_that_ask_for_no_parameter_are_refused(static, line_figure, words):
    for options in ({"alt": words}, {"alt": "", "caption": words}):
        with pytest.raises(NoFrames, match=re.escape(f"in {words!r}") + r".*; use \{k\}$"):
            frames(line_figure, id="x", k=[1], **options)
    with pytest.raises(NoFrames, match=r"^'a \{' is no text with placeholders .*; write \{\{ for a brace$"):
        frames(lambda k: "<b></b>", alt="a {", id="x", k=[1])


@pytest.mark.parametrize("shown", [None, 3])
def test_what_is_no_drawing_is_refused(static, shown):
    with pytest.raises(NoFrames, match=f"f returned {shown}; return the figure"):
        frames(lambda k: shown, alt="", id="x", k=[1])


def test_a_drawing_shrinks_to_four_fifths(static, line_figure):
    html = frames(line_figure, alt="", id="x", k=[1, 2]).html
    (width, least) = (int(re.search(f"[^-]{name}:(\\d+)px", html)[1]) for name in ("width", "min-width"))
    assert least == round(0.8 * width)
    (name,) = re.findall(f"#x \\.(c\\d+){{min-width:{least}px}}", html)
    assert html.count(f' class="{name}" style="width:{width}px"') == 2


@pytest.mark.browser
def test_text_can_be_read_on_a_phone(static, open_page):
    def draw(k):
        figure = Figure(figsize=(7.6, 3))
        figure.subplots().set_title(f"eight points, {k}", size=8)
        return figure

    tab = open_page(frames(draw, alt="", id="x", k=[1]).html, width=390)
    size, zoom = tab.locator(".frame svg").evaluate(
        """svg => [parseFloat(getComputedStyle([...svg.querySelectorAll("text")].at(-1)).fontSize),
                   svg.getBoundingClientRect().width / svg.viewBox.baseVal.width]"""
    )
    assert size == 8
    assert size * zoom >= 8
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator(".cnn-scroll").evaluate("box => box.scrollWidth > box.clientWidth")


@pytest.mark.parametrize("parameters", [{}, {"k": []}])
def test_no_values_is_an_error(static, parameters):
    with pytest.raises(NoFrames, match="k=\\[1, 3, 5\\]"):
        frames(lambda k: "", alt="", id="x", **parameters)
