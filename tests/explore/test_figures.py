import dataclasses
import math
from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from torch import nn

from cnnlib import explore
from cnnlib.data import shapes10
from cnnlib.explore import describe, figures, images, kernels, layer_bars, learning_curves, samples
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.measure import layer_table
from cnnlib.models import create


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()  # an open figure would be shown a second time


def drawn(figure) -> None:
    """Draw it: errors of the layout come only now."""
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (34_944, "34.9k"), (999_999, "1M"), (60_965_224, "61M"), (1.5e9, "1.5G")],
)
def test_counts_are_written_short(value, text):
    assert figures.short(value) == text


def test_bars_are_the_table():
    table = layer_table(create("alexnet"), (3, 227, 227))
    figure = layer_bars(table)
    drawn(figure)
    rows = [row for row in table.rows if row.parameters or row.multiply_adds or row.activation_bytes]
    for axes, measure in zip(figure.axes, ("parameters", "multiply_adds", "activation_bytes"), strict=True):
        assert [bar.get_width() for bar in axes.patches] == [getattr(row, measure) for row in rows]
        assert figures.short(getattr(table.total, measure)) in axes.get_title(loc="left")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [row.name for row in rows]
    assert "most parameters in fc6, 37.8M of 61M (62%)" in describe(figure)
    assert "most multiply-adds in conv2" in describe(figure)


def test_bars_of_nothing_are_refused():
    with pytest.raises(NothingToDraw, match="Identity"):
        layer_bars(layer_table(nn.Identity(), (3, 4, 4)))
    with pytest.raises(NothingToDraw, match=r"pass layer_table\(network"):
        layer_bars(nn.Linear(3, 4))


@pytest.fixture(scope="module")
def shapes():
    return shapes10(train=60, test=10, seed=0)


def test_samples_are_the_first_of_each_class(shapes):
    figure = samples(shapes, per_class=2, classes=shapes.classes[3:6])
    drawn(figure)
    pixels = figure.axes[0].images[0].get_array()
    for column, name in enumerate(shapes.classes[3:6]):
        chosen = shapes.train_images[shapes.train_labels == shapes.classes.index(name)][:2]
        for row, picture in enumerate(chosen):
            seen = pixels[row * 34 : row * 34 + 32, column * 34 : column * 34 + 32]
            assert np.array_equal(seen, picture.permute(1, 2, 0).numpy())
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(shapes.classes[3:6])
    assert shapes.name in figure.axes[0].get_title(loc="left")


def test_a_stand_in_says_so_in_the_picture(shapes):
    figure = samples(dataclasses.replace(shapes, stands_in_for="CIFAR-10"))
    assert figure.axes[0].get_title(loc="left") == "SHAPES-10, GENERATED, IN PLACE OF CIFAR-10"
    assert "IN PLACE OF CIFAR-10" in describe(figure)


def test_unknown_class_is_refused(shapes):
    with pytest.raises(NothingToDraw, match="no class 'whale'"):
        samples(shapes, classes=["whale"])


def test_too_few_images_of_a_class_are_refused(shapes):
    counts = [int((shapes.train_labels == label).sum()) for label in range(len(shapes.classes))]
    with pytest.raises(NothingToDraw, match=f"has {counts[0]} training images of '{shapes.classes[0]}', not 61"):
        samples(shapes, per_class=61)


def test_images_fill_the_last_row_with_paper():
    figure = images(torch.zeros(5, 1, 4, 4), columns=3, title="five")
    drawn(figure)
    pixels = figure.axes[0].images[0].get_array()
    assert pixels.shape == (10, 16, 3)
    assert (pixels[:4, :4] == 0).all()
    assert (pixels[6:, 12:] > 240).all()
    assert describe(figure) == "five: 5 images of 4×4 pixels."


