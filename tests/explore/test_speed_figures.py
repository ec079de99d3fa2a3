"""The figures of times show the ratios and rates of the records."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, roofline, speed_up
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies.speed import KINDS, LayerTime, Speed
from cnnlib.training.bench import Limits

WORK = {"dense 3x3": lambda C: 9 * C * C, "depthwise 3x3": lambda C: 9 * C, "pointwise 1x1": lambda C: C * C}


def speed(device="cpu", slow=1.0):
    """A device on which everything takes a second, but depthwise and separable convolutions ``slow`` of them."""
    rows = []
    for C in (32, 128):
        for batch in (1, 16):
            for kind in KINDS:
                work = WORK.get(kind, lambda C: 9 * C + C * C)(C) * batch
                seconds = slow if kind in ("depthwise 3x3", "separable") else 1.0
                rows.append(LayerTime(kind, C, batch, "forward", work, 4 * C * batch, (seconds,)))
    return Speed(f"NVIDIA {device} (fp32, eager)", device, Limits(1e9, 1e6), tuple(rows))


def test_ratios_are_those_of_the_times():
    figure = speed_up([speed(slow=0.5), speed("cuda", slow=2.0)])
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    promise, one, sixteen = left.lines[:3]
    assert list(promise.get_ydata()) == pytest.approx([9 * 32 / 41, 9 * 128 / 137])
    assert list(one.get_ydata()) == list(sixteen.get_ydata()) == [2.0, 2.0]
    assert list(right.lines[1].get_ydata()) == [0.5, 0.5]
    assert left.get_title(loc="left") == "cpu, fp32\nbatches of 1 and 16"
    for axes in (left, right):  # each device has its own batches
        assert [text.get_text() for text in axes.get_legend().texts] == [
            "multiply-adds",
            "time, batch 1",
            "time, batch 16",
        ]
    assert max(left.get_yticks()) >= 9 * 128 / 137
    assert "cuda (fp32, eager), batch 16: 0.5 at 32 maps, 0.5 at 128 maps" in describe(figure)


def test_layers_stand_under_the_roof():
    figure = roofline([speed()], batch_size=16)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    (roof,) = axes.lines
    assert roof.get_xdata()[1] == 1000
    assert list(roof.get_ydata())[1:] == [1.0, 1.0]
    dense = axes.collections[0].get_offsets()
    assert dense[0].tolist() == pytest.approx([2 * 9 * 32 / 4, 2 * 9 * 32 * 32 * 16 / 1e9])
    assert axes.get_title(loc="left") == "cpu, fp32, batch 16"
    assert "batch 16: dense 3x3" in describe(figure)
    assert "batch 16" in describe(roofline([speed()])), "the largest batch unless told otherwise"


@pytest.mark.parametrize("draw", [speed_up, roofline])
def test_nothing_to_draw(draw):
    with pytest.raises(NothingToDraw, match="python -m cnnlib speed"):
        draw([])
    with pytest.raises(NothingToDraw, match="has no times of 'foo'; recorded are 'forward' with batch 1, 'forward'"):
        draw([speed()], work="foo")


def test_a_roof_needs_a_recorded_batch():
    with pytest.raises(NothingToDraw, match="no times of 'forward' with batch 3; recorded are 'forward' with batch 1,"):
        roofline([speed()], batch_size=3)
