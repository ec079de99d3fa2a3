"""`make execute`: what it stores, what it leaves out, and that it never leaves half a notebook."""

import nbformat
import pytest
from cnnbook import execute, notebooks
from cnnbook.notebooks import Repository, source_hash
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Make a notebook of the given cells the only one of the book."""
    path = tmp_path / "01-made.ipynb"
    monkeypatch.setattr(notebooks, "paths", lambda: [path])
    monkeypatch.setenv("CNNLIB_BUDGET", "smoke")
    monkeypatch.setenv("CNNLIB_STATIC", "0")  # set here so that what execute sets is undone
    monkeypatch.setenv("PYTHONPATH", "")

    def write_cells(*sources):
        nbformat.write(new_notebook(cells=[new_markdown_cell("# Made"), *map(new_code_cell, sources)]), path)
        return path

    return write_cells


def test_outputs_and_facts_are_stored(write):
    path = write(
        "import os, sys\nprint('a', file=sys.stderr)\nprint(os.environ['CNNLIB_STATIC'])\nprint(os.getcwd())",
        "import ipywidgets\nipywidgets.IntSlider()",
        "from cnnlib.data import shapes10\nseen = shapes10(train=10, test=10)\n6 * 7",
    )
    assert execute.main(["01"]) == 0
    notebook = notebooks.read(path)
    cells = notebooks.code_cells(notebook)
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4]
    assert cells[0].id == notebooks.SET_UP
    assert [output.text for output in cells[1].outputs] == [f"1\n{path.parent}\n"]
    assert [set(output.data) for output in cells[2].outputs] == []
    assert cells[3].outputs[0].data["text/plain"] == "42"
    facts = notebook.metadata["cnnlib"]
    assert facts["budget"] == "smoke"
    assert facts["data"] == ["Shapes-10"]
    assert facts["source"] == source_hash(notebook)
    assert facts["seconds"] >= 0
    assert "thread" in facts["hardware"] or "GPU" in facts["hardware"]
    assert not {"widgets"} & set(notebook.metadata)


def test_a_blank_line_on_stderr_is_not_stored(capsys):
    said, blank = (new_output("stream", name="stderr", text=text) for text in ("first\nlast\n", "\n"))
    cell = new_code_cell(outputs=[blank, said])
    execute.clean(cell)
    assert cell.outputs == []
    assert capsys.readouterr().out == "  not stored, from stderr: last\n"


def test_a_failing_cell_leaves_the_file_as_it_was(write, capsys):
    path = write("6 * 7", "1 / 0")
    before = path.read_bytes()
    assert execute.main([]) == 1
    assert path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_interruption_leaves_the_file_as_it_was(write, monkeypatch):
    path = write("6 * 7")
    before = path.read_bytes()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "source_hash", interrupt)
    assert execute.main([]) == 130
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_unknown_name_lists_the_notebooks(write, capsys):
    write()
    assert execute.main(["07"]) == 2
    assert "01-made.ipynb" in capsys.readouterr().out


def test_hash_follows_code_and_nothing_else():
    def hash_of(*cells):
        return source_hash(new_notebook(cells=list(cells)))

    base = hash_of(new_markdown_cell("a"), new_code_cell("1"), new_code_cell("2"))
    assert hash_of(new_markdown_cell("b"), new_code_cell("1"), new_code_cell("2")) == base
    assert hash_of(new_code_cell("x", id=notebooks.SET_UP), new_code_cell("1"), new_code_cell("2")) == base
    assert hash_of(new_code_cell("1"), new_code_cell("3")) != base
    assert hash_of(new_code_cell("12")) != hash_of(new_code_cell("1"), new_code_cell("2"))


@pytest.mark.parametrize(
    ("url", "slug", "pages"),
    [
        ("https://github.com/example/cnnlib", "example/cnnlib", "https://example.github.io/cnnlib/"),
        ("https://github.com/someone/their-fork/", "someone/their-fork", "https://someone.github.io/their-fork/"),
    ],
)
def test_addresses_follow_the_repository(url, slug, pages):
    repository = Repository(url)
    assert (repository.slug, repository.pages) == (slug, pages)
    assert repository.colab("a.ipynb") == f"https://colab.research.google.com/github/{slug}/blob/main/a.ipynb"
    assert f"https://github.com/{slug}/archive/refs/heads/main.zip" in repository.set_up_source()
