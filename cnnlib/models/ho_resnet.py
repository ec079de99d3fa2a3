"""HO-ResNet. Luo et al. 2021, "Rethinking ResNets: Improved Stacking Strategies With High Order Schemes", 2103.15244.

A residual block x + F(x) is one step of Euler's method for x' = F(x). Stacking blocks repeats the crudest method there
is; the same layers can be wired as one step of a better one, at the same parameters. A scheme is data, its Butcher
tableau, and one block serves them all. F is a pre-activated branch of two layers with weights of its own at each of the
scheme's evaluations; the step is 1 in the paper, and a ReLU follows the addition. Where the shape changes, the first
evaluation reads x itself and all else starts from the shortcut, of option A.

- Written from the equations. In what is probably the first author's code (github.com/zlannnn/HO-ResNet, April 2021) the
  improved Euler method does not run, one scheme of order 2 drops its first evaluation, that of Nystrom weighs k2 where
  it is k3, and that of Verner has a wrong sign. In the first version, of March 2021 like the paper, RK4 is x + k4 / 6.
- That code halves the image in its first convolution already. Here, as in all ResNets for CIFAR, the stem does not.
- He initialisation with the fan-in, as in that code.
- The paper speaks of ResNet-30 and ResNet-58, which no three equal stages give. Here a net is named after its layers:
  those with the same number, 6n + 2, have the same parameters whatever the scheme.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from cnnlib.models.registry import BadOption, Paper, register
from cnnlib.models.resnet import ResNet, cifar_depths, conv3x3, option_a

PAPER = Paper(
    key="luo2021rethinking",
    title="Rethinking ResNets: Improved Stacking Strategies With High Order Schemes",
    authors="Luo, Sun, Zhou, Wu and Kamata",
    year=2021,
    arxiv="2103.15244",
)


@dataclass(frozen=True)
class Scheme:
    """An explicit Runge-Kutta method with step 1: ``k_i = F_i(x + sum a_ij k_j)`` and ``y = x + sum b_i k_i``.

    ``a`` is a row of coefficients for each evaluation, as long as there are evaluations before it, ``b`` the weights.
    One step is exact up to the term of the given ``order`` in the Taylor series.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def over(self, step: float) -> Scheme:
        """Return the method with a step h: ``k_i = F_i(x + h sum a_ij k_j)`` and ``y = x + h sum b_i k_i``."""
        return replace(self, a=tuple(tuple(step * a for a in row) for row in self.a), b=tuple(step * b for b in self.b))


SCHEMES = {
    "euler": Scheme(a=((),), b=(1,), order=1),
    "midpoint": Scheme(a=((), (1 / 2,)), b=(0, 1), order=2),
    "heun": Scheme(a=((), (1,)), b=(1 / 2, 1 / 2), order=2),  # also called the improved Euler method
    "kutta3": Scheme(a=((), (1 / 2,), (-1, 2)), b=(1 / 6, 2 / 3, 1 / 6), order=3),
    "rk4": Scheme(a=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6), order=4),
    "nystrom5": Scheme(
        a=(
            (),
            (1 / 3,),
            (4 / 25, 6 / 25),
            (1 / 4, -3, 15 / 4),
            (2 / 27, 10 / 9, -50 / 81, 8 / 81),
            (2 / 25, 12 / 25, 2 / 15, 8 / 75, 0),
        ),
        b=(23 / 192, 0, 125 / 192, 0, -27 / 64, 125 / 192),
        order=5,
    ),
}


def pre_activated(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return F: batch norm, ReLU and a 3x3 convolution, twice. (N, in, H, W) to (N, out, H/stride, W/stride)."""
    return nn.Sequential(
        OrderedDict(
            bn1=nn.BatchNorm2d(in_channels),
            relu1=nn.ReLU(),
            conv1=conv3x3(in_channels, out_channels, stride),
            bn2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(),
            conv2=conv3x3(out_channels, out_channels),
        )
    )


def advance(start: Tensor, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """Return ``start`` plus the weighted sum of the ``slopes``. A weight of 0 costs nothing."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0:
            start = start + weight * slope
    return start


class HigherOrderBlock(nn.Module):
    """One step of ``scheme`` and a ReLU: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride).

    ``f`` and ``shortcut`` are functions of (in_channels, out_channels, stride), as for
    :class:`~cnnlib.models.resnet.ResidualBlock`; ``f`` is called once for each evaluation of the scheme.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        scheme: Scheme = SCHEMES["rk4"],
        f: Callable[[int, int, int], nn.Module] = pre_activated,
        shortcut: Callable[[int, int, int], nn.Module] = option_a,
    ):
        super().__init__()
        self.scheme = scheme
        shapes = [(in_channels, out_channels, stride)] + [(out_channels, out_channels, 1)] * (len(scheme.b) - 1)
        self.f = nn.ModuleList(f(*shape) for shape in shapes)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        start = self.shortcut(x)
        slopes = []
        for f, row in zip(self.f, self.scheme.a, strict=True):
            slopes.append(f(advance(start, row, slopes) if slopes else x))
        return self.relu(advance(start, self.scheme.b, slopes))


def ho_resnet(depth: int, scheme: str = "rk4", num_classes: int = 10, step: float = 1.0) -> ResNet:
    """Return the net of ``depth`` = 6n + 2 layers for 32x32 images, n evaluations of an F in each of three stages.

    ``scheme`` is one of :data:`SCHEMES`; n is a multiple of its number of evaluations. Each block makes one ``step``,
    of length 1 in the paper. Four blocks of Euler with a step of 1/4 get as far as one of RK4 with 1.

    Raises:
        BadOption: for an unknown scheme, a depth that its blocks cannot make, or a step that is not positive.
    """
    if scheme not in SCHEMES:
        raise BadOption(f"there is no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    if not 0 < step < math.inf:
        raise BadOption(f"a step is longer than 0, and finite, unlike {step}")
    evaluations = len(SCHEMES[scheme].b)
    blocks, rest = divmod(cifar_depths(depth)[0], evaluations)
    if rest:
        step = 6 * evaluations
        raise BadOption(f"{scheme} nets have {step}n + 2 layers ({step + 2}, {2 * step + 2}, ...), not {depth}")
    block = partial(HigherOrderBlock, scheme=SCHEMES[scheme].over(step))
    return ResNet(block, (blocks,) * 3, (16, 32, 64), num_classes=num_classes)


# depth: parameters and multiply-adds, whatever the scheme, and schemes. The paper's absolute errors are not given here:
# its abstract has differences only, 2.15 % for ResNet-30 and 2.35 % for ResNet-58 on CIFAR-10.
NETS = {
    20: (269_626, 40_551_040, ("euler", "kutta3")),
    26: (366_842, 54_706_816, ("euler", "midpoint", "heun", "rk4")),
    38: (561_274, 83_018_368, ("euler", "midpoint", "kutta3", "nystrom5")),
    50: (755_706, 111_329_920, ("euler", "midpoint", "heun", "rk4")),
}
for _depth, (_parameters, _multiply_adds, _schemes) in NETS.items():
    for _scheme in _schemes:
        register(
            f"ho-resnet{_depth}-{_scheme}",
            partial(ho_resnet, _depth, _scheme),
            paper=PAPER,
            family="ho-resnet",
            dataset="CIFAR-10",
            input_size=(3, 32, 32),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            about=f"{_depth} layers for 32x32 images, steps of order {SCHEMES[_scheme].order}",
        )
