"""A small table that shows itself as text in a terminal and as HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; the first column names the row.

    Attributes:
        caption: one line above the table.
        columns: headings, with units.
        rows: as many cells each as there are columns.
        notes: lines below the table.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        numeric = [self._is_numeric(i) for i in range(len(self.columns))]
        text = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in lines
        ]
        text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join([*filter(None, [self.caption]), *text, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        numeric = [' class="number"' if self._is_numeric(i) else "" for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(self.columns, numeric, strict=True)
        )
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], numeric[1:], strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = f'<table class="cnn-table">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return table + "".join(f'<p class="cnn-note">{escape(note)}</p>' for note in self.notes)

    def _is_numeric(self, column: int) -> bool:
        """Tell whether every cell of a column is empty or begins like a number."""
        cells = [row[column] for row in self.rows if row[column] not in ("", "–")]
        return bool(cells) and all(cell.lstrip("−-+")[:1].isdigit() for cell in cells)


def percent(value: float | None, digits: int = 2) -> str:
    """Return an error in percent as text, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f} %"


def in_words(seconds: float) -> str:
    """Return a duration in the unit that suits it: ``"8.1 s"``, ``"2 min 5 s"``, ``"3 h 20 min"``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
