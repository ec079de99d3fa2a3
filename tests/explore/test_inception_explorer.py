"""The explorer's numbers are those of cnnlib's modules, in Python and in the page."""

import itertools
import random
import re
from dataclasses import astuple, replace

import pytest
import torch
from torch import nn

from cnnlib.explore import diagram, inception, inception_module
from cnnlib.explore.inception import (
    BOTTLENECKS,
    LECTURE,
    RANGES,
    Module,
    OutOfRange,
    googlenet_modules,
    presets,
    short,
)
from cnnlib.measure import count_parameters, multiply_adds
from cnnlib.models import card
from cnnlib.models.googlenet import Inception, NaiveInception, googlenet, imagenet_stem

NAMES = tuple(RANGES)


def some_settings(count: int) -> list[Module]:
    """Settings drawn at random, a third of their bottlenecks off."""
    draw = random.Random(5)
    return [
        Module(
            **{
                name: 0 if name in BOTTLENECKS and draw.random() < 1 / 3 else draw.choice(values)
                for name, values in RANGES.items()
            }
        )
        for _ in range(count)
    ]


def branches_of_modules(module: Module) -> list[nn.Module]:
    """The branches of cnnlib's two modules, each from the one that has it as the setting says."""
    widths = {name: value or 1 for name, value in vars(module).items() if name != "size"}
    with torch.device("meta"):
        full = Inception(**widths)
        naive = NaiveInception(**{name: value for name, value in widths.items() if name not in BOTTLENECKS})
    return [
        full.branch1,
        (full if module.reduce3x3 else naive).branch2,
        (full if module.reduce5x5 else naive).branch3,
        (full if module.pool_proj else naive).branch4,
    ]


# The numbers


@pytest.mark.parametrize("on", list(itertools.product((True, False), repeat=3)))
def test_branches_cost_what_the_modules_cost(on):
    off = {name: 0 for name, is_on in zip(BOTTLENECKS, on, strict=True) if not is_on}
    module = replace(Module(7, 48, 16, 32, 80, 8, 32, 64), **off)
    maps = torch.empty(1, module.in_channels, module.size, module.size, device="meta")
    for cost, branch in zip(module.costs, branches_of_modules(module), strict=True):
        out = branch(maps)
        assert out.shape[2:] == maps.shape[2:]
        assert cost.maps == out.shape[1]
        assert cost.parameters == count_parameters(branch)
        assert cost.ops == multiply_adds(branch, tuple(maps.shape[1:]))


def test_lectures_modules():
    assert (LECTURE.naive.total.ops, LECTURE.naive.total.maps) == (854_196_224, 672)
    assert (LECTURE.total.ops, LECTURE.total.maps) == (271_351_808, 480)
    assert LECTURE.naive == replace(LECTURE, reduce3x3=0, reduce5x5=0, pool_proj=0)


def test_lectures_358M_is_explained():
    shown = repr(inception_module())
    assert "The lecture says 358M: its six products add up to 271M" in shown
    assert "the 3×3 convolution (86.7M) in it twice" in shown
    assert "The lecture says the same: 854M and 672 maps." in repr(inception_module(**vars(LECTURE.naive)))


def test_googlenets_modules_are_those_of_the_net():
    with torch.device("meta"):
        net = googlenet()
        shapes = {}
        for name, part in net.named_modules():
            if isinstance(part, Inception):
                part.register_forward_hook(
                    lambda _, inputs, output, name=name: shapes.update({name[-2:]: (inputs[0].shape, output.shape)})
                )
        net(torch.empty(1, 3, 224, 224))
    assert len(shapes) == 9
    for name, module in googlenet_modules().items():
        assert shapes[name] == (
            (1, module.in_channels, *2 * (module.size,)),
            (1, module.total.maps, *2 * (module.size,)),
        )


