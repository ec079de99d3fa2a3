"""The explorer's numbers are those of the records, and the page agrees with Python."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest
from bs4 import BeautifulSoup

from cnnlib.explore import depth, depth_explorer
from cnnlib.explore.depth import KINDS, STATES, Measured, NothingMeasured, words
from cnnlib.studies import find_study, load_records
from cnnlib.studies.degradation import PROBED_IMAGES
from cnnlib.studies.record import Probed


@pytest.fixture(scope="module")
def records():
    return load_records(find_study("degradation"), "short")


@pytest.fixture(scope="module")
def measured(records):
    return Measured(records)


def test_gradients_are_geometric_means_of_the_records(records, measured):
    runs = [r.probe.initial for r in records if r.arm == "plain56"]
    assert len(runs) == 3
    expected = math.exp(fmean(math.log(run[10]["gradient"]) for run in runs))
    assert measured.gradients(56, "initial", "plain")[10] == pytest.approx(expected)
    setting = measured.settings[56]
    assert setting.nets["initial"]["plain"].values[10] == words(expected)
    assert setting.names[10] == runs[0][10]["layer"] == "stages.0.4.f.conv2"
    assert setting.errors["plain"] == "training error 88.4 % after 350 steps (3 seeds)"
    assert measured.settings[20].errors["plain"].startswith("training error 55.2 %")  # the test error is 55.1 %
    single = Measured([record for record in records if record.run.seed == 0])
    assert single.settings[110].errors["resnet"].endswith("(1 seed)")


def test_heights_are_logarithms_on_one_scale_for_both_nets(measured):
    setting = measured.settings[20]
    pairs = [
        (math.log10(value), height)
        for state in STATES
        for kind in KINDS
        for value, height in zip(measured.gradients(20, state, kind), setting.nets[state][kind].heights, strict=True)
    ]
    (low, low_height), (high, high_height) = min(pairs), max(pairs)
    scale = (high_height - low_height) / (high - low)
    assert all(height == pytest.approx(low_height + scale * (log - low), abs=1.5) for log, height in pairs)
    assert 0 <= low_height < high_height <= 1000


@pytest.mark.parametrize(
    ("layers", "labels"),
    [(20, "10⁻⁴ 10⁻³ 10⁻² 10⁻¹ 10⁰"), (56, "10⁻⁷ 10⁻⁵ 10⁻³ 10⁻¹ 10¹"), (110, "10⁻¹⁵ 10⁻¹¹ 10⁻⁷ 10⁻³ 10¹ 10⁵")],
)
def test_lines_of_the_scale_stand_at_their_powers_of_ten(measured, layers, labels):
    setting = measured.settings[layers]
    assert [label for _, label in setting.grid] == labels.split()
    powers = [int(label[2:].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) for label in labels.split()]
    (bottom, _), *_, (top, _) = setting.grid
    for state in STATES:
        for kind in KINDS:
            gradients, heights = measured.gradients(layers, state, kind), setting.nets[state][kind].heights
            for value, height in zip(gradients, heights, strict=True):
                share = (math.log10(value) - powers[0]) / (powers[-1] - powers[0])
                page = depth.TOP + depth.HEIGHT - depth.HEIGHT * height / 1000
                assert page == pytest.approx(bottom + share * (top - bottom), abs=1)


def drawn(setting, layer=0):
    svg = depth._draw(setting, "initial", "plain", layer)
    return BeautifulSoup(f"<svg>{svg}</svg>", "html.parser")


def test_the_larger_the_gradient_the_higher_the_step_and_the_brighter_the_block(measured):
    setting = measured.settings[20]
    heights = setting.nets["initial"]["plain"].heights
    svg = drawn(setting)
    steps = [int(y) for y in re.findall(r"V(\d+)H", svg.select_one(".area")["d"])]
    assert steps == [pytest.approx(depth.TOP + depth.HEIGHT * (1 - height / 1000), abs=1) for height in heights]
    lit = [float(block["fill-opacity"]) for block in svg.select(".lit")]
    assert lit == [max(heights[first:end]) / 1000 for first, end in pairwise(setting.blocks)]


def test_the_mark_is_over_the_step_of_the_chosen_layer(measured):
    ends = [depth.LEFT, *map(int, re.findall(r"H(\d+)V", drawn(measured.settings[20]).select_one(".area")["d"]))]
    for layer in (0, 7, 19):
        mark = drawn(measured.settings[20], layer).select_one(".here")
        assert [int(mark["x"]), int(mark["x"]) + int(mark["width"])] == ends[layer : layer + 2]


def test_blocks_are_those_of_the_net(measured):
    blocks = measured.settings[20].blocks
    assert blocks == (0, *range(1, 20, 2), 20)  # the stem, nine blocks of two layers, the linear layer
    assert measured.settings[56].depth == len(measured.settings[56].names) == 56


def test_story_of_56_layers(records):
    told = repr(depth_explorer(records))
    assert (
        "plain net of 56 layers before training: 0.0021 at the last convolution, 8.5 at the first, 4,000 times" in told
    )
    assert re.search(r"residual net of 56 layers before training: [^,]+, [^,]+, 15 times larger", told)
    assert re.search(r"plain net of 56 layers after training: [^,]+, [^,]+, 34 times smaller", told)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.024, "0.024"), (0.9999, "1.0"), (8.46, "8.5"), (14.6, "15"), (3957.0, "4,000"), (3.7e-13, "3.7·10⁻¹³"),
     (8.5e6, "8.5·10⁶"), (99.7, "100")],
)  # fmt: skip
def test_numbers_in_two_digits(value, text):
    assert words(value) == text


def test_first_frame_stands_without_script(records):
    html = re.sub(r"<script.*?</script>", "", depth_explorer(records).html, flags=re.S)
    assert "Layer 1 of 56, stem.conv, before training: 8.5 in the plain net, 0.049 in the residual net." in html
    assert "becomes 4,000 times larger in the plain net, 15 times larger in the residual net." in html
    assert f"{PROBED_IMAGES} training images, on a logarithmic scale. It flows from right to left." in html
    assert html.count("<svg") == 2
    assert html.count('class="arc"') == 27  # a shortcut for each block, on the residual side only
    assert html.count('class="lit"') == 2 * 29


def test_output_is_deterministic_and_self_contained(records):
    html = depth_explorer(records, id="a").html
    assert html == depth_explorer(records, id="a").html
    assert len(html.encode()) < 60_000
    assert not re.search(r"(src|href)=|https?://|@import", html)
    assert json.loads(re.search(r'application/json">(.*?)</script>', html)[1])["settings"].keys() == {
        "20", "32", "44", "56", "110"
    }  # fmt: skip


def test_records_without_what_it_shows_are_refused(records):
    with pytest.raises(NothingMeasured, match="plain and a residual net of the same depth"):
        depth_explorer([r for r in records if r.arm.startswith("plain")])
    with pytest.raises(NothingMeasured, match="with their probes"):
        depth_explorer([replace(r, probe=None) for r in records])
    with pytest.raises(NothingMeasured, match="no records of 21 layers; choose from 20, 32"):
        depth_explorer(records, depth=21)
    with pytest.raises(NothingMeasured, match="2 budgets, short and medium"):
        depth_explorer([*records, *load_records(find_study("degradation"), "medium")])
    few = [r for r in records if r.arm in ("plain20", "resnet20")]
    assert "20 layers" in repr(depth_explorer(few))


@pytest.mark.parametrize(("layers", "message"), [("56", "not '56'"), (56.0, "not 56.0"), (0, "no records of 0 layers")])
def test_no_other_depth_is_taken_for_one(records, layers, message):
    with pytest.raises(NothingMeasured, match=message):
        depth_explorer(records, depth=layers)


def test_a_gradient_of_zero_has_a_place(records):
    few = [r for r in records if r.arm in ("plain20", "resnet20")]
    rows = [{**row, "gradient": 0.0} for row in few[0].probe.trained]
    few[0] = replace(few[0], probe=Probed(few[0].probe.initial, rows))
    assert min(Measured(few).settings[20].nets["trained"]["plain"].heights) >= 0


# In the browser

TRY_ALL = """(settings) => {
  const root = document.querySelector("figure.cnn-depth");
  return settings.map(([depth, state, layer]) => {
    root.querySelector(`[data-depth="${depth}"]`).click();
    root.querySelector(`[data-state="${state}"]`).click();
    const slider = root.querySelector("[type=range]");
    slider.value = layer;
    slider.dispatchEvent(new Event("input"));
    const panes = [...root.querySelectorAll(".pane")];
    return {
      drawn: panes.map((pane) => pane.querySelector("svg").innerHTML),
      told: panes.map((pane) => pane.querySelector("svg").getAttribute("aria-label")),
      named: panes.map((pane) => pane.querySelector(".name").textContent),
      caption: root.querySelector("figcaption").textContent,
    };
  });
}"""


@pytest.fixture
def explorer(open_page, records):
    return open_page(depth_explorer(records, id="depth").html)


@pytest.mark.browser
def test_page_agrees_with_python(explorer, measured):
    tried = [(d, state, layer) for d in measured.settings for state in STATES for layer in (1, 2, d // 2, d - 1, d)]
    for (d, state, layer), page in zip(tried, explorer.evaluate(TRY_ALL, tried), strict=True):
        setting = measured.settings[d]
        expected = [depth._draw(setting, state, kind, layer - 1) for kind in KINDS]
        assert [re.sub(r"></(path|rect)>", "/>", svg) for svg in page["drawn"]] == expected, (d, state, layer)
        assert page["told"] == [setting.nets[state][kind].told for kind in KINDS]
        assert page["named"] == [f"{name}, {d} layers {setting.errors[kind]}" for kind, name in KINDS.items()]
        assert page["caption"] == depth._result(setting, state, layer - 1)


@pytest.mark.browser
def test_first_frame_does_not_change_when_the_script_starts(open_page, records):
    html = depth_explorer(records, depth=20).html
    live, still = open_page(html), open_page(html, java_script_enabled=False)
    for query in (".cnn-controls", ".panes", "figcaption"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query


@pytest.mark.browser
def test_keyboard_walks_and_depth_keeps_the_place(explorer):
    slider = explorer.get_by_role("slider", name="Layer")
    slider.focus()
    explorer.keyboard.press("ArrowRight")
    assert "Layer 2 of 56, stages.0.0.f.conv1" in explorer.locator("figcaption").text_content()
    explorer.keyboard.press("Home")
    assert "Layer 1 of 56, stem.conv" in explorer.locator("figcaption").text_content()
    explorer.keyboard.press("End")
    explorer.get_by_role("button", name="20 layers").focus()
    explorer.keyboard.press("Enter")
    assert "Layer 20 of 20, fc" in explorer.locator("figcaption").text_content()
    assert slider.get_attribute("max") == "20"
    assert explorer.locator("[aria-pressed=true]").all_text_contents() == ["20 layers", "Before training"]


@pytest.mark.browser
def test_another_depth_keeps_the_place_in_the_middle(explorer):
    slider = explorer.get_by_role("slider", name="Layer")
    slider.fill("28")
    assert explorer.locator("label b").text_content() == "28"
    for layers, layer in ((110, 55), (20, 10)):
        explorer.get_by_role("button", name=f"{layers} layers").click()
        assert explorer.locator("figcaption").text_content().startswith(f"Layer {layer} of {layers}, ")
        assert slider.input_value() == str(layer)


@pytest.mark.browser
def test_what_a_screen_reader_is_told(explorer):
    for group, buttons in (("Depth", 5), ("When", 2)):
        assert explorer.get_by_role("group", name=group).get_by_role("button").count() == buttons
    assert explorer.get_by_role("slider", name="Layer", exact=True).count() == 1
    assert explorer.locator("svg[role=img]").count() == 2
    assert explorer.locator("figcaption").get_attribute("aria-live") == "polite"


@pytest.mark.browser
def test_nets_differ_in_colour_and_blocks_and_mark_are_filled(explorer):
    colours = []
    for kind in KINDS:
        area, lit, here = (
            explorer.locator(f".{kind} {part}").first.evaluate("part => getComputedStyle(part).fill")
            for part in (".area", ".lit", ".here")
        )
        assert area == lit
        assert here not in ("none", area)
        colours.append(area)
    assert len(set(colours)) == 2


@pytest.mark.browser
def test_two_copies_work_apart(open_page, records):
    html = depth_explorer(records, id="same").html
    tab = open_page(html + html)
    tab.locator("figure").nth(1).get_by_role("button", name="After training").click()
    assert "before training" in tab.locator("figure").nth(0).locator("figcaption").text_content()
    assert "after training" in tab.locator("figure").nth(1).locator("figcaption").text_content()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, records, theme):
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(open_page(depth_explorer(records).html, theme=theme))
    serious = [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, report.generate_report()


@pytest.mark.browser
def test_nothing_is_wider_than_a_phone_and_targets_are_large(open_page, records):
    tab = open_page(depth_explorer(records, depth=110).html, width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for control in tab.locator("button, input").all():
        box = control.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44


@pytest.mark.browser
def test_labels_of_the_scale_can_be_read_on_a_phone(open_page, records):
    tab = open_page(depth_explorer(records).html, width=390)
    assert all(label.bounding_box()["height"] >= 12 for label in tab.locator("svg text").all())


def test_records_of_another_probe_measure_nothing_here():
    with pytest.raises(NothingMeasured):
        depth_explorer(load_records(find_study("lesions"), "short"))
