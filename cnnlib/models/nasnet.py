"""NASNet-A. Zoph, Vasudevan, Shlens and Le 2017, "Learning Transferable Architectures for Scalable Image Recognition".

Implements arXiv 1707.07012: the cells of Figure 4, searched on CIFAR-10, in the nets of Figure 2. ``6 @ 768`` is the
paper's name for 6 normal cells in each stack and 768 maps at the end, 24 times the maps of a node in the first stack.
:mod:`cnnlib.models.cells` has the layers and what the authors' code decides. Choices and deviations:

- In the large net the cell after a reduction cell gets the same p as the reduction cell did; in the others it gets the
  reduction cell's h. That is how the authors' code has it.
- 7 @ 2304 has 27.6M parameters in Table 1, but 32.6M here. It is the same with 7 @ 1920 and 5 @ 1538 of Table 2, which
  are left out: the cells that give 6 @ 768, 4 @ 1056 and 6 @ 4032 their published sizes make these larger than printed.
- He initialisation with the fan-in; the authors' code takes the fan-out.
- Running statistics have PyTorch's momentum; the authors' change 300 times more slowly on ImageNet.
"""

from __future__ import annotations

from functools import partial

from cnnlib.models.cells import Genotype, Plan, cifar_cells, imagenet_cells, register_nets
from cnnlib.models.registry import Paper, Published, top_errors

PAPER = Paper(
    key="zoph2018learning",
    title="Learning Transferable Architectures for Scalable Image Recognition",
    authors="Zoph, Vasudevan, Shlens and Le",
    year=2017,
    arxiv="1707.07012",
)

NASNET_A = Genotype(
    normal=Plan(
        nodes=(
            (("sep5x5", "h"), ("sep3x3", "p")),
            (("sep5x5", "p"), ("sep3x3", "p")),
            (("avg3x3", "h"), ("identity", "p")),
            (("avg3x3", "p"), ("avg3x3", "p")),
            (("sep3x3", "h"), ("identity", "h")),
        ),
        concat=("p", 0, 1, 2, 3, 4),
    ),
    reduction=Plan(
        nodes=(
            (("sep5x5", "h"), ("sep7x7", "p")),
            (("max3x3", "h"), ("sep7x7", "p")),
            (("avg3x3", "h"), ("sep5x5", "p")),
            (("identity", 1), ("avg3x3", 0)),
            (("sep3x3", 0), ("max3x3", "h")),
        ),
        concat=(1, 2, 3, 4),
    ),
)


MEAN = "mean of 5 runs"


def _cifar(value: float, protocol: str, where: str = "Table 1") -> Published:
    return Published("test error", value, protocol, f"Zoph et al. 2018, {where}", "CIFAR-10")


TABLE_2, TABLE_3 = (("1 crop, validation", f"Zoph et al. 2018, Table {number}") for number in (2, 3))
CADENE = ("rerun with the authors' weights, 1 crop, validation", "github.com/Cadene/pretrained-models.pytorch")

RERUN = Published("test error", 2.83, "rerun with 3.1M parameters, cutout", "Liu et al. 2019, Table 1", "CIFAR-10")

# name: builder, image size, parameters, multiply-adds, published errors, about
NETS = {
    "cifar-6-768": (
        *(partial(cifar_cells, NASNET_A, 32, 6), 32, 3_346_538, 544_333_312),
        [_cifar(3.41, MEAN), _cifar(2.65, f"cutout, {MEAN}"), RERUN],
        "6 @ 768, for 32x32 images",
    ),
    "cifar-7-2304": (
        *(partial(cifar_cells, NASNET_A, 96, 7), 32, 32_590_954, 5_151_250_944),
        [_cifar(2.97, MEAN), _cifar(2.40, f"cutout, {MEAN}"), _cifar(2.19, "cutout, best of 5 runs", "section 4.1")],
        "7 @ 2304, for 32x32 images; the paper counts 27.6M parameters",
    ),
    "mobile": (
        *(partial(imagenet_cells, NASNET_A, 44, 4, 32, 4, drop_path=0.0), 224, 5_289_978, 563_638_816),
        top_errors({TABLE_3: (26.0, 8.4), CADENE: (25.92,)}),
        "4 @ 1056, for mobile devices",
    ),
    "large": (
        *(partial(imagenet_cells, NASNET_A, 168, 6, 96, 6, same_p=True), 331, 88_753_150, 23_783_414_658),
        top_errors({TABLE_2: (17.3, 3.8), CADENE: (17.43, 3.91)}),
        "6 @ 4032, the best single net on ImageNet of its time",
    ),
}

register_nets("nasnet-a", PAPER, NETS)
