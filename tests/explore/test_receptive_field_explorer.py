"""The receptive-field explorer: its numbers are those of graphs and gradients, its page answers as Python says."""

import json
import random
import re

import pytest
import torch
from torch import nn

from cnnlib import measure
from cnnlib.explore import receptive
from cnnlib.explore.receptive import MOST_LAYERS, RANGES, SIZES, STACKS, NoSuchStack, Stack, networks, receptive_field
from cnnlib.models import create

NETS = ("AlexNet", "VGG-16", "ResNet-50 v1", "ResNet-50 v1.5")


def some_stacks(count: int) -> list[Stack]:
    """Stacks of every number of layers, more of small windows than of large ones, so that many of them fit."""
    chance = random.Random(0)
    stacks = [Stack(*stack) for stack in STACKS.values()]
    while len(stacks) < count:
        layers = tuple(
            tuple(min(chance.choice(values), chance.choice(values)) for values in RANGES.values())
            for _ in range(1 + len(stacks) % MOST_LAYERS)
        )
        stacks.append(Stack(chance.choice(SIZES), layers))
    return stacks


def modules(stack: Stack) -> list[nn.Conv2d]:
    convs = [nn.Conv2d(1, 1, k, s, p, d, bias=False) for k, s, p, d in stack.layers]
    for conv in convs:
        nn.init.ones_(conv.weight)
    return convs


def test_numbers_of_a_stack_are_those_of_the_graph():
    fitting = [stack for stack in some_stacks(70) if not stack.failed]
    assert len(fitting) > 20
    for stack in fitting:
        graph = measure.receptive_field(nn.Sequential(*modules(stack)), (1, stack.size, stack.size))
        by_graph = [(row.output[0], row.size, row.stride, row.start) for row in graph.rows]
        assert [tuple(vars(row).values()) for row in stack.rows] == by_graph, stack


def test_layer_that_does_not_fit_is_the_one_that_pytorch_refuses():
    broken = [stack for stack in some_stacks(100) if stack.failed]
    assert len(broken) > 20
    for stack in broken:
        maps = torch.zeros(1, 1, stack.size, stack.size)
        convs = modules(stack)
        for conv in convs[: stack.failed - 1]:
            maps = conv(maps)
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            convs[stack.failed - 1](maps)


