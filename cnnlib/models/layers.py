"""The few pieces that several papers share. Everything else is written out in the paper's own file."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnlib import errors
from cnnlib.models.registry import BadOption


class InputTooSmall(errors.DoesNotFit):
    """A :class:`cnnlib.measure.DoesNotFit`: the image is so small that some layer would have no output."""


@torch.fx.wrap
def require_size(x: Tensor, minimum: int, name: str) -> None:
    """Check that the images ``x`` (N, C, H, W) are at least ``minimum`` pixels high and wide.

    Call it as ``layers.require_size(...)``: ``torch.fx`` then keeps it as one step of the graph, where the same ``if``
    written in a ``forward`` could not be traced.

    Raises:
        DoesNotFit: if ``x`` is no batch of images.
        InputTooSmall: naming the network and the smallest input that works.
    """
    if x.ndim != 4:
        raise errors.DoesNotFit(
            f"{name} takes a batch of images (N, C, H, W), not a tensor of shape {tuple(x.shape)}; "
            "image.unsqueeze(0) makes a batch of one image"
        )
    height, width = x.shape[-2:]
    if min(height, width) < minimum:
        raise InputTooSmall(
            f"{name} needs images of at least {minimum}x{minimum} pixels, but these are {height}x{width}; "
            "pad or enlarge them, or take a network with a smaller min_size"
        )


def require_positive(**factors: float) -> None:
    """Check the factors on the size of a network, given by the names of their options.

    Where numbers of maps or layers are rounded up, a network would come of any factor.

    Raises:
        BadOption: naming the first that is no finite number greater than 0.
    """
    for name, factor in factors.items():
        if not 0 < factor < math.inf:
            raise BadOption(f"{name} is a factor greater than 0, not {factor}")


def scaled(maps: Sequence[int], **factor: float) -> tuple[int, ...]:
    """Return numbers of maps times one factor, given by the name of its option, rounded down.

    Raises:
        BadOption: if the factor is no finite number greater than 0, or leaves no map somewhere.
    """
    require_positive(**factor)
    ((name, times),) = factor.items()
    if times * min(maps) < 1:
        raise BadOption(f"{name}={times} leaves no map of {min(maps)}; the least is {1 / min(maps):g}")
    return tuple(int(times * n) for n in maps)


def require_whole(minimum: int, **numbers: int) -> None:
    """Check whole numbers, given by the names of their options. PyTorch may take others, to fail in the first forward.

    Raises:
        BadOption: naming the first that is less than ``minimum`` or not whole.
    """
    errors.require_whole(BadOption, minimum, **numbers)


def require_probability(**probabilities: float) -> None:
    """Check with which probabilities something is left out, given by the names of their options.

    Raises:
        BadOption: naming the first that is not in [0, 1): with 1 nothing would be left.
    """
    for name, p in probabilities.items():
        if not 0 <= p < 1:
            raise BadOption(f"{name}: a probability from 0 to less than 1, not {p:g}")


def units_per_stage(depth: int, step: int, others: int = 2) -> int:
    """Return n for a net of ``depth`` = ``step`` n + ``others`` layers, the number of units in each of its stages.

    Args:
        depth: number of layers of the net.
        step: how many layers one unit more in each stage adds.
        others: number of layers outside of the stages.

    Raises:
        BadOption: if no n gives this depth. The message has the first depths that are possible.
    """
    errors.require_integers(BadOption, depth=depth)
    units, rest = divmod(depth - others, step)
    if rest or units < 1:
        possible = ", ".join(str(n * step + others) for n in (1, 2, 3))
        raise BadOption(f"these nets have {step}n + {others} layers ({possible}, ...), not {depth}")
    return units


def require_blocks(depths: Sequence[int], minimum: int = 1) -> None:
    """Check that every stage has ``minimum`` blocks: most often one, since the first sets its size and number of maps.

    Raises:
        BadOption: if one has fewer than ``minimum``.
    """
    if min(depths, default=0) < minimum:
        raise BadOption(f"each stage has {minimum} or more blocks, unlike in depths {tuple(depths)}")


def keeps_shape(in_channels: int, out_channels: int, stride: int) -> bool:
    """Return whether a block puts out maps of the shape that it gets: then its shortcut can be the identity."""
    return stride == 1 and in_channels == out_channels


class WithAuxiliary(NamedTuple):
    """What a net with auxiliary heads returns in training mode, all (N, num_classes).

    The loss to minimise is that of ``logits`` plus the net's ``auxiliary_weight`` times that of each head.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]


class LocalResponseNorm(nn.LocalResponseNorm):
    """Local response normalisation by the formula of Krizhevsky et al. 2012, section 3.3.

    ``b_i = a_i / (k + alpha * sum of a_j^2 over the size maps nearest to i)^beta``, with the paper's constants as
    defaults. PyTorch divides ``alpha`` by ``size``, as the authors' released code does, but not the printed formula.
    This layer computes the formula: it multiplies ``alpha`` by ``size`` first.

    With ``groups`` the maps of each group are normalised by themselves, as on two GPUs that each hold one half of them.
    Input and output have the shape (N, C, H, W). PyTorch has no 16-bit form of it for the CPU; autocast works there.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1):
        super().__init__(size, alpha * size, beta, k)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each group of maps across its channels."""
        if self.groups == 1:
            return super().forward(x)
        one_group_an_image = x.unflatten(1, (self.groups, -1)).flatten(0, 1)
        return super().forward(one_group_an_image).unflatten(0, (-1, self.groups)).flatten(1, 2)

    def extra_repr(self) -> str:
        alpha = self.alpha / self.size
        return f"size={self.size}, alpha={alpha:g}, beta={self.beta:g}, k={self.k:g}, groups={self.groups}"


def conv_bn(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the image size up to its stride, and batch normalisation for its bias."""
    padding = kernel_size // 2
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
            bn=nn.BatchNorm2d(out_channels),
        )
    )


def classifier(
    in_features: int,
    hidden: int,
    num_classes: int,
    dropout: float = 0.5,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Return the three fully connected layers of VGG and of our small AlexNet: (N, in_features) to (N, num_classes).

    Dropout follows each hidden layer, as in the papers (torchvision's AlexNet drops each hidden layer's *input*). The
    files of AlexNet and ZFNet write out the same layers.
    """
    return nn.Sequential(
        OrderedDict(
            fc6=nn.Linear(in_features, hidden),
            relu6=activation(),
            drop6=nn.Dropout(dropout),
            fc7=nn.Linear(hidden, hidden),
            relu7=activation(),
            drop7=nn.Dropout(dropout),
            fc8=nn.Linear(hidden, num_classes),
        )
    )


def init_weights(net: nn.Module, draw: Callable[[Tensor], Any]) -> None:
    """Draw the weights of all convolutions and linear layers of ``net`` by ``draw`` and set their biases to zero.

    ``draw`` fills one tensor in place. ``nn.init.kaiming_normal_`` is He initialisation for ReLU with the fan-in (He et
    al. 2015, arXiv 1502.01852, section 2.2): a normal distribution of variance 2/fan-in, where the fan-in is the number
    of values that one output is computed from, 9 in a depthwise 3x3 convolution. Others take the fan-out, the area of
    the kernel times the number of maps put out, as torchvision does in its ResNets and MobileNets: weights are then
    smaller where the maps become more, and larger where they become fewer. ``nn.init.xavier_normal_`` is Glorot
    initialisation, of variance 2/(fan-in + fan-out).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
