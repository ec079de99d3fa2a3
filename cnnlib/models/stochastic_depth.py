"""Stochastic depth. Huang, Sun, Liu, Sedra and Weinberger 2016, "Deep Networks with Stochastic Depth", 1603.09382.

Implements sections 3 and 4 for CIFAR: the residual nets of 110 and 1202 layers. In every training step block l of L
survives with probability p_l = 1 - l/L (1 - p_L) and is an identity otherwise; the test has all blocks, F times p_l.

- One gate a block and mini-batch, for all its images. A dropped block is skipped: its batch norm sees nothing and its
  weights get no gradient (``None``), so that SGD leaves them alone. In the authors' code weight decay and momentum
  move them even then.
- Nothing is rescaled in training. What torchvision, timm and others call stochastic depth divides F by p_l in training
  instead, and tests with F itself: :class:`RescaledBlock`, a net of another name here.
- Where the shape changes, the shortcut is a 2x2 average pooling and zeros for the new maps, as in the authors' code.
- He initialisation with the fan-in, as in the convolutions of the authors' code.
- Gates are drawn on the CPU, where ``torch.manual_seed`` fixes them and no GPU is waited for. Since each decides which
  layers run, ``torch.compile`` breaks the graph at each block in training (not in evaluation), a CUDA graph cannot hold
  a training step, and DistributedDataParallel needs ``find_unused_parameters=True``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.registry import BadOption, Paper, Published, register
from cnnlib.models.resnet import PadShortcut, ResidualBlock, ResNet, cifar_depths, two_convolutions

PAPER = Paper(
    key="huang2016deep",
    title="Deep Networks with Stochastic Depth",
    authors="Huang, Sun, Liu, Sedra and Weinberger",
    year=2016,
    arxiv="1603.09382",
)


def require_survival(*probabilities: float) -> None:
    """Check survival probabilities.

    Raises:
        BadOption: naming the first that is no number in [0, 1].
    """
    for probability in probabilities:
        if not (isinstance(probability, Real) and 0 <= probability <= 1):
            raise BadOption(f"a survival probability lies between 0 and 1, unlike {probability!r}")


def survival_probabilities(blocks: int, last: float = 0.5) -> tuple[float, ...]:
    """Return p_l = 1 - l/L (1 - ``last``) for l = 1, ..., L = ``blocks``: the linear rule (equation 4, Figure 2).

    Raises:
        BadOption: if ``last`` is not in [0, 1].
    """
    require_survival(last)
    return tuple(1 - block / blocks * (1 - last) for block in range(1, blocks + 1))


def expected_depth(probabilities: Sequence[float]) -> float:
    """Return the mean number of blocks that survive a training step, the sum of the p_l (section 3).

    By the linear rule to p_L = 1/2 it is (3L - 1) / 4: a quarter of the work of training is saved.
    """
    return sum(probabilities)


def depth_distribution(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Return the probability that 0, 1, ..., L blocks survive a training step, each of them independently.

    Block by block: k of the first l survive if k - 1 of those before did and it does, or if k did and it does not.

    Raises:
        BadOption: if a probability is not in [0, 1].
    """
    require_survival(*probabilities)
    distribution = [1.0]
    for p in probabilities:
        without, with_it = [*distribution, 0.0], [0.0, *distribution]
        distribution = [(1 - p) * a + p * b for a, b in zip(without, with_it, strict=True)]
    return tuple(distribution)


class AveragePadShortcut(PadShortcut):
    """Where the shape changes: means of ``stride`` x ``stride`` pixels (fewer at an odd edge), zeros for new maps."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride)
        self.subsample = nn.AvgPool2d(stride, ceil_mode=True)


def average_and_pad(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the authors' form of option A: never a parameter."""
    shape = in_channels, out_channels, stride
    return nn.Identity() if layers.keeps_shape(*shape) else AveragePadShortcut(*shape)


class StochasticDepthBlock(ResidualBlock):
    """A block of the paper: ``ReLU(shortcut(x) + b F(x))`` in training, ``ReLU(shortcut(x) + p F(x))`` in the test.

    The gate b (equation 2) is 1 with probability p, ``survival``, and 0 otherwise. The rest is as for
    :class:`~cnnlib.models.resnet.ResidualBlock`. The module ``relu`` may be set to work in place, on the sum. A dropped
    block has no sum, and its input belongs to others.

    Raises:
        BadOption: if ``survival`` is not in [0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        f: Callable[[int, int, int], nn.Module] = two_convolutions,
        shortcut: Callable[[int, int, int], nn.Module] = average_and_pad,
        survival: float = 1.0,
    ):
        super().__init__(in_channels, out_channels, stride, f, shortcut)
        require_survival(survival)
        self.survival = survival

    def survives(self) -> bool:
        """Draw the gate of one training step."""
        return torch.rand((), device="cpu").item() < self.survival

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        if not self.training:
            return self.relu(shortcut + self.survival * self.f(x))
        return self.relu(shortcut + self.f(x)) if self.survives() else F.relu(shortcut)


class RescaledBlock(StochasticDepthBlock):
    """The rescaled form: ``ReLU(shortcut(x) + b/p F(x))`` in training, the residual block in the test."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        if not self.training:
            return self.relu(shortcut + self.f(x))
        return self.relu(shortcut + self.f(x) / self.survival) if self.survives() else F.relu(shortcut)


