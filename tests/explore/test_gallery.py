"""The figure of neighbours shows the images it was given, where it says."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, neighbours
from cnnlib.explore.boxes import NothingToDraw

CLASSES = ("cat", "dog")
LABELS = torch.tensor([0, 1, 0, 1])
PICTURES = (50 * torch.arange(1, 5, dtype=torch.uint8)).view(4, 1, 1, 1).expand(4, 3, 32, 32)


def test_images_frames_and_names():
    found = {"pixels": torch.tensor([[1, 2], [0, 2]]), "features": torch.tensor([[2, 3], [3, 0]])}
    figure = neighbours(PICTURES, LABELS, CLASSES, [0, 1], found, title="Test")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    sheet = np.asarray(axes.images[0].get_array())
    starts = [0, 58, 102, 160, 204]  # the image; two neighbours by pixels, two by features
    for row, expected in enumerate(([0, 1, 2, 2, 3], [1, 0, 2, 3, 0])):
        for left, index in zip(starts, expected, strict=True):
            assert (sheet[44 * row : 44 * row + 32, left : left + 32] == PICTURES[index, 0, 0, 0].item()).all()
    assert sorted((patch.get_x(), patch.get_y()) for patch in axes.patches) == [(101, -1), (159, -1), (159, 43)]
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("≠ dog") == 2
    assert texts.count("≠ cat") == 3
    assert {"image", "nearest by pixels", "nearest by features"} < set(texts)
    assert "by pixels 1 of 4 neighbours" in describe(figure)
    assert "by features 2 of 4" in describe(figure)


@pytest.mark.parametrize(
    ("queries", "found"), [([], {"a": torch.zeros(0, 1)}), ([0], {}), ([0, 1], {"a": torch.zeros(1, 2)})]
)
def test_nothing_to_draw_is_refused(queries, found):
    with pytest.raises(NothingToDraw, match="neighbours needs"):
        neighbours(PICTURES, LABELS, CLASSES, queries, found)
