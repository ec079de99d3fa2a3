"""Layouts of random graphs: nothing overlaps, lines go down, columns are straight."""

import itertools
import random

import pytest

from cnnlib.explore.layout import GAP, place, rows_of


def random_graph(seed: int) -> tuple[list[tuple[float, float]], list[tuple[int, int]], list[bool]]:
    chance = random.Random(seed)
    count = chance.randrange(2, 14)
    edges = [(chance.randrange(target), target) for target in range(1, count)]
    edges += [
        (source, target)
        for source, target in itertools.combinations(range(count), 2)
        if chance.random() < 0.15 and (source, target) not in edges
    ]
    into = [target for _, target in edges]
    weak = [into.count(target) > 1 and chance.random() < 0.3 for _, target in edges]
    sizes = [(chance.choice([26.0, 80.0, 150.0]), chance.choice([26.0, 30.0, 46.0])) for _ in range(count)]
    return sizes, edges, weak


@pytest.mark.parametrize("seed", range(60))
def test_cards_do_not_overlap_and_lines_go_down(seed):
    sizes, edges, weak = random_graph(seed)
    layout = place(sizes, edges, weak, labelled=[seed % 2 == 0] * len(sizes))
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(layout.centres, sizes, strict=True)]
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart
    for left, top, right, bottom in boxes:
        assert left >= -1
        assert top >= -1
        assert right <= layout.width + 1
        assert bottom <= layout.height + 1
    assert sorted((line.source, line.target, line.weak) for line in layout.lines) == sorted(
        (*edge, is_weak) for edge, is_weak in zip(edges, weak, strict=True)
    )
    for line in layout.lines:
        heights = [y for _, top, bottom in line.passes for y in (top, bottom)]
        assert heights == sorted(heights)
        assert heights[0] == boxes[line.source][3]
        assert heights[-1] <= boxes[line.target][1]


@pytest.mark.parametrize("seed", range(60))
def test_shortcuts_run_beside_all_that_they_skip(seed):
    sizes, edges, weak = random_graph(seed)
    layout = place(sizes, edges, weak, labelled=[False] * len(sizes))
    rows = rows_of(len(sizes), edges)
    for line in layout.lines:
        if line.weak and len(line.passes) > 1:
            lane = line.passes[1][0]
            for card, ((x, _), (width, _)) in enumerate(zip(layout.centres, sizes, strict=True)):
                if rows[line.source] < rows[card] < rows[line.target]:
                    assert x + width / 2 + GAP / 2 < lane


def test_rows_are_longest_paths():
    assert rows_of(4, [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)]) == [0, 1, 2, 3]


def test_chain_beside_a_shortcut_is_straight():
    sizes = [(100.0, 30.0), (140.0, 46.0), (140.0, 46.0), (26.0, 26.0), (100.0, 30.0)]
    edges = [(0, 1), (1, 2), (0, 3), (2, 3), (3, 4)]
    layout = place(sizes, edges, [False, False, True, False, False], labelled=[False] * 5)
    assert len({x for x, _ in layout.centres}) == 1


def test_branches_stand_symmetrically_in_their_order():
    sizes = [(100.0, 30.0)] * 6
    edges = [(0, 1), (0, 2), (0, 3), (0, 4), *((branch, 5) for branch in (1, 2, 3, 4))]
    layout = place(sizes, edges, [False] * 8, labelled=[False] * 6)
    x = [x for x, _ in layout.centres]
    assert x[1] < x[2] < x[3] < x[4]
    assert x[0] == x[5] == pytest.approx((x[1] + x[4]) / 2, abs=1)
    assert x[2] - x[1] == x[3] - x[2] == x[4] - x[3] == 100 + GAP


def test_crossings_are_removed():
    # Met in the order of the lines, card 3 comes before card 4, and the lines 1-4 and 2-3 cross.
    sizes = [(50.0, 30.0)] * 5
    edges = [(0, 1), (0, 2), (1, 3), (1, 4), (2, 3)]
    layout = place(sizes, edges, [False] * 5, labelled=[False] * 5)
    x = [x for x, _ in layout.centres]
    assert (x[1] < x[2]) == (x[4] < x[3])


def test_lines_of_one_source_share_a_lane():
    sizes = [(80.0, 30.0)] * 5
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (0, 3), (0, 4), (1, 4)]
    weak = [False] * 4 + [True] * 4
    layout = place(sizes, edges, weak, labelled=[False] * 5)
    lanes = {(line.source, line.passes[1][0]) for line in layout.lines if line.weak}
    assert len(lanes) == 2
    assert dict(lanes)[0] > dict(lanes)[1]  # the longer one is outside
