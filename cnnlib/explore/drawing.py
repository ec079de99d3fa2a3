"""Drawings of blocks and networks, made from the modules themselves: inline SVG, light and dark, and in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from cnnlib.explore.graph import MERGES, Card, network_graph, size_text
from cnnlib.explore.html import Html, asset, number, picture, squeeze, tag
from cnnlib.explore.layout import Layout, Line, place
from cnnlib.explore.style import PALETTE, Theme

if TYPE_CHECKING:
    from torch import nn

_MARGIN = 12
_CIRCLE = 26.0


def diagram(
    model: nn.Module,
    input_size: Sequence[int],
    *,
    id: str,
    title: str | None = None,
    caption: str = "",
    depth: int | None = None,
    closed: tuple[type[nn.Module], ...] = (),
    names: bool = False,
) -> Html:
    """Draw a block or a network from top to bottom, as its ``forward`` computes it in evaluation mode.

    Each card is a layer with what follows it (normalisation, activation), with stride as ``/2``; a shape
    (channels×height×width) stands where it changes; shortcuts run beside what they skip; equal cards in a row are
    drawn once. ``print`` the result, or read its ``text``, for the drawing in words.

    Args:
        model: any module that ``torch.fx`` can trace.
        input_size: shape of one input without the batch, (channels, height, width).
        id: the id of the figure in the page.
        title: what is drawn; by default the name of the class.
        caption: shown under the drawing; by default the title.
        depth: how many levels of blocks to open; 1 draws each block of a network as one card, None every layer.
        closed: classes of modules to draw as one card each, however deep they lie.
        names: whether to write the names of the modules on the cards: the last part of a path that no other card has.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NotDrawable: if ``torch.fx`` cannot trace the module.
        DoesNotFit: if the module does not take such an input.
        BadArgument: if ``input_size`` is no shape of one input, ``depth`` is not a whole number of at least 1, or
            ``closed`` holds what is no class.
    """
    cards = network_graph(model, input_size, depth=depth, closed=closed)
    edges = [(source, target) for target, card in enumerate(cards) for source in card.sources]
    return draw(
        cards,
        id=id,
        title=title or type(model).__name__,
        caption=caption,
        words=in_words(cards),
        weak=weak_edges(cards, edges),
        names=names,
    )


def draw(
    cards: Sequence[Card],
    *,
    id: str,
    title: str,
    caption: str,
    words: str,
    weak: Sequence[bool] | None = None,
    names: bool = False,
) -> Html:
    """Draw cards and the lines between them.

    Args:
        cards: each after those it reads.
        id, title, caption, names: as for :func:`diagram`.
        words: what is drawn, in sentences.
        weak: which lines, in the order of the cards and their sources, are shortcuts; default none.
    """
    edges = [(source, target) for target, card in enumerate(cards) for source in card.sources]
    texts = [_texts(*each) for each in zip(cards, _names(cards) if names else [""] * len(cards), strict=True)]
    widest = max((_width(card, text) for card, text in zip(cards, texts, strict=True) if _is_layer(card)), default=0.0)
    sizes = [_size(card, text, widest) for card, text in zip(cards, texts, strict=True)]
    labelled = [_label_below(index, cards, edges) for index in range(len(cards))]
    layout = place(sizes, edges, weak or [False] * len(edges), labelled=labelled)
    svg = _svg(cards, texts, sizes, layout, title, words)
    html = picture(svg, id=id, kind="cnn-diagram", css=asset("diagram.css"), title=title, caption=caption)
    return Html(html, f"{title}: {words}")


def document(drawing: Html, theme: Theme) -> str:
    """Return a drawing of :func:`diagram` as an SVG file of its own, in the colours of one theme.

    A file that a page shows as an image cannot follow the page's theme, so a page needs one for each.
    """
    palette = PALETTE[theme]
    svg = drawing.html[drawing.html.index("<svg") : drawing.html.index("</svg>") + len("</svg>")]
    svg = re.sub(r'(<g class="card">)<title>.*?</title>', r"\1", svg)  # an image has no tooltips
    width, height = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg).groups()
    css = squeeze(asset("diagram.css")).replace(".cnn-diagram ", "").replace(".cnn-scroll>svg", "svg")
    css += f"svg{{color:{palette['ink']};background:{palette['paper']};font-family:system-ui,sans-serif}}"
    css = re.sub(r"var\(--cnn-([\w-]+)\)", lambda name: palette[name[1]], css)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    return f"{svg.replace('<svg', head, 1).replace('>', f'><style>{css}</style>', 1)}\n"


# ---- which lines are shortcuts ---------------------------------------------------------------------------------------


def weak_edges(cards: Sequence[Card], edges: Sequence[tuple[int, int]]) -> list[bool]:
    """Say for each edge whether it belongs to a shortcut: a way beside another one that does more.

    That is an edge from a card to a merge which the card reaches through another input of the merge, too; where
    branches are added or multiplied, those with less work on them; and such a branch up to where it leaves.
    """
    above: list[set[int]] = []
    work: list[float] = []
    for card in cards:
        above.append(set().union(*({source} | above[source] for source in card.sources)))
        own = 1.0 if card.kind in ("conv", "linear", "block") else 0.01
        work.append(own + max((work[source] for source in card.sources), default=0.0))
    readers = [[target for source, target in edges if source == index] for index in range(len(cards))]

    weak: set[tuple[int, int]] = set()
    for target in reversed(range(len(cards))):
        card = cards[target]
        if card.kind in MERGES:
            most = max(work[source] for source in card.sources)
            for source in card.sources:
                skips = any(source in above[other] for other in card.sources)
                shorter = card.kind != "concat" and work[source] < most - 0.001
                if skips or shorter:
                    weak.add((source, target))
        elif readers[target] and all((target, reader) in weak for reader in readers[target]):
            weak.update((source, target) for source in card.sources)
    return [edge in weak for edge in edges]


# ---- words -----------------------------------------------------------------------------------------------------------


def in_words(cards: Sequence[Card]) -> str:
    """Return what the drawing shows as sentences: the cards in order, and the branches between a split and its end."""
    readers: list[list[int]] = [[] for _ in cards]
    for index, card in enumerate(cards):
        for source in card.sources:
            readers[source].append(index)
    end = _meeting_points(readers)
    first = next(index for index, card in enumerate(cards) if card.kind == "input")
    told: list[int] = []

    def tell(start: int, stop: int | None) -> list[str]:
        parts: list[str] = []
        here: int | None = start
        while here is not None and here != stop:
            told.append(here)
            parts.append(_in_words(cards[here]))
            if len(readers[here]) > 1:
                join = end[here]
                ways = [", then ".join(tell(reader, join)) or "the shortcut, unchanged" for reader in readers[here]]
                branches = "; ".join(f"branch {number}: {way}" for number, way in enumerate(ways, 1))
                parts.append(f"{len(ways)} branches ({branches})")
                here = join
            else:
                here = readers[here][0] if readers[here] else None
        return parts

    if sum(card.kind == "input" for card in cards) == 1:
        parts = tell(first, None)
        if len(told) == len(set(told)) == len(cards):
            return ", then ".join(parts) + "."
    # Branches that meet in no order: card by card, with what each reads.
    lines = []
    for index, card in enumerate(cards):
        reads = " and ".join(f"({source + 1})" for source in card.sources)
        lines.append(f"({index + 1}) {_in_words(card)}" + (f" of {reads}" if reads else ""))
    return "; ".join(lines) + "."


def _meeting_points(readers: list[list[int]]) -> list[int | None]:
    """Return for each card the first card that every way from it passes (its immediate postdominator)."""
    end: list[int | None] = [None] * len(readers)
    for index in reversed(range(len(readers))):
        ways = readers[index]
        if not ways:
            continue
        meeting: int | None = ways[0]
        for other in ways[1:]:
            way: int | None = other
            while meeting is not None and way is not None and meeting != way:
                if meeting < way:
                    meeting = end[meeting]
                else:
                    way = end[way]
            meeting = meeting if way is not None else None
        end[index] = meeting
    return end


def _in_words(card: Card) -> str:
    shape = f" ({size_text(card.shape)})" if card.shape else ""
    names = {"add": "addition", "mul": "multiplication", "sub": "subtraction", "concat": "concatenation"}
    text = " + ".join((names.get(card.kind, card.title), *card.details))
    times = f", {card.repeat} times" if card.repeat > 1 else ""
    return text + times + shape


# ---- the drawing -----------------------------------------------------------------------------------------------------


def _is_layer(card: Card) -> bool:
    return card.kind not in (*MERGES, "input", "output")


def _names(cards: Sequence[Card]) -> list[str]:
    """Return a name for each card: the last part of its module's path that no other card has, else the last part."""
    # A number is the place in a Sequential, no name.
    paths = [
        [part for part in card.modules[0].split(".") if not part.isdigit()] if card.modules else [] for card in cards
    ]
    times = Counter(part for path in paths for part in set(path))
    return [next((part for part in reversed(path) if times[part] == 1), path[-1] if path else "") for path in paths]


