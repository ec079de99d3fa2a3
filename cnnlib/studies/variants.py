"""The variants of the residual block, each against its baseline: one thing changed, parameters alike.

The networks are smaller than the papers', so that a laptop can train them; ``paper-orders`` has the paper's own, for a
GPU. Within a study all arms have the same recipe.
"""

from __future__ import annotations

from cnnlib.studies.study import Arm, course_study
from cnnlib.training import RECIPES, Recipe

RESNET = RECIPES["resnet-cifar"]
RESNET_110 = RECIPES["resnet110-cifar"]


def _orders(basic: int, bottleneck: int, recipe: Recipe) -> dict[str, Arm]:
    """Return the five activation orders on basic and on bottleneck units, as Table 2 of He et al. 2016 has them."""
    return {
        f"{order}, {unit}": Arm(name.format(depth), recipe)
        for unit, depth in (("basic", basic), ("bottleneck", bottleneck))
        for order, name in (
            ("original", "resnet{}"),
            ("BN after addition", "resnet{}-bn-after-addition"),
            ("ReLU before addition", "resnet{}-relu-before-addition"),
            ("ReLU-only pre-activation", "resnet{}-relu-only-pre-activation"),
            ("full pre-activation", "preact{}"),
        )
    }


ORDERS = course_study(
    name="activation-orders",
    question="Where should batch norm and ReLU stand in a residual unit?",
    arms=_orders(44, 47, RESNET)
    | {
        "original, gain 1/2": Arm("resnet44", RESNET, {"last_gain": 1 / 2}),
        "original, gain 1/4": Arm("resnet44", RESNET, {"last_gain": 1 / 4}),
        "original, rate 0.02": Arm("resnet44", RESNET.replace(lr=0.02)),
    },
    short=80,
)
"""He et al. 2016 (arXiv 1603.05027), Figure 4 and Table 2, at 44 and 47 layers.

The last three arms are controls: how much of what an order brings is a calmer start? Branches that begin weaker, or
a lower learning rate, and the blocks as they were."""

PAPER_ORDERS = course_study(
    name="paper-orders",
    question="Where should batch norm and ReLU stand in a residual unit of 110 or 164 layers?",
    arms=_orders(110, 164, RESNET_110),
    short=None,
)
"""The same at the paper's depths."""

WIDTH = course_study(
    name="width-against-depth",
    question="At equal parameters, is a network better deep or wide?",
    arms={
        f"{d} layers, {k} x as wide": Arm(f"wrn-{d}-{k}", RECIPES["wrn"])
        for d, k in ((40, 1), (28, 1.25), (22, 1.4375), (16, 1.8125), (10, 2.75))
    },
    short=100,
)
"""Zagoruyko and Komodakis 2016 (arXiv 1605.07146), Table 4, at 0.56 to 0.58 million parameters."""

CARDINALITY = course_study(
    name="cardinality",
    question="At equal parameters, what do more paths in a block bring?",
    arms={
        f"{paths} x {width}d": Arm(f"resnext11-{paths}x{width}d", RECIPES["resnext"])
        for paths, width in ((1, 24), (2, 14), (4, 8), (8, 4), (16, 2))
    },
    short=60,
)
"""Xie et al. 2016 (arXiv 1611.05431), Table 3 and Figure 7, at 0.96 to 1.00 million parameters."""

SQUEEZE = course_study(
    name="squeeze-and-excitation",
    question="What does rescaling the maps of each block bring?",
    arms={name: Arm(name, RESNET, {"shortcut": "B"}) for name in ("resnet20", "se-resnet20", "resnet56", "se-resnet56")}
    | {f"{name}, half": Arm(name, RESNET, {"shortcut": "B", "last_gain": 0.5}) for name in ("resnet20", "resnet56")},
    short=130,
)
"""Hu et al. 2020 (the later version of arXiv 1709.01507), Tables 4 and 5, with and without squeeze and excitation.

A module begins with factors near 1/2. The last two arms are the control: branches that begin half as strong, without
a module."""

DROPPED_DEPTH = course_study(
    name="stochastic-depth",
    question="Does leaving out blocks at random help where a network overfits?",
    arms={
        "all blocks": Arm("resnet20", RECIPES["stochastic-depth"]),
        "stochastic depth": Arm("stochastic-depth-20", RECIPES["stochastic-depth"]),
        "stochastic depth, p_L = 0.8": Arm("stochastic-depth-20", RECIPES["stochastic-depth"], {"survival": 0.8}),
    },
    short=360,
    medium=250,
    subset=1000,
    evaluate_every=20,
)
"""Huang et al. 2016 (arXiv 1603.09382), on 1,000 images and many passes: a regulariser is studied where overfitting is.

In a short training on all images it only slows the network down, and seems to do harm."""

SCALES = course_study(
    name="many-scales",
    question="At equal parameters, what does splitting the middle of a bottleneck into a chain bring?",
    arms={
        "bottleneck": Arm("resnet47", RESNET),
        "2 splits": Arm("res2net47-48w-2s", RESNET),
        "4 splits": Arm("res2net47-26w-4s", RESNET),
        "8 splits": Arm("res2net47-14w-8s", RESNET),
    },
    short=100,
)
"""Gao et al. 2019 (arXiv 1904.01169), Table 3, at 47 layers."""

HIGHER_ORDER = course_study(
    name="higher-order",
    question="At equal parameters, is one block of a higher order better than several of Euler?",
    arms={name: Arm(f"ho-resnet26-{name}", RESNET) for name in ("euler", "midpoint", "heun", "rk4")}
    | {
        f"{name}, step 1/{blocks}": Arm(f"ho-resnet26-{name}", RESNET, {"step": 1 / blocks})
        for name, blocks in (("euler", 4), ("midpoint", 2), ("heun", 2))
    },
    short=150,
)
"""Luo et al. 2021 (arXiv 2103.15244): four, two, two and one blocks a stage, 366,842 parameters each.

With steps of 1 a stage of Euler goes four times as far as one of RK4. The last three arms are the control: steps so
short that all stages go as far as that of RK4."""

RESIDUAL_VARIANTS = course_study(
    name="residual-variants",
    question="At equal parameters and multiply-adds, with one recipe, which variant of the residual block is best?",
    arms={
        "original": Arm("resnet20", RESNET),
        "pre-activation": Arm("preact20", RESNET),
        "wide": Arm("wrn-10-1.875", RESNET),
        "squeeze and excitation": Arm("se-resnet20", RESNET, {"shortcut": "A"}),
        "stochastic depth": Arm("stochastic-depth-20", RESNET),
        "higher order": Arm("ho-resnet20-kutta3", RESNET),
        "bottleneck": Arm("resnext29-1x14d-narrow", RESNET),
        "ResNeXt": Arm("resnext29-8x3d-narrow", RESNET),
        "Res2Net": Arm("res2net29-23w-4s", RESNET),
    },
    short=100,
)
"""0.264 to 0.272 million parameters and 39 to 42 million multiply-adds each.

The nets of bottlenecks have 29 layers, the wide one 10, the others 20. Depth is dropped here as in the paper, although
a regulariser has nothing to do in a training that does not overfit: ``stochastic-depth`` studies it where it has."""
