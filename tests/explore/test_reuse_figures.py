"""Figures of dense connections."""

from types import SimpleNamespace

import pytest

from cnnlib.explore import describe, feature_reuse, memory_by_depth
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies import Probed, find_study, load_records


def record(scale=1.0):
    def block(values):
        return {"block": 1, "weights": values, "with_gain": [[2 * v for v in row] for row in values]}

    before, after = [[0.5], [0.5, 0.5]], [[0.4 * scale], [0.1 * scale, 0.3 * scale]]
    return SimpleNamespace(probe=Probed({"sources": [block(before)]}, {"sources": [block(after)]}))


def squares(figure, panel):
    (collection,) = figure.axes[panel].collections
    return [path.get_extents() for path in collection.get_paths()]


def test_areas_are_in_proportion_to_the_weights():
    figure = feature_reuse([record()])
    assert len(figure.axes) == 2
    first, entrance, newest = (box.width * box.height for box in squares(figure, 1))
    assert first == pytest.approx(newest)  # the strongest of its reader
    assert newest / entrance == pytest.approx(3)


def test_a_square_stands_at_its_reader_and_source():
    boxes = squares(feature_reuse([record()]), 1)
    centres = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes]
    assert centres == [pytest.approx(place) for place in ((1, 0), (2, 0), (2, 1))]


def test_seeds_are_averaged_and_told():
    text = describe(feature_reuse([record(), record(3.0)]))
    assert "2 trainings" in text
    assert "3.0 times as strongly" in text
    assert "0.200 to 0.800" in text
    assert "0.400 to 1.600" in describe(feature_reuse([record(), record(3.0)], kind="with_gain"))


def test_what_cannot_be_drawn_is_refused():
    other = SimpleNamespace(probe=Probed({"sources": []}, {"sources": []}))
    for records, kind in (([other], "weights"), ([SimpleNamespace(probe=None)], "weights"), ([record()], "sizes")):
        with pytest.raises(NothingToDraw, match="records of a DenseNet"):
            feature_reuse(records, kind=kind)
    with pytest.raises(NothingToDraw, match="two depths"):
        memory_by_depth({"x": {1: 1}}, title="")


def test_many_lines_begin_again_with_the_first_colour():
    (axes,) = memory_by_depth({name: {10: 1, 20: 2} for name in "abcdef"}, title="Memory").axes
    assert axes.lines[5].get_color() == axes.lines[0].get_color()


def test_every_tick_has_a_number_and_no_two_are_close():
    (axes,) = memory_by_depth({"a": {10: 1, 20: 2, 22: 3}, "b": {40: 1, 100: 2}}, title="Memory").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "20", "40", "100"]


def test_memory_is_drawn_in_megabytes():
    figure = memory_by_depth({"a": {10: 1_000_000, 20: 4_000_000}, "b": {10: 500_000, 20: 1_000_000}}, title="Memory")
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 4.0], [0.5, 1.0]]
    assert "a 1.0 MB at 10 layers, 4.0 MB at 20 layers" in describe(figure)


def test_the_probe_of_another_study_is_refused():
    with pytest.raises(NothingToDraw, match="records of a DenseNet"):
        feature_reuse(load_records(find_study("degradation"), "short"))
