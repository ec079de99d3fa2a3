"""A network as the cards and arrows that one would draw of it, read off the module itself by ``torch.fx``.

One card is one convolution, pooling or linear layer together with what merely follows it (normalisation, activation,
dropout), or a whole block, or a place where branches meet.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn

from cnnlib.errors import CnnlibError, require_whole
from cnnlib.measure.dry_run import on_copy, skip_arithmetic
from cnnlib.measure.errors import BadArgument

MERGES = {"add": "+", "mul": "×", "sub": "−", "concat": "concat"}
"""The kinds of card where branches meet, and what is written on them."""


class NotDrawable(CnnlibError, ValueError):
    """``torch.fx`` cannot write the network down as a graph."""


@dataclass
class Card:
    """One card of a drawing.

    ``kind`` is input, output, conv, pool, linear, block, step (anything else with one source) or a key of
    :data:`MERGES`. ``shape`` is that of the card's output, without the batch. ``sources`` are the numbers of the cards
    it reads, in the order of the arguments. ``repeat`` cards of this kind stand one after the other.
    """

    kind: str
    title: str
    details: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    modules: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    repeat: int = 1


def network_graph(
    model: nn.Module,
    input_size: Sequence[int],
    *,
    depth: int | None = None,
    closed: tuple[type[nn.Module], ...] = (),
) -> list[Card]:
    """Return the cards of a network or block in the order in which data passes them.

    Args:
        model: any module that ``torch.fx`` can trace, in evaluation mode.
        input_size: shape of one input without the batch, (channels, height, width).
        depth: how many levels of modules to open; ``1`` draws the blocks of a network as one card each, None draws
            every layer. ``nn.Sequential`` and modules with at most one convolution do not count as a level.
        closed: classes of modules that are one card each, however deep they lie.

    Raises:
        NotDrawable: if the network cannot be traced.
        BadArgument: if ``input_size`` is no shape of one input, ``depth`` is not a whole number of at least 1, or
            ``closed`` holds what is no class.
        DoesNotFit: if the network does not take such an input.
    """
    require_whole(BadArgument, 1, depth=1 if depth is None else depth)
    try:
        isinstance(None, closed)
    except TypeError:
        raise BadArgument(f"closed must hold classes, such as (nn.Conv2d,), not {closed!r}") from None

    def read(net: nn.Module, images: Tensor) -> list[_Step]:
        tracer = _Tracer(net, depth, closed)
        try:
            graph = tracer.trace(net)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise NotDrawable(
                f"torch.fx cannot trace {type(net).__name__}: {reason}; its forward must not branch on the values or "
                "shapes of tensors. Draw its blocks one by one, or a smaller depth"
            ) from error
        skip_arithmetic(net)
        recorder = _Recorder(net, graph)
        recorder.run(images)
        return recorder.steps

    with torch.no_grad():
        steps = on_copy(model, input_size, read)
    return _without_repeats(_cards(steps))


# ---- tracing ---------------------------------------------------------------------------------------------------------

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_HEADS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)


def is_level(module: nn.Module) -> bool:
    """Say whether a module is a block, not a mere container or one layer with its normalisation."""
    heads = sum(isinstance(part, _HEADS) for part in module.modules())
    return type(module) not in _CONTAINERS and heads > 1


class _Tracer(fx.Tracer):
    def __init__(self, root: nn.Module, depth: int | None, closed: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._net, self._depth, self._closed = root, depth, closed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if type(m) in _CONTAINERS:
            return False
        if isinstance(m, self._closed) or super().is_leaf_module(m, module_qualified_name) or not any(m.children()):
            return True
        if self._depth is None or not is_level(m):
            return False
        parts = module_qualified_name.split(".")
        above = (self._net.get_submodule(".".join(parts[:end])) for end in range(1, len(parts) + 1))
        return sum(map(is_level, above)) >= self._depth


@dataclass
class _Step:
    """One node of the traced graph that puts out a tensor."""

    kind: str
    title: str
    shape: tuple[int, ...]
    module: str
    sources: list[int]


class _Recorder(fx.Interpreter):
    """Runs the graph on an image without data and writes down each step with its shape and its sources."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(net, graph=graph)
        self.extra_traceback = False
        self.steps: list[_Step] = []
        self._step_of: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        # Read before the step runs: an in-place one changes nothing of a shape, but the rule should not depend on it.
        before = [tuple(value.shape[1:]) for value in (self.env.get(s) for s in n.all_input_nodes) if _is_tensor(value)]
        value = super().run_node(n)
        sources = list(dict.fromkeys(self._step_of[s] for s in n.all_input_nodes if s in self._step_of))
        shape = tuple(value.shape[1:]) if _is_tensor(value) else ()
        if n.op == "placeholder":
            self._add(n, _Step("input", "input", shape, "", []))
        elif n.op == "output":
            self._add(n, _Step("output", "output", shape, "", sources))
        elif n.op != "get_attr" and sources and _holds_tensor(value):
            kind, title = self._describe(n, before, shape, len(sources))
            if kind == "same":
                self._step_of[n] = sources[0]
            else:
                module = n.target if n.op == "call_module" else ""
                self._add(n, _Step(kind, title, shape, module, sources))
        return value

    def _add(self, node: fx.Node, step: _Step) -> None:
        self._step_of[node] = len(self.steps)
        self.steps.append(step)

    def _describe(self, node: fx.Node, before: list, shape: tuple, sources: int) -> tuple[str, str]:
        if node.op == "call_module":
            return _describe_module(self.fetch_attr(node.target), before[0] if before else (), shape)
        name = node.target if node.op == "call_method" else node.target.__name__
        if node.target is operator.getitem and isinstance(self.env[node.args[0]], tuple | list):
            return "same", ""  # one part of what was split
        return _describe_function(name.strip("_"), node, before[0] if before else (), shape, sources)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _holds_tensor(value: Any) -> bool:
    return _is_tensor(value) or (isinstance(value, tuple | list) and any(map(_is_tensor, value)))


