"""The commands ``summary`` and ``receptive-field``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

MOST_CLASSES = 100_000
"""With more of them the weights of the last layer may not fit in memory."""
MOST_PIXELS = 100_000
"""Height or width of an image; with some more of them numbers become too large for PyTorch to count."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add both commands to the parser of ``python -m cnnlib``."""
    summary = commands.add_parser(
        "summary",
        help="shapes, parameters, multiply-adds, memory and receptive fields of a model, layer by layer",
        description="Print the layer table of a model for one image, by default one of the size of its paper.",
    )
    _add_model(summary)
    summary.add_argument("--classes", type=int, metavar="N", help="number of classes, if not the paper's")
    summary.add_argument("--depth", type=int, metavar="N", help="levels of modules to show: 1 for whole stages")
    summary.set_defaults(run=_summary)

    field = commands.add_parser(
        "receptive-field",
        help="the theoretical receptive field of every step of a model",
        description="Print what the units of every step see: size, stride and position in input pixels.",
    )
    _add_model(field)
    field.set_defaults(run=_receptive_field)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a name that `python -m cnnlib models` lists")
    size = command.add_mutually_exclusive_group()
    size.add_argument("--size", type=int, metavar="N", help="image of N x N pixels")
    size.add_argument("--input", type=int, nargs=3, metavar=("C", "H", "W"), help="image of another shape")


def _input_size(options: argparse.Namespace) -> tuple[int, int, int]:
    from cnnlib.measure.errors import BadArgument
    from cnnlib.models import card

    channels, height, width = card(options.model).input_size
    if options.size is not None:
        height = width = options.size
    size = tuple(options.input or (channels, height, width))
    if max(size) > MOST_PIXELS:
        raise BadArgument(f"an image has at most {MOST_PIXELS:,} pixels a side, not {max(size)}; give a smaller one")
    return size


def _summary(options: argparse.Namespace) -> None:
    from cnnlib.measure import layer_table
    from cnnlib.models import BadOption, card, create

    size = _input_size(options)
    overrides = {} if options.classes is None else {"num_classes": options.classes}
    if options.classes is not None and not 1 <= options.classes <= MOST_CLASSES:
        raise BadOption(
            f"{card(options.model).name} cannot be built with num_classes={options.classes}: there must be 1 to "
            f"{MOST_CLASSES:,} classes"
        )
    model: nn.Module = create(options.model, **overrides)
    print(layer_table(model, size, depth=options.depth))


def _receptive_field(options: argparse.Namespace) -> None:
    from cnnlib.measure import receptive_field
    from cnnlib.models import create

    size = _input_size(options)
    print(receptive_field(create(options.model), size))