def test_paths_are_the_gradient_of_a_net_of_ones():
    checked = 0
    for stack in some_stacks(100):
        if stack.failed:
            continue
        image = torch.zeros(1, 1, stack.size, dtype=torch.double, requires_grad=True)
        maps = image
        for layer, (k, s, p, d) in enumerate(stack.layers, 1):
            maps = nn.functional.conv1d(maps, torch.ones(1, 1, k, dtype=torch.double), None, s, p, d)
            for unit in {0, maps.shape[-1] // 2, maps.shape[-1] - 1}:
                (gradient,) = torch.autograd.grad(maps[0, 0, unit], image, retain_graph=True)
                paths = stack.paths(layer, unit)[0]
                assert [paths.get(pixel, 0) for pixel in range(stack.size)] == gradient[0, 0].tolist(), stack
                first, last = receptive._field(stack.rows[layer], unit)
                assert all(first <= pixel <= last for pixel in paths)
                checked += 1
    assert checked > 200


def test_three_3x3_see_what_one_7x7_sees():
    one, three = (Stack(*STACKS[name]) for name in ("One 7×7", "Three 3×3"))
    assert one.rows[-1] == three.rows[-1]
    assert list(one.paths(1, 4)[0].values()) == [1] * 7
    assert [count for _, count in sorted(three.paths(3, 4)[0].items())] == [1, 3, 6, 7, 6, 3, 1]


def test_miniature_blocks_show_the_difference_of_the_versions():
    in_1x1, in_3x3 = (Stack(*STACKS[f"Stride in the {where}"]).rows[-1] for where in ("1×1", "3×3"))
    assert (in_1x1.r, in_3x3.r) == (7, 5)
    assert (in_1x1.n, in_1x1.j) == (in_3x3.n, in_3x3.j) == (8, 2)


def test_example_of_the_error_state_is_one_and_no_other():
    assert [name for name, stack in STACKS.items() if Stack(*stack).failed] == ["Too small"]


@pytest.mark.parametrize(
    ("label", "name", "size", "field"),
    [
        ("AlexNet", "alexnet", 227, 195),
        ("VGG-16", "vgg16", 224, 212),
        ("ResNet-50 v1", "resnet50", 224, 483),
        ("ResNet-50 v1.5", "resnet50-v1.5", 224, 427),
    ],
)
def test_rows_of_a_network_are_those_of_its_graph_and_obey_the_recurrence(label, name, size, field):
    rows = [one.row for one in networks()[label]]
    windows = tuple(one.window for one in networks()[label][1:])
    with torch.device("meta"):
        final = measure.receptive_field(create(name), (3, size, size)).final
    assert (rows[-1].n, rows[-1].r, rows[-1].j, rows[-1].start) == (final.output[0], field, final.stride, final.start)
    assert final.size == field
    assert tuple(rows) == Stack(size, windows).rows


def test_names_are_those_of_the_papers():
    names = {label: [one.name for one in net] for label, net in networks().items()}
    assert names["VGG-16"][:4] == ["image", "conv1_1", "conv1_2", "pool1"]
    assert names["ResNet-50 v1"] == names["ResNet-50 v1.5"]
    assert names["ResNet-50 v1"][:4] == ["image", "conv1", "pool1", "conv2_1b"]
    assert [names["ResNet-50 v1"][i] for i in receptive._marked()] == ["conv3_1b", "conv4_1b", "conv5_1b"]


def test_notes_say_why_published_tables_differ():
    notes = receptive.notes()
    assert "Published tables say 483" in notes["ResNet-50 v1"]
    assert "these three add 16 + 32 + 64" in notes["ResNet-50 v1"]
    assert notes["ResNet-50 v1.5"].endswith("483 − (8 + 16 + 32) = 427.")
    assert 483 - (8 + 16 + 32) == 427
    assert notes["VGG-16"].startswith("A unit of pool5 sees 212 of 224 pixels a side. 196 of these come after pool2")


def test_first_frame_stands_without_script():
    html = re.sub(r"<script.*?</script>", "", receptive_field().html)
    assert "Each sees 7 pixels, and neighbours are 1 apart." in html
    assert "Unit 4 of layer 3 sees pixels 4 to 10" in html
    for name in ("cone", "lit", "chosen", "count", "field"):
        assert re.search(rf'<path class="{name}" d="M', html)


def test_formula_shows_symbols_and_numbers():
    html = receptive_field(start=Stack(16, ((3, 2, 1, 1), (5, 1, 0, 2)))).html
    lines = re.findall(r"<div>(<span><i.*?)</div>", html)
    assert [re.sub(r"<[^>]+>", "", line) for line in lines] == [
        "rl = rl−1 + d·(k − 1)·jl−1= 3 + 2·(5 − 1)·2 = 19",
        "jl = jl−1·s= 2·1 = 2",
        "startl = startl−1 + (d·(k − 1)/2 − p)·jl−1= 0 + (2·(5 − 1)/2 − 0)·2 = 8",
        "nl = ⌊(nl−1 + 2·p − d·(k − 1) − 1)/s⌋ + 1= ⌊(8 + 2·0 − 2·(5 − 1) − 1)/1⌋ + 1 = none",
    ]


def test_layer_that_does_not_fit_is_an_error_state():
    shown = receptive_field(start="Too small")
    assert "Layer 3 does not fit. Its window spans 3, but the row below has only 2" in repr(shown)
    assert 'class="outcome error"' in shown.html
    assert re.search(r'<path class="window" d="M', shown.html)
    assert not re.search(r'<path class="lit" d="M', shown.html)


def test_caption_counts_what_lies_outside_and_between():
    stack = Stack(9, ((3, 1, 1, 1), (3, 1, 1, 1)))
    assert receptive._position(stack, 2, 0) == (
        "Unit 0 of layer 2 sees pixels −2 to 2, counted from 0. 2 of these are outside the image. "
        "From 1 to 2 paths lead to a pixel (bars)."
    )
    assert "It reads 3 of them; no path leads to the rest." in receptive._position(Stack(9, ((3, 1, 0, 3),)), 1, 1)
    # A stride may leave the last pixel unread, too: here pixel 7, beside the padding of the second layer.
    left_over = receptive._position(Stack(8, ((3, 2, 0, 1), (3, 1, 1, 1))), 2, 2)
    assert "sees pixels 2 to 8, counted from 0. One of these is outside the image. It reads 5 of them" in left_over
    assert "nothing but padding" in receptive._position(Stack(9, ((1, 1, 2, 1),)), 1, 0)
    assert "The last layer has one unit. It sees 9 pixels." in repr(receptive_field(start=Stack(9, ((5, 1, 0, 2),))))
    assert "9 units. Each sees one pixel, and neighbours are 1 apart." in repr(
        receptive_field(start=Stack(9, ((1, 1, 0, 1),)))
    )
    assert receptive._result(Stack(9, ((1, 9, 0, 1),))) == "The last layer has one unit. It sees one pixel."


def test_picture_holds_the_whole_window_that_does_not_fit():
    stack = Stack(24, ((7, 1, 3, 4),) * 6)
    left, width = receptive._bounds(stack)
    below, (kernel, _, padding, dilation) = stack.rows[stack.failed - 1], stack.layers[stack.failed - 1]
    assert left < below.centre(-padding)
    assert left + width > below.centre(dilation * (kernel - 1) - padding) > 23 + receptive.MARGIN


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("ResNet-51", "no example 'ResNet-51'; choose from One 7×7"),
        (Stack(40, ((3, 1, 1, 1),)), "inputs of 5 to 24 pixels, not 40"),
        (Stack(9, ()), "1 to 6 layers, not 0"),
        (Stack(9, ((3, 1, 1, 1), (9, 1, 1, 1))), "layer 2 has a kernel of 9; choose from 1 to 7"),
        (Stack(15, ((3, 1, 0),)), "layer 1 has 3 numbers; give kernel, stride, padding, dilation"),
        (Stack(15, ((3.0, 1, 0, 1),)), r"kernel must be a whole number, not 3\.0"),
        (Stack("15", ((3, 1, 0, 1),)), "size must be a whole number, not '15'"),
        ((15, (3, 1, 0, 1)), r"layers must hold a tuple of kernel, stride, .* not \(3, 1, 0, 1\)"),
        ((15,), r"\(15,\) is no stack; give size and layers"),
        (None, "None is no stack"),
    ],
)
def test_stack_that_the_sliders_cannot_set_is_refused(start, message):
    with pytest.raises(NoSuchStack, match=message):
        receptive_field(start=start)


