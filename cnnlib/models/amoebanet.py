"""AmoebaNet-A. Real, Aggarwal, Huang and Le 2018, "Regularized Evolution for Image Classifier Architecture Search".

Implements arXiv 1802.01548, the cells of Figure 5, found by evolution instead of reinforcement learning, in NASNet's
nets. :mod:`cnnlib.models.cells` has the layers. Where the figure leaves something open, the authors' code
(tensorflow/tpu, ``amoeba_net_a``) decides, and with it the counts come out as the paper's tables round them:

- Every node of the reduction cell is put out, used or not; in the normal cell p is.
- The 1x7 and 7x1 convolutions work on a quarter of the maps, between 1x1 convolutions.
- The net of 448 maps has 468.2M parameters where the paper says 469M. Its 104 billion multiply-adds are those for
  images of 299x299. All other counts agree.
- Drop path grows with depth here as in NASNet's code; the released code lets it grow with time only.
- He initialisation with the fan-in.
- Running statistics have PyTorch's momentum; the authors' change 300 times more slowly, as NASNet's do.
"""

from __future__ import annotations

from functools import partial

from cnnlib.models.cells import Genotype, Plan, cifar_cells, imagenet_cells, register_nets
from cnnlib.models.registry import Paper, Published, top_errors

PAPER = Paper(
    key="real2019regularized",
    title="Regularized Evolution for Image Classifier Architecture Search",
    authors="Real, Aggarwal, Huang and Le",
    year=2018,
    arxiv="1802.01548",
)

AMOEBANET_A = Genotype(
    normal=Plan(
        nodes=(
            (("avg3x3", "h"), ("max3x3", "h")),
            (("sep3x3", "p"), ("identity", "p")),
            (("identity", "h"), ("avg3x3", "p")),
            (("sep3x3", "h"), ("sep5x5", 0)),
            (("avg3x3", 3), ("sep3x3", "h")),
        ),
        concat=("p", 1, 2, 4),
    ),
    reduction=Plan(
        nodes=(
            (("sep3x3", "p"), ("avg3x3", "h")),
            (("max3x3", "h"), ("sep7x7", 0)),
            (("max3x3", "p"), ("max3x3", "h")),
            (("sep3x3", 2), ("1x7-7x1", "h")),
            (("avg3x3", "p"), ("sep7x7", "h")),
        ),
        concat=(0, 1, 2, 3, 4),
    ),
)


def _cifar(value: float, std: float) -> Published:
    source = "Real et al. 2019, Table 1"
    return Published("test error", value, "mean of several runs", source, "CIFAR-10", std=std)


ONE_CROP = ("1 crop, validation", "Real et al. 2019, Table 2")
RERUN = Published("test error", 3.12, "rerun with 3.1M parameters, cutout", "Liu et al. 2019, Table 1", "CIFAR-10")

# name: builder, image size, parameters, multiply-adds, published errors, about
NETS = {
    "cifar-6-32": (
        *(partial(cifar_cells, AMOEBANET_A, 32, 6), 32, 2_567_754, 407_671_808),
        [_cifar(3.40, 0.08)],
        "6 normal cells in each stack, 32 maps, for 32x32 images",
    ),
    "cifar-6-36": (
        *(partial(cifar_cells, AMOEBANET_A, 36, 6), 32, 3_218_266, 509_668_992),
        [_cifar(3.34, 0.06), RERUN],
        "6 normal cells in each stack, 36 maps, for 32x32 images",
    ),
    "190": (
        *(partial(imagenet_cells, AMOEBANET_A, 190, 6, 32, 6), 331, 86_718_797, 23_133_663_507),
        top_errors({ONE_CROP: (17.2, 3.9)}),
        "6 normal cells in each stack, 190 maps, as large as NASNet-A's large net",
    ),
    "448": (
        *(partial(imagenet_cells, AMOEBANET_A, 448, 6, 32, 5), 299, 468_151_184, 103_887_693_968),
        top_errors({ONE_CROP: (16.1, 3.4)}),
        "6 normal cells in each stack, 448 maps; the paper counts 469M parameters",
    ),
}

register_nets("amoebanet-a", PAPER, NETS)
