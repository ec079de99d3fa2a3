"""The figures of chapter 5: their numbers are those of the records."""

import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import (
    arriving_gradients,
    describe,
    diagram,
    error_by_depth,
    error_gaps,
    gallery,
    resolution,
    smallest_difference,
)
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.models.resnet import ResidualBlock
from cnnlib.studies import differ, find_study, load_records, summarise


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()


def drawn(figure) -> str:
    """Draw it, since errors of the layout come only now, and return what it says of itself."""
    FigureCanvasAgg(figure).draw()
    return describe(figure)


def record(arm, train=10.0, test=30.0, gradients=(4.0, 2.0), budget="short", images=50_000):
    layers = ("stem.conv", "stages.0.0.shortcut.conv", "stages.0.0.f.conv1", "fc")
    first, last = gradients
    rows = [{"layer": layer, "gradient": g} for layer, g in zip(layers, (first, 77.0, last, 99.0), strict=True)]
    return SimpleNamespace(
        arm=arm,
        run=SimpleNamespace(
            train_error=train,
            test_error=test,
            budget=budget,
            data="CIFAR-10",
            train_images=images,
            test=SimpleNamespace(n=10_000),
        ),
        probe=SimpleNamespace(initial=rows, trained=[row | {"gradient": row["gradient"] / 10} for row in rows]),
    )


def test_gradients_are_those_of_the_convolutions_on_the_way():
    figure = arriving_gradients({"plain": [record("a", gradients=(1.0, 2.0)), record("a", gradients=(4.0, 2.0))]})
    words = drawn(figure)
    before, after = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert list(before) == pytest.approx([2.0, 2.0])  # the geometric mean of 1 and 4; neither shortcut nor classifier
    assert list(after) == pytest.approx([0.2, 0.2])
    assert "a initial: 2.0e+00 at the first layer, 1.0e+00 times the last" in words


def test_no_seed_is_lost_in_records_ordered_by_seed():
    records = [record("a", 10, 30, (1.0, 2.0)), record("b"), record("a", 20, 46, (4.0, 2.0)), record("b")]
    figure = arriving_gradients({"plain": records})
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([2.0, 2.0])
    gaps = error_gaps({"plain": records})
    assert [text.get_text() for text in gaps.axes[0].texts] == ["23.0 (2)", "20.0 (2)"]


def test_gradients_need_a_probe():
    blind = record("a")
    blind.probe = None
    for panels in ({}, {"plain": []}, {"plain": [record("a"), blind]}):
        with pytest.raises(NothingToDraw, match="probes the gradient"):
            arriving_gradients(panels)


