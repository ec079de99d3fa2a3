"""The drawing of a searched cell, made from its data: the plan, as :mod:`cnnlib.models.cells` writes it down."""

from __future__ import annotations

from cnnlib.explore.drawing import draw
from cnnlib.explore.graph import MERGES, Card
from cnnlib.explore.html import Html
from cnnlib.models.cells import Plan, State, Step

_OPERATIONS = {  # on a card, and in words
    "sep3x3": ("sep 3×3", "3×3 separable conv"),
    "sep5x5": ("sep 5×5", "5×5 separable conv"),
    "sep7x7": ("sep 7×7", "7×7 separable conv"),
    "1x7-7x1": ("1×7, 7×1", "1×7 and 7×1 conv"),
    "avg3x3": ("avg 3×3", "3×3 average pool"),
    "max3x3": ("max 3×3", "3×3 max pool"),
    "identity": ("identity", "identity"),
}
_INPUTS = {"h": "h: last cell", "p": "p: cell before last"}


def cell(
    plan: Plan,
    *,
    id: str,
    title: str = "A searched cell",
    caption: str = "",
    stride: int = 1,
) -> Html:
    """Draw a cell from top to bottom: its two inputs, a card for each step, an addition for each node, the output.

    ``print`` the result, or read its ``text``, for the cell in words.

    Args:
        plan: the cell, such as ``NASNET_A.normal``.
        id: the id of the figure in the page.
        title: what is drawn.
        caption: shown under the drawing; by default the title.
        stride: that of the steps that read h or p, written as ``/2``: 2 for a reduction cell.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
    """
    cards = _cards(plan, stride)
    return draw(
        cards, id=id, title=title, caption=caption, words=cell_in_words(plan, stride), weak=_put_out_early(cards)
    )


def cell_in_words(plan: Plan, stride: int = 1) -> str:
    """Return a cell as sentences, node by node."""
    nodes = [
        f"node {number} = {' + '.join(_in_words(step, stride) for step in node)}"
        for number, node in enumerate(plan.nodes)
    ]
    read = {state for node in plan.nodes for _, state in node} | set(plan.concat)
    unused = [f"{state} is not used" for state in _INPUTS if state not in read]
    put_out = f"output = {' and '.join(map(_state, plan.concat))}{', concatenated' if len(plan.concat) > 1 else ''}"
    return "; ".join([*nodes, put_out, *unused]) + "."


def _cards(plan: Plan, stride: int) -> list[Card]:
    cards = [Card("input", title) for title in _INPUTS.values()]
    place: dict[State, int] = {state: number for number, state in enumerate(_INPUTS)}
    for number, node in enumerate(plan.nodes):
        sources = []
        for step in node:
            card = Card(_kind(step[0]), _step(step, stride, 0), modules=[_in_words(step, stride)])
            card.sources = [place[step[1]]]
            cards.append(card)
            sources.append(len(cards) - 1)
        cards.append(Card("add", f"{MERGES['add']} node {number}", sources=sources))
        place[number] = len(cards) - 1
    ends = [place[state] for state in plan.concat]
    if len(ends) > 1:
        cards.append(Card("concat", MERGES["concat"], sources=ends))
        ends = [len(cards) - 1]
    return [*cards, Card("output", "output", sources=ends)]


def _put_out_early(cards: list[Card]) -> list[bool]:
    """Say for each line whether it leads to the output from a state that another one put out is made of."""
    above: list[set[int]] = []
    for card in cards:
        above.append(set().union(*({source} | above[source] for source in card.sources)))
    return [
        card.kind == "concat" and any(source in above[other] for other in card.sources)
        for card in cards
        for source in card.sources
    ]


def _kind(operation: str) -> str:
    if operation == "identity":
        return "step"
    return "pool" if operation.startswith(("avg", "max")) else "conv"


def _step(step: Step, stride: int, form: int) -> str:
    """Return a step's operation with its stride, short (form 0) or in words (form 1)."""
    name, state = step
    title = _OPERATIONS.get(name, (name, name))[form]
    return f"{title}, /{stride}" if stride > 1 and state in _INPUTS else title


def _in_words(step: Step, stride: int) -> str:
    return f"{_step(step, stride, 1)} of {_state(step[1])}"


def _state(state: State) -> str:
    return f"node {state}" if isinstance(state, int) else state
