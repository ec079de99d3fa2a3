"""The figures of heads and projections show what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, feature_maps, head_gradients, variance_kept
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.measure import HeadGradient, Projection


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()  # an open figure would be shown a second time


def run(main):
    return [HeadGradient("stem", main, 3 * main, 0.0), HeadGradient("to.inception3a", main, 0.0, 0.0)]


def test_gradients_are_means_and_ranges_over_the_networks():
    figure = head_gradients({"net": [run(1.0), run(4.0)]}, heads_after=["stem"])
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    with_heads, without = axes.lines[:2]
    assert list(without.get_ydata()) == pytest.approx([2, 2])  # geometric mean of 1 and 4
    assert with_heads.get_ydata()[0] == pytest.approx(2 * np.sqrt(10))
    bands = [np.unique(band.get_paths()[0].vertices[:, 1]) for band in axes.collections]
    assert bands[1] == pytest.approx([1, 4])
    assert axes.lines[2].get_xdata()[0] == 0.5
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stem", "3a"]
    assert "3.2 times as large in stem, 1.0 times in 3a" in describe(figure)


def test_gradients_that_cannot_be_drawn():
    for measured in ({}, {"net": []}):
        with pytest.raises(NothingToDraw):
            head_gradients(measured)
    with pytest.raises(NothingToDraw, match="different parts"):
        head_gradients({"net": [run(1.0), run(1.0)[:1]]})
    with pytest.raises(NothingToDraw, match="'net' has no part '4a'; choose from stem, 3a"):
        head_gradients({"net": [run(1.0)]}, heads_after=["4a"])


def test_each_map_is_scaled_by_itself():
    group = torch.stack([torch.arange(6.0).view(2, 3), 100 + torch.arange(6.0).view(2, 3), torch.zeros(2, 3)])
    figure = feature_maps({"three": group}, columns=2)
    FigureCanvasAgg(figure).draw()
    sheet = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert sheet.shape == (5, 7)
    assert np.allclose(sheet[:2, :3], np.arange(6).reshape(2, 3) / 5)
    assert np.allclose(sheet[:2, :3], sheet[:2, 4:])
    assert np.isnan(sheet[3:, 4:]).all()
    assert (sheet[3:, :3] == 0).all()
    assert "three: 3 maps" in describe(figure)


def test_maps_that_cannot_be_shown():
    for maps in ({}, {"batch": torch.zeros(1, 2, 3, 3)}):
        with pytest.raises(NothingToDraw, match="feature_maps needs maps"):
            feature_maps(maps)


def test_shares_stand_where_they_were_measured():
    figure = variance_kept({"a": Projection(8, 2, 0.5, 0.9, 0.4), "b": Projection(8, 4, 0.7, 1.0, 0.6)})
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    shares = {line.get_label(): list(line.get_xdata()) for line in axes.lines if not line.get_label().startswith("_")}
    assert shares == {
        "principal components": [0.9, 1.0],
        "the convolution": [0.5, 0.7],
        "random directions": [0.4, 0.6],
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a: 8 to 2", "b: 8 to 4"]
    assert "principal components 95%, the convolution 60%, random directions 50%" in describe(figure)
    with pytest.raises(NothingToDraw):
        variance_kept({})


@pytest.mark.parametrize("columns", [0, 1.5])
def test_columns_are_counted(columns):
    with pytest.raises(NothingToDraw, match="columns must be"):
        feature_maps({"a": torch.zeros(2, 3, 3)}, columns=columns)