def _texts(card: Card, name: str) -> tuple[str, str]:
    """Return the two lines of a card."""
    if card.kind in ("input", "output"):
        return f"{card.title} {size_text(card.shape)}".strip(), ""
    times = [f"× {card.repeat}"] if card.repeat > 1 else []
    title = (f"{name}: " if name else "") + card.title
    if card.kind == "step":
        return " · ".join([title, *card.details, *times]), ""
    return title, " · ".join([*card.details, *times])


def _width(card: Card, text: tuple[str, str]) -> float:
    """Return the width of a card, in pixels: its longer line in the page's font, which is a guess, and a margin."""
    return max(len(text[0]) * 7.1, len(text[1]) * 6.2) + 26


def _size(card: Card, text: tuple[str, str], widest: float) -> tuple[float, float]:
    if card.kind in MERGES:
        return (_CIRCLE if len(text[0]) == 1 else 70.0), _CIRCLE
    if not _is_layer(card):
        return _width(card, text), 28.0
    return (max(_width(card, text), 70.0) if card.kind == "step" else widest), (46.0 if text[1] else 30.0)


def _svg(
    cards: Sequence[Card],
    texts: Sequence[tuple[str, str]],
    sizes: Sequence[tuple[float, float]],
    layout: Layout,
    title: str,
    words: str,
) -> str:
    lines = "".join(_line(line, cards, sizes, layout) for line in layout.lines)
    boxes = "".join(_box(*each) for each in zip(cards, texts, sizes, layout.centres, strict=True))
    labels = "".join(_label(index, cards, sizes, layout) for index in range(len(cards)))
    width, height = layout.width + 2 * _MARGIN + _overhang(cards, sizes, layout), layout.height + 2 * _MARGIN
    return (
        f'<svg viewBox="{-_MARGIN} {-_MARGIN} {number(width)} {number(height)}" role="img" '
        f'style="width:{number(width)}px;min-width:{number(0.72 * width)}px" fill="none" stroke="currentColor">'
        f"<title>{escape(title)}</title><desc>{escape(words)}</desc>{lines}{boxes}"
        f'<g fill="currentColor" stroke="none">{labels}</g></svg>'
    )


