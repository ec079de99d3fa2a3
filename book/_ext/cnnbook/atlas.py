"""The architecture atlas: a plate for each form of network, with its drawings, its numbers and its errors."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from cnnbook import costs, notebooks, plates
from cnnbook.api import first_sentence
from cnnbook.notebooks import ROOT
from cnnbook.plates import Content, Drawing, Numbers, Plate
from cnnlib import studies
from cnnlib.explore.style import PALETTE
from cnnlib.models import ModelCard
from cnnlib.settings import BUDGETS
from cnnlib.studies.statistics import Summary, summarise
from cnnlib.studies.study import STUDIES, Arm, Study

TITLES = {
    "amoebanet": "AmoebaNet-A",
    "inception": "Inception-v3, Inception-v4 and Inception-ResNet-v2",
    "nasnet": "NASNet-A",
    "senet": "SENet",
}
"""Headings of families whose oldest file begins with another name."""
PAGE = "book/atlas"
"""The page of the book that has the atlas."""
IMAGES = "_images/atlas"
"""Where the drawings lie in the built book."""
HEAD = """\
| Network | Parameters | Multiply-adds | Field | Memory | Published error |
|---|---:|---:|---:|---:|---|"""
MEASURED = """\
| Network | Study | Budget | Test error | Runs |
|---|---|---|---:|---:|"""
SIZES = {"": "any", "0-1": "up to 1 million", "1-10": "1 to 10 million", "10-50": "10 to 50 million", "50-": "above 50"}
"""What the filter offers for parameters: from and to, in millions."""


@dataclass(frozen=True)
class Measured:
    """What the records of the package say of a network: an arm of a study, in one budget."""

    study: Study
    label: str
    arm: Arm
    budget: str
    test_error: Summary


@functools.cache
def measured() -> tuple[Measured, ...]:
    """All that is recorded, study by study."""
    found = []
    for name, study in STUDIES.items():
        records = costs.records()[name]
        for label, arm in study.arms.items():
            for budget in BUDGETS:
                errors = [one.run.test_error for one in records if (one.arm, one.run.budget) == (label, budget)]
                if errors:
                    found.append(Measured(study, label, arm, budget, summarise(errors)))
    return tuple(found)


@functools.cache
def chapters() -> dict[str, str]:
    """The first notebook that shows a study, by the study's name."""
    found: dict[str, str] = {}
    for path in notebooks.paths():
        for cell in notebooks.code_cells(notebooks.read(path)):
            for name in re.findall(r'find_study\("([\w-]+)"\)', cell.source):
                found.setdefault(name, path.name)
    return found


# ---- Markdown --------------------------------------------------------------------------------------------------------


def row(model: ModelCard, numbers: Numbers) -> str:
    """One network as a row of a Markdown table."""
    image = f"{model.dataset}, {'×'.join(map(str, model.input_size))}"
    cost = "" if model.multiply_adds is None else f"{model.multiply_adds / 1e6:,.1f} M"
    error = f"{model.headline.beside(model.dataset)}, {model.headline.source}" if model.headline else ""
    memory = f"{numbers.activation_bytes / 1e6:,.1f} MB"
    name = f"`{model.name}`<br>{model.about}. {image}"
    cells = (name, f"{model.parameters:,}", cost, numbers.field, memory, error)
    return f"| {' | '.join(cells)} |"


def measured_row(one: Measured) -> str:
    """One result of ours as a row of a Markdown table."""
    changes = ", ".join(f"{option}={value}" for option, value in one.arm.overrides.items())
    name = f"`{one.arm.model}`" + f" with {changes}" * bool(changes)
    page = chapters().get(one.study.name)
    study = f"[{one.study.name}](../notebooks/{page})" if page else one.study.name
    label = f", “{one.label}”" * (one.label.lower().replace(" ", "-") != one.arm.model)
    return f"| {name} | {study}{label} | {one.budget} | {one.test_error} % | {one.test_error.n} |"


def families(all_plates: Iterable[Plate]) -> dict[str, list[Plate]]:
    """Plates by family; families and the plates in them in the order given."""
    found: dict[str, list[Plate]] = {}
    for plate in all_plates:
        found.setdefault(plate.family, []).append(plate)
    return found


def title(family: str, first: Plate) -> str:
    """The heading of a family: what the docstring of its oldest file names first."""
    return TITLES.get(family) or re.match(r"[^.]*", plates.home(first).__doc__)[0]


def address(plate: Plate) -> str:
    """The name of a plate in the addresses of the page, after ``plate-``."""
    return nodes.make_id(plate.slug)


def form(plate: Plate) -> str:
    """What the networks of a plate are, in the words of what builds them."""
    return re.sub(r"^Return (\w)", lambda start: start[1].upper(), first_sentence(plate.of.__doc__))