def test_nine_modules_stem_and_linear_layer_make_googlenet():
    modules = [module.total for module in googlenet_modules().values()]
    stem = imagenet_stem()
    ops = multiply_adds(stem, (3, 224, 224)) + sum(cost.ops for cost in modules) + 1024 * 1000
    parameters = count_parameters(stem) + sum(cost.parameters for cost in modules) + 1025 * 1000
    assert (ops, parameters) == (card("googlenet").multiply_adds, card("googlenet").parameters)
    assert "Module 3a does 8% of the multiply-adds of GoogLeNet." in repr(
        inception_module(**vars(googlenet_modules()["3a"]))
    )


def test_sliders_reach_the_lecture_and_all_of_googlenet():
    for module in (*googlenet_modules().values(), *(preset for preset, _ in presets().values())):
        for name, values in RANGES.items():
            assert getattr(module, name) in values or (name in BOTTLENECKS and getattr(module, name) == 0), module


def test_slider_reaches_a_bottleneck_that_costs_more_than_none():
    widths = RANGES["reduce3x3"]
    costs = {width: replace(LECTURE, reduce3x3=width).costs[1].ops for width in (0, *widths)}
    assert costs[widths[0]] < costs[0] < costs[widths[-1]]
    assert [width for width in widths if costs[width] > costs[0]] == [224, 240, 256]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (12_345, "12.3k"),
        (12_250, "12.3k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (854_196_224, "854M"),
        (1_605_632_000, "1.61G"),
        (99_960_000_000, "100G"),
    ],
)
def test_counts_in_three_digits(count, text):
    assert short(count) == text


# What it says and draws


def test_first_frame_stands_without_script():
    html = re.sub(r"<script.*?</script>", "", inception_module().html)
    assert "271M multiply-adds, 347k parameters, 480 maps out." in html
    assert "A 1×1 convolution is a linear (fully connected) layer at each pixel." in html
    assert "28·28·64·1·1·256 + 28·28·192·3·3·64 = 99,549,184" in html
    assert html.count("<svg") == 1


def test_naive_module_is_called_so():
    shown = repr(inception_module(**vars(LECTURE.naive)))
    assert "This is the naive module. Pooling keeps all 256 maps, so their number can only grow" in shown
    assert "needs" not in shown
    assert "3.1 times as many multiply-adds and puts out 672 maps" in repr(inception_module())
    assert "Pooling keeps" not in repr(inception_module())


def test_bottlenecks_that_save_nothing_are_told():
    assert "too wide to save anything" in repr(inception_module(in_channels=16))
    assert "too wide" not in repr(inception_module())


def test_ribbons_are_as_wide_as_they_have_maps():
    drawing = inception._draw(LECTURE)
    ribbon = re.findall(r'<path class="b2" d="([^"]+)"', drawing)[0]
    edges = [(r"(\d+) 150V190", r"L(\d+) 190V150"), (r"L(\d+) 238V290", r"L(\d+) 290V238")]
    edges.append((r"L(\d+) 338V388", r"(\d+) 388V338"))
    for (left, right), maps in zip(edges, (256, 64, 192), strict=True):
        sides = [int(re.search(side, ribbon)[1]) for side in (left, right)]
        assert sides == [270 - round(80 * maps / 256), 270 + round(80 * maps / 256)]
    bars = [tuple(map(int, bar)) for bar in re.findall(r'class="bar b\d" d="M(\d+) 470H(\d+)', drawing)]
    assert [right for _, right in bars[:-1]] == [left for left, _ in bars[1:]]
    assert [right - left for left, right in bars] == [round(160 * cost.maps / 256) for cost in LECTURE.costs]


@pytest.mark.parametrize("module", [LECTURE, LECTURE.naive], ids=["bottlenecks", "naive"])
def test_each_convolution_has_a_box(module):
    drawing = inception._draw(module)
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    convolutions = [f"{layer.kernel}×{layer.kernel}" for layers in module.branches for layer in layers]
    assert sorted(label for label in labels if label[1:2] == "×") == sorted(convolutions)
    assert labels.count("pool") == 1
    assert drawing.count("<rect") == len(convolutions) + 1
    assert f"concatenated: 28 × 28 × {module.total.maps}" in labels