def test_a_stack_may_come_as_a_pair_or_in_lists():
    expected = receptive_field(start="Three 3×3").html
    assert receptive_field(start=STACKS["Three 3×3"]).html == expected
    assert receptive_field(start=Stack(15, [[3, 1, 0, 1]] * 3)).html == expected
    with pytest.raises(NoSuchStack, match="layers must hold"):
        Stack(15, (3, 1, 0, 1))


@pytest.mark.parametrize("start", [*STACKS, *NETS])
def test_output_is_small_and_self_contained(start):
    html = receptive_field("a", start).html
    assert html == receptive_field("a", start).html
    assert len(html.encode()) < 40_000
    assert not re.search(r"(src|href)=|https?://|@import", html)
    assert re.findall(r'aria-pressed="true">([^<]+)<', html) == [start]
    assert len(re.findall(r"<label[^>]*>.*?<input type=\"range\"[^>]*></label>", html)) == 5


def test_embedded_networks_are_the_rows():
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', receptive_field().html)[1])
    for label, net in networks().items():
        assert [row[:5] for row in data["nets"][label]] == [[one.name, *one.window] for one in net]
        assert [row[5:] for row in data["nets"][label]] == [list(vars(one.row).values()) for one in net]


# ---- in the browser --------------------------------------------------------------------------------------------------

