from dataclasses import replace
from statistics import fmean

import pytest
from matplotlib.colors import same_color

from cnnlib.explore import along_the_net, depth_errors, describe, ilsvrc_timeline
from cnnlib.explore.boxes import NothingToDraw
from cnnlib.studies import find_study, load_records
from cnnlib.studies.ilsvrc import ANNOTATOR, END, WINNERS, winners_table


@pytest.fixture(scope="module")
def records():
    return load_records(find_study("degradation"), "short")


def test_depth_errors_joins_the_means(records):
    figure = depth_errors(records)
    for axes, measure in zip(figure.axes, ("train_error", "test_error"), strict=True):
        for container, kind in zip(axes.containers, ("plain", "resnet"), strict=True):
            line = container.lines[0]
            for depth, value in zip(*line.get_data(), strict=True):
                runs = [getattr(r.run, measure) for r in records if r.arm == f"{kind}{int(depth)}"]
                assert value == pytest.approx(fmean(runs))
            assert list(line.get_xdata()) == [20, 32, 44, 56, 110]
        dots = sum(len(scatter.get_offsets()) for scatter in axes.collections if len(scatter.get_offsets()))
        assert dots >= len(records)
    assert "CIFAR-10 after 350 steps: training error of plain20 55.2 %" in describe(figure)


def test_depth_errors_names_a_stand_in(records):
    run = replace(records[0].run, data="Shapes-10", stands_in_for="CIFAR-10")
    assert "SHAPES-10, IN PLACE OF CIFAR-10" in depth_errors([replace(records[0], run=run)])._suptitle.get_text()


def test_depth_errors_are_of_one_budget(records):
    medium = load_records(find_study("degradation"), "medium")
    with pytest.raises(NothingToDraw, match="2 budgets, short and medium"):
        depth_errors([*records, *medium])


def test_depth_errors_wants_plain_and_residual_nets(records):
    with pytest.raises(NothingToDraw, match="at least one"):
        depth_errors([])
    with pytest.raises(NothingToDraw, match="'vgg16' is neither"):
        depth_errors([replace(records[0], arm="vgg16")])


def test_along_the_net_stretches_nets_to_one_width():
    figure = along_the_net({"a": [1, 2, 3], "b": [4, 5]}, title="What", log=True, level=(2, "chance"))
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == [[0, 0.5, 1], [0, 1]]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["input", "output"]
    assert len({line.get_linestyle() for line in axes.lines[:2]}) == 2
    assert describe(figure) == "What, from the input to the output: a from 1 to 3; b from 4 to 5."
    ticked = along_the_net({"a": [1, 2]}, title="", ticks=["x", "y"])
    assert [label.get_text() for label in ticked.axes[0].get_xticklabels()] == ["x", "y"]


def test_along_the_net_draws_the_spread_as_bars():
    figure = along_the_net({"a": [1, 2, 3], "b": [4, 5, 6]}, spread={"b": [0.5, 0, 1]}, title="")
    (container,) = figure.axes[0].containers
    bars = [tuple(segment[:, 1]) for segment in container.lines[2][0].get_segments()]
    assert bars == [(3.5, 4.5), (5, 5), (5, 7)]


def test_along_the_net_draws_each_line_under_its_name():
    figure = along_the_net({"a": [1, 2, 4], "b": [4, 5]}, spread={"b": [0.5, 1]}, title="What")
    (axes,) = figure.axes
    assert axes.get_title("left") == "What"
    a, b = axes.lines[:2]
    assert [list(line.get_ydata()) for line in (a, b)] == [[1, 2, 4], [4, 5]]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert not same_color(a.get_color(), b.get_color())
    for line, handle in zip((a, b), legend.legend_handles, strict=True):
        assert same_color(line.get_color(), handle.get_color())
    assert same_color(axes.containers[0].lines[2][0].get_color(), b.get_color())


def test_along_the_net_draws_the_level_with_its_name():
    (axes,) = along_the_net({"a": [50, 95]}, title="", level=(90, "guessing")).axes
    assert list(axes.lines[-1].get_ydata()) == [90, 90]
    (name,) = axes.texts
    assert name.get_text() == "guessing"
    assert name.xy == (0, 90), "where lines begin, and not where they end"


@pytest.mark.parametrize("lines", [{}, {"a": [1]}])
def test_along_the_net_needs_values(lines):
    with pytest.raises(NothingToDraw, match="at least two values"):
        along_the_net(lines, title="")


def test_along_the_net_needs_names_and_spreads_that_fit():
    """Else names would stand at other layers, and bars at other values."""
    with pytest.raises(NothingToDraw, match=r"2 ticks need lines of as many values, not of \[2, 3\]"):
        along_the_net({"a": [1, 2, 3], "b": [4, 5]}, title="", ticks=["x", "y"])
    for spread in ({"b": [1, 1, 1]}, {"a": [1]}):
        with pytest.raises(NothingToDraw, match=f"the spread of {next(iter(spread))!r} needs a line of this name"):
            along_the_net({"a": [1, 2, 3]}, title="", spread=spread)


def test_timeline_shows_every_winner_with_its_number():
    figure = ilsvrc_timeline()
    errors, depths = figure.axes
    assert [bar.get_height() for bar in errors.patches] == [winner.error for winner in WINNERS]
    assert [bar.get_height() for bar in depths.patches] == [winner.layers or 0 for winner in WINNERS]
    written = {text.get_text() for text in errors.texts}
    assert {f"{winner.error:g}" for winner in WINNERS} <= written
    assert all(str(winner.layers) in {text.get_text() for text in depths.texts} for winner in WINNERS if winner.layers)
    for winner in WINNERS:
        assert f"{winner.year} {winner.team} {winner.error:g} %" in describe(figure)
    assert f"One trained person: {ANNOTATOR} %." in describe(figure)


def test_timeline_marks_the_end_of_the_contest_where_asked():
    for end in (False, True):
        figure = ilsvrc_timeline(end=end)
        errors, depths = figure.axes
        assert (END in describe(figure)) == end
        assert any(END in text.get_text() for text in errors.texts) == end
        lines = [line for line in depths.lines if line.get_xdata()[0] > WINNERS[-1].year]
        assert len(lines) == end


def test_winners_are_in_order_and_have_sources():
    assert [winner.year for winner in WINNERS] == [*range(2010, 2018)]
    assert all(winner.source for winner in WINNERS)
    table = winners_table()
    assert [row[3] for row in table.rows] == [f"{winner.error:g}" for winner in WINNERS]
    assert "One trained person: 5.1 %" in str(table)
