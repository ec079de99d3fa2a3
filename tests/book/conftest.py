import functools
import sys
from pathlib import Path

import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "book" / "_ext"))


@functools.cache
def toc_pages() -> list[str]:
    """Every page of the table of contents, as its path without ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *(page["file"] for chapter in chapters for page in (chapter, *chapter.get("sections", ())))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument ``page`` runs for every page of the table of contents, new chapters too."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", toc_pages(), scope="session")


class ByPage(LoadScopeScheduling):
    """All tests of a page run in one process, which opens it once; the other tests are shared out one by one.

    pytest-xdist 3.8 has groups for this, but pytest 9 does not let it name them.
    """

    def _split_scope(self, nodeid: str) -> str:
        pages = sorted(toc_pages(), key=len, reverse=True)
        return next((page for page in pages if f"[{page}" in nodeid), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByPage:
    return ByPage(config, log)


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book."""
    if not (HTML / "index.html").exists():
        pytest.fail("the book is not built: run `make book` first")
    return HTML