def origin(plate: Plate) -> str:
    """The year and the authors of a plate's networks, and where their code is."""
    paper, of, file = plate.paper, plate.of, plates.home(plate).__name__
    built = f"{{py:obj}}`{of.__name__} <{of.__module__}.{of.__qualname__}>`"
    cell = "" if file == of.__module__ else f" with the cells of {{py:mod}}`{file}`"
    return f"{paper.year}, {paper.authors.removesuffix('.')}. Code: {built}{cell}."


def published(plate: Plate) -> str:
    """All published errors of a plate's networks, or nothing if the table has them already."""
    lines = [
        f"- `{model.name}`: " + "; ".join(f"{error.beside(model.dataset)}, {error.source}" for error in model.published)
        for model in plate.models
        if len(model.published) > (model.headline is not None)
    ]
    return "\n".join(lines)


# ---- HTML ------------------------------------------------------------------------------------------------------------


def picture(drawing: Drawing) -> str:
    """A drawing in both themes, of which the page shows one; the browser loads it when it comes near."""
    size = f'width="{drawing.width}" height="{drawing.height}"'
    images = "".join(
        f'<img class="only-{theme}" loading="lazy" {size} alt="{escape(alternative(drawing))}" '
        f'src="../{IMAGES}/{escape(getattr(drawing, theme))}">'
        for theme in ("light", "dark")
    )
    return f"<figure><div>{images}</div><figcaption>{escape(drawing.title)}</figcaption></figure>"


def alternative(drawing: Drawing) -> str:
    """What stands for a drawing where it is not seen; the page of the drawings alone has all of it in words."""
    return f"Drawing of {drawing.title}, in words by the link below"


def pictures(plate: Plate, content: Content) -> str:
    """The drawings of a plate beside each other, and a link to them alone."""
    shown = "".join(map(picture, content.drawings))
    alone = f'<a href="../{IMAGES}/{address(plate)}.html">These drawings alone, and in words</a>'
    return (
        f'<div class="atlas-drawings" tabindex="0" role="group" aria-label="Drawings of {escape(plate.title)}">{shown}'
        f'</div><p class="atlas-alone">{alone}</p>'
    )


