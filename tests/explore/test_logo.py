from xml.etree import ElementTree

from cnnlib.explore.logo import favicon_svg, logo_svg
from cnnlib.explore.style import PALETTE


def test_logos_are_svg_in_the_palette():
    for text, theme in ((logo_svg(), "light"), (logo_svg(dark=True), "dark")):
        root = ElementTree.fromstring(text)
        assert root.get("viewBox") == "0 0 48 48"
        colours = {value for element in root.iter() for value in element.attrib.values() if value.startswith("#")}
        assert colours <= set(PALETTE[theme].values())
        assert PALETTE[theme]["orange"] in colours


def test_words_stand_beside_the_logo():
    root = ElementTree.fromstring(logo_svg(("A & B", "C")))
    texts = [element for element in root.iter() if element.tag.endswith("text")]
    assert [text.text for text in texts] == ["A & B", "C"]
    assert all(float(text.get("x")) > 45 for text in texts)
    assert float(root.get("viewBox").split()[2]) > 48


def test_favicon_follows_the_reader():
    assert "prefers-color-scheme:dark" in favicon_svg()
    assert PALETTE["light"]["orange"] in favicon_svg()
    assert PALETTE["dark"]["orange"] in favicon_svg()
    ElementTree.fromstring(favicon_svg())
