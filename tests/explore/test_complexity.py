"""The complexity explorer: places and verdicts from the counts, and a page that says the same."""

import json
import re
from itertools import combinations

import pytest
from bs4 import BeautifulSoup

from cnnlib.explore import complexity_explorer
from cnnlib.explore.complexity import (
    BOLD,
    BOTTOM,
    COSTS,
    FAMILIES,
    LEFT,
    NAMED,
    RIGHT,
    TOP,
    NoSuchNet,
    Plot,
    radius,
    y,
)
from cnnlib.studies.imagenet import nets

LABELS = [
    fact["label"] for fact in json.loads(re.search(r'/json">(.*?)</script>', complexity_explorer().html)[1])["nets"]
]
PLOT = Plot(tuple(sorted(nets(), key=lambda net: LABELS.index(net.label))))
BY_LABEL = {net.label: net for net in PLOT.nets}


def test_places_follow_cost_and_accuracy():
    for cost in COSTS:
        places = [PLOT.x(net, cost) for net in sorted(PLOT.nets, key=lambda net: getattr(net, cost))]
        assert places == sorted(places)
        assert all(LEFT < place < RIGHT for place in places)
    heights = [y(net) for net in sorted(PLOT.nets, key=lambda net: net.accuracy)]
    assert heights == sorted(heights, reverse=True)
    assert all(TOP < height < BOTTOM for height in heights)


def test_a_factor_of_ten_is_as_wide_everywhere():
    ticks = {label: place for place, label in PLOT.ticks("multiply_adds")}
    assert ticks["1G"] - ticks["100M"] == pytest.approx(ticks["10G"] - ticks["1G"], abs=1)
    assert ticks["3G"] - ticks["300M"] == pytest.approx(ticks["1G"] - ticks["100M"], abs=1)


def test_areas_of_circles_are_in_proportion_to_parameters():
    big, small = BY_LABEL["VGG-16"], BY_LABEL["ResNet-50"]
    assert (radius(big) / radius(small)) ** 2 == pytest.approx(big.parameters / small.parameters, rel=0.02)


def test_verdicts():
    googlenet = BY_LABEL["GoogLeNet"]
    assert "Up to 2014, no net shown is as good with as few" in PLOT.verdict(googlenet, "multiply_adds", 2014)
    assert "Up to 2018, MobileNet V2 is at least as good" in PLOT.verdict(googlenet, "multiply_adds", 2018)
    assert "younger than 2014" in PLOT.verdict(BY_LABEL["ResNet-50"], "multiply_adds", 2014)


def test_the_line_of_the_frontier_only_rises():
    for cost in COSTS:
        for year in PLOT.years:
            line = PLOT.line(cost, year)
            heights = [int(number) for number in re.findall(r"(?:M\d+ |V)(\d+)", line)]
            assert heights == sorted(heights, reverse=True)


def test_the_page_says_it_in_words_and_keeps_small():
    shown = complexity_explorer(id="x", year=2016, net="GoogLeNet")
    assert shown.html == complexity_explorer(id="x", year=2016, net="GoogLeNet").html
    assert len(shown.html) < 70_000
    assert not re.search(r"#[0-9a-f]{6}|https?://", shown.html.split("</style>")[1])
    assert "VGG-16 71.6 % at 15.5G" in shown.text
    assert (
        "GoogLeNet (2014): 69.8 % top-1 with 1.5G multiply-adds, 6.62M parameters and 12.3M activations" in shown.text
    )
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown.html)[1])
    assert len(data["nets"]) == len(PLOT.nets)
    assert set(FAMILIES) == {net["family"] for net in data["nets"]}


def names(cost, year, chosen):
    """The boxes of the names that stand in the drawing, by network."""
    hidden = PLOT.hidden(chosen, cost) if PLOT.nets[chosen].year <= year else []
    shown = {
        i: PLOT.name(i, cost, place)
        for i, place in PLOT.fixed[cost].items()
        if i not in hidden and PLOT.nets[i].year <= year
    }
    if PLOT.nets[chosen].year <= year:
        assert chosen not in shown
        shown[chosen] = PLOT.name(chosen, cost, PLOT.chosen[cost][chosen], BOLD)
    return shown


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("cost", COSTS)
def test_no_name_meets_another(cost):
    for year in PLOT.years:
        for chosen in range(len(PLOT.nets)):
            boxes = names(cost, year, chosen)
            assert all(left >= 0 and right <= 720 for left, _, right, _ in boxes.values())
            met = [pair for pair in combinations(boxes, 2) if meet(*(boxes[i] for i in pair))]
            assert not met, (year, PLOT.nets[chosen].label, [[PLOT.nets[i].label for i in pair] for pair in met])


@pytest.mark.parametrize("cost", COSTS)
def test_fixed_names_leave_the_marks_free(cost):
    assert [PLOT.nets[i].label for i in sorted(PLOT.fixed[cost])] == [n.label for n in PLOT.nets if n.label in NAMED]
    for i, place in PLOT.fixed[cost].items():
        left, top, right, bottom = PLOT.name(i, cost, place)
        for net in PLOT.nets:
            at, middle = PLOT.x(net, cost), y(net)
            covered = meet((left + 4, top + 5, right - 4, bottom - 5), (at - 9, middle - 9, at + 9, middle + 9))
            assert not covered, (PLOT.nets[i].label, net.label)


