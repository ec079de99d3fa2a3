"""The built pages as a reader's browser shows them, from disk, in headless Chromium."""

from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe

from cnnlib.measure import DoesNotFit, conv_output_size

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
LOCAL = ("file:", "data:", "blob:")


@dataclass
class Visit:
    """A page that has been opened, and what happened meanwhile."""

    page: object
    external: list = field(default_factory=list)
    faults: list = field(default_factory=list)


@pytest.fixture(scope="module")
def visit(browser, html):
    """Open a page of the book once for each viewport."""
    contexts, visits = {}, {}

    def open_page(name, viewport="desk"):
        if (name, viewport) in visits:
            return visits[name, viewport]
        if viewport not in contexts:
            size, touch = (PHONE, True) if viewport == "phone" else (DESK, False)
            contexts[viewport] = browser.new_context(viewport=size, has_touch=touch, color_scheme="light")
        visit = Visit(contexts[viewport].new_page())

        def on_route(route):
            if route.request.url.startswith(LOCAL):
                return route.continue_()
            visit.external.append(route.request.url)
            return route.abort()

        visit.page.route("**/*", on_route)
        visit.page.on("pageerror", lambda error: visit.faults.append(str(error)))
        visit.page.on("console", lambda line: line.type == "error" and visit.faults.append(line.text))
        visit.page.on("requestfailed", lambda request: visit.faults.append(f"not loaded: {request.url}"))
        visit.page.goto((html / f"{name}.html").as_uri())
        visit.page.wait_for_load_state("networkidle")
        if visit.page.locator(".math").count():
            visit.page.evaluate("MathJax.startup.promise")
        visits[name, viewport] = visit
        return visit

    yield open_page
    for context in contexts.values():
        context.close()


def test_nothing_is_asked_of_another_host_and_no_script_fails(visit, page):
    opened = visit(page)
    assert opened.external == []
    assert opened.faults == []


def test_every_equation_is_rendered(visit, page):
    page = visit(page).page
    assert page.locator("mjx-container").count() == page.locator(".math").count()
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".math:not(:has(mjx-container))").count() == 0


def test_every_picture_has_a_written_alternative(visit, page):
    page = visit(page).page
    alternatives = page.evaluate("Array.from(document.querySelectorAll('article img'), image => image.alt)")
    assert [alt for alt in alternatives if len(alt) < 20 or "_images/" in alt] == []
    drawings = "article svg:not([aria-hidden=true], [aria-label], [aria-labelledby], :has(> title), mjx-container *)"
    assert page.locator(drawings).evaluate_all("unnamed => unnamed.map(svg => svg.outerHTML.slice(0, 200))") == []


AXE_CONTRAST = ["color-contrast", "link-in-text-block"]
"""Axe's rules on colours: they take most of its time, and the theme changes what they find."""

ONE_OF_EACH_COLOUR = """() => {
    const seen = new Set(), looks = new Map()
    const look = one => {
        if (!one || looks.has(one)) return looks.get(one) ?? ''
        const style = getComputedStyle(one)
        const own = [style.color, style.backgroundColor, style.backgroundImage, style.opacity].join()
        const above = look(one.parentElement)
        looks.set(one, above.endsWith(own) ? above : `${above};${own}`)
        return looks.get(one)
    }
    document.querySelectorAll('[data-axe]').forEach(one => { delete one.dataset.axe })
    for (const one of document.querySelectorAll('body *')) {
        if (![...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue
        if (!one.checkVisibility()) continue
        const style = getComputedStyle(one)
        const kind = [one.tagName, look(one), style.fontSize, style.fontWeight, style.textDecorationLine].join()
        if (!seen.has(kind)) one.dataset.axe = seen.size
        seen.add(kind)
    }
    return seen.size
}"""
"""Marks the first text of each kind: thousands of the same colours on the same grounds have the same contrast."""


