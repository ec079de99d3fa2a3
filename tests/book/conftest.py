import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))


def toc_pages() -> list[str]:
    """Every page of the table of contents, as its path without ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *(page["file"] for chapter in chapters for page in (chapter, *chapter.get("sections", ())))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument ``page`` runs for every page of the table of contents, new chapters too."""
    if "page" in metafunc.fixturenames:
        pages = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in toc_pages()]
        metafunc.parametrize("page", pages, scope="session")


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book."""
    if not (HTML / "index.html").exists():
        pytest.fail("the book is not built: run `make book` first")
    return HTML
