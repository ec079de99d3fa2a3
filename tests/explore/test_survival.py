"""The explorer of the survival rule is right in Python, and the page draws what Python says for every setting."""

import itertools
import math

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import NothingToDraw, depth_histogram, describe, survival, survival_rule
from cnnlib.explore.survival import LAYERS, STEPS, TENTHS, OutOfRange, Setting, drawn
from cnnlib.models import create
from cnnlib.models.stochastic_depth import StochasticDepthBlock, depth_distribution, survival_probabilities

EVERY = list(itertools.product(range(len(LAYERS)), TENTHS, range(len(STEPS))))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("tenths", [0, 3, 5, 10])
def test_rule_is_that_of_the_models(layers, tenths):
    setting = Setting(layers, tenths, 1)
    rule = survival_probabilities(setting.blocks, tenths / 10)
    scale = 10 * setting.blocks
    assert [setting.tenth(block) / scale for block in range(1, setting.blocks + 1)] == pytest.approx(list(rule))
    assert float(setting.facts["expected"]) == pytest.approx(sum(rule), abs=0.006)


def test_blocks_are_those_of_the_net():
    with torch.device("meta"):
        net = create("stochastic-depth-110")
    assert Setting(110, 5, 1).blocks == sum(isinstance(module, StochasticDepthBlock) for module in net.modules())


def test_gates_follow_the_rule():
    """A block lives as often as it should, over all steps and blocks of about the same probability."""
    gates = [Setting(110, 5, step).gates for step in STEPS]
    rule = survival_probabilities(54, 0.5)
    for part in (slice(0, 18), slice(18, 36), slice(36, 54)):
        share = sum(sum(row[part]) for row in gates) / (18 * len(STEPS))
        assert share == pytest.approx(sum(rule[part]) / 18, abs=0.05)
    assert all(all(Setting(44, 10, step).gates) for step in STEPS)
    assert not any(Setting(44, 0, step).gates[-1] for step in STEPS)
    assert all(0 <= number < 1000 for numbers in drawn() for number in numbers)


def test_small_probabilities_can_be_read():
    assert Setting(110, 5, 1).facts["together"] == "1 in 22,000,000"
    assert 1 / math.prod(survival_probabilities(54, 0.5)) == pytest.approx(22e6, rel=0.02)
    assert Setting(20, 10, 1).facts["together"] == "1"
    assert Setting(20, 0, 1).facts["together"] == "0"


@pytest.mark.parametrize("wrong", [{"layers": 18}, {"last": 0.55}, {"last": 1.1}, {"step": 0}])
def test_no_such_setting(wrong):
    with pytest.raises(OutOfRange, match="choose from"):
        survival_rule(**wrong)


@pytest.mark.parametrize("wrong", [{"layers": 20.0}, {"step": "1"}])
def test_layers_and_steps_are_counted(wrong):
    with pytest.raises(OutOfRange, match="must be a whole number"):
        survival_rule(**wrong)


@pytest.mark.parametrize("last", ["0.5", None, math.nan, math.inf])
def test_a_probability_is_a_number(last):
    with pytest.raises(OutOfRange, match=f"p_L = {last!r} in step 1; choose from"):
        survival_rule(last=last)


def test_a_probability_may_be_rounded():
    assert repr(survival_rule(last=3 * 0.1)) == repr(survival_rule(last=0.3))


def test_text_says_what_the_page_says():
    assert repr(survival_rule(layers=20, last=1.0, step=2)) == (
        "Explorer of the survival rule. Step 2: all 9 blocks live. On average 9.00 live. "
        "All 9 live together with probability 1."
    )


@pytest.mark.browser
def test_page_agrees_with_python_for_every_setting(open_page):
    page = open_page(survival_rule().html)
    shown = page.evaluate(
        """(settings) => {
          const root = document.querySelector("figure.cnn-survival"), sliders = [...root.querySelectorAll("input")];
          return settings.map((setting) => {
            sliders.forEach((slider, i) => { slider.value = setting[i]; });
            sliders[0].dispatchEvent(new Event("input"));
            const texts = [...root.querySelectorAll("label b")].map((b) => b.textContent);
            return [root.querySelector("svg g").innerHTML, root.querySelector("figcaption").textContent, texts];
          });
        }""",
        EVERY,
    )
    for (index, tenths, step), (drawing, caption, texts) in zip(EVERY, shown, strict=True):
        setting = Setting(LAYERS[index], tenths, step + 1)
        assert drawing.replace("></path>", "/>") == survival._draw(setting), setting
        assert caption == survival._caption(setting), setting
        assert texts == [str(setting.layers), f"{tenths / 10:.1f}", str(setting.step)]


@pytest.mark.browser
def test_first_frame_does_not_change_when_the_script_starts(open_page):
    html = survival_rule(layers=44, last=0.3, step=7).html
    live, still = open_page(html), open_page(html, java_script_enabled=False)
    for query in ("svg", "figcaption", ".cnn-controls"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query


@pytest.mark.browser
def test_sliders_answer_to_the_keyboard(open_page):
    page = open_page(survival_rule().html)
    page.get_by_role("slider", name="Training step").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("figcaption").text_content().startswith("Step 2: ")
    slider = page.get_by_role("slider", name="Layers")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "20"
    assert "of 9 blocks live" in page.locator("figcaption").text_content()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme):
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(open_page(survival_rule().html, theme=theme))
    assert not [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]


@pytest.mark.browser
def test_fits_on_a_phone(open_page):
    page = open_page(survival_rule().html, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(control.bounding_box()["height"] >= 44 for control in page.locator("input").all())


def test_histogram_shows_both():
    exact = depth_distribution(survival_probabilities(9, 0.5))
    figure = depth_histogram(exact, {6: 30, 7: 50, 8: 20}, title="Nine blocks")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert heights[7] == pytest.approx(exact[7])
    assert list(axes.lines[0].get_xdata()) == [6, 7, 8]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.3, 0.5, 0.2])
    assert axes.lines[1].get_xdata()[0] == pytest.approx((3 * 9 - 1) / 4)
    assert "mean 6.50, standard deviation 1.27" in describe(figure)


@pytest.mark.parametrize(("probabilities", "counts"), [([], {1: 2}), ([0.5, 0.5], {}), ([0.5, 0.5], {1: 0})])
def test_nothing_drawn_is_no_histogram(probabilities, counts):
    with pytest.raises(NothingToDraw, match="at least one drawn step"):
        depth_histogram(probabilities, counts)