@pytest.mark.parametrize("shape", [(3, 4, 4), (0, 3, 4, 4), (2, 5, 4, 4)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(NothingToDraw, match="N, 1 or 3, H, W"):
        images(torch.zeros(*shape))


@pytest.mark.parametrize("columns", [0, -1, 2.5])
def test_columns_are_counted(columns):
    for draw in (images, kernels):
        with pytest.raises(NothingToDraw, match="columns must be"):
            draw(torch.zeros(2, 3, 4, 4), columns=columns)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(NothingToDraw, match=r"a tensor, not a ndarray; torch\.as_tensor"):
        images(np.zeros((2, 3, 4, 4)))
    with pytest.raises(NothingToDraw, match="a network or a tensor of weights, not 'alexnet'"):
        kernels("alexnet")


def test_kernels_are_scaled_each_by_its_own():
    weights = torch.zeros(2, 3, 2, 2)
    weights[0, 0, 0, 0], weights[1, 0, 0, 0] = 0.001, -5.0
    figure = kernels(weights)
    drawn(figure)
    pixels = figure.axes[0].images[0].get_array()
    assert pixels[0, 0].tolist() == [255, 128, 128]
    assert pixels[0, 3].tolist() == [0, 128, 128]
    assert pixels[1, 1].tolist() == [128, 128, 128]


def test_kernels_of_a_network_are_its_first_layers():
    assert describe(kernels(create("alexnet"))).startswith("96 filters of conv1, 11×11")
    with pytest.raises(NothingToDraw, match="no convolution"):
        kernels(nn.Linear(2, 2))
    with pytest.raises(NothingToDraw, match="1 or 3 channels"):
        kernels(nn.Conv2d(4, 2, 3))


def run(seed: int, offset: float = 0.0, stands_in_for: str | None = None, budget: str | None = None):
    history = [
        SimpleNamespace(
            step=10 * i,
            epoch=float(i),
            train_error=50.0 / i + seed + offset,
            test_error=60.0 / i + seed + offset if i % 2 == 0 else None,
            train_loss=1.0 / i,
            test_loss=2.0 / i,
        )
        for i in range(1, 9)
    ]
    return SimpleNamespace(
        model="net",
        overrides={},
        history=history,
        data="CIFAR-10",
        stands_in_for=stands_in_for,
        budget=budget,
        train_images=50_000,
        test=SimpleNamespace(n=10_000),
    )


def record(arm: str, seed: int, offset: float = 0.0):
    return SimpleNamespace(arm=arm, run=run(seed, offset))


def test_curves_are_means_with_a_band():
    records = [record(arm, seed, offset) for arm, offset in (("a", 0), ("b", 10)) for seed in (0, 1, 2)]
    figure = learning_curves(records)
    drawn(figure)
    train, test = figure.axes
    assert len(train.lines) == len(test.lines) == 2
    assert train.lines[0].get_ydata() == pytest.approx([50 / i + 1 for i in range(1, 9)])
    assert test.lines[1].get_xdata().tolist() == [2, 4, 6, 8]
    assert test.lines[1].get_ydata() == pytest.approx([60 / i + 11 for i in (2, 4, 6, 8)])
    band = test.collections[0].get_paths()[0].vertices
    assert {round(y, 6) for x, y in band if x == 8} == {7.5, 9.5}  # mean 8.5, deviation of 0, 1, 2 is 1
    assert [text.get_text() for text in test.texts] == ["a", "b"]
    assert "3 seeds" in figure.get_suptitle()
    assert describe(figure) == (
        "Learning curves on CIFAR-10. a ends at training error 7.25, test error 8.50; "
        "b ends at training error 17.25, test error 18.50."
    )


def test_curves_differ_without_colour_and_labels_keep_apart():
    figure = learning_curves({f"arm {i}": [run(0, 0.01 * i)] for i in range(5)})
    drawn(figure)
    lines = figure.axes[1].lines
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 5
    assert not figure.axes[1].collections  # one seed has no band
    boxes = []
    for text in figure.axes[1].texts:
        text.update_positions(figure.canvas.get_renderer())
        boxes.append(Text.get_window_extent(text))  # that of the annotation has its line, too
    boxes.sort(key=lambda box: box.y0)
    assert all(one.y1 <= other.y0 + 1 for one, other in pairwise(boxes))


def test_curves_of_one_colour_differ_in_dash_and_marks():
    figure = learning_curves({str(seed): [run(seed)] for seed in range(10)}, measures="train_error")
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    looks = {(line.get_color(), str(line._unscaled_dash_pattern), line.get_markerfacecolor()) for line in lines}
    assert len(looks) == len(lines) == 10


def test_an_error_that_is_measured_once_has_a_bar_beside_curves_over_the_same_epochs():
    runs = [run(seed) for seed in range(3)]
    for one in runs:
        for point in one.history[:-1]:
            point.test_error = None
    figure = learning_curves({"a": runs})
    drawn(figure)
    train, test = figure.axes
    assert train.get_xlim() == test.get_xlim()
    (bar,) = test.collections[0].get_segments()
    assert bar[:, 1].tolist() == pytest.approx([7.5, 9.5])  # mean 8.5, deviation of 0, 1, 2 is 1


def test_curves_end_where_all_seeds_have_a_point():
    longer = run(2)
    longer.history.append(SimpleNamespace(**vars(longer.history[-1]) | {"step": 999, "epoch": 99.0}))
    figure = learning_curves([longer, run(0)])
    assert figure.axes[0].lines[0].get_xdata()[-1] == 8


def test_curves_of_a_stand_in_say_so():
    figure = learning_curves([run(0, stands_in_for="CIFAR-10")])
    assert "CIFAR-10, IN PLACE OF CIFAR-10" in figure.get_suptitle()


def test_a_line_is_of_one_budget():
    short, medium = run(0, budget="short"), run(0, budget="medium")
    drawn(learning_curves({"short": [short], "medium": [medium]}))
    medium.history = medium.history[-1:]  # nothing in common is not the reason
    with pytest.raises(NothingToDraw, match=r"2 budgets, short and medium; pass load_records\(study, 'short'\)"):
        learning_curves([SimpleNamespace(arm="a", run=one) for one in (medium, short)])
    with pytest.raises(NothingToDraw, match="2 budgets, short and none"):
        learning_curves({"a": [short, run(0)]})


def test_a_measure_may_come_alone():
    figure = learning_curves([run(0)], measures="test_error")
    assert describe(figure) == "Learning curves on CIFAR-10. net ends at test error 7.50."


@pytest.mark.parametrize("lonely", [run(0), {"a": run(0)}, 3])
def test_a_training_alone_is_refused(lonely):
    with pytest.raises(NothingToDraw, match="pass a list of it"):
        learning_curves(lonely)


def test_runs_that_cannot_be_drawn_are_refused():
    with pytest.raises(NothingToDraw, match="at least one"):
        learning_curves([])
    with pytest.raises(NothingToDraw, match="no measure accuracy"):
        learning_curves([run(0)], measures=["accuracy"])
    early = run(0)
    early.history = early.history[:1]
    with pytest.raises(NothingToDraw, match="test error"):
        learning_curves([early])


@pytest.mark.parametrize(
    ("low", "high", "said"), [(-2.1, 2.0, "-2.1 to 2"), (0.0, 1.01, "0 to 1"), (0.5, float("nan"), "nan to nan")]
)
def test_floats_that_are_no_colours_are_refused(low, high, said):
    with pytest.raises(NothingToDraw, match=rf"images needs floats in \[0, 1\]; these go from {said}"):
        images(torch.tensor([low, high, 0.5, 0.5]).view(1, 1, 2, 2))


def test_floats_may_be_rounded_past_black_and_white():
    pixels = images(torch.tensor([-5e-4, 1 + 5e-4]).view(1, 1, 1, 2)).axes[0].images[0].get_array()
    assert pixels[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("per_class", [0, -1, 1.5])
def test_samples_are_counted(shapes, per_class):
    with pytest.raises(NothingToDraw, match="per_class must be"):
        samples(shapes, per_class=per_class)


def test_classes_are_a_list_of_at_least_one_name(shapes):
    with pytest.raises(NothingToDraw, match=r"classes must be a list of names, such as \['star'\], not 'star'"):
        samples(shapes, classes="star")
    with pytest.raises(NothingToDraw, match="at least one class"):
        samples(shapes, classes=[])


def test_a_mapping_may_hold_records():
    runs, records = ({"a": [wrap(run(seed)) for seed in (0, 1)]} for wrap in (lambda run: run, wrapped))
    assert describe(learning_curves(records)) == describe(learning_curves(runs))


def wrapped(run):
    return SimpleNamespace(arm="another name", run=run)


@pytest.mark.parametrize(
    ("draw", "rest"),
    [
        (explore.channel_spread, ()),
        (explore.channels_by_class, (["cat"],)),
        (explore.convergence, ()),
        (explore.effective_fields, (None,)),
        (explore.effective_growth, ({1: 1.0, 2: 2.0},)),
        (explore.error_by_depth, ()),
        (explore.feature_maps, ()),
        (explore.flow_by_block, ()),
        (explore.flow_by_depth, ()),
        (explore.head_gradients, ()),
        (explore.reach, ()),
        (explore.variance_kept, ()),
    ],
)
def test_a_result_without_a_label_is_refused(draw, rest):
    with pytest.raises(NothingToDraw, match=rf"{draw.__name__} needs results by label, even of one; .*not a ndarray"):
        draw(np.ones((4, 4)), *rest)


def test_the_last_two_that_want_labels():
    with pytest.raises(NothingToDraw, match="memory_by_depth needs results by label"):
        explore.memory_by_depth([1, 2], title="")
    with pytest.raises(NothingToDraw, match="neighbours needs results by label"):
        explore.neighbours(None, None, ["cat"], [0], torch.zeros(1, 1))


def test_grey_shows_one_picture():
    for picture in (torch.zeros(1, 4, 4), torch.zeros(0, 4)):
        with pytest.raises(NothingToDraw, match=r"grey shows a picture \(H, W\), not one of shape"):
            explore.grey(picture, "nothing")


def test_a_loss_that_overflowed_leaves_a_gap():
    points = [SimpleNamespace(step=step, epoch=step / 4, test_loss=loss) for step, loss in ((1, math.nan), (2, 1.0))]
    runs = [SimpleNamespace(history=points)]
    assert figures._curve(runs, "test_loss").epochs.tolist() == [0.5]
