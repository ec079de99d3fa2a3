"""Networks of searched cells: what NASNet, AmoebaNet and ENAS share.

All three search for two small graphs, a normal cell and a reduction cell, in the space of Zoph et al. 2018 (section 3
of arXiv 1707.07012), and stack many copies of them. So a searched architecture is data, a :class:`Genotype`; one class,
:class:`Cell`, builds any cell from it, and :class:`CellNet` any network. What the paper leaves open follows the
authors' code (TF-slim):

- A separable convolution is applied twice: ReLU, depthwise, pointwise, normalisation, and once more; the stride is in
  the first. Average pooling does not count the padding.
- Padding is TensorFlow's "SAME": on maps of even size the windows of a strided layer are centred on the pixels
  1, 3, 5, ..., where PyTorch's symmetric padding centres them on 0, 2, 4, ...; on maps of odd size the two agree.
- Drop path leaves out one operation of a cell for one image. Its probability grows with the cell's depth and, if the
  training loop calls :meth:`CellNet.set_progress`, linearly over the training, from zero.

The weights do not follow that code, which takes the fan-out: they have He initialisation with the fan-in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.models import layers
from cnnlib.models.layers import WithAuxiliary
from cnnlib.models.registry import BadOption, Paper, register

State = str | int  # "h": what the cell before put out; "p": what the one before that did; i: node i of this cell
Step = tuple[str, State]  # an operation, and what it is applied to


class Plan(NamedTuple):
    """The graph of a cell: each node adds up the results of two steps; the maps of ``concat`` are put out."""

    nodes: tuple[tuple[Step, Step], ...]
    concat: tuple[State, ...]


class Genotype(NamedTuple):
    """A searched architecture."""

    normal: Plan
    reduction: Plan


# The pieces


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return how many zeros TensorFlow's "SAME" padding puts before and behind ``size`` pixels."""
    total = kernel_size - stride + -size % stride
    return total // 2, total - total // 2


class SamePad2d(nn.Module):
    """Zeros around (N, C, H, W) for a convolution to put out H/stride x W/stride, rounded up."""

    def __init__(self, kernel_size: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        (rows, columns), (down, right) = self.kernel_size, self.stride
        height, width = x.shape[-2:]
        return F.pad(x, (*same_padding(width, columns, right), *same_padding(height, rows, down)))


class StridedAvgPool(nn.Module):
    """Averages over 3x3 pixels around every second one: (N, C, H, W) to (N, C, H/2, W/2), rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.avg_pool2d(x, 3, 2, (height % 2, width % 2), ceil_mode=True, count_include_pad=False)


class StridedMaxPool(nn.Module):
    """Maxima over 3x3 pixels around every second one: (N, C, H, W) to (N, C, H/2, W/2), rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.max_pool2d(x, 3, 2, (height % 2, width % 2), ceil_mode=True)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> nn.Module:
    """Return a convolution with "SAME" padding and without bias."""
    if stride == (1, 1):
        return nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", groups=groups, bias=False)
    strided = nn.Conv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(pad=SamePad2d(kernel_size, stride), conv=strided))


