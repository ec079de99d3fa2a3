"""What a notebook shows of an explorer or a drawing: one self-contained HTML figure, and its content in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from cnnlib.errors import CnnlibError
from cnnlib.explore import style


class BadId(CnnlibError, ValueError):
    """An explorer or drawing was given an id that cannot stand in a page."""


@dataclass(frozen=True)
class Html:
    """HTML for a page (``html``) and what it says in words (``text``), which is shown where HTML is not."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@cache
def asset(name: str) -> str:
    """Return the text of a file in ``cnnlib/explore/assets``."""
    return files("cnnlib.explore").joinpath("assets", name).read_text(encoding="utf-8").strip()


def figure(body: str, *, id: str, kind: str, css: str = "", script: str = "") -> str:
    """Wrap ``body`` in a ``<figure class="cnn {kind}" id="{id}">`` that needs nothing from the page around it.

    Raises:
        BadId: if ``id`` is not a letter followed by letters, digits and dashes.
    """
    if not (isinstance(id, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", id)):
        raise BadId(f"{id!r} cannot be the id of a figure; use a letter followed by letters, digits and dashes")
    styles = squeeze(style.css() + style.components_css() + css)
    scripts = f"<script>{script}</script>" if script else ""
    return f'<figure class="cnn {kind}" id="{id}"><style>{styles}</style>{body}{scripts}</figure>'


def picture(svg: str, *, id: str, kind: str, css: str, title: str, caption: str) -> str:
    """Wrap a drawing as :func:`figure` does; it scrolls where the page is narrower. Without caption, the title is it.

    Raises:
        BadId: as for :func:`figure`.
    """
    scrolling = f'<div class="cnn-scroll" tabindex="0" role="group" aria-label="{escape(title)}">{svg}</div>'
    return figure(f"{scrolling}<figcaption>{escape(caption or title)}</figcaption>", id=id, kind=kind, css=css)


def squeeze(css: str) -> str:
    """Return CSS without comments and needless white space."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    css = re.sub(r"\s+", " ", css)
    return re.sub(r" ?([{};,>]) ?", r"\1", css).replace(";}", "}").strip()


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return one element. A ``_`` in a name is written as a dash, one at its end dropped; ``None`` leaves it out."""
    return f"<{name}{_attributes(attributes)}>{content}</{name}>"


def _attributes(attributes: Mapping[str, object]) -> str:
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(number(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )


def number(value: object) -> str:
    """Return a value as SVG wants it: numbers with at most one decimal, without a trailing zero."""
    return f"{value:z.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@cache
def script(name: str) -> str:
    """Return a script in ``cnnlib/explore/assets`` without comments and indentation."""
    lines = (re.sub(r"(^|\s)// .*", "", line).strip() for line in asset(name).splitlines())
    return "\n".join(line for line in lines if line)


def buttons(label: str, name: str, choices: Mapping[str, str], chosen: str) -> str:
    """Return a row of buttons of which one is pressed: the words of each choice by its value, in ``data-{name}``."""
    each = (
        tag("button", text, type="button", aria_pressed=str(value == chosen).lower(), **{f"data_{name}": value})
        for value, text in choices.items()
    )
    return tag("div", "".join(each), class_="cnn-row", role="group", aria_label=label)
