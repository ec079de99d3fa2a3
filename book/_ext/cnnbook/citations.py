"""Citations by author and year, with a letter where two papers share both: He et al. [2016a], He et al. [2016b].

The list of references carries the same labels. None of the styles of sphinxcontrib-bibtex tells such papers apart.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pybtex.plugin
from pybtex.database import Entry
from pybtex.richtext import Text
from pybtex.style.formatting.alpha import Style
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.template import Node
from sphinx.application import Sphinx
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import GroupReferenceStyle, PersonStyle
from sphinxcontrib.bibtex.style.referencing.basic_author_year import BasicAuthorYearTextualReferenceStyle
from sphinxcontrib.bibtex.style.referencing.basic_label import BasicLabelParentheticalReferenceStyle
from sphinxcontrib.bibtex.style.template import join, node, reference

NAME = "author_year_letters"


class Labels(BaseLabelStyle):
    """Labels such as *He et al., 2016a*."""

    def format_labels(self, sorted_entries: list[Entry]) -> Iterator[str]:
        plain = [f"{authors(entry)}, {entry.fields['year']}" for entry in sorted_entries]
        number, letters = Counter(plain), {label: iter(string.ascii_lowercase) for label in plain}
        for label in plain:
            yield label + (next(letters[label]) if number[label] > 1 else "")


def authors(entry: Entry) -> str:
    """Return the last names of up to two authors; of more the first and *et al.*"""
    style = References()
    return str(style.person.author_or_editor_or_title(full=False).format_data({"entry": entry, "style": style}))


class Bibliography(Style):
    """The list of references, sorted by author, year and title, with these labels."""

    default_label_style = Labels


@node
def lettered_year(children: list[Node], data: dict[str, Any]) -> Text:
    """Return the year of the label, with its letter."""
    return Text(data["formatted_entry"].label.rpartition(", ")[2])


@dataclass
class Textual(BasicAuthorYearTextualReferenceStyle):
    """*He et al. [2016a]*."""

    def inner(self, role_name: str) -> Node:
        year = join[self.bracket.left, reference[lettered_year], self.bracket.right]
        return join(sep=self.text_reference_sep)[self.person.author_or_editor_or_title(full="s" in role_name), year]


@dataclass
class References(GroupReferenceStyle):
    """What ``cite:t`` and ``cite:p`` put into the text; the latter the label itself, in brackets."""

    person: PersonStyle = field(default_factory=PersonStyle)

    def __post_init__(self) -> None:
        self.styles.extend([BasicLabelParentheticalReferenceStyle(), Textual(person=self.person)])
        super().__post_init__()


def setup(app: Sphinx) -> None:
    pybtex.plugin.register_plugin("pybtex.style.formatting", NAME, Bibliography)
    register_plugin("sphinxcontrib.bibtex.style.referencing", NAME, References)
