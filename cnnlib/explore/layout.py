"""Where the cards of a layered drawing stand: rows from top to bottom, few crossings, straight lines where it matters.

The steps are Sugiyama's (Sugiyama, Tagawa and Toda 1981): rows by longest path, a slot in every row that a long line
passes, an order in each row by barycentres, then coordinates. These minimise the weighted squared horizontal length of
all lines, row by row, exactly (isotonic regression), until nothing moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SLOT = 20.0
"""Width that a passing line takes in a row."""

GAP = 18.0
"""Least horizontal distance between two neighbours in a row."""

ROW_GAP = 32.0
"""Vertical distance between two rows."""

LABEL = 18.0
"""Height of a label below a card."""

_SWEEPS = 200


@dataclass(frozen=True)
class Line:
    """One line of the drawing: the cards it joins, and where it runs straight down before its end.

    ``passes`` holds (x, top, bottom) of each such stretch, the first below its source.
    """

    source: int
    target: int
    weak: bool
    passes: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Layout:
    """Centres of the cards, lines, and the size of the drawing."""

    centres: tuple[tuple[float, float], ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def rows_of(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the row of each card: the longest way to it. Cards are numbered so that lines go from lower to higher."""
    row = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        row[target] = max(row[target], row[source] + 1)
    return row


def place(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    weak: Sequence[bool],
    *,
    labelled: Sequence[bool],
) -> Layout:
    """Place cards of the given (width, height), joined by the given edges from lower to higher numbers.

    A weak edge is a shortcut: it does not pull its cards, and runs down to the right of all that it skips. Lines leave
    labelled cards straight down for a while, so that there is room for a label beside them.
    """
    row = rows_of(len(sizes), edges)
    widths = [width for width, _ in sizes]
    # The ways of the strong lines: from card to card, through a slot of its own in every row between.
    chains: list[list[int]] = []
    for source, target in (edge for edge, is_weak in zip(edges, weak, strict=True) if not is_weak):
        slots = list(range(len(widths), len(widths) + row[target] - row[source] - 1))
        widths += [SLOT] * len(slots)
        row += range(row[source] + 1, row[target])
        chains.append([source, *slots, target])
    shortcuts = [edge for edge, is_weak in zip(edges, weak, strict=True) if is_weak]
    beside = _only_on_shortcuts(len(sizes), edges, weak)

    rows = _order(row, chains, shortcuts, beside)
    x = _coordinates(rows, widths, len(sizes), chains, shortcuts, beside)
    lanes = _lanes(row, rows, widths, x, shortcuts, beside)

    heights = [max(sizes[item][1] for item in items if item < len(sizes)) for items in rows]
    bends = {row[one] for way in chains for one, other in pairwise(way) if x[one] != x[other]}
    names = {row[card] for card in range(len(sizes)) if labelled[card]}
    stubs = [LABEL if index in bends & names else 0.0 for index in range(len(rows))]
    tops = [sum(heights[:index]) + sum(stubs[:index]) + ROW_GAP * index for index in range(len(rows))]
    left = min(x[item] - width / 2 for item, width in enumerate(widths))
    right = max(
        [x[item] + width / 2 for item, width in enumerate(widths)] + [lane + SLOT / 2 for lane in lanes.values()]
    )
    centres = tuple((x[item] - left, tops[row[item]] + heights[row[item]] / 2) for item in range(len(sizes)))

    def down(item: int, top: float, stub: bool = True) -> tuple[float, float, float]:
        return x[item] - left, top, tops[row[item]] + heights[row[item]] + (stubs[row[item]] if stub else 0.0)

    def below(card: int) -> float:
        return centres[card][1] + sizes[card][1] / 2

    lines = []
    for way in chains:
        first, *slots, last = way
        passes = (down(first, below(first)), *(down(slot, tops[row[slot]]) for slot in slots))
        lines.append(Line(first, last, False, passes))
    for source, target in shortcuts:
        passes = [down(source, below(source), stub=False)]
        if row[target] > row[source] + 1:
            end = row[target] - 1
            passes.append((lanes[source] - left, tops[row[source] + 1], tops[end] + heights[end]))
        lines.append(Line(source, target, True, tuple(passes)))
    return Layout(centres, tuple(lines), right - left, tops[-1] + heights[-1])


def _only_on_shortcuts(count: int, edges: Sequence[tuple[int, int]], weak: Sequence[bool]) -> set[int]:
    """Return the cards that no strong line reaches or leaves, such as the projection in a shortcut."""
    strong = {card for edge, is_weak in zip(edges, weak, strict=True) if not is_weak for card in edge}
    return set(range(count)) - strong


def _lanes(
    row: list[int],
    rows: list[list[int]],
    widths: list[float],
    x: list[float],
    shortcuts: list[tuple[int, int]],
    beside: set[int],
) -> dict[int, float]:
    """Return where the shortcuts of each card run down: the short ones inside, all of one card in one lane."""
    last: dict[int, int] = {}
    for source, target in shortcuts:
        last[source] = max(last.get(source, 0), row[target])
    edge = [max(x[item] + widths[item] / 2 for item in items) for items in rows]
    lanes: dict[int, float] = {}
    for source in sorted(last, key=lambda source: (last[source] - row[source], source)):
        between = range(row[source] + 1, last[source])
        if between:
            lanes[source] = max(edge[index] for index in between) + GAP + SLOT / 2
            if source in beside:
                lanes[source] = max(lanes[source], x[source])
            for index in between:
                edge[index] = lanes[source] + SLOT / 2
    return lanes


