"""The built HTML itself: links, addresses, weights, numbered figures. Needs no browser."""

import functools
import itertools
import re
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from cnnbook import notebooks
from cnnbook.notebooks import ROOT, Repository

REPOSITORY = Repository.configured()
MOST_BYTES = 500_000


@functools.cache
def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture
def document(html, page):
    return soup(html / f"{page}.html")


def test_nothing_is_loaded_from_elsewhere(document):
    loaded = [tag.get("src") or tag.get("href") for tag in document.select("script[src], img[src], iframe, link[href]")
              if tag.get("rel") not in (["canonical"], ["edit"])]  # fmt: skip
    assert [address for address in loaded if address and re.match(r"(https?:)?//", address)] == []
    assert "thebe" not in str(document).lower()


def test_page_is_light(html, page, document):
    own = html / f"{page}.html"
    at_once = document.select("article img[src]:not([loading=lazy])")
    pictures = {(own.parent / unquote(tag["src"])).resolve() for tag in at_once}
    assert sum(path.stat().st_size for path in {own, *pictures}) <= MOST_BYTES


def test_drawings_load_late_and_move_nothing(document):
    for tag in document.select('article .cell_output img[src$=".svg"]'):
        assert tag["loading"] == "lazy"
        assert int(tag["width"]) > 0 < int(tag["height"])


def test_mathjax_is_loaded_only_where_it_is_needed(document):
    loads = any("mathjax" in tag["src"] for tag in document.select("script[src]"))
    assert loads == bool(document.select(".math"))


def test_a_mark_stays_on_the_line_of_its_formula(document):
    for formula in document.select("article span.math:not(.with-mark > *)"):
        assert not re.match(r"[.,;:!?)]", str(formula.next_sibling or "")), formula.parent.text


def test_internal_links_lead_somewhere(html, page, document):
    for link in document.select("a[href]"):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (html / f"{page}.html").parent / unquote(parts.path) if parts.path else html / f"{page}.html"
        assert target.exists(), link["href"]
        if parts.fragment and target.suffix == ".html":
            assert soup(target.resolve()).find(id=unquote(parts.fragment)), link["href"]


def test_links_to_source_code_lead_somewhere(html):
    pages = sorted((html / "_modules").rglob("*.html"))
    assert len(pages) > 50
    for path in pages:
        for link in soup(path).select("article a[href]"):
            parts = urlsplit(link["href"])
            assert parts.netloc or (path.parent / unquote(parts.path)).exists(), (path.name, link["href"])


def test_one_title_and_no_skipped_heading(document):
    levels = [int(tag.name[1]) for tag in document.select("article :is(h1, h2, h3, h4, h5, h6)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_open_graph(document, page, html):
    tags = {tag["property"]: tag["content"] for tag in document.select("meta[property^='og:']")}
    assert tags["og:url"] == f"{REPOSITORY.pages}{page}.html"
    assert tags["og:site_name"] == "Convolutional architectures, measured"
    assert tags["og:title"]
    assert tags["og:description"]
    assert not tags["og:description"].startswith("Outputs of"), "what a chapter asks, not what it ran on"
    assert tags["og:image"] == f"{REPOSITORY.pages}_static/screenshot.png"
    assert (html / "_static" / "screenshot.png").exists()


def test_no_id_stands_twice(document):
    ids = [tag["id"] for tag in document.select("[id]")]
    assert sorted(ids) == sorted(set(ids))


def test_buttons_follow_the_address(document, page):
    links = {link["href"] for link in document.select(".article-header-buttons a[href]")}
    source = next(ROOT.glob(f"{page}.*")).relative_to(ROOT).as_posix()
    assert REPOSITORY.url in links
    assert f"{REPOSITORY.url}/edit/{REPOSITORY.branch}/{source}" in links
    assert any(link.startswith(f"{REPOSITORY.url}/issues/new") for link in links)
    assert any(link.endswith(source) and "_sources" in link for link in links)
    if source.endswith(".ipynb"):
        assert REPOSITORY.colab(source) in links


def test_set_up_cell_is_not_on_the_page(html):
    for path in notebooks.paths():
        assert "%pip" not in soup(html / "notebooks" / f"{path.stem}.html").find("article").text


def test_every_numbered_figure_is_referred_to(html):
    pages = [soup(path) for path in html.glob("*/*.html")]
    links = {link["href"].partition("#")[2] for page in pages for link in page.select("article a.reference[href*='#']")}
    figures = [tag["id"] for page in pages for tag in page.select("figure[id]:has(.caption-number)")]
    assert [name for name in figures if name not in links] == []


def test_chapters_say_what_their_outputs_were_made_with(html):
    for path in notebooks.paths():
        note = soup(html / "notebooks" / f"{path.stem}.html").select_one(".cnn-provenance").text
        facts = notebooks.read(path).metadata["cnnlib"]
        assert facts["budget"] in note
        assert facts["hardware"] in note
        assert path.stem in str(soup(html / "book" / "intro.html").select("article table"))


def test_first_chapter_has_its_explorers(html):
    """So that the browser's tests of explorers have something to test."""
    chapter = soup(html / "notebooks" / "01-alexnet-arithmetic.html")
    assert chapter.select("figure.cnn-conv input[type=range]")
    assert chapter.select("figure.cnn:not(.cnn-conv) input[type=range]")


def test_no_static_folder_in_the_sources():
    """With one, Jupyter Book loads every script on every page."""
    assert [path for path in (ROOT / "_static", ROOT / "book" / "_static") if path.exists()] == []