# Every stack by its sliders and buttons, and what the page then says and draws for one unit of one layer.
BUILD = """(stacks) => {
  const root = document.querySelector("figure.cnn-field");
  const find = (query) => root.querySelector(query);
  const set = (name, value) => {
    const slider = find(`input[name=${name}]`);
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  };
  return stacks.map(([size, layers, layer, unit]) => {
    for (let i = 0; i < 6; i++) find("[data-edit=remove]").click();
    set("size", size);
    layers.forEach((values, i) => {
      if (i) find("[data-edit=add]").click();
      ["kernel", "stride", "padding", "dilation"].forEach((name, at) => set(name, values[at]));
    });
    for (let i = layers.length; i > layer; i--) find("[data-move=down]").click();
    for (let before; before !== find(".position").textContent;) {
      before = find(".position").textContent;
      find("[data-move=left]").click();
    }
    for (let i = 0; i < unit; i++) find("[data-move=right]").click();
    return {
      said: [".outcome", ".position"].map((query) => find(query).textContent),
      values: [...root.querySelectorAll("[data-value]")].map((element) => element.textContent),
      drawn: find(".stage svg").outerHTML,
      side: [".labels", ".values"].map((query) => find(query).innerHTML),
    };
  });
}"""


@pytest.fixture
def explorer(open_page):
    return open_page(receptive_field("rf").html)


