"""The book's logo and favicon: a stack of feature maps with a window on the first, drawn from the palette."""

from __future__ import annotations

from html import escape

from cnnlib.explore.style import PALETTE, Theme

_MAPS = ((13.0, 3.0, "teal"), (8.0, 8.0, "purple"), (3.0, 13.0, "blue"))  # x, y and colour, the rearmost first
_SIDE = 32.0
_CELL = _SIDE / 4


def logo_svg(words: tuple[str, ...] = (), *, dark: bool = False) -> str:
    """Return the logo as an SVG document for a light or dark page, with up to two lines of words beside the drawing."""
    theme: Theme = "dark" if dark else "light"
    lines = "".join(
        f'<text x="60" y="{30 - 9.5 * (len(words) - 1) + 19 * number:g}">{escape(line)}</text>'
        for number, line in enumerate(words)
    )
    if lines:
        colour = PALETTE[theme]["ink"]
        lines = f'<g fill="{colour}" font-family="system-ui, sans-serif" font-size="17" font-weight="600">{lines}</g>'
    # A letter is about 0.6 of its size wide; the room on the right is for fonts that are wider.
    width = 60 + 10.5 * max(map(len, words)) if words else 48
    return _document(_stack(theme) + lines, width)


def favicon_svg() -> str:
    """Return the favicon as an SVG document that follows the reader's ``prefers-color-scheme``."""
    follow = ".dark{display:none}@media (prefers-color-scheme:dark){.light{display:none}.dark{display:inline}}"
    light, dark = (f'<g class="{theme}">{_stack(theme)}</g>' for theme in ("light", "dark"))
    return _document(f"<style>{follow}</style>{light}{dark}")


def _document(content: str, width: float = 48) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} 48">{content}</svg>\n'


def _stack(theme: Theme) -> str:
    colours = PALETTE[theme]
    maps = "".join(
        f'<rect x="{x:g}" y="{y:g}" width="{_SIDE:g}" height="{_SIDE:g}" rx="3" fill="{colours[f"{name}-soft"]}"'
        f' stroke="{colours[name]}" stroke-width="2"/>'
        for x, y, name in _MAPS
    )
    x, y, front = _MAPS[-1]
    lines = "".join(f"M{x + i * _CELL:g} {y:g}v{_SIDE:g}M{x:g} {y + i * _CELL:g}h{_SIDE:g}" for i in range(1, 4))
    window = 2 * _CELL
    return (
        f'{maps}<path d="{lines}" stroke="{colours[front]}" stroke-width="1" opacity=".55"/>'
        f'<rect x="{x + _CELL:g}" y="{y + _CELL:g}" width="{window:g}" height="{window:g}" rx="1.5"'
        f' fill="{colours["orange"]}" stroke="{colours["paper"]}" stroke-width="1.5"/>'
    )
