"""The drawings of networks and of their feature maps."""

import re
from xml.etree import ElementTree

import pytest
from torch import nn
from torchvision.models import resnet18

from cnnlib.explore import diagram, volumes
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.drawing import document
from cnnlib.explore.graph import network_graph
from cnnlib.explore.style import PALETTE
from cnnlib.measure import BadArgument, layer_table
from cnnlib.models import create
from cnnlib.models.googlenet import Inception

CHAIN = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 3 * 3, 10))
SIZE = (3, 16, 16)


def svg_of(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, flags=re.S)[0])


@pytest.mark.parametrize("draw", [diagram, volumes])
def test_what_is_no_shape_is_refused(draw):
    with pytest.raises(BadArgument, match=r"the shape of one image, .* not 16"):
        draw(CHAIN, 16, id="x")


def test_every_card_is_drawn_with_its_modules():
    net = resnet18()
    shown = diagram(net, (3, 64, 64), id="net")
    cards = network_graph(net, (3, 64, 64))
    groups = [group for group in svg_of(shown.html).iter("g") if group.get("class") == "card"]
    assert len(groups) == len(cards)
    for card, group in zip(cards, groups, strict=True):
        title = group.find("title")
        assert (title.text if title is not None else "") == ", ".join(card.modules)
    lines = [path for path in svg_of(shown.html).iter("path") if "head" not in path.get("class")]
    assert len(lines) == sum(len(card.sources) for card in cards)
    assert sum(path.get("class") == "skip" for path in lines) == 8 + 3  # eight shortcuts, three with a projection


def test_shapes_stand_where_they_change():
    texts = [t.text for t in svg_of(diagram(CHAIN, SIZE, id="x").html).iter("text")]
    assert texts.count("8×6×6") == 1
    assert texts.count("72") == 1
    assert "input 3×16×16" in texts
    assert "output 10" in texts


def test_drawing_has_a_text_alternative():
    shown = diagram(CHAIN, SIZE, id="x", title="A & B", caption="What <it> is")
    svg = svg_of(shown.html)
    assert svg.get("role") == "img"
    assert svg.find("title").text == "A & B"
    assert svg.find("desc").text.startswith("input (3×16×16), then 5×5 conv, 8, /2 + ReLU (8×6×6)")
    assert repr(shown) == f"A & B: {svg.find('desc').text}"
    assert "<figcaption>What &lt;it&gt; is</figcaption>" in shown.html
    assert "<figcaption>A &amp; B</figcaption>" in diagram(CHAIN, SIZE, id="x", title="A & B").html


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drawing_becomes_a_file_in_the_colours_of_a_theme(theme):
    shown = diagram(CHAIN, SIZE, id="x", title="A & B")
    svg = ElementTree.fromstring(document(shown, theme))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    width, height = svg.get("viewBox").split()[2:]
    assert (svg.get("width"), svg.get("height")) == (width, height)
    ns = "{http://www.w3.org/2000/svg}"
    css = svg.find(f"{ns}style").text
    assert "var(" not in css
    assert f"rect.conv{{fill: {PALETTE[theme]['blue-soft']};stroke: {PALETTE[theme]['blue']}}}" in css
    assert svg.find(f"{ns}title").text == "A & B"
    assert [text.text for text in svg.iter(f"{ns}text")] == [text.text for text in svg_of(shown.html).iter("text")]
    assert [title.text for title in svg.iter(f"{ns}title")] == ["A & B"], "no tooltips"


def test_names_of_modules_can_be_written():
    texts = [t.text for t in svg_of(diagram(create("alexnet"), (3, 227, 227), id="x", names=True).html).iter("text")]
    assert "conv1: 11×11 conv, 96, /4" in texts
    assert "fc8: fully connected, 1000" in texts
    net = create("googlenet")
    drawing = diagram(net, (3, 224, 224), id="x", closed=(Inception,), names=True)
    texts = [t.text for t in svg_of(drawing.html).iter("text")]
    assert [t for t in texts if " conv," in t] == [
        "conv1: 7×7 conv, 64, /2",
        "reduce2: 1×1 conv, 64",
        "conv2: 3×3 conv, 192",
    ]
    assert not any(": " in t.text for t in svg_of(diagram(CHAIN, SIZE, id="x", names=True).html).iter("text"))


def test_repeats_are_a_pile():
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
    svg = svg_of(diagram(net, SIZE, id="x").html)
    assert "× 4" in [t.text for t in svg.iter("text")]
    (card,) = [g for g in svg.iter("g") if g.get("class") == "card" and g.find("title") is not None]
    assert len(card.findall("rect")) == 3


@pytest.mark.parametrize("draw", [diagram, volumes])
def test_drawings_are_deterministic_self_contained_and_in_the_palette(draw):
    html = draw(CHAIN, SIZE, id="x").html
    assert html == draw(CHAIN, SIZE, id="x").html
    assert not re.search(r"(src|href)=|https?://|@import|<script", html)
    assert not re.search(r'(fill|stroke)="#', html)
    assert len(html) < 20_000


