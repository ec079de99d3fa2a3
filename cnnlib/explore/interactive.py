"""Turn a function that draws into an explorer: widgets where a kernel runs, ready-made frames in the published page."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

from cnnlib.errors import CnnlibError
from cnnlib.explore.html import Html, asset, figure, script, tag
from cnnlib.explore.style import rc
from cnnlib.explore.svg import Sheet, render

Words = str | Callable[..., str]
"""Words for one frame: a template such as ``"kernel {k}"``, or a function of the parameters."""


class NoFrames(CnnlibError, ValueError):
    """``frames`` was given nothing that it can show: no values, words that do not fit them, or no drawing."""


def frames(
    f: Callable[..., Any],
    *,
    alt: Words,
    caption: Words = "",
    id: str,
    **parameters: Sequence[Any],
) -> Html | None:
    """Show ``f`` for every combination of the given values, with one slider a parameter.

    In a live kernel the sliders are ``ipywidgets`` and ``f`` is called as they move; nothing is returned. With
    ``CNNLIB_STATIC=1``, which ``make execute`` and the tests set, or without ipywidgets or kernel, all frames are drawn
    now and returned as one self-contained figure.

    Args:
        f: called with one value for each parameter, in the book's style; returns a matplotlib figure, or HTML as a
            string or an object with ``_repr_html_``.
        alt: what a frame shows, for readers who do not see it: ``"the error at k = {k}"`` or a function of the
            parameters.
        caption: the caption under the figure, likewise. What changes in it is read out when a slider moves.
        id: the id of the figure in the page.
        parameters: the values of each parameter, in the order of its slider. A ``_`` in a name is shown as a space.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
        NoFrames: if there is no parameter, one has no values, the words name another, or ``f`` returns no drawing.
    """
    for name, values in parameters.items():
        if not isinstance(values, Iterable):
            raise NoFrames(f"frames needs all values of {name}, not {values!r}; pass, say, {name}=[1, 3, 5]")
    choices = {name: list(values) for name, values in parameters.items()}
    empty = [name for name, values in choices.items() if not values]
    if empty or not choices:
        raise NoFrames(f"frames needs values for {', '.join(empty) or 'a parameter'}; pass, say, k=[1, 3, 5]")
    if _live():
        return _widgets(f, alt, caption, id, choices)
    return _static(f, alt, caption, id, choices)


def _live() -> bool:
    """Say whether a kernel with widgets will answer the sliders."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    has_kernel = getattr(shell, "kernel", None) is not None
    return has_kernel and os.environ.get("CNNLIB_STATIC") != "1" and find_spec("ipywidgets") is not None


def _say(words: Words, values: dict[str, Any]) -> str:
    if callable(words):
        return words(**values)
    try:
        return words.format(**values)
    except LookupError as error:
        known = ", ".join(f"{{{name}}}" for name in values)
        raise NoFrames(f"there is no parameter for a placeholder in {words!r} ({error}); use {known}") from error
    except ValueError as error:
        raise NoFrames(f"{words!r} is no text with placeholders ({error}); write {{{{ for a brace") from error


def _frame(sheet: Sheet, f: Callable, values: dict[str, Any], alt: str, prefix: str) -> str:
    """Draw one frame in the book's style and return it as HTML."""
    from matplotlib import pyplot, rc_context
    from matplotlib.figure import Figure

    with rc_context(rc()):
        shown = f(**values)
    if hasattr(shown, "savefig"):
        if isinstance(drawn := getattr(shown, "figure", None), Figure):
            pyplot.close(drawn)  # one that pyplot made would be shown again at the end of the cell
        return sheet.inline(render(shown), alt=alt, prefix=prefix)
    content = shown._repr_html_() if hasattr(shown, "_repr_html_") else shown
    if not isinstance(content, str):
        raise NoFrames(f"f returned {content!r:.80}; return the figure")
    return tag("div", content, role="group", aria_label=alt)


def _static(f: Callable, alt: Words, caption: Words, id: str, choices: dict[str, list]) -> Html:
    sheet = Sheet(id)
    drawn, captions, alts = [], [], []
    for number, combination in enumerate(itertools.product(*choices.values())):
        values = dict(zip(choices, combination, strict=True))
        alts.append(_say(alt, values))
        captions.append(_say(caption, values))
        content = _frame(sheet, f, values, alts[-1], f"{id}-{number}-")
        drawn.append(f'<div class="frame"{" hidden" if number else ""}>{content}</div>')
    sliders = "".join(
        f"<label><span><span>{escape(_title(name))}</span>"
        f'<b aria-hidden="true">{escape(str(values[0]))}</b></span>'
        f'<input type="range" min="0" max="{len(values) - 1}" value="0" autocomplete="off"'
        f' aria-valuetext="{escape(str(values[0]))}"></label>'
        for name, values in choices.items()
    )
    data = {"values": [[str(value) for value in values] for values in choices.values()], "captions": captions}
    body = (
        f'<div class="cnn-controls" role="group" aria-label="Parameters">{sliders}</div>'
        f'<div class="cnn-scroll" tabindex="0" role="group" aria-label="Frame">{"".join(drawn)}</div>'
        f'<figcaption aria-live="polite">{escape(captions[0])}</figcaption>'
        + tag("script", json.dumps(data, ensure_ascii=False).replace("</", "<\\/"), type="application/json")
    )
    css = asset("frames.css") + sheet.css()
    return Html(figure(body, id=id, kind="cnn-frames", css=css, script=script("frames.js")), alts[0])


def _title(name: str) -> str:
    return name.replace("_", " ")


def _widgets(f: Callable, alt: Words, caption: Words, id: str, choices: dict[str, list]) -> None:
    from IPython.display import HTML, display
    from ipywidgets import SelectionSlider, interact

    def show(**values: Any) -> None:
        sheet = Sheet(id)
        content = _frame(sheet, f, values, _say(alt, values), f"{id}-")
        body = f'<div class="cnn-scroll">{content}</div><figcaption>{escape(_say(caption, values))}</figcaption>'
        display(HTML(figure(body, id=id, kind="cnn-frame", css=sheet.css())))

    sliders = {
        name: SelectionSlider(
            options=[(str(value), value) for value in values],
            description=_title(name),
            continuous_update=False,
        )
        for name, values in choices.items()
    }
    interact(show, **sliders)
