"""The figure of the released EfficientNets, and of the compute to AlexNet's accuracy."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, efficiency_timeline, scaling_factors
from cnnlib.explore.scaling import implied_phi
from cnnlib.models.efficientnet import RELEASED, compound_scaling
from cnnlib.studies.efficiency import ALEXNET_LEVEL


@pytest.mark.parametrize("phi", [0.0, 1.0, 3.5])
def test_a_net_that_follows_the_rule_has_one_phi(phi):
    assert list(implied_phi(compound_scaling(phi)).values()) == pytest.approx([phi] * 3)


def test_the_released_nets_do_not():
    for name, scaling in RELEASED.items():
        values = implied_phi(scaling).values()
        assert (max(values) - min(values) < 0.05) == (name == "b0")


def test_four_lines_over_eight_nets():
    figure = scaling_factors()
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert [label.split()[0] for label in lines] == ["depth", "width", "resolution", "multiply-adds"]
    assert all(len(values) == 8 and values[0] == 0 for values in lines.values())
    assert [round(values[-1], 1) for values in lines.values()] == [6.2, 7.3, 7.0, 6.6]
    assert "width: 0.0, 0.0, 1.0" in describe(figure)


def test_the_compute_year_by_year():
    figure = efficiency_timeline()
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    points, _, moore = axes.lines
    assert list(points.get_ydata()) == [point.compute for point in ALEXNET_LEVEL]
    assert points.get_xdata()[0] == pytest.approx(2012.416, abs=0.01)
    assert moore.get_ydata()[-1] == pytest.approx(3.1 / 11.3, rel=0.01)
    assert [text.get_text() for text in axes.texts][-1] == "EfficientNet-B0: 0.069"
    assert "May 2019 EfficientNet-B0 0.069. Moore's law alone would have come to 0.28." in describe(figure)
