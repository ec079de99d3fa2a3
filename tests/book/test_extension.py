"""The Sphinx extension as a whole."""

from cnnbook.notebooks import Repository
from sphinx.application import Sphinx


def test_what_it_declares_holds_for_all_its_parts(tmp_path):
    (tmp_path / "index.md").write_text("# Title")
    settings = {
        "extensions": ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "cnnbook"],
        "html_theme_options": {"repository_url": Repository.configured().url},
    }
    folders = (tmp_path, None, tmp_path / "html", tmp_path / "doctrees", "html")
    app = Sphinx(*folders, confoverrides=settings, status=None, freshenv=True)
    assert app.is_parallel_allowed("read")
