"""The one table class: text of bounded width, HTML that is escaped and can be read aloud."""

from cnnlib.table import Column, Table

WORDS = Column("", numeric=False)
SMALL = Table(
    "a <b>",
    (WORDS, Column("size", "kB"), Column("made of", numeric=False)),
    (("x & y", "5", "wood"), ("z", "–", ""), ("longer", "120", "stone")),
    notes=("note",),
)


def test_text_is_aligned():
    assert str(SMALL).splitlines() == [
        "a <b>",
        "        size  made of",
        "        (kB)",
        "---------------------",
        "x & y      5  wood",
        "z          –",
        "longer   120  stone",
        "note",
    ]
    assert repr(SMALL) == str(SMALL)


def test_units_have_a_line_only_where_there_are_units():
    assert str(Table("", (WORDS, Column("n")), [("a", "1")])).splitlines() == ["   n", "----", "a  1"]


def test_the_footer_stands_below_a_rule():
    lines = str(Table("", (WORDS, Column("n")), [("a", "1")], footer=("total", "1"))).splitlines()
    assert lines[-2:] == ["--------", "total  1"]


def test_only_what_may_be_cut_is_cut_the_last_column_first():
    long = "0123456789" * 6
    may = Column("may", numeric=False, least=20)
    first, last = str(Table("", (may, may), [(long, long)])).splitlines()[-1].split()
    assert (first, last) == (long, f"{long[:37]}…")
    first, last = str(Table("", (may, may), [(long * 2, long)])).splitlines()[-1].split()
    assert (len(first), first[0], first[-1], len(last)) == (78, "…", "9", 20)
    must = Column("must", numeric=False)
    assert str(Table("", (must, must), [(long, long)])).splitlines()[-1] == f"{long}  {long}"


def test_caption_and_notes_are_wrapped():
    table = Table("word " * 30, (WORDS,), [("a",)], notes=["note " * 30])
    assert max(map(len, str(table).splitlines())) <= 100
    assert str(table).count("word") == str(table).count("note") == 30


def test_html_is_escaped_and_can_be_read_aloud():
    html = SMALL._repr_html_()
    assert "<caption>a &lt;b&gt;</caption>" in html
    assert html.endswith('</table></div><p class="cnn-note">note</p>')
    assert 'tabindex="0" aria-label="a &lt;b&gt;"' in html
    assert '<th scope="col" class="cnn-number">size (kB)</th>' in html
    assert '<tr><th scope="row">x &amp; y</th><td class="cnn-number">5</td><td>wood</td></tr>' in html
    assert "<tfoot>" not in html
    assert "1.0\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1 (3)<" in Table("", (WORDS,), [("1.0 ± 0.1 (3)",)])._repr_html_()
    assert "<tfoot><tr>" in Table("", (WORDS,), [("a",)], footer=("total",))._repr_html_()