def alone(plate: Plate, content: Content) -> str:
    """A page with the drawings of a plate in full size, and what they show in words."""
    media = 'media="(prefers-color-scheme: dark)"'
    parts = "".join(
        f'<h2>{escape(one.title)}</h2><div tabindex="0" role="group" aria-label="Drawing of {escape(one.title)}">'
        f'<picture><source {media} srcset="{escape(one.dark)}">'
        f'<img src="{escape(one.light)}" width="{one.width}" height="{one.height}" loading="lazy" '
        f'alt="Drawing of {escape(one.title)}, in words below"></picture></div><p>{escape(one.words)}</p>'
        for one in content.drawings
    )
    light, dark = (
        {f"--{name}": PALETTE[theme][name] for name in ("paper", "ink", "blue")} for theme in ("light", "dark")
    )
    css = (
        f":root{{{variables(light)}}}@media(prefers-color-scheme:dark){{:root{{{variables(dark)}}}}}"
        "body{max-width:44rem;margin:2rem auto;padding:0 1rem;background:var(--paper);color:var(--ink);"
        "font:1rem/1.6 system-ui,sans-serif}a{color:var(--blue)}img{display:block}div{overflow-x:auto}"
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Drawings of {escape(plate.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head><body><main>'
        f"<h1>Drawings of {escape(plate.title)}</h1>"
        f'<p><a href="../../{PAGE}.html#plate-{address(plate)}">Back to the atlas</a></p>{parts}</main></body></html>'
    )


def variables(values: dict[str, str]) -> str:
    """CSS declarations."""
    return ";".join(f"{name}:{value}" for name, value in values.items())


def choice(name: str, label: str, options: dict[str, str]) -> str:
    """A labelled list to choose from."""
    listed = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items())
    return f'<label><span>{label}</span><select name="{name}">{listed}</select></label>'


def filter_form(all_plates: list[Plate]) -> str:
    """The filter. A script shows it and makes it work; without one the page shows everything."""
    first = {family: title(family, group[0]) for family, group in families(all_plates).items()}
    years = sorted({model.paper.year for plate in all_plates for model in plate.models})
    script = Path(__file__).with_name("atlas.js").read_text(encoding="utf-8")
    return (
        '<form class="cnn atlas-filter" role="search" aria-label="Networks of the atlas" hidden><div>'
        '<label><span>Words</span><input type="search" name="words" autocomplete="off" spellcheck="false"></label>'
        f"{choice('family', 'Family', {'': 'any', **first})}"
        f"{choice('year', 'Year', {'': 'any', **{str(year): str(year) for year in years}})}"
        f"{choice('size', 'Parameters', SIZES)}"
        '<button type="reset">Show all</button></div><p role="status" aria-live="polite"></p></form>'
        f"<script>{script}</script>"
    )


# ---- the page --------------------------------------------------------------------------------------------------------


class Atlas(SphinxDirective):
    """The filter, and a section for each family with its plates, oldest first."""

    def run(self) -> list[nodes.Node]:
        for folder in ("models", "measure", "explore", "studies"):
            for path in (ROOT / "cnnlib" / folder).glob("*.py"):
                self.env.note_dependency(str(path))
        for path in (*Path(studies.__file__).parent.glob("records/*/*.json"), Path(__file__).with_name("atlas.js")):
            self.env.note_dependency(str(path))
        all_plates = plates.plates()
        contents = plates.contents(all_plates, kept(self.env))
        filters = nodes.raw("", filter_form(all_plates), format="html")
        return [filters, *(self.family(*one, contents) for one in families(all_plates).items())]

    def family(self, family: str, group: list[Plate], contents: dict[str, Content]) -> nodes.section:
        section = self.section(title(family, group[0]), f"family-{family}", "atlas-family")
        papers = dict.fromkeys(plate.paper for plate in group)
        section += self.parse_text_to_nodes("\n".join(f"- *{one.title}* {{cite:p}}`{one.key}`" for one in papers))
        section += [self.plate(plate, contents[plate.slug]) for plate in group]
        return section

    def plate(self, plate: Plate, content: Content) -> nodes.section:
        section = self.section(plate.title, f"plate-{address(plate)}", "atlas-plate")
        section += self.parse_text_to_nodes(form(plate))
        section += self.parse_text_to_nodes(origin(plate))
        section[-1]["classes"].append("atlas-paper")
        section += nodes.raw("", pictures(plate, content), format="html")
        rows = [row(model, content.numbers[model.name]) for model in plate.models]
        section += self.parse_text_to_nodes("\n".join([HEAD, *rows]))
        names = {model.name for model in plate.models}
        ours = [measured_row(one) for one in measured() if one.arm.model in names]
        if ours:
            section += self.parse_text_to_nodes("\n".join(["Measured in this book:", "", MEASURED, *ours]))
        if more := published(plate):
            section += nodes.raw("", "<details><summary>All published errors</summary>", format="html")
            section += self.parse_text_to_nodes(more)
            section += nodes.raw("", "</details>", format="html")
        return section

    def section(self, heading: str, name: str, kind: str) -> nodes.section:
        section = nodes.section("", nodes.title("", heading), ids=[name], names=[name], classes=[kind])
        self.state.document.note_implicit_target(section)
        return section


def kept(env: BuildEnvironment) -> Path:
    """Where drawings and numbers are kept between builds."""
    return Path(env.app.outdir).parent / "atlas"


def read_last(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Begin the drawings and read their page last, so that the other pages are read meanwhile."""
    if PAGE in docnames:
        docnames.sort(key=PAGE.__eq__)
        plates.begin(plates.plates(), kept(env))


def lighten(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out marks that a table of hundreds of rows does not need: a fifth of the page."""
    if '<form class="cnn atlas-filter"' in context.get("body", ""):
        body = re.sub(
            r'<code class="docutils literal notranslate"><span class="pre">(.*?)</span></code>', code, context["body"]
        )
        body = re.sub(
            r"(<(?:td|th|li)\b[^>]*>)<p>((?:(?!<p>).)*?)</p>\s*(?=</(?:td|th|li)>)", r"\1\2", body, flags=re.DOTALL
        )
        context["body"] = re.sub(r'<tr class="row-(?:odd|even)">', "<tr>", body)


def code(literal: re.Match) -> str:
    """A literal without its marks."""
    return f"<code>{re.sub('</?span[^>]*>', '', literal[1])}</code>"


def copy_drawings(app: Sphinx, error: Exception | None) -> None:
    """Put the drawings into the built book, and the pages that show them alone."""
    if error is None and app.builder.format == "html" and PAGE in app.env.found_docs:
        target = Path(app.outdir) / IMAGES
        target.mkdir(parents=True, exist_ok=True)
        contents = plates.contents(plates.plates(), kept(app.env))
        for plate in plates.plates():
            content = contents[plate.slug]
            (target / f"{address(plate)}.html").write_text(alone(plate, content), encoding="utf-8")
            for one in content.drawings:
                shutil.copyfile(kept(app.env) / one.light, target / one.light)
                shutil.copyfile(kept(app.env) / one.dark, target / one.dark)


def setup(app: Sphinx) -> None:
    app.add_directive("atlas", Atlas)
    app.connect("env-before-read-docs", read_last)
    app.connect("html-page-context", lighten)
    app.connect("build-finished", copy_drawings)
