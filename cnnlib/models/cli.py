"""``python -m cnnlib models``: the names that ``create`` knows, as a table."""

from __future__ import annotations

import argparse

from cnnlib.models import registry
from cnnlib.spelling import plain
from cnnlib.table import Column, Table

COLUMNS = (
    *(Column("name", numeric=False), Column("year"), Column("data set", numeric=False), Column("input", numeric=False)),
    *(Column("parameters"), Column("multiply-adds", "millions"), Column("published error", numeric=False)),
)


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``models``."""
    parser = subparsers.add_parser(
        "models",
        help="list the models, with their papers, counts and published errors",
        description="List the models, oldest paper first. Multiply-adds are those of all convolutions and linear "
        "layers for one image of the given size; the error is the published one of a single network.",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="part of a name, or a pattern such as 'resnet*'")
    parser.add_argument("--family", help="only this family, such as resnet")
    parser.add_argument("--dataset", help="only models made for this data set, such as CIFAR-10")
    parser.add_argument("--year", type=int, help="only papers of this year")
    parser.set_defaults(run=models)


def models(options: argparse.Namespace) -> None:
    """Print the table of the models that match.

    Raises:
        UnknownModel: if none does.
    """
    names = registry.available(options.pattern, family=options.family, dataset=options.dataset, year=options.year)
    if not names:
        raise registry.UnknownModel(_nothing_found(options))
    rows = [_row(registry.card(name)) for name in names]
    print(Table(f"Models that match, oldest paper first: {len(rows)}", COLUMNS, rows))


def _row(card: registry.ModelCard) -> tuple[str, ...]:
    return (
        card.name,
        str(card.paper.year),
        card.dataset,
        "x".join(map(str, card.input_size)),
        f"{card.parameters:,}",
        "" if card.multiply_adds is None else f"{card.multiply_adds / 1e6:,.2f}",
        card.headline.beside(card.dataset) if card.headline else "",
    )


def _nothing_found(options: argparse.Namespace) -> str:
    everything = [registry.card(name) for name in registry.available()]
    filters = (
        ("family", options.family, sorted({card.family for card in everything})),
        ("data set", options.dataset, sorted({card.dataset for card in everything})),
        ("year", options.year, sorted({card.paper.year for card in everything})),
    )
    for what, wanted, known in filters:
        if wanted is not None and plain(str(wanted)) not in {plain(str(value)) for value in known}:
            return f"no model of {what} {wanted}; there are {', '.join(map(str, known))}"
    if not registry.available(options.pattern):
        return f"no name matches {options.pattern!r}; {registry.nearest(options.pattern)}"
    return f"no model that matches {options.pattern!r} passes all the filters; leave one out"
