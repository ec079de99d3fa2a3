"""What a chapter's page shows besides the notebook: what its outputs were made with, and names for folded cells."""

from __future__ import annotations

import datetime
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cnnbook import notebooks


def duration(seconds: float) -> str:
    """Words for a time: seconds up to two minutes, then minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def made_with(facts: dict[str, Any]) -> str:
    """One sentence on the run that made a chapter's outputs."""
    day = datetime.date.fromisoformat(facts["date"])
    data = " and ".join(facts["data"]) or "no data set"
    return (
        f"Outputs of {day.day} {day:%B %Y}: {data}, budget “{facts['budget']}”, {duration(facts['seconds'])} on "
        f"{facts['hardware']}; PyTorch {facts['versions']['torch']}."
    )


def facts_of(app: Sphinx, docname: str) -> dict[str, Any] | None:
    """The facts stored in the notebook behind a page, if it is an executed notebook."""
    path = Path(app.env.doc2path(docname))
    return notebooks.read(path).metadata.get("cnnlib") if path.suffix == ".ipynb" else None


def add_provenance(app: Sphinx, doctree: nodes.document) -> None:
    """Say below a chapter's title what its outputs were made with."""
    facts = facts_of(app, app.env.docname)
    title = next(doctree.findall(nodes.title), None)
    if facts and title:
        text = f'<p class="cnn-provenance">{escape(made_with(facts))}</p>'
        note = nodes.raw("", text, format="html")  # so that no description of the page begins with it
        title.parent.insert(title.parent.index(title) + 1, note)


def name_folded_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Call a folded cell by what it is: cells that are folded whole are the solutions of exercises."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            name = "Solution" if "tag_hide-cell" in cell["classes"] else "Code"
            cell["prompt_show"] = cell["prompt_hide"] = name


class Chapters(SphinxDirective):
    """A table of the chapters: what each was run on, and how long it took."""

    def run(self) -> list[nodes.Node]:
        rows = ["| Chapter | Data | Budget | Hardware | Time |", "|---|---|---|---|---:|"]
        for docname in self.config.external_site_map:
            facts = facts_of(self.env.app, docname)
            if facts:
                path = Path(self.env.doc2path(docname))
                self.env.note_dependency(str(path))
                data = ", ".join(facts["data"])
                rows.append(
                    f"| [](/{docname}{path.suffix}) | {data} | {facts['budget']} | {facts['hardware']} "
                    f"| {duration(facts['seconds'])} |"
                )
        return self.parse_text_to_nodes("\n".join(rows))


def setup(app: Sphinx) -> None:
    app.add_directive("chapters", Chapters)
    app.connect("doctree-read", add_provenance)
    app.connect("doctree-read", name_folded_cells)
