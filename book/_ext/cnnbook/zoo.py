"""The table of all registered models, by family."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cnnbook.notebooks import ROOT
from cnnlib.models import ModelCard, available, card

TITLES = {
    "amoebanet": "AmoebaNet-A",
    "inception": "Inception-v4 and Inception-ResNet-v2",
    "nasnet": "NASNet-A",
    "senet": "SENet",
}
"""Headings of families whose oldest file begins with another name."""
HEAD = """\
| Name | Year | Input | Parameters | Multiply-adds | Published error |
|---|---|---|---:|---:|---|"""


def row(model: ModelCard) -> str:
    """One model as a row of a Markdown table."""
    size = "×".join(map(str, model.input_size))
    cost = "" if model.multiply_adds is None else f"{model.multiply_adds / 1e6:,.1f} M"
    error = f"{model.headline.beside(model.dataset)}, {model.headline.source}" if model.headline else ""
    images = f"{model.dataset}, {size}"
    cells = (f"`{model.name}`", str(model.paper.year), images, f"{model.parameters:,}", cost, error)
    return f"| {' | '.join(cells)} |"


def families(models: Iterable[ModelCard]) -> dict[str, list[ModelCard]]:
    """Models by family; families and the models in them in the order given."""
    found: dict[str, list[ModelCard]] = {}
    for model in models:
        found.setdefault(model.family, []).append(model)
    return found


def title(family: str, models: list[ModelCard]) -> str:
    """The heading of a family: what the docstring of its oldest file names first."""
    build = models[0].build
    file = inspect.getmodule(build.func if isinstance(build, functools.partial) else build)
    return TITLES.get(family) or re.match(r"[^.]*", file.__doc__)[0]


class Zoo(SphinxDirective):
    """A section with a table for each family, oldest first."""

    def run(self) -> list[nodes.Node]:
        for path in (ROOT / "cnnlib" / "models").glob("*.py"):
            self.env.note_dependency(str(path))
        return [self.section(*family) for family in families(map(card, available())).items()]

    def section(self, family: str, models: list[ModelCard]) -> nodes.section:
        section = nodes.section(
            "", nodes.title("", title(family, models)), ids=[f"family-{family}"], names=[f"family {family}"]
        )
        self.state.document.note_implicit_target(section)
        papers = dict.fromkeys(model.paper for model in models)
        titles = [f"- *{paper.title}* {{cite:p}}`{paper.key}`" for paper in papers]
        section["classes"].append("cnn-zoo")
        section += self.parse_text_to_nodes("\n".join([*titles, "", HEAD, *map(row, models)]))
        return section


def setup(app: Sphinx) -> None:
    app.add_directive("zoo", Zoo)
