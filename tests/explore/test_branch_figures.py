"""Figures of pixels read, of orders of convergence and of joints show the numbers that they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.data import poses
from cnnlib.explore import convergence, describe, extent, joints, reach
from cnnlib.explore.boxes import NothingToDraw


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()  # an open figure would be shown a second time


@pytest.fixture
def field():
    """Nine taps, four pixels apart in height and three in width."""
    field = np.zeros((15, 15))
    field[3:12:4, 4:11:3] = 0.1
    return field


def test_extent_is_the_box_around_what_is_read(field):
    assert extent(field) == (9, 7)


def test_reach_counts_the_pixels_read(field):
    figure = reach({"taps": field, "one": np.eye(15) * (np.arange(15) == 7)}, title="Both")
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["taps\n9×7, reads 9", "one\n1×1, reads 1"]
    assert figure.axes[0].images[0].get_array().sum() == 9
    assert describe(figure) == ("Both. taps: field 9 by 7, reads 9 pixels; one: field 1 by 1, reads 1 pixels.")


def test_taps_of_a_wide_map_are_drawn_larger():
    wide = np.zeros((79, 79))
    wide[3, [2, 70]] = 1
    points = reach({"wide": wide}).axes[0].lines[0]
    assert sorted(points.get_xdata()) == [2, 70]
    assert set(points.get_ydata()) == {3}


def test_rows_are_filled_up_with_nothing(field):
    figure = reach(dict.fromkeys("abcde", field), columns=4)
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("fields", [{}, {"empty": np.zeros((3, 3))}])
def test_a_field_that_reads_nothing_is_refused(fields):
    with pytest.raises(NothingToDraw):
        reach(fields)


def test_convergence_tells_the_slope_of_each_line():
    figure = convergence({"first": {1.0: 0.5, 0.5: 0.25}, "second": {1.0: 0.5, 0.5: 0.125}})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first: slope 1.00", "second: slope 2.00"]
    assert list(axes.lines[1].get_ydata()) == [0.125, 0.5]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    assert "second: slope 2.00, from 5.0e-01 to 1.2e-01" in describe(figure)


@pytest.mark.parametrize("count", [0, 6])
def test_convergence_draws_as_many_lines_as_can_be_told_apart(count):
    with pytest.raises(NothingToDraw):
        convergence({str(number): {1.0: 0.5, 0.5: 0.25} for number in range(count)})


def test_joints_are_named_or_compared():
    figures = poses(3)
    named = joints(figures)
    texts = [text.get_text() for text in named.axes[0].texts]
    assert texts == ["H", "N", "P", "lh", "rh", "lf", "rf"]
    np.testing.assert_allclose(named.axes[2].lines[0].get_xydata(), figures.joints[2], rtol=1e-5)

    compared = joints(figures, figures.joints + 1, title="Off by one")
    crosses = compared.axes[1].lines[-1]
    assert crosses.get_marker() == "x"
    np.testing.assert_allclose(crosses.get_xydata(), figures.joints[1] + 1, rtol=1e-5)
    assert describe(compared) == "Off by one: 3 figures, a ring at each joint and a cross where it was found."


def test_positions_must_fit_the_figures():
    figures = poses(3)
    with pytest.raises(NothingToDraw, match="3 figures and positions for 2"):
        joints(figures, figures.joints[:2])


def test_a_field_that_reads_nothing_has_no_extent():
    with pytest.raises(NothingToDraw, match="this field reads nothing"):
        extent(np.zeros((3, 3)))


@pytest.mark.parametrize("columns", [0, 1.5])
def test_columns_are_counted(field, columns):
    with pytest.raises(NothingToDraw, match="columns must be"):
        reach({"a": field}, columns=columns)
    with pytest.raises(NothingToDraw, match="columns must be"):
        joints(poses(2), columns=columns)
