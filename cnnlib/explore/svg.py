"""Matplotlib figures as small inline SVG: the same on every run, following the page's theme."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from cnnlib.explore.style import PALETTE, rc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_PIXELS = 4 / 3
"""Pixels of a point."""
_LEAST = 0.8 * _PIXELS
"""What a drawing shrinks to in a narrow page: text of 8 points then still has 8 pixels. It scrolls beyond that."""


def render(figure: Figure) -> str:
    """Return a matplotlib figure as an SVG document that depends on the figure alone (no date, no random ids)."""
    import matplotlib

    settings = rc()
    buffer = io.StringIO()
    with matplotlib.rc_context({name: settings[name] for name in ("svg.fonttype", "svg.hashsalt")}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def document(figure: Figure) -> str:
    """Return a figure as a small SVG document of its own: lengths to tenths of a point, WebP pictures, no indents."""
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", render(figure), flags=re.DOTALL)
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r'data:image/png;base64,[^"]+', lambda picture: _small(picture[0]), text)
    return re.sub(r'(?<= d=")[^"]+', lambda path: _rounded(path[0]), text)


class Sheet:
    """Makes several SVG documents small enough to stand inline in one page, with the style classes they share.

    Coordinates are rounded to a tenth of a point; colours of the light palette become CSS variables with the colour as
    fallback, so that the drawing follows the theme; ids carry a prefix for each document, since ids are one name space
    in a page.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self._classes: dict[str, str] = {}

    def inline(self, document: str, *, alt: str, prefix: str) -> str:
        """Return one document as an ``<svg role="img">`` element for a page, with ``alt`` as its label."""
        root = ElementTree.fromstring(document)
        for child in list(root):
            if child.tag == f"{_SVG}metadata":
                root.remove(child)
        for style in root.iterfind(f"{_SVG}defs/{_SVG}style"):
            style.text = None
        self._prune(root)
        used = set(re.findall(r"#([\w-]+)", ElementTree.tostring(root, encoding="unicode")))
        for element in root.iter():
            self._shorten(element, used, prefix)
        width, height = root.get("viewBox").split()[2:]
        root.attrib = {
            "viewBox": f"0 0 {float(width):g} {float(height):g}",
            "role": "img",
            "aria-label": alt,
            "class": self._class(f"min-width:{float(width) * _LEAST:.0f}px"),
            "style": f"width:{float(width) * _PIXELS:.0f}px",
        }
        text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
        return re.sub(r"<(/?)\w+:", r"<\1", re.sub(r' xmlns:\w+="[^"]*"', "", text)).replace(" />", "/>")

    def css(self) -> str:
        """Return the classes of all documents made so far."""
        rules = (f"#{self._scope} .{name}{{{declarations}}}" for declarations, name in self._classes.items())
        # Matplotlib's own general rule, which `inline` takes out of each document.
        return f"#{self._scope} svg *{{stroke-linejoin:round;stroke-linecap:butt}}" + "".join(rules)

    def _prune(self, element: ElementTree.Element) -> None:
        """Drop empty definitions and groups that say nothing."""
        for index, child in reversed(list(enumerate(list(element)))):
            self._prune(child)
            bare = child.tag == f"{_SVG}g" and not set(child.attrib) - {"id"}
            empty = child.tag in (f"{_SVG}defs", f"{_SVG}style", f"{_SVG}g") and not len(child)
            if empty or bare:
                element[index : index + 1] = list(child)
            child.tail = None
        element.text = (element.text or "").strip() or None

    def _shorten(self, element: ElementTree.Element, used: set[str], prefix: str) -> None:
        attributes = element.attrib
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        for name in list(attributes):
            value = attributes.pop(name)
            if name == "id":
                value = prefix + value
            elif name == f"{_XLINK}href":
                value = _small(value) if value.startswith("data:") else value.replace("#", f"#{prefix}")
            elif name in ("d", "points", "x", "y", "width", "height", "transform") and not value.startswith("matrix("):
                value = _rounded(value)
            value = value.replace("url(#", f"url(#{prefix}")
            if name == "transform" and value.startswith("rotate(0 "):
                continue
            if name == "style":
                name, value = "class", self._class(value)
            attributes[name.replace(_XLINK, "")] = value

    def _class(self, declarations: str) -> str:
        tidy = re.sub(r"\s*([:;])\s*", r"\1", declarations.strip().rstrip(";"))
        return self._classes.setdefault(_themed(tidy), f"c{len(self._classes)}")


def _small(picture: str) -> str:
    """Write an embedded PNG again as WebP without loss, which is smaller, above all for grey and few colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    buffer = io.BytesIO()
    image.save(buffer, format="webp", lossless=True, quality=100, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rounded(numbers: str) -> str:
    numbers = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), numbers)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", numbers).replace("-0 ", "0 ").strip()


_NAMES = {"#000000": "ink"} | {colour: name for name, colour in PALETTE["light"].items()}


def _themed(declarations: str) -> str:
    """Let the colours of the light palette follow the theme."""

    def variable(match: re.Match) -> str:
        name = _NAMES.get(match[0].lower())
        return f"var(--cnn-{name},{match[0]})" if name else match[0]

    return re.sub(r"#[0-9a-fA-F]{6}", variable, declarations)
