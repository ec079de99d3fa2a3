"""Mend what the tools below put on a page: requests to other hosts, needless scripts, repetitions, wrong roles.

Jupyter Book always loads sphinx-thebe, whose script comes from a CDN and is declared twice on each page, which is an
error in the browser's console. Nothing in this book uses it. MathJax, a megabyte, is left to pages with equations.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from sphinx.application import Sphinx

from cnnlib.explore import style
from cnnlib.explore.html import squeeze

# A search page on disk cannot fetch the pages whose summaries it would show.
SEARCH_FROM_DISK = "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"


def drop_thebe_markup(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Remove the configuration that sphinx-thebe writes into the body of each page."""
    for node in list(doctree.findall(nodes.raw)):
        text = node.astext()
        if "x-thebe-config" in text or text.startswith("<script>kernelName"):
            node.parent.remove(node)


def keep_marks_with_formulas(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Keep a full stop or comma on the line of the formula before it: after a formula, browsers may begin a new one."""
    for math in list(doctree.findall(nodes.math)):
        after = math.next_node(descend=False, siblings=True)
        marks = re.match(r"[.,;:!?)\]’]+", after) if isinstance(after, nodes.Text) else None
        if marks:
            around = math.parent
            at = around.index(math)
            kept = nodes.inline("", "", math, nodes.Text(marks[0]), classes=["with-mark"])
            around[at : at + 2] = [kept, nodes.Text(after[marks.end() :])]


def tidy_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Remove the scripts that the page does not need, and those that extensions have added twice."""
    needless = ["thebe"]
    if doctree is None or not any(doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block))):
        needless.append("mathjax")
    kept: dict[tuple[str, str], Any] = {}
    for script in context.get("script_files", []):
        name, body = str(script.filename or ""), script.attributes.get("body") or ""
        if not any(word in f"{name} {body}".lower() for word in needless):
            kept.setdefault((name, body), script)
    context["script_files"] = list(kept.values())
    context["css_files"] = [style for style in context.get("css_files", []) if "thebe" not in str(style.filename)]


def name_entries_of_bibliography(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the entries the role that their list asks for. docutils uses one that ARIA has withdrawn."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def lighten(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out what is on the page already: marks around code that has the colour of all code, and repeated styles.

    Every explorer brings the styles that all share, since in a notebook it may stand alone. A page needs them once.
    """
    if "body" in context:
        body = re.sub(r'<span class="(?:n|p|w)">([^<]*)</span>', r"\1", context["body"])
        shared = squeeze(style.css() + style.components_css())
        first, found, rest = body.partition(shared)
        context["body"] = first + found + rest.replace(shared, "")


def load_figures_late(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let a page load its drawings as they come into view. Their sizes are said, so that nothing moves when they do."""
    sources = {name: Path(app.srcdir) / path for path, (_, name) in app.env.images.items()}

    def late(image: re.Match[str]) -> str:
        head = sources[unquote(image["name"])].read_text(encoding="utf-8")[:2000]
        size = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', head)
        if not size:
            return image[0]
        width, height = (round(float(points) * 4 / 3) for points in size.groups())
        return f'{image["start"]} width="{width}" height="{height}" loading="lazy" />'

    if "body" in context:
        drawing = r'(?P<start><img alt="[^"]*" src="[^"]*_images/(?P<name>[^"/]+\.svg)") />'
        context["body"] = re.sub(drawing, late, context["body"])


def name_folds_of_contents(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the arrows that unfold a chapter's sections in the sidebar a name; the theme gives them a picture only."""
    draw = context.get("generate_toctree_html")
    if draw:
        context["generate_toctree_html"] = lambda *args, **options: str(draw(*args, **options)).replace(
            "<summary>", '<summary aria-label="Sections of this chapter">'
        )


def setup(app: Sphinx) -> None:
    app.add_js_file(None, body=SEARCH_FROM_DISK)
    app.connect("doctree-resolved", drop_thebe_markup, priority=900)
    app.connect("doctree-resolved", keep_marks_with_formulas)
    app.connect("html-page-context", tidy_scripts, priority=900)
    app.connect("html-page-context", name_entries_of_bibliography)
    app.connect("html-page-context", lighten)
    app.connect("html-page-context", load_figures_late)
    app.connect("html-page-context", name_folds_of_contents, priority=950)
