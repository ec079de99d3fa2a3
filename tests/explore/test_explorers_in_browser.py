"""The explorers answer to mouse, keyboard and touch as Python says, and everyone can use them."""

import itertools

import pytest

from cnnlib.explore import conv_arithmetic, diagram, frames, inception_module, volumes
from cnnlib.explore import convolution as conv
from cnnlib.explore.convolution import PRESETS, RANGES, Walk
from cnnlib.models import create

pytestmark = pytest.mark.browser

NAMES = tuple(RANGES)
# Every setting of the sliders, and what the page then says and draws.
WALK_ALL = """(settings) => {
  const root = document.querySelector("figure.cnn-conv");
  const sliders = [...root.querySelectorAll("input")];
  return settings.map((setting, number) => {
    sliders.forEach((slider, i) => { slider.value = setting[i]; });
    sliders[0].dispatchEvent(new Event("input"));
    const values = [...root.querySelectorAll("[data-value]")].map((element) => element.textContent);
    const drawn = number % 7 ? [] : ["in", "out"].map((kind) => root.querySelector(`svg.${kind} g`).innerHTML);
    const box = root.querySelector("svg.in").getAttribute("viewBox");
    const said = [".outcome", ".position"].map((query) => root.querySelector(query).textContent);
    return [...said, values, drawn, box];
  });
}"""


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("CNNLIB_STATIC", "1")


@pytest.fixture
def explorer(open_page):
    return open_page(conv_arithmetic(id="conv", size=7, kernel=3, stride=2, padding=1).html)


def test_page_agrees_with_python_for_every_setting(explorer):
    settings = list(itertools.product(*RANGES.values()))
    shown = explorer.evaluate(WALK_ALL, settings)
    for number, (setting, (outcome, position, values, drawn, box)) in enumerate(zip(settings, shown, strict=True)):
        walk = Walk(*setting)
        assert outcome == " ".join(conv._result(walk)), setting
        assert position == " ".join(conv._position(walk)), setting
        expected = conv._values(walk)
        size, kernel, stride, padding, dilation = (expected[name] for name in NAMES)
        numbers = [size, padding, dilation, kernel, stride, expected["numerator"], stride, expected["output"]]
        assert values == numbers, setting
        if number % 7 == 0:
            python = [conv._draw_input(walk, "conv"), conv._draw_output(walk, "conv")]
            assert [svg.replace("></path>", "/>") for svg in drawn] == python, setting
            assert f'viewBox="{box}"' in conv._stage(walk, "conv")


