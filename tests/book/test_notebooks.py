"""The committed notebooks: executed, fresh, comparable, free of what a page cannot show."""

import json
import os
import re
from copy import deepcopy

import pytest
from cnnbook import notebooks
from cnnbook.notebooks import ROOT, Repository
from nbval.plugin import IPyNbFile, get_sanitize_patterns

from cnnlib.explore import style
from cnnlib.explore.html import squeeze

NOTEBOOKS = {path.stem: notebooks.read(path) for path in notebooks.paths()}
SANITISED = ROOT / "tests" / "nbval.cfg"
IMAGES = {"image/png", "image/jpeg", "image/svg+xml"}
MOST_CHARACTERS = 110
"""Of a line; a page that is 1,440 pixels wide shows 102 without scrolling."""

each = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)


def outputs(notebook):
    """All outputs with their cells."""
    return [(cell, output) for cell in notebooks.code_cells(notebook) for output in cell.outputs]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_outputs_are_those_of_the_sources(notebook):
    facts = notebook.metadata.get("cnnlib")
    assert facts, "never executed: run `make execute`"
    assert facts["source"] == notebooks.source_hash(notebook), "changed since it was executed: run `make execute`"


@each
def test_every_cell_was_executed_in_order(notebook):
    counts = [cell.execution_count for cell in notebooks.code_cells(notebook) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


@each
def test_no_error_is_stored(notebook):
    assert [output.evalue for _, output in outputs(notebook) if output.output_type == "error"] == []


@each
def test_nothing_is_stored_that_the_page_should_not_show(notebook):
    assert "widgets" not in notebook.metadata
    for _, output in outputs(notebook):
        assert not any("widget" in kind for kind in output.get("data", {}))
        assert output.get("name") != "stderr"
    machine = re.compile(r"/(?:home|root|tmp|work|Users)/|0x[0-9a-f]{8}")
    assert machine.findall(json.dumps([output for _, output in outputs(notebook)])) == []


@each
def test_figures_have_the_styles_of_the_package(notebook):
    """A page leaves repeated styles out by their text; with others it would be heavy."""
    styles = squeeze(style.css() + style.components_css())
    for _, output in outputs(notebook):
        html = output.get("data", {}).get("text/html", "")
        assert html.count('<figure class="cnn ') == html.count(f"<style>{styles}")


@each
def test_lines_fit_the_page(notebook):
    """Of code and of what is printed as a table; a message of one or two lines may be longer."""
    shown = [cell for cell in notebooks.code_cells(notebook) if "remove-cell" not in cell.metadata.get("tags", ())]
    texts = [cell.source.splitlines() for cell in shown]
    printed = [output.text.splitlines() for cell in shown for output in cell.outputs if output.output_type == "stream"]
    texts += [lines for lines in printed if len(lines) > 2]
    assert [line for lines in texts for line in lines if len(line) > MOST_CHARACTERS] == []


@each
def test_every_figure_has_a_written_alternative(notebook):
    for cell, output in outputs(notebook):
        if IMAGES & set(output.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"write mystnb.image.alt for the figure of: {cell.source[:80]}"


@each
def test_outputs_come_from_real_data(notebook):
    facts = notebook.metadata["cnnlib"]
    assert facts["data"] in ([], ["CIFAR-10"]), "execute with CIFAR-10 at hand"
    assert facts["budget"] != "smoke"
    assert facts["seconds"] > 0
    assert facts["hardware"]
    assert {"python", "cnnlib", "torch", "torchvision", "numpy"} <= set(facts["versions"])


def test_notebooks_see_cifar_10_where_it_is_at_hand(monkeypatch):
    """They load the data set by its default, under the environment of this run."""
    if "CNNLIB_DATA" not in os.environ:
        pytest.skip("CNNLIB_DATA is not set: the notebooks may see Shapes-10")
    import cnnlib

    monkeypatch.chdir(ROOT / "notebooks")
    assert cnnlib.load_data().name == "CIFAR-10"


@each
def test_set_up_cell_follows_the_address(notebook):
    assert notebooks.set_up_cell(notebook).source == Repository.configured().set_up_source(), "run `make address`"
    assert notebook.cells.index(notebooks.set_up_cell(notebook)) == 1, "it belongs below the title"


def altered(outputs, skipped):
    """Copies of the outputs, each with one digit changed: the first, the middle or the last of a text."""
    for i, output in enumerate(outputs):
        texts = {kind: text for kind, text in output.get("data", {}).items() if kind not in skipped}
        texts |= {"text": output.text} if "text" in output else {}
        for key, text in texts.items():
            digits = [match.start() for match in re.finditer(r"\d", text)]
            for at in {digits[0], digits[len(digits) // 2], digits[-1]} if digits else ():
                copy = deepcopy(outputs)
                changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
                (copy[i] if key == "text" else copy[i].data)[key] = changed
                yield copy


@pytest.mark.parametrize("path", notebooks.paths(), ids=NOTEBOOKS)
def test_nbval_notices_a_changed_digit(path, request):
    """Asks nbval's own comparison, so that neither a sanitiser nor a missing tag can make it vacuous."""
    file = IPyNbFile.from_parent(request.session, path=path)
    file.sanitize_patterns.update(get_sanitize_patterns(SANITISED.read_text(encoding="utf-8")))
    compared = [cell for cell in file.collect() if "nbval-check-output" in cell.cell.metadata.get("tags", [])]
    assert compared, "tag deterministic cells with nbval-check-output"
    for cell in compared:
        stored, what = cell.cell.outputs, cell.cell.source[:80]

        def same(now, cell=cell, stored=stored):
            return cell.compare_outputs(cell.sanitize_outputs(now), cell.sanitize_outputs(stored))

        assert stored, f"nothing to compare in: {what}"
        assert same(deepcopy(stored))
        assert not any(map(same, altered(stored, file.skip_compare))), f"nbval misses a changed digit in: {what}"
