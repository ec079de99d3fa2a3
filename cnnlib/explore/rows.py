"""Several drawings beside each other, as many in a row as the page is wide."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cnnlib.explore.boxes import NothingToDraw
from cnnlib.explore.html import Html, asset, figure


def gallery(drawings: Sequence[Html], *, id: str, caption: str = "", width: int = 264) -> Html:
    """Show drawings side by side, each with the caption that it was made with.

    Args:
        drawings: such as :func:`cnnlib.explore.diagram` returns, each with an id of its own.
        id: the id of the whole in the page.
        caption: shown under the whole.
        width: the least width of a drawing, in pixels; it decides how many stand in a row.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NothingToDraw: if there is no drawing.
    """
    if not drawings:
        raise NothingToDraw("gallery needs at least one drawing")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    body = f'<div style="--least:{width}px">{"".join(drawing.html for drawing in drawings)}</div>{below}'
    words = "\n".join(drawing.text for drawing in drawings)
    return Html(figure(body, id=id, kind="cnn-gallery", css=asset("gallery.css")), words)