def test_first_frame_does_not_change_when_the_script_starts(open_page, browser):
    html = conv_arithmetic(size=9, kernel=3, stride=2, padding=2, dilation=2).html
    live = open_page(html)
    still = open_page(html, java_script_enabled=False)
    for query in (".panes", ".formula", "figcaption", ".cnn-controls"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query


def test_sliders_answer_to_the_keyboard(explorer):
    explorer.get_by_role("slider", name="Kernel F").focus()
    explorer.keyboard.press("ArrowRight")
    assert explorer.locator("label b").nth(1).text_content() == "4"
    assert "output is 3 × 3" in explorer.locator("figcaption").text_content()


def test_arrow_keys_walk_the_window_and_stop_at_the_edge(explorer):
    explorer.locator("svg.out").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        explorer.keyboard.press(key)
    assert explorer.locator(".position").text_content() == (
        "Output row 2, column 2 sees rows 3 to 5 and columns 3 to 5 of the padded input."
    )
    for _ in range(9):
        explorer.keyboard.press("ArrowUp")
    assert "Output row 1, column 2" in explorer.locator(".position").text_content()


def test_buttons_walk_the_window(explorer):
    explorer.get_by_role("button", name="Move the window down").click()
    explorer.get_by_role("button", name="Move the window right").click()
    assert "Output row 2, column 2" in explorer.locator(".position").text_content()


def test_play_waits_where_there_is_no_output(explorer):
    explorer.clock.install()
    explorer.get_by_role("button", name="Too small").click()
    explorer.get_by_role("button", name="Play").click()
    explorer.clock.run_for(1500)
    explorer.get_by_role("button", name="Pause").click()
    explorer.get_by_role("slider", name="Kernel F").fill("3")
    assert "Output row 1, column 1 sees rows 1 to 3" in explorer.locator(".position").text_content()


def test_arrow_keys_on_the_input_choose_a_cell(explorer):
    explorer.locator("svg.in").focus()
    explorer.keyboard.press("ArrowRight")
    explorer.keyboard.press("ArrowRight")
    assert explorer.locator(".position").text_content() == (
        "The cell in row 1, column 3 of the padded input is seen by 2 output units (dotted)."
    )
    assert explorer.locator("svg.out path.tap").get_attribute("d") == "M0 0h1v1h-1zM1 0h1v1h-1z"


def test_touch_chooses_output_and_input(open_page):
    tab = open_page(conv_arithmetic(id="conv", size=7, kernel=3).html, width=390, has_touch=True)
    tab.locator("svg.out").scroll_into_view_if_needed()
    box = tab.locator("svg.out").bounding_box()
    tab.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
    assert "Output row 3, column 5 sees rows 3 to 5 and columns 5 to 7" in tab.locator(".position").text_content()
    tab.locator("svg.in").scroll_into_view_if_needed()
    box = tab.locator("svg.in").bounding_box()
    tab.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    assert "row 4, column 4 of the padded input is seen by 9 output units" in tab.locator(".position").text_content()


def test_mouse_drags_over_the_output(explorer):
    box = explorer.locator("svg.out").bounding_box()
    explorer.mouse.move(box["x"] + 5, box["y"] + 5)
    explorer.mouse.down()
    explorer.mouse.move(box["x"] + box["width"] - 5, box["y"] + 5)
    explorer.mouse.up()
    assert "Output row 1, column 4" in explorer.locator(".position").text_content()


def test_presets_set_the_sliders(explorer):
    for name, setting in PRESETS.items():
        button = explorer.get_by_role("button", name=name, exact=True)
        button.click()
        assert [int(value) for value in explorer.locator("label b").all_text_contents()] == list(setting)
        assert button.get_attribute("aria-pressed") == "true"
        assert explorer.locator("[aria-pressed=true]").count() == 1


def test_play_walks_and_pauses(open_page):
    tab = open_page(conv_arithmetic(size=7, kernel=3).html)
    tab.clock.install()
    tab.locator("[data-play]").click()
    tab.clock.run_for(600 * 6)
    assert "Output row 2, column 2" in tab.locator(".position").text_content()
    assert tab.locator("figcaption").get_attribute("aria-live") == "off"
    tab.get_by_role("button", name="Pause").click()
    tab.clock.run_for(3000)
    assert "Output row 2, column 2" in tab.locator(".position").text_content()
    assert tab.locator("figcaption").get_attribute("aria-live") == "polite"


def test_nothing_plays_by_itself_or_for_readers_without_motion(open_page):
    tab = open_page(conv_arithmetic(size=7, kernel=3).html, reduced_motion="reduce")
    assert not tab.locator("[data-play]").is_visible()


def test_two_copies_of_one_explorer_work_apart(open_page):
    html = conv_arithmetic(id="same", size=7, kernel=3).html
    tab = open_page(html + html)
    tab.locator("figure").nth(1).get_by_role("slider", name="Kernel F").fill("5")
    assert tab.locator("figure").nth(0).locator("label b").nth(1).text_content() == "3"
    assert "output is 3 × 3" in tab.locator("figure").nth(1).locator("figcaption").text_content()


def test_script_starts_an_explorer_once(explorer):
    explorer.evaluate("""() => {
      const root = document.querySelector("figure.cnn-conv");
      root.querySelector("svg.in g").innerHTML = "";
      new Function(root.querySelector("script:not([type])").textContent)();
    }""")
    assert explorer.locator("svg.in g").inner_html() == ""


def test_frames_follow_their_sliders(open_page, static, line_figure):
    shown = frames(
        lambda k, shift: line_figure(k + shift),
        alt="k {k}, shift {shift}",
        caption="k = {k}",
        id="x",
        k=[1, 2, 3],
        shift=[0, 5],
    )
    tab = open_page(shown.html)
    tab.get_by_role("slider", name="shift").focus()
    tab.keyboard.press("ArrowRight")
    tab.get_by_role("slider", name="k", exact=True).focus()
    tab.keyboard.press("ArrowRight")
    visible = [svg.get_attribute("aria-label") for svg in tab.locator("svg").all() if svg.is_visible()]
    assert visible == ["k 2, shift 5"]
    assert tab.locator("figcaption").text_content() == "k = 2"
    assert tab.get_by_role("slider", name="k", exact=True).get_attribute("aria-valuetext") == "2"


def test_first_frame_is_visible_without_script(open_page, static, line_figure):
    tab = open_page(frames(line_figure, alt="k {k}", id="x", k=[1, 2]).html, java_script_enabled=False)
    assert [svg.is_visible() for svg in tab.locator("svg").all()] == [True, False]


@pytest.fixture
def everything(static, line_figure):
    return "".join(
        (
            conv_arithmetic(id="a", size=12, kernel=7, stride=4).html,
            conv_arithmetic(id="b", size=3, kernel=7).html,
            diagram(create("resnet20"), (3, 32, 32), id="c", depth=1).html,
            volumes(create("alexnet"), (3, 227, 227), id="d").html,
            frames(line_figure, alt="k {k}", caption="k = {k}", id="e", k=[1, 2]).html,
        )
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, everything, theme):
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(open_page(everything, theme=theme))
    serious = [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, report.generate_report()


def test_nothing_is_wider_than_a_phone_and_targets_are_large(open_page, everything):
    tab = open_page(everything, width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for control in tab.locator("button, input").all():
        box = control.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44


def test_states_and_legends_stay_in_forced_colours(open_page):
    body = conv_arithmetic(id="a", size=7, kernel=3).html + inception_module(id="b").html
    tab = open_page(body, forced_colors="active")

    def grounds(query):
        return tab.locator(query).evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")

    pressed, other = (grounds(f"#b button[aria-pressed={state}]") for state in ("true", "false"))
    assert len(pressed) == 1
    assert not {*pressed} & {*other}
    assert len({*grounds("#a .key.image, #a .key.tap, #a .key.result")}) == 3
    assert len({*grounds("#b td i")}) == 4
    switch = tab.locator("#b [role=switch]").first
    looks = "one => [getComputedStyle(one).appearance, getComputedStyle(one, '::before').content]"
    assert switch.evaluate(looks) == ["auto", "none"]


@pytest.mark.parametrize(
    ("root", "body", "scheme", "dark"),
    [
        ('data-theme="light"', "", "dark", False),
        ('data-theme="dark"', "", "light", True),
        ("", "", "light", False),
        ("", "", "dark", True),
        ('theme="dark"', "", "light", True),
        ("", 'data-jp-theme-light="false"', "light", True),
        ("", 'data-jp-theme-light="true"', "dark", False),
        ("", 'class="vscode-dark"', "light", True),
        ("", 'class="vscode-light"', "dark", False),
        ("", 'class="vscode-high-contrast"', "light", True),
        ("", 'class="vscode-high-contrast vscode-high-contrast-light"', "dark", False),
    ],
)
def test_theme_follows_the_page_around(browser, root, body, scheme, dark):
    tab = browser.new_page(color_scheme=scheme)
    figure = diagram(create("lenet5"), (1, 32, 32), id="x").html
    tab.set_content(f"<!doctype html><html {root}><body {body}>{figure}</body></html>")
    ground = tab.evaluate("getComputedStyle(document.querySelector('.cnn')).backgroundColor")
    assert ground == ("rgb(22, 25, 29)" if dark else "rgb(253, 252, 249)")
    tab.close()
