"""The figures of the effective receptive field show what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from cnnlib import measure
from cnnlib.explore import describe, effective_fields, effective_growth
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.effective import growth_exponent


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()  # an open figure would be shown a second time


@pytest.fixture(scope="module")
def net():
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(4)))
    for conv in net:
        nn.init.constant_(conv.weight, 1 / 9)
    return net


@pytest.fixture(scope="module")
def measured(net):
    field = measure.effective_receptive_field(net, torch.ones(1, 1, 24, 24))
    return field, measure.receptive_field(net, (1, 24, 24)).final


def test_square_is_the_theoretical_field_and_holds_all_of_the_effective_one(measured):
    field, row = measured
    figure = effective_fields({"fresh": field, "trained": field}, row)
    FigureCanvasAgg(figure).draw()
    above, _, below, _ = figure.axes
    (square,) = above.patches
    assert (square.get_x(), square.get_y(), square.get_width()) == (12 - 4.5, 12 - 4.5, 9)
    seen = np.argwhere(field > 0)
    assert (seen.min(), seen.max()) == (8, 16)  # the pixels whose cells fill the square
    assert np.allclose(above.images[0].get_array(), field / field.max())
    profile, normal = below.lines[0].get_ydata(), below.lines[1].get_ydata()
    assert np.allclose(profile, field.sum(0))
    assert np.abs(profile - normal).max() < 0.02  # four boxes in a row are nearly normal
    assert f"fresh: effective size {measure.effective_size(field):.1f} pixels" in describe(figure)
    assert "standard deviation 1.6 pixels" in describe(figure)  # the square root of 4 · 2/3


@pytest.mark.parametrize(
    ("geometry", "size"),
    [
        ({"padding": 1}, (1, 9, 24)),
        ({"padding": 1}, (1, 24, 9)),
        ({"padding": (1, 0)}, (1, 12, 12)),
        ({"stride": (3, 1)}, (1, 12, 12)),
    ],
)
def test_square_holds_the_effective_field_where_height_and_width_differ(geometry, size):
    net = nn.Conv2d(1, 1, 3, **geometry)
    nn.init.ones_(net.weight)
    field = measure.effective_receptive_field(net, size, samples=1)
    figure = effective_fields({"box": field}, measure.receptive_field(net, size).final)
    FigureCanvasAgg(figure).draw()
    above, below = figure.axes
    (square,) = above.patches
    (top, left), (bottom, right) = np.argwhere(field)[[0, -1]]
    assert (square.get_x(), square.get_y()) == (left - 0.5, top - 0.5)
    assert (square.get_width(), square.get_height()) == (right - left + 1, bottom - top + 1)
    assert [line.get_xdata()[0] for line in below.lines[-2:]] == [left - 0.5, right + 0.5]
    assert above.get_xlim() == (-1.5, size[2] + 0.5)
    assert above.get_ylim() == (size[1] + 0.5, -1.5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_profile_lies_under_its_map(measured, count):
    field, row = measured
    figure = effective_fields({str(number): field for number in range(count)}, row)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes
    for above, below in zip(axes[:count], axes[count:], strict=True):
        ends = [[one.transData.transform((x, 0))[0] for x in one.get_xlim()] for one in (above, below)]
        assert ends[0] == pytest.approx(ends[1], abs=4)


def test_growth_of_stacked_boxes_is_a_square_root():
    sizes = {depth: 3 * depth**0.5 for depth in (2, 4, 8, 16)}
    figure = effective_growth({"uniform weights": sizes}, {depth: 2 * depth + 1 for depth in sizes})
    FigureCanvasAgg(figure).draw()
    theoretical, points, root = figure.axes[0].lines
    assert list(theoretical.get_ydata()) == [5, 9, 17, 33]
    assert list(points.get_ydata()) == list(sizes.values())
    assert root.get_ydata()[-1] == pytest.approx(12)
    assert "4.2 pixels at depth 2, 12.0 at 16, exponent 0.50" in describe(figure)
    assert growth_exponent({1: 2.0, 2: 4.0, 4: 8.0}) == pytest.approx(1)


def test_nothing_to_draw_is_refused(measured, net):
    with pytest.raises(NothingToDraw, match="at least one field"):
        effective_fields({}, measured[1])
    flat = measure.receptive_field(nn.Sequential(net, nn.Flatten()), (1, 24, 24)).rows[-1]
    with pytest.raises(NothingToDraw, match="no square receptive field"):
        effective_fields({"a": measured[0]}, flat)
    whole = measure.receptive_field(nn.Sequential(net, nn.InstanceNorm2d(1)), (1, 24, 24)).final
    with pytest.raises(NothingToDraw, match="no square receptive field"):
        effective_fields({"a": measured[0]}, whole)
    oblong = measure.receptive_field(nn.Conv2d(1, 1, (3, 5)), (1, 24, 24)).final
    with pytest.raises(NothingToDraw, match="no square receptive field"):
        effective_fields({"a": measured[0]}, oblong)
    with pytest.raises(NothingToDraw, match="at least two depths"):
        effective_growth({"a": {3: 1.0}}, {3: 7})