def in_numbers(svg: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.?\d+", svg)]


@pytest.mark.browser
def test_page_agrees_with_python_for_many_stacks(explorer):
    chance = random.Random(1)
    asked = []
    for stack in some_stacks(40):
        layer = chance.randint(1, len(stack.layers))
        asked.append((stack, layer, chance.randrange(max(1, stack.rows[layer].n))))
    pages = explorer.evaluate(BUILD, [[stack.size, stack.layers, layer, unit] for stack, layer, unit in asked])
    for (stack, layer, unit), page in zip(asked, pages, strict=True):
        view = receptive._stack_view(stack, layer, unit)
        assert page["said"] == [view.outcome, view.position], (stack, layer, unit)
        numbers = re.findall(r'data-value="\w+">([^<]+)<', receptive._formula(view))
        assert page["values"] == numbers, (stack, layer, unit)
        drawn = re.search(r"<svg.*</svg>", receptive._stage(view))[0]
        page_drawn = page["drawn"].replace("></path>", "/>")
        assert re.sub(r"[-\d.]+", "", page_drawn) == re.sub(r"[-\d.]+", "", drawn), (stack, layer, unit)
        assert in_numbers(page_drawn) == pytest.approx(in_numbers(drawn), abs=0.011), (stack, layer, unit)
        assert page["side"] == list(receptive._side(view)), (stack, layer, unit)


@pytest.mark.browser
@pytest.mark.parametrize("start", ["VGG, first layers", "Too small", "ResNet-50 v1.5", "AlexNet"])
def test_first_frame_does_not_change_when_the_script_starts(open_page, start):
    html = receptive_field(start=start).html
    live, still = open_page(html), open_page(html, java_script_enabled=False)
    for query in (".stage", ".formula", "figcaption", ".controls", ".legend", "figure > .cnn-row >> nth=2"):
        assert live.locator(query).inner_html() == still.locator(query).inner_html(), query


@pytest.mark.browser
def test_networks_are_shown_as_python_draws_them_and_walked_by_keys(explorer):
    for label in NETS:
        explorer.get_by_role("button", name=label, exact=True).click()
        explorer.locator(".stage svg").focus()
        explorer.keyboard.press("ArrowDown")
        explorer.keyboard.press("ArrowRight")
        view = receptive._net_view(label, len(networks()[label]) - 2)
        assert explorer.locator("figcaption").text_content() == f"{view.outcome} {view.position}"
        assert (
            explorer.locator(".stage g").inner_html().replace("></path>", "/>")
            == re.search(r"<g>(.*)</g>", receptive._stage(view))[1]
        )
        assert not explorer.locator(".controls").is_visible()
    explorer.get_by_role("button", name="One 7×7").click()
    assert explorer.locator(".controls").is_visible()
    assert explorer.locator(".position").text_content().startswith("Unit 4 of layer 1 sees pixels 4 to 10")


@pytest.mark.browser
def test_arrow_keys_walk_the_units_and_layers(explorer):
    explorer.locator(".stage svg").focus()
    for key in ("ArrowLeft", "ArrowDown", "ArrowDown", "ArrowDown"):
        explorer.keyboard.press(key)
    assert explorer.locator(".position").text_content().startswith("Unit 5 of layer 1 sees pixels 5 to 7")
    assert explorer.locator(".which").text_content() == "Input, and window of Layer 1"
    explorer.get_by_role("slider", name="Kernel k").focus()
    explorer.keyboard.press("ArrowRight")
    assert "Each sees 8 pixels" in explorer.locator(".outcome").text_content()


@pytest.mark.browser
def test_layers_are_added_up_to_six_and_removed_down_to_one(explorer):
    add, remove = (explorer.get_by_role("button", name=name) for name in ("Add a layer", "Remove the chosen layer"))
    for button, count, side in ((add, 6, "Layer 6"), (remove, 1, "Layer 1")):
        for _ in range(7):
            button.dispatch_event("click")  # a click would wait for a button that is not disabled
        assert explorer.locator(".labels b").count() == 1 + count
        assert explorer.locator(".on b").first.text_content() == side
        assert button.get_attribute("aria-disabled") == "true"
    assert add.get_attribute("aria-disabled") == "false"


@pytest.mark.browser
def test_mouse_shows_a_unit_without_choosing_its_layer_and_a_click_chooses(explorer):
    box = explorer.locator(".stage svg").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 1.5 * box["height"] / 4.9
    explorer.mouse.move(x, y)
    assert explorer.locator(".position").text_content().startswith("Unit 5 of layer 2 sees pixels 5 to 9")
    assert explorer.locator(".which").text_content() == "Input, and window of Layer 3"
    explorer.mouse.move(0, 0)
    assert explorer.locator(".position").text_content().startswith("Unit 4 of layer 3")
    explorer.mouse.click(x, y)
    assert explorer.locator(".which").text_content() == "Input, and window of Layer 2"


@pytest.mark.browser
def test_touch_chooses_on_a_phone_where_nothing_overflows(open_page):
    tab = open_page(receptive_field().html + receptive_field("b", "ResNet-50 v1").html, width=390, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for control in tab.locator("button:visible, input:visible").all():
        assert min(control.bounding_box()["height"], control.bounding_box()["width"]) >= 44
    svg = tab.locator(".stage svg").first
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    tab.touchscreen.tap(box["x"] + 2, box["y"] + 0.5 * box["height"] / 4.9)
    assert tab.locator(".position").first.text_content().startswith("Unit 0 of layer 3 sees pixels 0 to 6")


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme):
    from axe_playwright_python.sync_playwright import Axe

    starts = ("VGG, first layers", "Too small", "ResNet-50 v1.5")
    tab = open_page("".join(receptive_field(f"rf-{i}", start).html for i, start in enumerate(starts)), theme=theme)
    report = Axe().run(tab)
    serious = [v["id"] for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, report.generate_report()
