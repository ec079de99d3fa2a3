"""The figures of channel weights show what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import channel_spread, channels_by_class, describe
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.measure import ChannelWeights


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()  # an open figure would be shown a second time


@pytest.fixture
def block():
    """Two classes, three channels; the classes differ by 0.2 in one channel."""
    return ChannelWeights("se", torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.5, 0.9]]), torch.tensor([0.1, 0.1, 0.1]))


def test_pictures_are_the_mean_weights_on_one_scale(block):
    other = ChannelWeights("se", block.by_class / 2, block.within)
    figure = channels_by_class({"first": block, "last": other}, ["cat", "dog"])
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes[:2]
    assert np.allclose(left.images[0].get_array(), block.by_class)
    assert left.images[0].get_clim() == right.images[0].get_clim() == pytest.approx((0.05, 0.9))
    assert [text.get_text() for text in left.get_yticklabels()] == ["cat", "dog"]
    assert "first: mean 0.53, standard deviation 0.287 over channels and 0.058 over classes" in describe(figure)


def test_lines_are_the_spreads_by_depth(block):
    flat = ChannelWeights("se", torch.full((2, 3), 0.5), block.within)
    figure = channel_spread({"trained": [flat, block], "chance": [flat, flat]})
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    assert list(left.lines[0].get_ydata()) == pytest.approx([0, block.between_classes])
    assert list(right.lines[0].get_ydata()) == pytest.approx([0, 100 * block.class_share])
    assert list(left.lines[1].get_ydata()) == [0, 0]
    assert left.lines[0].get_linestyle() != left.lines[1].get_linestyle()
    assert "trained: from 0.000 in the first block to 0.058 in the last" in describe(figure)


def test_nothing_to_draw_is_explained(block):
    with pytest.raises(NothingToDraw, match="a row for each of the 3 classes"):
        channels_by_class({"first": block}, ["cat", "dog", "frog"])
    with pytest.raises(NothingToDraw, match="at least one network"):
        channel_spread({})