def relu_conv1x1_bn(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return a ReLU, a 1x1 convolution that reads every ``stride``-th pixel, and batch normalisation."""
    return nn.Sequential(nn.ReLU(), *layers.conv_bn(in_channels, out_channels, 1, stride))


class FactorizedReduction(nn.Module):
    """Half the size without losing pixels: one half of the new maps is made from the pixels 0, 2, ..., the other from
    1, 3, ... (N, in_channels, H, W) to (N, out_channels, H/2, W/2), rounded up."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.cat([self.even(x), self.odd(F.pad(x, (-1, 1, -1, 1)))], 1))


def relu_factorized_reduction(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the same after a ReLU."""
    return nn.Sequential(nn.ReLU(), FactorizedReduction(in_channels, out_channels))


# The operations: functions of (in_channels, out_channels, stride)


def separable(in_channels: int, out_channels: int, stride: int, kernel_size: int) -> nn.Sequential:
    """Return a separable convolution applied twice."""
    kernel = (kernel_size, kernel_size)
    once = [
        nn.Sequential(
            OrderedDict(
                relu=nn.ReLU(),
                depthwise=conv(channels, channels, kernel, strides, groups=channels),
                pointwise=nn.Conv2d(channels, out_channels, 1, bias=False),
                bn=nn.BatchNorm2d(out_channels),
            )
        )
        for channels, strides in ((in_channels, (stride, stride)), (out_channels, (1, 1)))
    ]
    return nn.Sequential(*once)


def average(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return average pooling, with a 1x1 convolution behind it where the number of maps changes."""
    pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False) if stride == 1 else StridedAvgPool()
    return pool if in_channels == out_channels else nn.Sequential(pool, layers.conv_bn(in_channels, out_channels, 1))


def maximum(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return max pooling, with a 1x1 convolution behind it where the number of maps changes."""
    pool = nn.MaxPool2d(3, 1, padding=1) if stride == 1 else StridedMaxPool()
    return pool if in_channels == out_channels else nn.Sequential(pool, layers.conv_bn(in_channels, out_channels, 1))


def one_by_seven(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return a 1x7 and a 7x1 convolution among a quarter of the maps, between two 1x1 convolutions."""
    inner = out_channels // 4
    return nn.Sequential(
        *relu_conv1x1_bn(in_channels, inner),
        *(nn.ReLU(), conv(inner, inner, (1, 7), (1, stride)), nn.BatchNorm2d(inner)),
        *(nn.ReLU(), conv(inner, inner, (7, 1), (stride, 1)), nn.BatchNorm2d(inner)),
        *relu_conv1x1_bn(inner, out_channels),
    )


def identity(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return nothing, or a 1x1 convolution where the size or the number of maps changes."""
    shape = in_channels, out_channels, stride
    return nn.Identity() if layers.keeps_shape(*shape) else relu_conv1x1_bn(*shape)


Operations = Mapping[str, Callable[[int, int, int], nn.Module]]
OPERATIONS: Operations = {
    "sep3x3": partial(separable, kernel_size=3),
    "sep5x5": partial(separable, kernel_size=5),
    "sep7x7": partial(separable, kernel_size=7),
    "1x7-7x1": one_by_seven,
    "avg3x3": average,
    "max3x3": maximum,
    "identity": identity,
}


class DropPath(nn.Module):
    """While training, zero each image's maps in (N, C, H, W) with a probability p and divide the others by 1 - p.

    p is ``final`` times the progress set last, which is 0 at first. It is a tensor, so that compiled code need not be
    compiled again when it changes. After ``to_empty`` call ``set_progress(0)``: it is not among the saved weights.

    Raises:
        BadOption: if ``final`` is not in [0, 1): with 1 nothing would be left to divide.
    """

    def __init__(self, final: float):
        super().__init__()
        layers.require_probability(drop_path=final)
        self.final = final
        self.register_buffer("kept", torch.ones(()), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Set the share of the training that is done."""
        self.kept.fill_(1 - self.final * progress)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.final == 0:
            return x
        keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < self.kept
        return x * keep / self.kept

    def extra_repr(self) -> str:
        return f"final={self.final:g}"


def require_steps(plan: Plan, operations: Operations) -> None:
    """Check that a cell can be built: each step applies an operation that there is to h, p or a node before it.

    Raises:
        BadOption: naming the first step, or the first map that is put out, for which this is not so.
    """
    known: list[State] = ["p", "h"]
    for number, node in enumerate(plan.nodes):
        if len(node) != 2:
            raise BadOption(f"a node adds up two steps, but node {number} has {len(node)}")
        for name, state in node:
            if name not in operations:
                raise BadOption(f"node {number}: there is no operation {name!r}; there are {', '.join(operations)}")
            if state not in known:
                raise BadOption(f"node {number} reads {state!r}; before it there are {', '.join(map(repr, known))}")
        known.append(number)
    if not plan.concat:
        raise BadOption("a cell puts out at least one map, but concat is empty")
    for state in plan.concat:
        if state not in known:
            raise BadOption(f"the cell puts out {state!r}; there are {', '.join(map(repr, known))}")


class Cell(nn.Module):
    """One cell, built from its plan.

    Maps h (N, h_channels, H, W) and p (N, p_channels, H, W), or of twice that size if ``halve_p``, to
    (N, channels * len(plan.concat), H/stride, W/stride). First it makes ``channels`` maps each of h and p. The stride
    is in the steps that read h or p.

    Args:
        plan: the cell's graph.
        h_channels: number of maps that the cell before puts out.
        p_channels: number of maps of p.
        channels: number of maps of each node.
        stride: 1 for a normal cell, 2 for a reduction cell.
        halve_p: p is twice as large as h; a factorised reduction halves it.
        raw_p: leave p as it is, whatever its number of maps.
        drop_path: the probability of leaving out an operation at the end of the training.
        operations: builders by the names that the plan uses.
        enter: ``enter(in_channels, out_channels)`` makes the layers that h goes through first.

    Raises:
        BadOption: if a step of the plan, or what it puts out, cannot be built.
    """

    def __init__(
        self,
        plan: Plan,
        h_channels: int,
        p_channels: int,
        channels: int,
        stride: int = 1,
        halve_p: bool = False,
        raw_p: bool = False,
        drop_path: float = 0.0,
        operations: Operations = OPERATIONS,
        enter: Callable[[int, int], nn.Module] = relu_conv1x1_bn,
    ):
        super().__init__()
        require_steps(plan, operations)
        self.plan = plan
        self.out_channels = channels * len(plan.concat)
        adjust = relu_factorized_reduction if halve_p else relu_conv1x1_bn
        self.h = enter(h_channels, channels)
        self.p = nn.Identity() if raw_p else adjust(p_channels, channels)
        widths = {"h": channels, "p": p_channels if raw_p else channels}
        self.nodes = nn.ModuleList()
        for node in plan.nodes:
            steps = (
                operations[name](widths.get(state, channels), channels, stride if state in widths else 1)
                for name, state in node
            )
            self.nodes.append(nn.ModuleList(steps))
        self.concat = nn.ModuleList(
            _fit(widths[state], channels, stride) if state in widths else nn.Identity() for state in plan.concat
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, h: Tensor, p: Tensor) -> Tensor:
        maps: dict[State, Tensor] = {"h": self.h(h), "p": self.p(p)}
        for number, (node, steps) in enumerate(zip(self.plan.nodes, self.nodes, strict=True)):
            left, right = (
                step(maps[state]) if name == "identity" else self.drop_path(step(maps[state]))
                for (name, state), step in zip(node, steps, strict=True)
            )
            maps[number] = left + right
        return torch.cat([fit(maps[state]) for state, fit in zip(self.plan.concat, self.concat, strict=True)], 1)


def _fit(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return what makes an input of a cell fit beside its nodes."""
    if stride == 2:
        return FactorizedReduction(in_channels, out_channels)
    return nn.Identity() if in_channels == out_channels else layers.conv_bn(in_channels, out_channels, 1)


class AuxiliaryHead(nn.Module):
    """A small classifier for maps (N, in_channels, H, W) of at least 5x5 pixels, the same in all three papers' code.

    In training mode, and without ``pad``, it takes no batch of a single image: the second convolution puts out one
    pixel, which gives batch normalisation but one value a map.

    Args:
        in_channels: number of maps.
        side: size of the second convolution; that of the pooled maps for images of the paper's size.
        num_classes: number of logits.
        pad: how many rows and columns of zeros the second convolution reads below and to the right of these maps.
    """

    def __init__(self, in_channels: int, side: int, num_classes: int, pad: int = 0):
        super().__init__()
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.resize = nn.AdaptiveAvgPool2d(side)  # changes nothing for images of the paper's size
        self.conv1 = nn.Conv2d(in_channels, 128, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(128)
        self.pad = nn.ZeroPad2d((0, pad, 0, pad))
        self.conv2 = nn.Conv2d(128, 768, side, bias=False)
        self.bn2 = nn.BatchNorm2d(768)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(self.resize(self.pool(self.relu(x))))))
        x = self.relu(self.bn2(self.conv2(self.pad(x))))
        return self.fc(self.global_pool(x).flatten(1))


def cifar_stem(channels: int) -> nn.Sequential:
    """Return the first layer for small images: (N, 3, H, W) to (N, channels, H, W)."""
    return layers.conv_bn(3, channels, 3)


def imagenet_stem(channels: int) -> nn.Sequential:
    """Return the first layer for large images, without padding: (N, 3, 331, 331) to (N, channels, 165, 165)."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, channels, 3, stride=2, bias=False), bn=nn.BatchNorm2d(channels)))


class CellNet(nn.Module):
    """A stem, three stacks of normal cells with a reduction cell between stacks, global average pooling, a classifier.

    Every cell reads the last two outputs, h and p. Each reduction cell doubles the number of maps of a node. On large
    images two more reduction cells, of a quarter and half of ``channels``, follow the stem.

    Args:
        genotype: the cells.
        channels: number of maps of a node in the first stack.
        repeats: number of normal cells in each stack.
        stem: the layers before the first cell.
        stem_channels: number of maps that the stem puts out.
        stem_cells: number of reduction cells before the first stack.
        num_classes: number of logits.
        dropout: probability of dropping an input of the classifier.
        drop_path: probability of dropping an operation of the last cell at the end of the training.
        head: ``head(in_channels)`` makes the auxiliary classifier; None for a net without.
        head_after: the cell that the head reads, counted from 0 at the stem.
        same_p: after a reduction cell between two stacks, the next cell gets the same p as the reduction cell did, not
            its h.
        raw_p: the first cell does not adjust p, which is the stem's output as h is.
        min_size: smallest image that leaves something to every layer.
        operations, enter: as for :class:`Cell`.

    Raises:
        BadOption: if ``repeats`` is negative, or 0 for a net with a head, ``drop_path`` is not in [0, 1), or a cell
            cannot be built.
    """

    auxiliary_weight = 0.4

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        repeats: int,
        stem: nn.Module,
        stem_channels: int,
        stem_cells: int = 0,
        num_classes: int = 10,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        head: Callable[[int], nn.Module] | None = None,
        head_after: int = 0,
        same_p: bool = False,
        raw_p: bool = True,
        min_size: int = 1,
        operations: Operations = OPERATIONS,
        enter: Callable[[int, int], nn.Module] = relu_conv1x1_bn,
    ):
        super().__init__()
        layers.require_whole(0 if head is None else 1, repeats=repeats)
        layers.require_probability(drop_path=drop_path)
        self.min_size = min_size
        self.head_after = head_after
        plans = [(genotype.reduction, channels // 2 ** (stem_cells - i), 2) for i in range(stem_cells)]
        for stack in range(3):
            if stack > 0:
                plans.append((genotype.reduction, channels * 2**stack, 2))
            plans += [(genotype.normal, channels * 2**stack, 1)] * repeats
        self.stem = stem
        self.cells = nn.ModuleList()
        self.keeps_p = []
        h = p = (stem_channels, 0)  # number of maps, and how often they were halved
        for number, (plan, width, stride) in enumerate(plans):
            cell = Cell(
                *(plan, h[0], p[0], width, stride),
                halve_p=h[1] > p[1],
                raw_p=raw_p and number == 0,
                drop_path=drop_path * (number + 1) / len(plans),
                operations=operations,
                enter=enter,
            )
            self.cells.append(cell)
            self.keeps_p.append(same_p and stride == 2 and number >= stem_cells)
            h, p = (cell.out_channels, h[1] + (stride == 2)), p if self.keeps_p[number] else h
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(h[0], num_classes)
        self.head = head(self.cells[head_after].out_channels) if head else None
        layers.init_weights(self, nn.init.kaiming_normal_)

    def set_progress(self, progress: float) -> None:
        """Tell the net which share of its training is done, from 0 to 1: the probabilities of drop path grow with it.

        A training loop calls this before every step or epoch. Without a call nothing is dropped.

        Raises:
            BadOption: for another share.
        """
        if not 0 <= progress <= 1:
            raise BadOption(f"progress is the share of the training that is done, from 0 to 1, not {progress}")
        for module in self.modules():
            if isinstance(module, DropPath):
                module.set_progress(progress)

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """Return the logits, with those of the head if there is one and this is a training."""
        layers.require_size(x, self.min_size, "A network of cells")
        auxiliary = ()
        h = p = self.stem(x)
        for number, (cell, keeps_p) in enumerate(zip(self.cells, self.keeps_p, strict=True)):
            h, p = cell(h, p), p if keeps_p else h
            if self.training and self.head is not None and number == self.head_after:
                auxiliary = (self.head(h),)
        logits = self.fc(self.dropout(self.pool(self.relu(h)).flatten(1)))
        return WithAuxiliary(logits, auxiliary) if auxiliary else logits


def cifar_cells(
    genotype: Genotype,
    channels: int,
    repeats: int,
    num_classes: int = 10,
    dropout: float = 0.0,
    drop_path: float = 0.4,
    auxiliary: bool = False,
) -> CellNet:
    """Return a net for 32x32 images, with an auxiliary head after the second stack if ``auxiliary``.

    Arguments and errors as for :class:`CellNet`.
    """
    return CellNet(
        *(genotype, channels, repeats),
        stem=cifar_stem(3 * channels),
        stem_channels=3 * channels,
        num_classes=num_classes,
        dropout=dropout,
        drop_path=drop_path,
        head=partial(AuxiliaryHead, side=4, num_classes=num_classes) if auxiliary else None,
        head_after=2 * repeats,
        min_size=9 if auxiliary else 1,
    )


def imagenet_cells(
    genotype: Genotype,
    channels: int,
    repeats: int,
    stem_channels: int,
    head_side: int,
    num_classes: int = 1000,
    dropout: float = 0.5,
    drop_path: float = 0.3,
    auxiliary: bool = False,
    same_p: bool = False,
) -> CellNet:
    """Return a net for large images, with an auxiliary head after the second stack if ``auxiliary``.

    ``head_side`` is the ``side`` of :class:`AuxiliaryHead`. Other arguments and errors as for :class:`CellNet`.
    """
    net = CellNet(
        *(genotype, channels, repeats),
        stem=imagenet_stem(stem_channels),
        stem_channels=stem_channels,
        stem_cells=2,
        num_classes=num_classes,
        dropout=dropout,
        drop_path=drop_path,
        head=partial(AuxiliaryHead, side=head_side, num_classes=num_classes) if auxiliary else None,
        head_after=2 * repeats + 2,
        same_p=same_p,
        min_size=67 if auxiliary else 3,
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return net


def register_nets(prefix: str, paper: Paper, nets: Mapping[str, tuple]) -> None:
    """Register a searched cell's networks, by name.

    Each is a tuple of what builds it, the side of its images, parameters, multiply-adds, published errors and a line
    about it.
    """
    for name, (build, side, parameters, multiply_adds, published, about) in nets.items():
        register(
            f"{prefix}-{name}",
            build,
            paper=paper,
            dataset="CIFAR-10" if "cifar" in name else "ImageNet",
            input_size=(3, side, side),
            parameters=parameters,
            multiply_adds=multiply_adds,
            published=published,
            about=about,
        )
