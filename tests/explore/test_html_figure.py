import re

import pytest

from cnnlib.explore import gallery, html
from cnnlib.explore.html import BadId, Html


def test_figure_brings_its_style_and_script():
    text = html.figure("<p>x</p>", id="a-1", kind="cnn-x", css=".cnn-x { color: red; }", script="let a = 1;")
    assert text.startswith('<figure class="cnn cnn-x" id="a-1"><style>')
    assert ".cnn-x{color: red}" in text
    assert "--cnn-ink" in text
    assert text.endswith("<p>x</p><script>let a = 1;</script></figure>")


@pytest.mark.parametrize("id", ["", "1a", "a b", 'a"', "ä", 20])
def test_bad_id_is_refused(id):
    with pytest.raises(BadId, match="letter"):
        html.figure("", id=id, kind="x")


def test_squeeze_keeps_selectors_and_values():
    css = "/* a */ .a .b > .c, .d { width: calc(1px + 2px); font: 1rem/1.5 'A B', serif; }\n\n.e { x: y }"
    assert html.squeeze(css) == ".a .b>.c,.d{width: calc(1px + 2px);font: 1rem/1.5 'A B',serif}.e{x: y}"


def test_tag_escapes_and_shortens():
    assert html.tag("rect", x=1.0, y=1 / 3, class_="a", aria_label='"<', rx=None) == (
        '<rect x="1" y="0.3" class="a" aria-label="&quot;&lt;"></rect>'
    )


def test_numbers_have_no_negative_zero():
    assert html.number(-0.01) == "0"
    assert html.number(-2.5) == "-2.5"


def test_scripts_lose_comments_only():
    for name in ("convolution.js", "frames.js"):
        assert "//" not in html.script(name)
        code = re.sub(r"\s|//.*", "", html.asset(name))
        assert re.sub(r"\s", "", html.script(name)) == code


def test_html_shows_both_forms():
    shown = Html("<b>x</b>", "x in words")
    assert shown._repr_html_() == "<b>x</b>"
    assert repr(shown) == "x in words"


def test_gallery_is_one_figure_of_several():
    parts = [Html(html.figure(f"<p>{name}</p>", id=name, kind="cnn-x"), f"{name} in words") for name in "ab"]
    both = gallery(parts, id="both", caption="a < b")
    assert both.html.startswith('<figure class="cnn cnn-gallery" id="both">')
    assert re.findall(r'id="(\w+)"', both.html) == ["both", "a", "b"]
    assert both.html.endswith("<figcaption>a &lt; b</figcaption></figure>")
    assert both.text == "a in words\nb in words"


def test_drawings_stand_side_by_side_where_there_is_room(open_page):
    parts = [
        Html(html.figure('<svg viewBox="0 0 180 90" style="width:180px;max-width:100%"></svg>', id=name, kind="x"), "")
        for name in "abcde"
    ]
    tops = {}
    for width in (1000, 360):
        tab = open_page(gallery(parts, id="all", width=138).html, width=width)
        tops[width] = [tab.locator(f"#{name}").bounding_box()["y"] for name in "abcde"]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert len(set(tops[1000])) == 1
    assert len(set(tops[360])) > 1