def _order(
    row: list[int], chains: list[list[int]], shortcuts: list[tuple[int, int]], beside: set[int]
) -> list[list[int]]:
    """Return the items of each row from left to right."""
    below: dict[int, list[int]] = {}
    above: dict[int, list[int]] = {}
    for chain in (*chains, *shortcuts):  # shortcuts last, so that what stands on them comes to stand on the right
        for upper, lower in pairwise(chain):
            if row[lower] == row[upper] + 1:
                below.setdefault(upper, []).append(lower)
                above.setdefault(lower, []).append(upper)
    rows: list[list[int]] = [[] for _ in range(max(row) + 1)]
    seen = set()

    def visit(start: int) -> None:
        stack = [start]
        while stack:
            item = stack.pop()
            if item not in seen:
                seen.add(item)
                rows[row[item]].append(item)
                stack.extend(reversed(below.get(item, [])))

    for item in sorted(range(len(row)), key=lambda item: (item in beside, row[item], item)):
        if item not in above:
            visit(item)

    best, fewest = [list(items) for items in rows], _crossings(rows, below)
    for sweep in range(12):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = above if down else below
        for index in range(len(rows)) if down else reversed(range(len(rows))):
            known = {item: place for items in rows for place, item in enumerate(items)}
            rows[index].sort(key=lambda item: _mean([known[n] for n in neighbours.get(item, [item])]))
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(items) for items in rows], crossings
    return best


def _crossings(rows: list[list[int]], below: dict[int, list[int]]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        place = {item: index for index, item in enumerate(lower)}
        ends = [sorted(place[n] for n in below.get(item, [])) for item in upper]
        for index, right in enumerate(ends):
            count += sum(a > b for left in ends[:index] for a in left for b in right)
    return count


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _coordinates(
    rows: list[list[int]],
    widths: list[float],
    cards: int,
    chains: list[list[int]],
    shortcuts: list[tuple[int, int]],
    beside: set[int],
) -> list[float]:
    leaves = Counter(chain[0] for chain in chains)
    enters = Counter(chain[-1] for chain in chains)
    pulls: list[list[tuple[int, float]]] = [[] for _ in widths]
    columns: list[set[int]] = []
    for chain in chains:
        for one, other in pairwise(chain):
            # Lines bend where they fan out or in, not on their way.
            bends = (one < cards and leaves[one] > 1) or (other < cards and enters[other] > 1)
            strength = 1.0 if bends else 50.0
            pulls[one].append((other, strength))
            pulls[other].append((one, strength))
            if not bends:
                columns = _joined(columns, {one, other})
    for source, target in shortcuts:
        for one, other in ((source, target), (target, source)):
            if one in beside:
                pulls[one].append((other, 50.0 if other in beside else 1.0))
        if {source, target} <= beside:
            columns = _joined(columns, {source, target})

    x = [0.0] * len(widths)
    firm = [1e-4 if item in beside else 1.0 for item in range(len(widths))]
    for items in rows:
        _spread(items, [0.0] * len(items), [firm[item] for item in items], widths, x)
    for _ in range(_SWEEPS):
        moved = 0.0
        for items in (*rows, *reversed(rows)):
            wishes = [_wish(pulls[item], x, x[item]) for item in items]
            # Weighted with all that pulls at an item, each move makes the sum smaller; otherwise the drawing may drift.
            weights = [firm[item] * (sum(strength for _, strength in pulls[item]) or 1.0) for item in items]
            moved = max(moved, _spread(items, wishes, weights, widths, x))
        if moved < 0.01:
            break
    for column in columns:
        _straighten(column, rows, widths, x)
    return [float(round(value)) for value in x]


def _joined(columns: list[set[int]], link: set[int]) -> list[set[int]]:
    """Join the columns that a link connects."""
    touched = [column for column in columns if column & link]
    return [column for column in columns if column not in touched] + [link.union(*touched)]


def _straighten(column: set[int], rows: list[list[int]], widths: list[float], x: list[float]) -> None:
    """Put the items of a column exactly below each other where their neighbours leave room for it."""
    middle = _mean([x[item] for item in column])
    for items in rows:
        for one, other in pairwise(items):
            moved = [middle if item in column else x[item] for item in (one, other)]
            if column & {one, other} and moved[1] - moved[0] < (widths[one] + widths[other] + GAP) / 2:
                return
    for item in column:
        x[item] = middle


def _wish(pulls: list[tuple[int, float]], x: list[float], now: float) -> float:
    total = sum(strength for _, strength in pulls)
    return sum(x[towards] * strength for towards, strength in pulls) / total if total else now


def _spread(items: list[int], wishes: list[float], weights: list[float], widths: list[float], x: list[float]) -> float:
    """Move the items of one row as near to their wishes as their order and widths allow; return the largest move.

    Least squares under x[i + 1] - x[i] >= distance: pool adjacent violators.
    """
    offsets = [0.0]
    for one, other in pairwise(items):
        offsets.append(offsets[-1] + (widths[one] + widths[other]) / 2 + GAP)
    pools: list[list[float]] = []  # [sum of weight * value, weight, count]
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        pools.append([weight * (wish - offset), weight, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    values = [total / weight for total, weight, count in pools for _ in range(int(count))]
    largest = 0.0
    for item, value, offset in zip(items, values, offsets, strict=True):
        largest = max(largest, abs(value + offset - x[item]))
        x[item] = value + offset
    return largest
