"""The figure of what searches proposed."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cnnlib.explore import describe, search_history
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.search import Round


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()


def run(arm, shift, rounds=20):
    history = tuple(
        Round(
            step=10 * (i + 1),
            reward=0.1 + shift + 0.01 * i,
            entropy=16 - i / 2,
            operations={"sep3x3": 3, "identity": i},
        )
        for i in range(rounds)
    )
    return SimpleNamespace(
        arm=arm, budget="short", run=SimpleNamespace(data="CIFAR-10"), found=SimpleNamespace(history=history)
    )


def test_lines_are_means_over_seeds_and_parts():
    figure = search_history([run("enas", 0.0), run("enas", 0.1), run("random-shared", 0.0)])
    FigureCanvasAgg(figure).draw()
    rewards, entropies, operations = figure.axes
    random, enas = rewards.get_lines()
    assert [line.get_label() for line in (random, enas)] == ["random, shared weights", "ENAS"]
    np.testing.assert_allclose(enas.get_ydata()[0], 100 * (0.1 + 0.05 + 0.005))
    np.testing.assert_allclose(random.get_ydata()[-1], 100 * (0.1 + 0.185))
    np.testing.assert_allclose(random.get_xdata()[0], 15)
    np.testing.assert_allclose(entropies.get_lines()[0].get_ydata()[-1], 16 - 18.5 / 2)
    assert [tick.get_text() for tick in operations.get_yticklabels()] == ["sep3x3", "identity"]
    last = 15 + 16 + 17 + 18 + 19
    np.testing.assert_allclose(operations.get_lines()[0].get_xdata()[0], 100 * 15 / (15 + last))


def test_the_figure_says_what_it_shows():
    figure = search_history([run("enas", 0.0)])
    assert "ENAS: mean reward from 10.5 to 28.5 %" in describe(figure)
    assert "most frequent operation identity, 85%" in describe(figure)


def test_searches_of_several_budgets_are_not_averaged():
    longer = run("enas", 0.1)
    longer.budget = "medium"
    with pytest.raises(NothingToDraw, match="needs searches of one budget"):
        search_history([run("enas", 0.0), longer])


def test_nothing_to_draw():
    with pytest.raises(NothingToDraw):
        search_history([])
    with pytest.raises(NothingToDraw):
        search_history([run("none", 0.0, rounds=0)])