def in_order(block: Callable[..., nn.Module], probabilities: Sequence[float]) -> Callable[[int, int, int], nn.Module]:
    """Return a maker of blocks, for one net, which gives the l-th block the l-th of the survival ``probabilities``."""
    remaining = iter(probabilities)

    def next_block(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return block(in_channels, out_channels, stride, survival=next(remaining))

    return next_block


def cifar_stochastic_depth(depth: int, num_classes: int = 10, survival: float | Sequence[float] = 0.5) -> ResNet:
    """Return the net of ``depth`` = 6n + 2 layers for 32x32 images, by the paper.

    ``survival`` is p_L of the linear rule, or the survival probabilities of all 3n blocks: ``[0.8] * 54`` is the
    uniform rule for 110 layers.

    Raises:
        BadOption: for another depth, another number of probabilities, or one outside [0, 1].
    """
    return _cifar(StochasticDepthBlock, depth, num_classes, survival)


def cifar_rescaled_stochastic_depth(
    depth: int, num_classes: int = 10, survival: float | Sequence[float] = 0.5
) -> ResNet:
    """Return the same net of rescaled blocks. Arguments as for :func:`cifar_stochastic_depth`.

    Raises:
        BadOption: as there, and for a probability of 0: no factor makes up for a branch that is never trained.
    """
    return _cifar(RescaledBlock, depth, num_classes, survival)


def _cifar(block: Callable[..., nn.Module], depth: int, num_classes: int, survival: float | Sequence[float]) -> ResNet:
    depths = cifar_depths(depth)
    blocks = sum(depths)
    if isinstance(survival, Real):
        survival = survival_probabilities(blocks, survival)
    if not all(isinstance(probability, Real) for probability in survival):
        raise BadOption(f"survival is one number or a sequence of them, not {survival!r}")
    require_survival(*survival)
    if len(survival) != blocks:
        raise BadOption(f"{depth} layers have {blocks} blocks, but these are {len(survival)} survival probabilities")
    if block is RescaledBlock and not min(survival):
        raise BadOption("with a survival probability of 0 a rescaled block is never trained; leave the block out")
    return ResNet(in_order(block, survival), depths, (16, 32, 64), num_classes=num_classes)


def _paper(value: float, protocol: str, where: str = "Table 1", dataset: str = "CIFAR-10") -> Published:
    return Published("test error", value, protocol, f"Huang et al. 2016, {where}", dataset)


# "Constant depth" is survival=1: the same net with no block dropped, trained in the same way.
BEST = "early stop"  # the error after the epoch that was best on validation images
AUGMENTED, BARE = f"augmented, {BEST}", f"no augmentation, {BEST}"
CONSTANT, BARE_CONSTANT = f"constant depth, {AUGMENTED}", f"constant depth, {BARE}"
TEXT = "section 4"
PUBLISHED = {
    110: [
        _paper(5.25, AUGMENTED),
        _paper(11.66, BARE, TEXT),
        _paper(6.41, CONSTANT),
        _paper(13.63, BARE_CONSTANT, TEXT),
        _paper(24.98, AUGMENTED, dataset="CIFAR-100"),
        _paper(37.80, BARE, TEXT, "CIFAR-100"),
        _paper(27.76, CONSTANT, dataset="CIFAR-100"),
        _paper(27.22, CONSTANT, TEXT, "CIFAR-100"),  # the paper disagrees with itself
        _paper(44.74, BARE_CONSTANT, TEXT, "CIFAR-100"),
    ],
    1202: [_paper(4.91, AUGMENTED, TEXT), _paper(6.67, CONSTANT, TEXT)],
}
COUNTS = {  # parameters and multiply-adds; 20 layers are ours, small enough for short trainings
    20: (269_722, 40_551_040),
    110: (1_727_962, 252_887_680),
    1202: (19_421_274, 2_829_238_912),
}
for _depth, (_parameters, _multiply_adds) in COUNTS.items():
    for _suffix, _build, _errors, _about in (
        ("", cifar_stochastic_depth, PUBLISHED.get(_depth, ()), "F scaled in the test"),
        ("-rescaled", cifar_rescaled_stochastic_depth, (), "F rescaled in training"),
    ):
        register(
            f"stochastic-depth-{_depth}{_suffix}",
            partial(_build, _depth),
            paper=PAPER,
            family="stochastic-depth",
            dataset="CIFAR-10",
            input_size=(3, 32, 32),
            parameters=_parameters,
            multiply_adds=_multiply_adds,
            published=_errors,
            about=f"{_depth} layers for 32x32 images, blocks dropped at random, {_about}",
        )