def test_drawing_is_told_in_words():
    assert inception._describe(LECTURE) == (
        "256 maps go four ways: 1×1 to 128; 1×1 to 64, 3×3 to 192; 1×1 to 64, 5×5 to 96; 3×3 max pooling, 1×1 to 64. "
        "Side by side they are 480 maps."
    )
    assert "5×5 to 96; 3×3 max pooling. Side by side they are 672" in inception._describe(LECTURE.naive)


def test_bars_are_shares_of_the_larger_module():
    foot = inception._rows(LECTURE).partition("<tfoot>")[2]
    widths = [[int(width) for width in re.findall(r"--w:(\d+)", cell)] for cell in re.findall(r"<td>.*?</td>", foot)]
    assert [sum(cell) for cell in widths] == pytest.approx([318, 319, 714, 1000, 1000, 1000], abs=2)
    assert "<td>1024<" in inception._rows(googlenet_modules()["5b"])  # maps are never rounded


def test_pressed_preset_is_the_setting():
    pressed = re.findall(r'aria-pressed="true">([^<]+)<', inception_module(**vars(googlenet_modules()["4a"])).html)
    assert pressed == ["GoogLeNet 4a"]


@pytest.mark.parametrize(
    ("name", "value"), [("size", 8), ("in_channels", 0), ("n3x3", 400), ("reduce5x5", 7), ("pool_proj", -16)]
)
def test_setting_outside_the_sliders_is_refused(name, value):
    with pytest.raises(OutOfRange, match=f"no {name} {value}; choose from"):
        inception_module(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("size", 28.0), ("in_channels", "256"), ("reduce3x3", False)])
def test_what_is_no_whole_number_is_refused(name, value):
    with pytest.raises(OutOfRange, match=f"{name} must be a whole number, not {value!r}"):
        inception_module(**{name: value})


def test_output_is_small_deterministic_and_self_contained():
    html = inception_module(id="a").html
    assert html == inception_module(id="a").html
    assert len(html.encode()) < 30_000
    assert not re.search(r"(src|href)=|https?://|@import", html)
    assert html.count('id="a"') == 1


def test_controls_are_labelled():
    html = inception_module().html
    assert len(re.findall(r"<label>.*?<input type=\"range\"[^>]*></label>", html)) == len(RANGES)
    assert len(re.findall(r'<input type="checkbox" role="switch" aria-label="[^"]+"', html)) == len(BOTTLENECKS)
    assert '<figcaption aria-live="polite">' in html


# In the browser

# Every setting given, and what the page then says and draws.
TRY_ALL = """(settings) => {
  const root = document.querySelector("figure.cnn-inception");
  const sliders = [...root.querySelectorAll("[type=range]")];
  return settings.map((setting) => {
    sliders.forEach((slider, i) => {
      const toggle = slider.closest(".line").querySelector("[role=switch]");
      if (toggle) toggle.checked = setting[i] > 0;
      if (setting[i]) slider.value = setting[i];
    });
    sliders[0].dispatchEvent(new Event("input", { bubbles: true }));
    const svg = root.querySelector("svg");
    return {
      draw: svg.innerHTML,
      describe: svg.getAttribute("aria-label"),
      rows: [...root.querySelectorAll("tbody,tfoot")].map((part) => part.outerHTML).join(""),
      result: root.querySelector("figcaption").innerHTML,
      pixel: root.querySelector(".pixel").innerHTML,
      products: root.querySelector(".products").innerHTML,
    };
  });
}"""


@pytest.fixture
def explorer(open_page):
    return open_page(inception_module(id="inception").html)


@pytest.mark.browser
def test_page_agrees_with_python(explorer):
    rounded_up = replace(LECTURE, size=42, in_channels=656, reduce3x3=0, n3x3=96)  # 999.8M: in three digits, 1.00G
    assert "1.00G" in inception._rows(rounded_up)
    settings = [rounded_up, *(module for module, _ in presets().values()), *some_settings(400)]
    pages = explorer.evaluate(TRY_ALL, [astuple(module) for module in settings])
    for module, page in zip(settings, pages, strict=True):
        for part, shown in page.items():
            expected = getattr(inception, f"_{part}")(module)
            assert re.sub(r"></(path|rect)>", "/>", shown) == expected, (part, module)