def _line(line: Line, cards: Sequence[Card], sizes: Sequence[tuple[float, float]], layout: Layout) -> str:
    end_x, end_y = layout.centres[line.target]
    (x, top, bottom), *others = line.passes
    d = f"M{number(x)} {number(top)}" + (f"V{number(bottom)}" if bottom > top else "")
    for next_x, top, next_bottom in others:
        d += f"{_bend(x, bottom, next_x, top)}V{number(next_bottom)}"
        x, bottom = next_x, next_bottom
    if line.weak and x > end_x and cards[line.target].kind in MERGES:  # a shortcut comes in at the side of the circle
        tip = end_x + sizes[line.target][0] / 2
        radius = min(14.0, (x - tip) / 2)
        d += f"V{number(end_y - radius)}Q{number(x)} {number(end_y)} {number(x - radius)} {number(end_y)}"
        d += f"H{number(tip + 5)}"
        head = f"M{number(tip + 7)} {number(end_y - 4)}l-7 4l7 4z"
    else:
        tip = end_y - sizes[line.target][1] / 2
        d += _bend(x, bottom, end_x, tip - 5)
        head = f"M{number(end_x - 4)} {number(tip - 7)}l4 7l4 -7z"
    kind = "skip" if line.weak else "way"
    return f'<path class="{kind}" d="{d}"/><path class="{kind} head" d="{head}"/>'


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    if x == to_x:
        return f"V{number(to_y)}"
    middle = (y + to_y) / 2
    return f"C{number(x)} {number(middle)} {number(to_x)} {number(middle)} {number(to_x)} {number(to_y)}"