# ---- the words on a card ---------------------------------------------------------------------------------------------


def size_text(shape: Sequence[int]) -> str:
    """Write a shape or a window as ``96×55×55``."""
    return "×".join(map(str, shape))


def pair(value: Any) -> tuple[int, ...]:
    """Return a kernel, stride or dilation as one number for each axis; a single number stands for both of a map."""
    return tuple(value) if isinstance(value, Sequence) else (value, value)


def _per_axis(numbers: Sequence[int]) -> str:
    """Write one number where all axes agree, else ``2×1``."""
    return size_text(numbers if len(set(numbers)) > 1 else numbers[:1])


def _steps(stride: Any) -> str:
    across = pair(stride)
    return "" if set(across) == {1} else f", /{_per_axis(across)}"


def _shrinkage(before: int, after: int) -> int:
    """Return the stride that takes so many rows to so many; 1 where they are merely trimmed, or grow."""
    return round(before / after) if 2 * after <= before + 1 else 1  # a padded stride of 2 takes 299 rows to 150


def _describe_module(module: nn.Module, before: tuple, shape: tuple) -> tuple[str, str]:
    """Return the kind of a module's card and its title. A ``tail`` is written on the card before it."""
    match module:
        case nn.modules.conv._ConvNd():
            name = "transposed conv" if module.transposed else "conv"
            title = f"{size_text(module.kernel_size)} {name}, {module.out_channels}{_steps(module.stride)}"
            if module.groups == module.in_channels > 1:
                title += ", depthwise"
            elif module.groups > 1:
                title += f", {module.groups} groups"
            if set(module.dilation) != {1}:
                title += f", dilation {_per_axis(module.dilation)}"
            return "conv", title
        case nn.Linear():
            return "linear", f"fully connected, {module.out_features}"
        case nn.modules.pooling._MaxPoolNd():
            return "pool", f"{size_text(pair(module.kernel_size))} max pool{_steps(module.stride)}"
        case nn.modules.pooling._AvgPoolNd():
            return "pool", f"{size_text(pair(module.kernel_size))} average pool{_steps(module.stride)}"
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            return _adaptive_pool("max" if isinstance(module, nn.AdaptiveMaxPool2d) else "average", before, shape)
        case nn.modules.batchnorm._BatchNorm():
            return "tail", "BN"
        case nn.LocalResponseNorm():
            return "tail", "LRN"
        case nn.LayerNorm() | nn.GroupNorm() | nn.InstanceNorm2d():
            return "tail", {"LayerNorm": "LN", "GroupNorm": "GN"}.get(type(module).__name__, "IN")
        case nn.Dropout() | nn.Dropout2d():
            return ("tail", f"dropout {module.p:g}") if module.p else ("same", "")
        case nn.Identity():
            return "same", ""
        case nn.Flatten():
            return "tail", "flatten"
    if type(module).__module__ == nn.modules.activation.__name__ and not any(module.children()):
        return "tail", type(module).__name__
    if not any(module.children()):
        changes_nothing = before == shape and not any(True for _ in module.parameters())
        return ("tail" if changes_nothing else "step"), type(module).__name__
    stride = tuple(map(_shrinkage, before[1:], shape[1:])) if len(before) == len(shape) == 3 else 1
    size = f", {shape[0]}{_steps(stride)}" if shape else ""  # none if it puts out several maps
    return "block", type(module).__name__ + size


def _adaptive_pool(name: str, before: tuple, shape: tuple) -> tuple[str, str]:
    if before == shape:
        return "tail", f"to {size_text(shape[1:])}"  # for other sizes of the image only
    everything = set(shape[1:]) == {1}
    return "pool", f"global {name} pool" if everything else f"{name} pool to {size_text(shape[1:])}"


_ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "elu": "ELU", "selu": "SELU", "gelu": "GELU", "silu": "SiLU", "mish": "Mish",
    "leaky_relu": "LeakyReLU", "hardswish": "Hardswish", "hardsigmoid": "Hardsigmoid", "sigmoid": "Sigmoid",
    "tanh": "Tanh", "softmax": "Softmax", "log_softmax": "LogSoftmax", "softplus": "Softplus",
}  # fmt: skip
_SAME = {"contiguous", "clone", "detach", "float", "to", "type_as", "identity"}
_ARITHMETIC = {"add": "add", "iadd": "add", "sub": "sub", "isub": "sub", "mul": "mul", "imul": "mul"}
_FLATTENING = {"flatten", "view", "reshape", "squeeze"}
_NORMS = {"batch_norm": "BN", "layer_norm": "LN", "group_norm": "GN", "local_response_norm": "LRN"}


def _factor(node: fx.Node) -> str:
    """Name a multiplication of maps by what is no map: by its number, as a fraction where that is a simple one."""
    numbers = [value for value in node.args if isinstance(value, (int, float))]
    if not numbers:
        return "scale"
    simple = Fraction(numbers[0]).limit_denominator(12)
    return f"× {simple}" if math.isclose(simple, numbers[0]) else f"× {numbers[0]:g}"


def _describe_function(name: str, node: fx.Node, before: tuple, shape: tuple, sources: int) -> tuple[str, str]:
    if name in _SAME or name == "require_size":
        return "same", ""
    if name in _ACTIVATIONS or name in _NORMS:
        return "tail", _ACTIVATIONS.get(name) or _NORMS[name]
    if name.startswith("dropout"):
        return "tail", "dropout"
    if name in _ARITHMETIC:
        kind = _ARITHMETIC[name]
        return (kind, MERGES[kind]) if sources > 1 else ("tail", _factor(node) if kind == "mul" else "shift")
    if name in ("cat", "concat"):
        return ("concat", "concat") if sources > 1 else ("same", "")
    if name in _FLATTENING and len(shape) == 1:
        return "tail", "flatten"
    if name in ("max_pool2d", "avg_pool2d"):
        arguments = dict(zip(("input", "kernel_size", "stride"), node.args, strict=False)) | node.kwargs
        window = pair(arguments["kernel_size"])
        kind = "max" if name == "max_pool2d" else "average"
        return "pool", f"{size_text(window)} {kind} pool{_steps(arguments.get('stride') or window)}"
    if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return _adaptive_pool("average" if "avg" in name else "max", before, shape)
    if name == "mean" and len(before) == 3 and shape in ((before[0],), (before[0], 1, 1)):
        return "pool", "global average pool"
    if name in ("chunk", "split"):
        return "step", "split"
    if name == "pad" and len(shape) == 3 and shape[1:] == before[1:]:
        return "step", f"zero maps up to {shape[0]}"
    return "step", {"view": "reshape", "getitem": "choose maps"}.get(name) or name.replace("_", " ")


# ---- from steps to cards ---------------------------------------------------------------------------------------------


def _cards(steps: list[_Step]) -> list[Card]:
    """Write each tail on the card before it where nothing else reads that card, and make a card of every other step."""
    readers = Counter(source for step in steps for source in step.sources)
    cards: list[Card] = []
    card_of: list[int] = []
    for step in steps:
        sources = [card_of[source] for source in step.sources]
        before = cards[sources[0]] if sources else None
        follows = step.kind == "tail" and len(sources) == 1 and readers[step.sources[0]] == 1
        modules = [step.module] if step.module else []
        if follows and before.kind not in ("input", *MERGES):
            before.details.append(step.title)
            before.shape = step.shape
            before.modules += modules
            card_of.append(sources[0])
        else:
            kind = "step" if step.kind == "tail" else step.kind
            cards.append(Card(kind, step.title, [], step.shape, modules, list(dict.fromkeys(sources))))
            card_of.append(len(cards) - 1)
    return cards


def _without_repeats(cards: list[Card]) -> list[Card]:
    """Draw cards that only repeat the one card before them once."""
    readers = Counter(source for card in cards for source in card.sources)
    kept: list[Card] = []
    place: list[int] = []
    for card in cards:
        sources = [place[source] for source in card.sources]
        last = kept[sources[0]] if len(sources) == 1 else None
        same = last is not None and (card.kind, card.title, card.details) == (last.kind, last.title, last.details)
        unchanged = same and kept[last.sources[0]].shape == last.shape == card.shape if same and last.sources else False
        if unchanged and readers[card.sources[0]] == 1 and card.kind not in MERGES:
            last.repeat += 1
            last.modules += card.modules
            place.append(sources[0])
        else:
            card.sources = sources
            kept.append(card)
            place.append(len(kept) - 1)
    return kept
