"""The ledger: complete, well formed, and true."""

import re

import pytest
from cnnbook.claims import PLACEHOLDER, VERDICTS, Claim, ClaimError, load
from cnnbook.notebooks import ROOT

EXPECTED = {  # chapter: the ids of its claims
    "01-alexnet-arithmetic": """
        components lenet-shape conv-formula alexnet-conv1-out alexnet-conv1-params alexnet-pool1
        alexnet-layers alexnet-lrn alexnet-recipe alexnet-ensemble alexnet-two-gpus zfnet-changes
        zfnet-error
    """,
    "02-vgg-receptive-field": """
        vgg-only-3x3 vgg-error vgg-stack-rf vgg-stack-params vgg16-table vgg16-memory vgg16-row-slips
        vgg16-params vgg-names vgg-facts vgg-deeper vgg-fc7
    """,
    "03-inception-bottleneck": """
        inception-naive-out inception-naive-ops inception-depth-grows inception-1x1 inception-bottleneck-ops
        googlenet-structure googlenet-22 googlenet-params googlenet-error
    """,
    "04-resnet-degradation": """
        resnet-error degradation nets-before degradation-hypothesis residual-form small-changes
        gradient-through-shortcut unrolled-gradient resnet-structure resnet-depths resnet-bottleneck
        resnet-recipe resnet-34-18 resnet-152-time ilsvrc-timeline better-than-human only-gpu-limit
        very-deep params-vs-vgg
    """,
    "05-1-pre-activation": "preact-order preact-table",
    "05-2-width-and-cardinality": "wrn-structure wrn-claims resnext-claims",
    "05-3-attention-and-dropped-depth": "se-claims stochastic-depth",
    "05-4-many-scales-and-higher-order": "res2net unipose-wasp ho-resnet",
    "06-comparison": """
        densenet-idea densenet-cost addition-easier densenet-50 three-way-table complexity-analysis
    """,
    "05-variants": "feature-fusion variants-summary empirical-effects",
    "07-efficient-nets": "mobilenet-cost shufflenet nas-loop nasnet efficientnet ai-and-efficiency",
    "08-what-to-remember": "what-to-remember",
}
CLAIMS = load()
each = pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])


@pytest.mark.parametrize("chapter", EXPECTED)
def test_no_claim_of_a_chapter_is_missing(chapter):
    assert {claim.id for claim in CLAIMS if claim.chapter == chapter} == set(EXPECTED[chapter].split())
    assert (ROOT / "notebooks" / f"{chapter}.ipynb").exists()


def test_every_chapter_of_claims_is_on_the_page():
    page = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^```\{claims\} (.+)$", page, re.MULTILINE)) == sorted(EXPECTED)


def test_no_claim_belongs_to_another_chapter():
    assert {claim.chapter for claim in CLAIMS} == set(EXPECTED)


@each
def test_lectures_are_called_by_the_names_that_the_page_gives_them(claim):
    named = re.match(r"(.+?)(, (section|figure) \d+)?$", claim.source)[1].split("; ")
    page = " ".join((ROOT / "book" / "claims.md").read_text(encoding="utf-8").split())
    assert all(f"*{lecture}*" in page for lecture in named)


@each
def test_verdict_stands_on_something(claim):
    assert claim.verdict in VERDICTS
    assert claim.holds or "{cite" in claim.finding


@each
def test_no_line_of_the_finding_is_a_comment(claim):
    assert not re.search(r"^\s*%", claim.text(), re.MULTILINE)  # MyST would leave it out


@each
def test_what_should_hold_holds(claim):
    assert claim.failures() == []


@each
def test_numbers_of_the_finding_are_computed(claim):
    used = {match[1] for match in PLACEHOLDER.finditer(claim.finding)}
    assert used <= set(claim.let)
    prose = re.sub(r"\$[^$]*\$|\{[\w:]+\}`", "", claim.text())  # but for formulas and roles
    assert "{" not in prose
    needed = f"{claim.finding} {' '.join(claim.let.values())} {' '.join(claim.holds)}"
    assert [name for name in claim.let if not re.search(rf"\b{name}\b", needed)] == []


def made(**changes):
    entry = {"chapter": "", "title": "", "source": "", "says": "", "verdict": "holds", "finding": "{n:,} {cite:t}`x`"}
    return Claim(**{"id": "made", "let": {"n": "10 * m", "m": "100"}} | entry | changes)


def test_a_wrong_expression_is_reported():
    claim = made(let={"m": "100", "n": "10 * m"}, holds=["n == 1000", "n == 1001"])
    assert claim.text() == "1,000 {cite:t}`x`"
    assert claim.failures() == ["n == 1001"]


def test_networks_of_an_entry_about_shapes_have_no_numbers():
    claim = made(device="meta", let={}, holds=["nn.Linear(2, 3).weight.is_meta", "nn.Linear(2, 3).weight.numel() == 6"])
    assert claim.failures() == []


@pytest.mark.parametrize("changes", [{"let": {"n": "missing"}}, {"let": {}}, {"holds": ["1 / 0"], "let": {"n": "1"}}])
def test_what_cannot_be_computed_names_the_entry(changes):
    claim = made(**changes)
    with pytest.raises(ClaimError, match=r"\[made\]"):
        (claim.text(), claim.failures())