def test_only_what_the_chosen_name_meets_is_hidden():
    vgg16, vgg19, googlenet = (LABELS.index(label) for label in ("VGG-16", "VGG-19", "GoogLeNet"))
    assert PLOT.hidden(googlenet, "multiply_adds") == [googlenet]
    for cost in COSTS:
        assert all(len(PLOT.hidden(i, cost)) <= 2 + (i in PLOT.fixed[cost]) for i in range(len(LABELS)))
    html = complexity_explorer(net="VGG-19", year=2016).html
    assert 'class="met"' not in html
    assert re.findall(r'<text class="name[^"]*"[^>]*>([^<]*)</text>', html) == ["VGG-19"]
    assert vgg16 in names("multiply_adds", 2016, vgg19)
    late = complexity_explorer(net="EfficientNet-B7", year=2016).html
    assert re.findall(r'<text class="name[^"]* late"', late)
    assert not any("met" in kinds.split() for kinds in re.findall(r'<g class="([^"]*)" style', late))


@pytest.mark.parametrize("wrong", [{"cost": "watts"}, {"year": 1999}, {"net": "LeNet"}, {"year": 0}])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(NoSuchNet, match="the explorer has no"):
        complexity_explorer(**wrong)


@pytest.mark.parametrize("year", ["2016", 2016.0])
def test_a_year_is_a_whole_number(year):
    with pytest.raises(NoSuchNet, match=f"year must be a whole number, not {year!r}"):
        complexity_explorer(year=year)


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def explorer(open_page):
    return open_page(complexity_explorer(id="x").html)


@pytest.mark.browser
def test_every_setting_of_the_page_agrees_with_python(explorer):
    for cost in COSTS:
        explorer.locator(f"[data-cost={cost}]").click()
        for place, year in enumerate(PLOT.years):
            for net in ("GoogLeNet", "EfficientNet-B7"):
                labels = [n["label"] for n in json.loads(explorer.locator("script[type]").text_content())["nets"]]
                explorer.evaluate(
                    """([year, net]) => document.querySelectorAll("input").forEach((slider, i) => {
                      slider.value = [year, net][i]; slider.dispatchEvent(new Event("input")); })""",
                    [place, labels.index(net)],
                )
                expected = complexity_explorer(id="x", cost=cost, year=year, net=net).html
                assert explorer.locator("figcaption").text_content() in expected
                assert explorer.locator("path.frontier").get_attribute("d") == PLOT.line(cost, year)
                drawn = re.findall(r'<g class="[^"]*" style[^>]*transform="([^"]+)"', expected)
                shown = [mark.get_attribute("transform") for mark in explorer.locator(".marks > g").all()]
                assert shown == drawn
                late = [mark.get_attribute("class") for mark in explorer.locator(".marks > .late").all()]
                assert len(late) == sum(n.year > year for n in PLOT.nets)


@pytest.mark.browser
def test_names_of_the_page_are_those_of_python(explorer):
    def drawn(html):
        drawing = BeautifulSoup(html, "html.parser")
        texts = [*drawing.select(".marks > g"), *drawing.select(".marks text"), *drawing.select("text.name")]
        return [
            ({*element.get("class", [])} - {""}, element.get("x"), element.get("y"), element.get_text())
            for element in texts
        ]

    for cost in COSTS:
        explorer.locator(f"[data-cost={cost}]").click()
        for year in (2014, 2016, 2019):
            for net in ("GoogLeNet", "VGG-19", "Inception-ResNet-v2", "EfficientNet-B1"):
                explorer.evaluate(
                    """([year, net]) => document.querySelectorAll("input").forEach((slider, i) => {
                      slider.value = [year, net][i]; slider.dispatchEvent(new Event("input")); })""",
                    [PLOT.years.index(year), LABELS.index(net)],
                )
                expected = complexity_explorer(id="x", cost=cost, year=year, net=net).html
                assert drawn(explorer.locator("figure > svg").evaluate("svg => svg.outerHTML")) == drawn(expected)


@pytest.mark.browser
def test_names_are_about_as_wide_as_python_says(explorer):
    for name in explorer.locator(".marks text, text.name").all():
        width = name.evaluate("text => text.getComputedTextLength()")
        left, _, right, _ = PLOT.name(
            LABELS.index(name.text_content()), "parameters", 0, BOLD if "name" in name.get_attribute("class") else 1
        )
        assert width < right - left + 6, name.text_content()  # and no wider, in the widest of the usual fonts


@pytest.mark.browser
def test_first_frame_does_not_change_when_the_script_starts(open_page):
    html = complexity_explorer(id="x", cost="parameters", year=2016, net="ResNet-50").html
    live, still = open_page(html), open_page(html, java_script_enabled=False)
    for query in (".ticks", "figcaption", ".cnn-controls", ".legend"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query
    picture = [tab.locator("figure > svg").inner_html().replace(' class=""', "") for tab in (live, still)]
    assert picture[0] == picture[1]


@pytest.mark.browser
def test_keyboard_and_families(explorer):
    explorer.get_by_role("slider", name="Network").focus()
    before = explorer.locator("figcaption").text_content()
    explorer.keyboard.press("ArrowRight")
    assert explorer.locator("figcaption").text_content() != before
    explorer.get_by_role("button", name="VGG").click()
    assert explorer.locator(".marks > .other").count() >= len(PLOT.nets) - 7


@pytest.mark.browser
def test_touch_chooses_the_nearest_network(open_page):
    tab = open_page(complexity_explorer(id="x").html, width=390, has_touch=True)
    drawing = tab.locator("figure > svg")
    drawing.scroll_into_view_if_needed()
    box, net = drawing.bounding_box(), BY_LABEL["AlexNet, one column"]
    scale = box["width"] / 720
    tab.touchscreen.tap(box["x"] + PLOT.x(net, "multiply_adds") * scale, box["y"] + y(net) * scale)
    assert tab.locator("figcaption").text_content().startswith("AlexNet, one column (2014)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme):
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(open_page(complexity_explorer(id="x").html, theme=theme))
    serious = [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, report.generate_report()