def test_gaps_are_means_over_seeds():
    figure = error_gaps({"first": [record("a", 10, 30), record("a", 20, 46)], "empty": [], "second": [record("b")]})
    words = drawn(figure)
    assert "a: training 15.0, test 38.0, gap 23.0; b: training 10.0, test 30.0, gap 20.0" in words
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["first", "second"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["23.0 (2)", "20.0 (1)"]


def test_gaps_need_a_record():
    with pytest.raises(NothingToDraw):
        error_gaps({"empty": []})


def test_a_panel_without_records_is_left_out():
    figure = arriving_gradients({"first": [record("a")], "empty": [], "second": [record("b")]})
    drawn(figure)
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["first, before training", "second, before training"]
    assert len(figure.axes) == 4


@pytest.mark.parametrize("draw", [arriving_gradients, error_gaps])
def test_budgets_and_images_are_not_averaged(draw):
    short, medium = record("a"), record("a", budget="medium")
    drawn(draw({"short": [short], "medium": [medium]}))  # side by side they may stand
    with pytest.raises(NothingToDraw, match=r"2 budgets, short and medium; pass load_records\(study, 'short'\)"):
        draw({"both": [medium, short]})
    with pytest.raises(NothingToDraw, match=r"CIFAR-10 \(5,000 to train on, .*\) and CIFAR-10 \(50,000 to train on"):
        draw({"both": [short, record("a", images=5000)]})


@pytest.mark.parametrize("draw", [arriving_gradients, error_gaps])
def test_records_without_a_heading_are_refused(draw):
    with pytest.raises(NothingToDraw, match=f"{draw.__name__} needs records by heading"):
        draw([record("a")])


def test_depths_are_in_order_and_averaged():
    figure = error_by_depth({"CIFAR-10": {"plain": {56: [20.0], 20: [9.0, 11.0]}}, "ImageNet": {"deep": {18: [30.0]}}})
    words = drawn(figure)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [20, 56]
    assert list(line.get_ydata()) == [10.0, 20.0]
    assert "plain: 20 layers 10.00, 56 layers 20.00; deep: 18 layers 30.00" in words


def test_depths_need_a_line():
    with pytest.raises(NothingToDraw):
        error_by_depth({"empty": {}})


def test_intervals_touch_at_the_smallest_difference():
    values = [9.0, 10.0, 11.0]  # spread 1
    least = smallest_difference(3, 1.0)
    for factor, shown in ((0.999, False), (1.001, True)):
        assert differ(summarise(values), summarise([value + factor * least for value in values])) is shown


def test_resolution_says_which_effects_could_be_shown():
    figure = resolution(3, 0.1, {"small": 0.24, "large": 3.5})
    assert "differences above 0.50 can be shown" in drawn(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.24: could not be shown", "3.5: could be shown"]
    with pytest.raises(NothingToDraw, match="at least two seeds"):
        resolution(1, 0.1, {})


@pytest.mark.parametrize("seeds", [1, 0, -1])
def test_fewer_than_two_seeds_resolve_nothing(seeds):
    with pytest.raises(NothingToDraw, match=f"at least two seeds, not {seeds}"):
        smallest_difference(seeds, 0.5)


@pytest.mark.parametrize("seeds", [2.5, "3", None, True])
def test_seeds_are_counted(seeds):
    with pytest.raises(NothingToDraw, match="seeds must be a whole number"):
        smallest_difference(seeds, 0.5)


@pytest.mark.parametrize("spread", [-1, math.nan, math.inf, "1", None])
def test_a_spread_is_a_number_from_0_on(spread):
    for call in (smallest_difference, lambda *numbers: resolution(*numbers, {"a": 1})):
        with pytest.raises(NothingToDraw, match=f"spread must be a finite number of at least 0, not {spread!r}"):
            call(3, spread)


def test_numbers_of_numpy_resolve_as_well():
    assert smallest_difference(np.int64(3), np.float32(0.5)) == pytest.approx(smallest_difference(3, 0.5))
    assert smallest_difference(3, 0) == 0


def test_a_gallery_holds_its_drawings():
    drawings = [diagram(ResidualBlock(8, 8), (8, 4, 4), id=f"block-{n}", caption=f"number {n}") for n in range(2)]
    whole = gallery(drawings, id="both", caption="two blocks")
    assert all(drawing.html in whole.html for drawing in drawings)
    assert whole.text.count("addition") == 2
    assert "<figcaption>two blocks</figcaption>" in whole.html
    with pytest.raises(NothingToDraw):
        gallery([], id="none")


def test_a_difference_may_be_negative():
    figure = resolution(3, 0.2, {"lower": -5.0})
    assert any("5: could be shown" in text.get_text() for text in figure.axes[0].texts)
    assert figure.axes[0].get_xlim()[1] > 5
    plt.close(figure)


def test_records_of_another_probe_have_no_gradients():
    with pytest.raises(NothingToDraw, match="needs records of a study that probes the gradient"):
        arriving_gradients({"": load_records(find_study("lesions"), "short")})


@pytest.mark.parametrize("lines", [{}, {"x": {}}, {"x": {56: []}}])
def test_no_errors_are_no_lines(lines):
    with pytest.raises(NothingToDraw, match="at least one line, and at least one error at each of its depths"):
        error_by_depth({"a": lines})
