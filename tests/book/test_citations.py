"""Papers of the same authors and year are told apart, in the text as in the list of references."""

import re

import pytest
from cnnbook.citations import Bibliography, References
from cnnbook.notebooks import ROOT
from pybtex.database import Entry, Person, parse_file
from pybtex.style import FormattedEntry
from sphinxcontrib.bibtex.style.referencing import format_references
from sphinxcontrib.bibtex.style.template import SphinxReferenceInfo


def paper(title, year, *authors):
    return Entry("article", {"title": title, "year": year}, {"author": [Person(name) for name in authors]})


PAPERS = [
    paper("One", "2016", "He, Kaiming", "Zhang, Xiangyu", "Ren, Shaoqing"),
    paper("Two", "2016", "He, Kaiming", "Zhang, Xiangyu", "Sun, Jian"),
    paper("Three", "2015", "He, Kaiming", "Sun, Jian"),
    paper("Four", "2014", "Lin, Min"),
]
LABELS = ["He et al., 2016a", "He et al., 2016b", "He and Sun, 2015", "Lin, 2014"]


def test_only_papers_that_would_read_alike_get_a_letter():
    assert list(Bibliography().format_labels(PAPERS)) == LABELS


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("t", "He et al. [2016a], He et al. [2016b], He and Sun [2015], Lin [2014]"),
        ("p", "[He et al., 2016a, He et al., 2016b, He and Sun, 2015, Lin, 2014]"),
    ],
)
def test_the_text_says_what_the_list_says(role, text):
    info = SphinxReferenceInfo(None, "here", "references", "id", None, "", "")
    cited = [(entry, FormattedEntry("key", None, label), info) for entry, label in zip(PAPERS, LABELS, strict=True)]
    assert str(format_references(References(), role, cited)) == text


def test_no_two_papers_of_the_book_read_alike():
    style = Bibliography()
    labels = list(style.format_labels(style.sort(list(parse_file(ROOT / "book" / "references.bib").entries.values()))))
    assert len(set(labels)) == len(labels) > 60
    assert all(re.search(r", (19|20)\d\d[a-z]?$", label) for label in labels)