def _box(card: Card, text: tuple[str, str], size: tuple[float, float], centre: tuple[float, float]) -> str:
    (x, y), (width, height) = centre, size
    kind = "merge" if card.kind in MERGES else card.kind
    radius = height / 2 if kind in ("merge", "input", "output") else 7
    box = {"x": x - width / 2, "y": y - height / 2, "width": width, "height": height, "rx": float(radius)}
    behind = ""
    for shift in (6.0, 3.0) if card.repeat > 1 else ():  # a pile of cards
        behind += tag("rect", class_=kind, **box | {"x": box["x"] + shift, "y": box["y"] + shift})
    baseline = y - 4 if text[1] else y + 4.5
    lines = tag("text", escape(text[0]), x=x, y=baseline)
    if text[1]:
        lines += tag("text", escape(text[1]), class_="more", x=x, y=baseline + 17)
    modules = f"<title>{escape(', '.join(card.modules))}</title>" if card.modules else ""
    return f'<g class="card">{modules}{behind}{tag("rect", class_=kind, **box)}{lines}</g>'


def _labelled(index: int, cards: Sequence[Card]) -> bool:
    """Say whether the shape is written under a card: where it is not that of what the card reads."""
    card = cards[index]
    return bool(card.shape and card.sources and card.kind != "output") and any(
        cards[source].shape != card.shape for source in card.sources
    )


def _label_below(index: int, cards: Sequence[Card], edges: Sequence[tuple[int, int]]) -> bool:
    """Say whether the shape stands below the card; where lines fan out below a circle, it stands beside it."""
    fans_out = cards[index].kind in MERGES and sum(source == index for source, _ in edges) > 1
    return _labelled(index, cards) and not fans_out


def _label(index: int, cards: Sequence[Card], sizes: Sequence[tuple[float, float]], layout: Layout) -> str:
    if not _labelled(index, cards):
        return ""
    (x, y), (width, height) = layout.centres[index], sizes[index]
    edges = [(line.source, line.target) for line in layout.lines]
    if _label_below(index, cards, edges):
        shortcut_leaves = any(
            line.source == index and line.weak and line.passes[-1][0] > x + 1 for line in layout.lines
        )
        side, at_x, at_y = (-1 if shortcut_leaves else 1), 7, y + height / 2 + 16
    else:
        shortcut_enters = any(line.target == index and line.weak for line in layout.lines)
        side, at_x, at_y = (-1 if shortcut_enters else 1), width / 2 + 7, y + 4
    text = size_text(cards[index].shape)
    return tag("text", text, class_="shape", x=x + side * at_x, y=at_y, text_anchor="end" if side < 0 else None)


def _overhang(cards: Sequence[Card], sizes: Sequence[tuple[float, float]], layout: Layout) -> float:
    """Return how far the last shape on the right, or a pile of cards, reaches over the drawing's edge."""
    reach = [layout.width]
    for index, (x, _) in enumerate(layout.centres):
        reach.append(x + sizes[index][0] / 2 + (6 if cards[index].repeat > 1 else 0))
        if _labelled(index, cards):
            reach.append(x + 7 + 7.4 * len(size_text(cards[index].shape)))
    return max(reach) - layout.width
