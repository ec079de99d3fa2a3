"""Tables of finished cells, as plain text for terminals and as HTML for notebooks and the book."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 100
"""Characters to which captions and notes are wrapped, and columns cut that may be."""

# What the table needs where there is no style sheet, as on Colab. Its colours are the page's.
_STYLE = (
    "<style>.cnn-scroll{overflow-x:auto}.cnn-table caption,.cnn-table th,.cnn-table td{text-align:left}"
    ".cnn-table .cnn-number{text-align:right;font-variant-numeric:tabular-nums}"
    ".cnn-scroll~.cnn-note{margin:0;font-size:smaller}</style>"
)


@dataclass(frozen=True)
class Column:
    """The heading of a column and the unit of its numbers. Words stand on the left, numbers on the right.

    ``least`` is the width to which text may be cut where the table would be too wide; without it nothing is cut.
    """

    heading: str
    unit: str = ""
    numeric: bool = True
    least: int | None = None


@dataclass(frozen=True, repr=False)
class Table:
    """A table that shows itself. The first column names the row, ``footer`` is the row of totals.

    ``str`` gives plain text, wider than 100 characters only if no more can be cut: long names lose their beginning,
    other words their end. In a notebook it is HTML of the class ``cnn-table``, in a frame that scrolls on a narrow
    screen; the notes stand under it.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] | None = None
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        headings = [[column.heading for column in self.columns]]
        if any(column.unit for column in self.columns):
            headings.append([column.unit and f"({column.unit})" for column in self.columns])
        body = [*self.rows, self.footer] if self.footer else [*self.rows]
        widths = [max(map(len, cells)) for cells in zip(*headings, *body, strict=True)]
        gaps = 2 * (len(widths) - 1)
        for index, column in reversed([*enumerate(self.columns)]):
            if column.least is not None:
                excess = max(0, sum(widths) + gaps - WIDTH)
                widths[index] = max(min(widths[index], column.least), widths[index] - excess)

        def line(cells: Sequence[str]) -> str:
            name, *others = cells
            if len(name) > widths[0]:
                name = f"…{name[1 - widths[0] :]}"
            placed = []
            for cell, width, column in zip([name, *others], widths, self.columns, strict=True):
                cut = cell if len(cell) <= width else f"{cell[: width - 1]}…"
                placed.append(cut.rjust(width) if column.numeric else cut.ljust(width))
            return "  ".join(placed).rstrip()

        rule = "-" * (sum(widths) + gaps)
        lines = [*map(line, headings), rule, *map(line, self.rows)]
        if self.footer:
            lines += [rule, line(self.footer)]
        return "\n".join([*_wrapped(self.caption), *lines, *(part for note in self.notes for part in _wrapped(note))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f'<p class="cnn-note">{escape(note)}</p>' for note in self.notes)
        headings = [column.heading + (f" ({column.unit})" if column.unit else "") for column in self.columns]
        footer = f"<tfoot>{self._html_row(self.footer)}</tfoot>" if self.footer else ""
        return (
            f'{_STYLE}<div class="cnn-scroll" role="group" tabindex="0" aria-label="{escape(self.caption)}">'
            f'<table class="cnn-table"><caption>{escape(self.caption)}</caption>'
            f"<thead>{self._html_row(headings, scopes=('col',) * len(headings))}</thead>"
            f"<tbody>{''.join(map(self._html_row, self.rows))}</tbody>{footer}</table></div>{notes}"
        )

    def _html_row(self, cells: Sequence[str], scopes: Sequence[str] = ("row",)) -> str:
        parts = []
        for index, (cell, column) in enumerate(zip(cells, self.columns, strict=True)):
            tag, scope = ("th", f' scope="{scopes[index]}"') if index < len(scopes) else ("td", "")
            number = ' class="cnn-number"' if column.numeric else ""
            content = escape(cell).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")  # a mean keeps its deviation
            parts.append(f"<{tag}{scope}{number}>{content}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH)
