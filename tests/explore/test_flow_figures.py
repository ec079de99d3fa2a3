"""The figures of signal and gradient show what was measured."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, flow_by_block, flow_by_depth
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.measure import BlockFlow


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()


def flow(*rows):
    return tuple(BlockFlow(f"stages.{i}", *row) for i, row in enumerate(rows))


KEPT = flow((1.0, 6.0, 2.0), (1.5, 3.0, 2.0), (2.0, 2.0, 2.0))
LOST = flow((1.0, 8.0, 0.0), (1.0, 4.0, 0.0), (1.0, 2.0, 2.0))


def test_blocks_are_relative_to_the_last():
    figure = flow_by_block({"kept": KEPT, "lost": LOST}, title="two nets")
    FigureCanvasAgg(figure).draw()
    signal, gradient, shortcut = figure.axes
    assert [list(line.get_ydata()) for line in signal.lines] == [[1, 1.5, 2], [1, 1, 1]]
    assert [list(line.get_ydata()) for line in gradient.lines] == [[3, 1.5, 1], [4, 2, 1]]
    assert [list(line.get_ydata()) for line in shortcut.lines] == [[1, 1, 1], [1]]  # zeros have no logarithm
    assert list(shortcut.lines[1].get_xdata()) == [3]
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kept", "lost"]
    styles = [(line.get_linestyle(), line.get_marker()) for line in signal.lines]
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] != styles[1][1]
    assert "kept: signal 1 after the first block and 2 after the last" in describe(figure)
    assert "gradient at the first 4 times that at the last, by shortcuts alone 0 times" in describe(figure)


def test_depths_are_in_order_and_compare_first_and_last():
    figure = flow_by_depth({"net": {20: LOST, 8: KEPT}})
    FigureCanvasAgg(figure).draw()
    signal, gradient, shortcut = (axes.lines[0] for axes in figure.axes)
    assert list(signal.get_xdata()) == [8, 20]
    assert list(signal.get_ydata()) == [2, 1]
    assert list(gradient.get_ydata()) == [3, 4]
    assert (list(shortcut.get_xdata()), list(shortcut.get_ydata())) == ([8], [1])
    assert "net at 20 layers: signal 1, gradient at the first block 4 times" in describe(figure)


@pytest.mark.parametrize("draw", [flow_by_block, flow_by_depth])
@pytest.mark.parametrize("flows", [{}, {"net": {}}])
def test_nothing_to_draw(draw, flows):
    with pytest.raises(NothingToDraw, match="at least one network with blocks"):
        draw(flows)