def test_text_stays_within_the_drawing():
    for net, size in ((CHAIN, SIZE), (resnet18().layer2, (64, 16, 16)), (create("resnet20"), (3, 32, 32))):
        svg = svg_of(diagram(net, size, id="x").html)
        left, top, width, height = map(float, svg.get("viewBox").split())
        for text in svg.iter("text"):
            length = 6 * len(text.text)
            x, anchor = float(text.get("x")), text.get("text-anchor", "middle")
            if text.get("class") == "shape":
                anchor = text.get("text-anchor", "start")
            start = x - {"start": 0, "middle": length / 2, "end": length}[anchor]
            assert left <= start
            assert start + length <= left + width
            assert top < float(text.get("y")) < top + height


def test_boxes_are_the_feature_maps_in_order():
    shown = volumes(CHAIN, SIZE, id="x")
    texts = [t.text for t in svg_of(shown.html).iter("text")]
    assert texts == ["input", "3×16×16", "0", "8×6×6", "2", "8×3×3", "4", "10"]
    assert repr(shown) == "The feature maps of Sequential: input 3×16×16, 0 8×6×6, 2 8×3×3, 4 10."


def extents(html: str, face: str) -> list[tuple[float, float]]:
    """Width and height on the page of this face of each map."""
    found = []
    for group in svg_of(html).iter("g"):
        if group.get("class") in ("image", "maps"):
            (path,) = [p for p in group.iter("path") if p.get("class") == face]
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
            found.append((max(numbers[::2]) - min(numbers[::2]), max(numbers[1::2]) - min(numbers[1::2])))
    return found


def test_boxes_are_to_scale():
    thickness, height = zip(*extents(volumes(CHAIN, SIZE, id="x").html, "front"), strict=True)
    assert height[1] / height[0] == pytest.approx(6 / 16, rel=0.01)
    assert height[2] / height[0] == pytest.approx(3 / 16, rel=0.02)
    assert thickness[0] / thickness[1] == pytest.approx(3 / 8, rel=0.02)
    assert thickness[2] == pytest.approx(thickness[1], abs=0.11)


def test_height_and_width_of_maps_are_told_apart():
    net = nn.Conv2d(3, 3, 1)
    (square, _), (wide, _) = (extents(volumes(net, size, id="x").html, "front") for size in ((3, 16, 16), (3, 8, 16)))
    assert wide[1] == pytest.approx(square[1] / 2, abs=0.2)
    (square, _), (wide, _) = (extents(volumes(net, size, id="x").html, "top") for size in ((3, 16, 16), (3, 8, 16)))
    assert wide == pytest.approx(square, abs=0.2)


def test_windows_are_drawn_for_a_module_and_not_for_a_table():
    assert volumes(CHAIN, SIZE, id="x").html.count('class="window"') == 2
    assert volumes(CHAIN[0], SIZE, id="x").html.count('class="window"') == 1
    assert volumes(layer_table(CHAIN, SIZE), id="x").html.count('class="window"') == 0


@pytest.mark.parametrize(
    ("layer", "height", "width"),
    [
        (nn.Conv2d(3, 8, (3, 5)), 3, 5),
        (nn.Conv2d(3, 8, 3, dilation=3), 7, 7),
        (nn.Conv2d(3, 8, (3, 5), dilation=(4, 2)), 9, 9),
        (nn.MaxPool2d(2, dilation=5), 6, 6),
        (nn.MaxPool2d((2, 3), dilation=(3, 1)), 4, 3),
        (nn.AvgPool2d(4), 4, 4),
    ],
    ids=repr,
)
def test_windows_are_as_large_as_what_a_unit_spans(layer, height, width):
    html = volumes(nn.Sequential(layer), SIZE, id="x").html
    (path,) = [path for path in svg_of(html).iter("path") if path.get("class") == "window"]
    left, _, right, top, _, bottom, *_ = (float(n) for n in re.findall(r"-?[\d.]+", path.get("d")))
    (map_width, _), *_ = extents(html, "side")
    (_, map_height), *_ = extents(html, "front")
    assert (right - left) / map_width == pytest.approx(width / 16, abs=0.005)
    assert (bottom - top) / map_height == pytest.approx(height / 16, abs=0.005)


def test_alexnet_is_the_classic_picture():
    words = repr(volumes(create("alexnet"), (3, 227, 227), id="x"))
    assert words == (
        "The feature maps of AlexNet: input 3×227×227, conv1 96×55×55, pool1 96×27×27, conv2 256×27×27, "
        "pool2 256×13×13, conv3 384×13×13, conv4 384×13×13, conv5 256×13×13, pool5 256×6×6, "
        "fc6 4096, fc7 4096, fc8 1000."
    )


def test_outputs_that_are_neither_maps_nor_vectors_are_left_out():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(36, 5), nn.Flatten(), nn.Linear(40, 10))
    assert repr(volumes(net, (3, 8, 8), id="x")).endswith(": input 3×8×8, 0 8×6×6, 4 10.")


def test_nothing_to_draw_is_said():
    with pytest.raises(NothingToDraw, match="input_size"):
        volumes(CHAIN, id="x")
    with pytest.raises(NothingToDraw, match="no feature maps"):
        volumes(nn.Linear(4, 2), (4,), id="x")