def serious_faults(page, context=None, **options):
    """What axe calls serious or critical."""
    return {
        f"{fault['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:300]}"
        for fault in Axe().run(page, context, {"resultTypes": ["violations"], **options}).response["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    }


@pytest.fixture
def unfolded(visit, page):
    """The page with everything unfolded."""
    page = visit(page).page
    page.evaluate("document.querySelectorAll('article details').forEach(one => { one.open = true })")
    return page


def test_axe_finds_nothing_serious(unfolded):
    assert serious_faults(unfolded, rules={rule: {"enabled": False} for rule in AXE_CONTRAST}) == set()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_can_be_read(unfolded, theme):
    """The page is told of the theme while it is open, as when evening comes."""
    unfolded.emulate_media(color_scheme=theme)
    unfolded.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme, timeout=5000)
    unfolded.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")
    assert unfolded.evaluate(ONE_OF_EACH_COLOUR) > 3
    assert serious_faults(unfolded, "[data-axe]", runOnly=AXE_CONTRAST) == set()
    unfolded.emulate_media(color_scheme="light")


def test_phone_needs_no_sideways_scrolling(visit, page):
    page = visit(page, viewport="phone").page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cut = """Array.from(document.querySelectorAll('article *'), one => {
        const scrolls = up => up && (up.tagName === 'ARTICLE' ? false
            : ['auto', 'scroll'].includes(getComputedStyle(up).overflowX) || scrolls(up.parentElement))
        return one.getBoundingClientRect().right > innerWidth + 1 && !scrolls(one) ? one.outerHTML.slice(0, 120) : null
    }).filter(Boolean)"""
    assert page.evaluate(cut) == []
    notes = """Array.from(document.querySelectorAll('.cnn-table caption, .cnn-note'), one =>
        one.getBoundingClientRect().right > innerWidth ? one.textContent.slice(0, 60) : null).filter(Boolean)"""
    assert page.evaluate(notes) == [], "the notes of a table must be read without scrolling"


def test_search_works_from_disk(visit):
    opened = visit("search")
    opened.page.goto(opened.page.url + "?q=stride")
    opened.page.locator("#search-results li a").first.wait_for()
    assert opened.external == []
    assert opened.faults == []


SLIDER = "figure.cnn input[type=range]"
STATE = """figure => figure.querySelector('figcaption').innerText
    + Array.from(figure.querySelectorAll('svg')).filter(svg => svg.checkVisibility()).map(svg => svg.outerHTML)"""


@pytest.fixture
def sliders(visit, page):
    """Each slider of the page with its figure, in its first position when it is handed out."""

    def of(viewport):
        for slider in visit(page, viewport=viewport).page.locator(SLIDER).all():
            value = slider.input_value()
            yield slider, slider.locator("xpath=ancestor::figure")
            slider.fill(value)

    return of


def test_explorers_answer_to_the_keyboard(sliders):
    for slider, figure in sliders("desk"):
        before, value = figure.evaluate(STATE), slider.input_value()
        slider.focus()
        slider.press("ArrowRight")
        if slider.input_value() == value:
            slider.press("ArrowLeft")
        assert slider.input_value() != value
        assert figure.evaluate(STATE) != before


def test_explorers_answer_to_touch(sliders):
    for slider, figure in sliders("phone"):
        slider.scroll_into_view_if_needed()
        box, before = slider.bounding_box(), figure.evaluate(STATE)
        assert box["height"] >= 40
        other_end = 0.9 if float(slider.input_value()) == float(slider.get_attribute("min")) else 0.02
        slider.page.touchscreen.tap(box["x"] + other_end * box["width"], box["y"] + box["height"] / 2)
        assert figure.evaluate(STATE) != before


def test_conv_explorer_agrees_with_python(visit, page):
    for figure in visit(page).page.locator("figure.cnn-conv").all():
        for preset in figure.locator("[data-set]").all():
            preset.click()
            setting = [int(slider.input_value()) for slider in figure.locator("input[type=range]").all()]
            said = figure.locator("figcaption").inner_text()
            try:
                size = conv_output_size(*setting)
                assert f"the output is {size} × {size}" in said
            except DoesNotFit:
                assert "the output is" not in said
