"""ENAS. Pham, Guan, Zoph, Le and Dean 2018, "Efficient Neural Architecture Search via Parameter Sharing".

Implements arXiv 1802.03268: the net of the cells that the paper's micro search found. All candidates of that search
share one set of weights, so that it takes half a GPU day instead of NASNet's 2000. The net follows the authors' code
(melodyguan/enas), which writes a cell as numbers; :func:`parse` reads them. What differs from NASNet's nets:

- h goes through two 1x1 convolutions at the entrance of a cell, and the first cell adjusts p as well.
- An identity of stride 2 is a factorised reduction, without ReLU.
- The auxiliary head sits one cell after the second reduction cell and works on maps of 8x8 pixels.

Weights have He initialisation with the fan-in.

The paper's 4.6M parameters are those of 6 normal cells in each stack. The authors' script, released later, trains a net
of 5, which has 3.9M: ``enas-micro-15``. Our classifier has ten biases more than theirs. The 2.91 % that Liu et al. 2019
give as well belong to a cell of their own search.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from cnnlib.models.cells import (
    OPERATIONS,
    AuxiliaryHead,
    CellNet,
    FactorizedReduction,
    Genotype,
    Plan,
    State,
    cifar_stem,
    relu_conv1x1_bn,
)
from cnnlib.models.registry import BadOption, Paper, Published, register

PAPER = Paper(
    key="pham2018efficient",
    title="Efficient Neural Architecture Search via Parameter Sharing",
    authors="Pham, Guan, Zoph, Le and Dean",
    year=2018,
    arxiv="1802.03268",
)

CODES = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
MICRO_NORMAL = "0 2 0 0 | 0 4 0 1 | 0 4 1 1 | 1 0 0 1 | 0 2 1 1"
MICRO_REDUCTION = "1 0 1 0 | 0 3 0 2 | 1 1 3 1 | 1 0 0 4 | 0 3 1 1"


def parse(text: str) -> Plan:
    """Read a cell in the notation of the authors' code; what no step reads is put out.

    A node is written as ``input operation input operation``, nodes are separated by ``|``. Inputs are 0 for p, 1 for h
    and i + 2 for node i; operations are numbered as in :data:`CODES`.

    Raises:
        BadOption: if a node is not four numbers, or one of them stands for nothing.
    """
    codes = dict(enumerate(CODES))  # where a tuple would take -1 for its last
    states: dict[int, State] = {0: "p", 1: "h"}
    nodes = []
    for number, node in enumerate(text.split("|")):
        try:
            left, left_code, right, right_code = (int(word) for word in node.split())
            nodes.append(((codes[left_code], states[left]), (codes[right_code], states[right])))
        except (ValueError, KeyError):
            raise BadOption(
                f"node {number} is {node.strip()!r}; it should be input, operation, input, operation: numbers "
                f"from 0 to {len(states) - 1} and from 0 to {len(CODES) - 1}"
            ) from None
        states[number + 2] = number
    read = {state for node in nodes for _, state in node}
    return Plan(tuple(nodes), tuple(state for state in states.values() if state not in read))


ENAS_MICRO = Genotype(normal=parse(MICRO_NORMAL), reduction=parse(MICRO_REDUCTION))


def two_conv1x1(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return what h goes through first: two 1x1 convolutions, each after a ReLU and before batch normalisation."""
    return nn.Sequential(*relu_conv1x1_bn(in_channels, out_channels), *relu_conv1x1_bn(out_channels, out_channels))


def identity(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return nothing, or a factorised reduction."""
    return nn.Identity() if stride == 1 else FactorizedReduction(in_channels, out_channels)


def enas_micro(
    channels: int = 36,
    repeats: int = 6,
    num_classes: int = 10,
    dropout: float = 0.2,
    drop_path: float = 0.4,
    auxiliary: bool = False,
    genotype: Genotype = ENAS_MICRO,
) -> CellNet:
    """Return a net for 32x32 images, with its auxiliary head if ``auxiliary``.

    Args:
        channels: number of maps of a node in the first stack.
        repeats: number of normal cells in each stack.
        num_classes: number of logits.
        dropout: probability of dropping an input of the classifier.
        drop_path: probability of dropping an operation of the last cell at the end of the training.
        auxiliary: add the auxiliary head.
        genotype: the cells.

    Raises:
        BadOption: if ``repeats`` is negative, or 0 for a net with a head, ``drop_path`` is not in [0, 1), or a cell
            cannot be built.
    """
    head = partial(AuxiliaryHead, side=2, num_classes=num_classes, pad=1) if auxiliary else None
    return CellNet(
        *(genotype, channels, repeats),
        stem=cifar_stem(3 * channels),
        stem_channels=3 * channels,
        num_classes=num_classes,
        dropout=dropout,
        drop_path=drop_path,
        head=head,
        head_after=2 * repeats + 2,
        raw_p=False,
        min_size=17 if auxiliary else 1,
        operations={**OPERATIONS, "identity": identity},
        enter=two_conv1x1,
    )


for _name, _build, _parameters, _multiply_adds, _errors, _about in (
    (
        *("enas-micro", enas_micro, 4_587_382, 727_702_560),
        [Published("test error", 2.89, "cutout, as the paper has it", "Liu et al. 2019, Table 1", "CIFAR-10")],
        "6 normal cells in each stack, 36 maps, for 32x32 images",
    ),
    (
        *("enas-micro-15", partial(enas_micro, repeats=5), 3_894_382, 620_907_552),
        [],
        "5 normal cells in each stack, as in the authors' script",
    ),
):
    register(
        _name,
        _build,
        paper=PAPER,
        dataset="CIFAR-10",
        input_size=(3, 32, 32),
        parameters=_parameters,
        multiply_adds=_multiply_adds,
        published=_errors,
        about=_about,
    )
