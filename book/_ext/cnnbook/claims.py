"""The ledger of the lectures' claims: read from ``book/claims``, computed at build, asserted by the tests.

One file a chapter, with the chapter's name. An entry says what a lecture claims and what is found. Placeholders in the
finding, ``{parameters:,}`` or ``{errors[0]}`` for instance, are filled from the entry's ``let``: Python expressions,
each of which may use those before it. Every expression under ``holds`` must be true. ``device = "meta"`` says that
shapes are enough for an entry: its networks then have no numbers, and large ones are made at once.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cnnbook.notebooks import ROOT

LEDGER = ROOT / "book" / "claims"
VERDICTS = ("holds", "holds with a remark", "corrected", "not shown", "cited")
PLACEHOLDER = re.compile(r"\{(\w+)((?:\[\w+\])*)(:[^{}]*)?\}(?!`)")


class ClaimError(Exception):
    """An entry of the ledger cannot be computed. The message names it."""


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger."""

    id: str
    chapter: str
    title: str
    source: str
    says: str
    verdict: str
    finding: str
    let: dict[str, str] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    device: str = "cpu"

    @property
    def where(self) -> str:
        """Where the entry stands, for messages."""
        return f"{self.chapter}.toml, [{self.id}]"

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """The computed ``let``, on top of the names that every expression may use."""
        values = expression_names()
        for name, expression in self.let.items():
            values[name] = self.evaluate(expression, values)
        return values

    def evaluate(self, expression: str, names: dict[str, Any]) -> Any:
        try:
            with torch.device(self.device):
                return eval(expression, dict(names))
        except Exception as error:
            raise ClaimError(f"{self.where}: {expression}: {type(error).__name__}: {error}") from error

    def text(self) -> str:
        """The finding with its numbers."""

        def fill(match: re.Match[str]) -> str:
            name, index, spec = match[1], match[2], (match[3] or ":")[1:]
            if name not in self.let:
                raise ClaimError(f"{self.where}: {{{name}}} in the finding is not defined under let")
            return format(self.evaluate(name + index, self.values), spec)

        return PLACEHOLDER.sub(fill, self.finding)

    def failures(self) -> list[str]:
        """The expressions that should be true and are not."""
        return [expression for expression in self.holds if self.evaluate(expression, self.values) is not True]

    def code(self) -> str:
        """What is checked, as Python."""
        return "\n".join(
            [*(f"{name} = {value}" for name, value in self.let.items()), *(f"assert {check}" for check in self.holds)]
        )


def load() -> list[Claim]:
    """All claims, in the order of the chapters and of their files."""
    return [
        Claim(id=key, chapter=path.stem, **entry)
        for path in sorted(LEDGER.glob("*.toml"))
        for key, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()
    ]


def expression_names() -> dict[str, Any]:
    """What the expressions may use."""
    from cnnlib import RECIPES, card, create, measure, models, studies
    from cnnlib.studies import imagenet

    return {
        "RECIPES": RECIPES,
        "card": card,
        "create": create,
        "imagenet": imagenet,
        "math": math,
        "measure": measure,
        "models": models,
        "nn": torch.nn,
        "published": published,
        "studies": studies,
        "torch": torch,
    }


def published(model: str, metric: str, *, networks: int = 1, split: str = "validation") -> float:
    """The error of a model card that fits, in percent.

    Raises:
        ValueError: if not exactly one fits.
    """
    from cnnlib import card

    (error,) = (
        error
        for error in card(model).published
        if error.metric == metric and error.networks == networks and error.protocol.endswith(split)
    )
    return error.value


class Claims(SphinxDirective):
    """The claims of one chapter, with their verdicts, findings and checked expressions."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for path in (*LEDGER.glob("*.toml"), *(ROOT / "cnnlib").rglob("*.py")):
            self.env.note_dependency(str(path))
        claims = [claim for claim in load() if claim.chapter == self.arguments[0]]
        if not claims:
            raise self.error(f"there are no claims of {self.arguments[0]!r}; see {LEDGER.name}/*.toml")
        counts = Counter(claim.verdict for claim in claims)
        tally = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
        try:
            return [nodes.paragraph("", f"Verdicts: {tally}."), *map(self.section, claims)]
        except ClaimError as error:
            raise self.error(str(error)) from error

    def section(self, claim: Claim) -> nodes.section:
        """One claim under a heading of its own, the target ``claim-<id>``."""
        name = f"claim-{claim.id}"
        section = nodes.section(ids=[name], names=[name], classes=["claim"])
        self.state.document.note_explicit_target(section)
        section += nodes.title("", "", *self.parse_inline(claim.title)[0])
        section += nodes.block_quote("", *self.parse_text_to_nodes(f"**{claim.source}:** {claim.says}"))
        verdict = nodes.inline("", claim.verdict, classes=["verdict", f"verdict-{claim.verdict.replace(' ', '-')}"])
        finding = self.parse_text_to_nodes(claim.text())
        finding[0][:0] = [verdict, nodes.Text(" ")]
        section += finding
        if claim.holds:
            section += nodes.raw("", "<details><summary>Checked</summary>", format="html")
            section += nodes.literal_block("", claim.code(), language="python")
            section += nodes.raw("", "</details>", format="html")
        return section


def setup(app: Sphinx) -> None:
    app.add_directive("claims", Claims)
