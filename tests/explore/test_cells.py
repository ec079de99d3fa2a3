"""The drawing of a searched cell says what its data says."""

import re
from xml.etree import ElementTree

import pytest

from cnnlib.explore import cell
from cnnlib.explore import cells as explore_cells
from cnnlib.models.amoebanet import AMOEBANET_A
from cnnlib.models.cells import Plan
from cnnlib.models.enas import ENAS_MICRO
from cnnlib.models.nasnet import NASNET_A

SMALL = Plan(nodes=((("sep3x3", "h"), ("identity", "h")), (("max3x3", 0), ("avg3x3", "h"))), concat=(0, 1))


def svg_of(shown) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", shown.html, flags=re.S)[0])


def cards(shown) -> list[tuple[str, str]]:
    """What is written on each card, and its longer form."""
    groups = [group for group in svg_of(shown).iter("g") if group.get("class") == "card"]
    return [(group.find("text").text, getattr(group.find("title"), "text", "")) for group in groups]


def test_a_cell_in_words():
    assert str(cell(SMALL, id="x", title="Small")) == (
        "Small: node 0 = 3×3 separable conv of h + identity of h; node 1 = 3×3 max pool of node 0 + 3×3 average pool "
        "of h; output = node 0 and node 1, concatenated; p is not used."
    )


def test_the_strided_steps_of_a_reduction_cell_are_marked():
    shown = cell(SMALL, id="x", stride=2)
    assert [text for text, _ in cards(shown) if text.endswith(", /2")] == ["sep 3×3, /2", "identity, /2", "avg 3×3, /2"]
    assert "3×3 max pool of node 0" in shown.text


@pytest.mark.parametrize("plan", [SMALL, *NASNET_A, *AMOEBANET_A, *ENAS_MICRO])
def test_every_step_node_and_line_is_drawn(plan):
    shown = cell(plan, id="x")
    steps = [step for node in plan.nodes for step in node]
    made = explore_cells._cards(plan, 1)
    starts = {f"node {card.title.split()[-1]}": index for index, card in enumerate(made) if card.kind == "add"}
    starts |= {"h": 0, "p": 1}
    for card in made:
        if card.modules:
            assert card.sources == [starts[card.modules[0].split(" of ")[1]]]
    drawn = [longer for _, longer in cards(shown) if longer]
    assert len(drawn) == len(steps)
    for (_, state), longer in zip(steps, drawn, strict=True):
        assert longer.endswith(f" of {state}" if isinstance(state, str) else f" of node {state}")
    assert [text for text, _ in cards(shown) if "node" in text] == [f"+ node {i}" for i in range(len(plan.nodes))]
    lines = [path for path in svg_of(shown).iter("path") if "head" not in path.get("class")]
    outputs = len(plan.concat) + 1 if len(plan.concat) > 1 else 1
    assert len(lines) == 2 * len(steps) + outputs  # to and from each step


def test_one_state_is_put_out_as_it_is():
    plan = Plan(nodes=((("sep3x3", "h"), ("sep3x3", "p")),), concat=(0,))
    shown = cell(plan, id="x")
    assert shown.text.endswith("output = node 0.")
    assert "concat" not in [text for text, _ in cards(shown)]


def test_the_drawing_has_title_caption_and_text_alternative():
    shown = cell(SMALL, id="small", title="A & B", caption="What was found")
    svg = svg_of(shown)
    assert svg.get("role") == "img"
    assert svg.find("title").text == "A & B"
    assert shown.text == f"A & B: {svg.find('desc').text}"
    assert "<figcaption>What was found</figcaption>" in shown.html
    assert 'id="small"' in shown.html


def test_an_operation_without_a_title_is_drawn_by_its_name():
    plan = Plan(nodes=((("dil3x3", "h"), ("identity", "p")),), concat=(0,))
    assert "dil3x3 of h" in cell(plan, id="x").text


def test_the_output_stands_below_what_is_put_out():
    """Long straight lines once let the rows of such a drawing drift apart."""
    plan = Plan(
        nodes=(
            (("avg3x3", "p"), ("sep5x5", "h")),
            (("sep3x3", "h"), ("max3x3", 0)),
            (("avg3x3", "p"), ("sep5x5", 0)),
        ),
        concat=(0, 1, 2),
    )
    groups = [group for group in svg_of(cell(plan, id="x")).iter("g") if group.get("class") == "card"]
    at = {group.find("text").text: float(group.find("text").get("x")) for group in groups}
    assert at["+ node 1"] < at["concat"] < at["+ node 2"]
    assert at["concat"] == at["output"]


def test_what_is_put_out_early_runs_beside_the_rest():
    lines = [path.get("class") for path in svg_of(cell(SMALL, id="x")).iter("path") if "head" not in path.get("class")]
    assert lines.count("skip") == 1  # node 0 is put out, and so is node 1, which reads it