@pytest.mark.browser
@pytest.mark.parametrize("module", [LECTURE, replace(LECTURE, reduce5x5=0, size=14)], ids=["all", "one off"])
def test_first_frame_does_not_change_when_the_script_starts(open_page, module):
    html = inception_module(**vars(module)).html
    live = open_page(html)
    still = open_page(html, java_script_enabled=False)
    for query in (".cnn-row", ".cnn-controls", ".panes", "figcaption", ".pixel", "details"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query


@pytest.mark.browser
def test_keyboard_moves_sliders_and_switches(explorer):
    explorer.get_by_role("group", name="Input").get_by_role("slider", name="Maps").focus()
    explorer.keyboard.press("ArrowRight")
    assert "272 maps go four ways" in explorer.locator("svg").get_attribute("aria-label")
    branch = explorer.get_by_role("group", name="5×5 branch")
    branch.get_by_role("switch").focus()
    explorer.keyboard.press("Space")
    assert branch.get_by_role("slider", name="Bottleneck").is_disabled()
    assert branch.locator("b").all_text_contents() == ["off", "96"]
    assert "64, 3×3 to 192; 5×5 to 96;" in explorer.locator("svg").get_attribute("aria-label")


@pytest.mark.browser
def test_touch_switches_a_bottleneck_off_and_on_at_the_same_width(open_page):
    tab = open_page(inception_module().html, width=390, has_touch=True)
    before = tab.locator("figcaption").text_content()
    switch = tab.get_by_role("switch", name="Projection on")
    switch.tap()
    assert "Pooling keeps all 256 maps" in tab.locator("figcaption").text_content()
    switch.tap()
    assert tab.locator("figcaption").text_content() == before


@pytest.mark.browser
def test_presets_set_sliders_and_switches(explorer):
    for name, (module, note) in presets().items():
        button = explorer.get_by_role("button", name=name, exact=True)
        button.click()
        assert explorer.locator(".line b").all_text_contents() == [str(value or "off") for value in astuple(module)]
        assert button.get_attribute("aria-pressed") == "true"
        assert explorer.locator("[aria-pressed=true]").count() == 1
        assert explorer.locator("figcaption").text_content().endswith(note)


@pytest.mark.browser
def test_two_copies_of_one_explorer_work_apart(open_page):
    html = inception_module(id="same").html
    tab = open_page(html + html)
    tab.locator("figure").nth(1).get_by_role("slider", name="1×1 to").fill("64")
    assert "480 maps out" in tab.locator("figure").nth(0).locator("figcaption").text_content()
    assert "416 maps out" in tab.locator("figure").nth(1).locator("figcaption").text_content()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme):
    from axe_playwright_python.sync_playwright import Axe

    tab = open_page(inception_module(id="a").html + inception_module(id="b", pool_proj=0).html, theme=theme)
    for summary in tab.locator("summary").all():
        summary.click()
    report = Axe().run(tab)
    serious = [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, report.generate_report()


@pytest.mark.browser
def test_nothing_is_wider_than_a_phone_and_targets_are_large(open_page):
    tab = open_page(inception_module(**vars(Module(56, 1024, 384, 256, 384, 96, 128, 128))).html, width=390)
    tab.locator("summary").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for control in tab.locator("button, input, summary").all():
        box = control.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44


@pytest.mark.parametrize("width", [390, 735, 1000])
def test_no_control_leaves_its_column_beside_other_figures(open_page, width):
    drawing = diagram(nn.Conv2d(3, 4, 3), (3, 8, 8), id="drawing")  # brings the shared style a second time, below ours
    tab = open_page(inception_module().html + drawing.html, width=width)
    right = "element.getBoundingClientRect().right"
    beyond = tab.evaluate(
        "[...document.querySelectorAll('.cnn-inception input')].filter(element => "
        f"{right} > {right.replace('element', 'element.closest(`[role=group]`)')} + 1).length"
    )
    assert beyond == 0
