"""The theoretical receptive field: which input pixels a unit can see, through branches and shortcuts.

Along one axis unit k of a map sees the pixels from ``first + k * stride`` to ``last + k * stride``. A window of kernel
F, stride S, padding P and dilation D over that map moves these three numbers to

    first - P * stride,    last + (D (F - 1) - P) * stride,    stride * S

which is the recurrence of Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks"
(https://distill.pub/2019/computing-receptive-fields). Where branches meet, a unit sees what any of them sees: from the
smallest ``first`` to the largest ``last``. The size ``last - first + 1`` counts pixels beyond the border of the image
too, as all published tables do.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from cnnlib.errors import first_line
from cnnlib.measure.dry_run import first_accepted, on_copy, require_network, require_shape, skip_arithmetic
from cnnlib.measure.errors import BadArgument, NotTraceable, UnknownLayer, UnsupportedOperation
from cnnlib.measure.rendering import per_axis_text, shape_text
from cnnlib.table import Column, Table

PerAxis = int | float | tuple[int | float, ...]
"""One number where height and width agree, else ``(height, width)``."""

USUAL_SIDES = (224, 32, 28)
"""Images of ImageNet, CIFAR and MNIST: tried in this order where no input size is given. In pixels."""


@dataclass(frozen=True)
class FieldRow:
    """What the units of one step of the graph see. All lengths in input pixels.

    ``output`` is the size of the map (height, width), or empty after a flattening. ``size`` is the receptive field of a
    unit, ``stride`` the distance between the fields of neighbouring units, ``start`` the centre of the first unit's
    field, where pixel 0 has its centre at 0. Where ``whole`` is true every unit sees the whole input. Where ``aligned``
    is false, branches that met here or before are not centred on the same pixel, or an adaptive pooling had windows of
    unequal width (then size and stride are those of its widest window and its average step).
    """

    name: str
    kind: str
    output: tuple[int, ...]
    size: PerAxis
    stride: PerAxis | None
    start: PerAxis | None
    whole: bool = False
    aligned: bool = True

    @property
    def size_text(self) -> str:
        """The size as tables show it, ``all`` where the unit sees the whole input."""
        return "all" if self.whole else per_axis_text(self.size)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of every step of a network, in the order of its graph; the first is the input itself.

    ``calls`` maps the name of each module to the rows of its calls: a ReLU that a block uses three times has three. A
    call that does not read the image has None. ``receptive_field(net)["layer4"]`` is the last row of ``layer4``.
    """

    model: str
    input_size: tuple[int, ...]
    rows: tuple[FieldRow, ...]
    calls: Mapping[str, tuple[FieldRow | None, ...]] = field(repr=False)

    @property
    def final(self) -> FieldRow:
        """The last map of the network, before its pooling to one number or its flattening."""
        return next(row for row in reversed(self.rows) if row.stride is not None)

    def __getitem__(self, name: str) -> FieldRow:
        if name in self.calls:
            return next(row for row in reversed(self.calls[name]) if row)
        named = {row.name: row for row in self.rows}
        if name not in named:
            raise UnknownLayer(name, [*self.calls, *named])
        return named[name]

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        final = self.final
        notes = [f"Last map: {final.name}, field {final.size_text}, stride {per_axis_text(final.stride)}."]
        if not all(row.aligned for row in self.rows):
            notes.append("Not aligned: branches, or windows of adaptive pooling, are not centred alike from there on.")
        columns = (
            Column("layer", numeric=False, least=12),
            Column("kind", numeric=False, least=12),
            Column("output"),
            Column("field", "px"),
            Column("stride", "px"),
            Column("first centre", "px"),
            Column("branches", numeric=False),
        )
        rows = [
            (
                row.name,
                row.kind,
                shape_text(row.output) or "-",
                row.size_text,
                per_axis_text(row.stride),
                per_axis_text(row.start),
                "" if row.aligned else "not aligned",
            )
            for row in self.rows
        ]
        caption = f"{self.model}: theoretical receptive field, input {shape_text(self.input_size)}"
        return Table(caption, columns, rows, notes=notes)


def receptive_field(model: nn.Module, input_size: tuple[int, int, int] | None = None) -> ReceptiveField:
    """Compute the theoretical receptive field of every step of a network, in evaluation mode.

    ``input_size`` is the shape of one image (channels, height, width). Fields and strides do not depend on it, but
    behind adaptive pooling and for a layer that sees the whole input; without it the sizes of ImageNet, CIFAR and MNIST
    are tried.

    Raises:
        BadArgument: if ``input_size`` is no shape of one image, if it is left out and none of the usual ones will do,
            or if the network has lazy modules that have not seen an input yet.
        NotTraceable: if ``torch.fx`` cannot write the network down as a graph.
        UnsupportedOperation: if no rule is known for one of its operations, or it pads with the opposite border.
        DoesNotFit: if the network does not take images of this size.
    """
    input_size = _usual_size(model) if input_size is None else require_shape(input_size, axes=3)

    def measure(net: nn.Module, images: Tensor) -> ReceptiveField:
        tracer = _Tracer()
        try:
            graph = tracer.trace(net)
        except Exception as error:
            raise NotTraceable(
                f"torch.fx cannot trace {type(net).__name__}: {first_line(error)}; its forward must not branch on the "
                "values or shapes of tensors. effective_receptive_field measures the field of any network"
            ) from error
        skip_arithmetic(net)
        walk = _Walk(net, graph, tracer.owner)
        walk.run(images)
        if not walk.rows:
            raise NotTraceable(
                f"the forward of {type(net).__name__} must take the images as an argument of its own, not in *args. "
                "effective_receptive_field measures the field of any network"
            )
        calls = {name: tuple(map(walk.row_of.get, nodes)) for name, nodes in tracer.calls.items()}
        seen = {name: rows for name, rows in calls.items() if any(rows)}
        return ReceptiveField(type(net).__name__, input_size, tuple(walk.rows), seen)

    with torch.no_grad():
        return on_copy(model, input_size, measure)


def _usual_size(model: nn.Module) -> tuple[int, int, int]:
    require_network(model)
    channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    if size := first_accepted(model, ((channels, side, side) for side in USUAL_SIDES)):
        return size
    raise BadArgument(f"say for which input_size (channels, height, width) {type(model).__name__} is meant")


# The algebra of spans and maps.


@dataclass(frozen=True)
class _Span:
    """Along one axis: unit k sees the pixels from ``first + k * stride`` to ``last + k * stride``."""

    first: int | Fraction = 0
    last: int | Fraction = 0
    stride: int | Fraction = 1

    def window(self, kernel: int, stride: int | Fraction = 1, padding: int = 0, dilation: int = 1) -> _Span:
        return _Span(
            self.first - padding * self.stride,
            self.last + (dilation * (kernel - 1) - padding) * self.stride,
            self.stride * stride,
        )


@dataclass(frozen=True)
class _Map:
    """A tensor in the graph and what its units see: one span for its height and one for its width.

    A tensor without spans is no map: it was pooled to one number or flattened, and sees the whole input.
    """

    shape: torch.Size | None
    spans: tuple[_Span, ...] = ()
    whole: bool = True
    aligned: bool = True

    def windows(self, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> _Map:
        geometry = zip(_pair(kernel), _pair(stride), _pair(padding), _pair(dilation), strict=True)
        spans = (span.window(*numbers) for span, numbers in zip(self.spans, geometry, strict=True))
        return replace(self, spans=tuple(spans))


_FLAT = _Map(None)


def _merge(maps: Sequence[_Map]) -> _Map:
    """Return what a unit sees that reads the units of all these maps, of one height and width, at its own position."""
    spatial = [one for one in maps if one.spans]
    if not spatial:
        return _FLAT
    axes = list(zip(*(one.spans for one in spatial), strict=True))
    if any(len({span.stride for span in axis}) > 1 for axis in axes):
        raise NotImplementedError("its inputs come at different strides")
    return _Map(
        None,
        tuple(_Span(min(s.first for s in axis), max(s.last for s in axis), axis[0].stride) for axis in axes),
        whole=len(spatial) < len(maps) or any(one.whole for one in spatial),
        aligned=all(one.aligned for one in spatial)
        and all(len({span.first + span.last for span in axis}) == 1 for axis in axes),
    )


def _sees_all(one: _Map, image: tuple[int, int]) -> bool:
    """Say whether each unit of a map has the whole image in its field."""
    return one.whole or all(
        span.first + (units - 1) * span.stride <= 0 and span.last >= length - 1
        for span, units, length in zip(one.spans, one.shape[-2:], image, strict=True)
    )


# The rules: a function for each operation, with the signature of torch.nn.functional after ``out``, the result's shape.


def _conv2d(out, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    kernel = tuple(weight.shape[-2:])
    if padding == "same":  # where the total is odd, PyTorch puts the odd pixel at the far end
        totals = [d * (k - 1) for k, d in zip(kernel, _pair(dilation), strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    else:
        top, left = bottom, right = _pair(0 if padding == "valid" else padding)
    return _pad(out, input, (left, right, top, bottom), padding_mode).windows(kernel, stride, dilation=dilation)


def _max_pool2d(out, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return input.windows(kernel_size, stride or kernel_size, padding, dilation)


def _avg_pool2d(out, input, kernel_size, stride=None, padding=0, *_, **__):
    return input.windows(kernel_size, stride or kernel_size, padding)


def _adaptive_pool2d(out, input, output_size, return_indices=False):
    # Unit i of n reads the units from floor(i m / n) to ceil((i + 1) m / n) - 1 of m.
    if tuple(out[-2:]) == (1, 1):
        return _FLAT
    spans, even = [], True
    for span, m, n in zip(input.spans, input.shape[-2:], out[-2:], strict=True):
        widest = max(-(-(i + 1) * m // n) - i * m // n for i in range(n))
        spans.append(span.window(widest, m // n if m % n == 0 else Fraction(m, n)))
        even = even and m % n == 0
    return replace(input, spans=tuple(spans), aligned=input.aligned and even)


def _pad(out, input, pad, mode="constant", value=None):
    if mode == "circular" and any(pad):
        raise NotImplementedError("it pads with the opposite border, so that a unit sees pixels in two places")
    left, _, top, _ = (*pad, 0, 0)[:4]
    return input.windows(1, padding=(top, left))


def _getitem(out, input, index):
    if input.shape is None:  # one tensor of several, as from chunk()
        return input
    index = [*index] if isinstance(index, tuple) else [index]
    dots = next((at for at, part in enumerate(index) if part is Ellipsis), len(index))
    index[dots : dots + 1] = [slice(None)] * (len(input.shape) - len(index) + (dots < len(index)))
    if any(part is None for part in index) or not all(isinstance(part, slice) for part in index[-2:]):
        raise NotImplementedError("it adds axes, or takes single rows or columns")
    steps = [part.indices(length) for part, length in zip(index[-2:], input.shape[-2:], strict=True)]
    return input.windows(1, [step for _, _, step in steps], [-start for start, _, _ in steps])


def _cat(out, tensors, dim=0):
    if dim % len(out) >= len(out) - 2:
        raise NotImplementedError("it joins maps along their height or width")
    return _merge([tensor for tensor in tensors if isinstance(tensor, _Map)])


def _along(out, input, dim=None, *_, axis=None, **__):
    dim, axes = axis if dim is None else dim, len(input.shape)
    dims = range(axes) if dim is None else [dim] if isinstance(dim, int) else dim
    spatial = {d % axes for d in dims} & {axes - 2, axes - 1}
    if not spatial:
        return input
    if len(spatial) == 1:  # neither pointwise nor over all places: a field has no word for it
        raise NotImplementedError("it goes over the rows or over the columns of maps alone")
    return _FLAT


def _softmax(out, input, dim=None, *_, **__):
    return _along(out, input, 1 if dim is None else dim)  # where none is given, PyTorch goes over the channels


def _split(out, input, size_or_count, dim=0):
    if dim % len(input.shape) >= len(input.shape) - 2:
        raise NotImplementedError("it cuts maps along their height or width")
    return input


def _glu(out, input, dim=-1):
    return _split(out, input, 2, dim)


def _whole(out, input, *_, **__):
    return replace(input, whole=True)


def _reshape(out, input, *_, **__):
    if len(out) > 2 and out[-2:] == input.shape[-2:]:
        return input
    if len(out) <= 2 or tuple(input.shape[-2:]) == (1, 1):
        return _FLAT
    raise NotImplementedError("it cuts or joins the rows of maps")


def _transpose(out, input, dim0, dim1):
    if max(dim0 % len(out), dim1 % len(out)) >= len(out) - 2:
        raise NotImplementedError("it moves the height or width of maps")
    return input


def _permute(out, input, *dims):
    order = [d % len(out) for d in (dims[0] if len(dims) == 1 else dims)]
    if order[-2:] != [len(out) - 2, len(out) - 1]:
        raise NotImplementedError("it moves the height or width of maps")
    return input


def _linear(out, input, weight, bias=None):
    raise NotImplementedError("it is applied to a map that was not flattened")


_RULES: dict[str, Callable[..., _Map]] = {
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_pool2d,
    "adaptive_max_pool2d": _adaptive_pool2d,
    "pad": _pad,
    "getitem": _getitem,
    "cat": _cat,
    "concat": _cat,
    "linear": _linear,
    "glu": _glu,
    **dict.fromkeys(("mean", "sum", "amax"), _along),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("chunk", "split"), _split),
    **dict.fromkeys(("group_norm", "instance_norm"), _whole),
    **dict.fromkeys(("flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("view", "view_as", "reshape", "reshape_as"), _reshape),
    **dict.fromkeys(("transpose", "swapaxes"), _transpose),
    "permute": _permute,
}

# Each unit of the result reads the units at its own position only, perhaps of several channels.
_POINTWISE_NAMES = """
add sub rsub mul multiply div truediv true_divide pow neg abs exp log sqrt rsqrt square
clamp clip maximum minimum where lerp
relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid logsigmoid softplus
softsign softshrink hardshrink threshold prelu rrelu
batch_norm local_response_norm channel_shuffle native_channel_shuffle
dropout dropout1d dropout2d alpha_dropout feature_alpha_dropout
contiguous clone detach to float half double type type_as expand_as
"""
_POINTWISE = frozenset(_POINTWISE_NAMES.split())
_POINTWISE_MODULES = (
    *(getattr(nn, name) for name in nn.modules.activation.__all__ if name not in ("MultiheadAttention", "GLU")),
    *(nn.LocalResponseNorm, nn.ChannelShuffle, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)

# How many arguments are read for their values, where the others tell a type or a shape alone.
_READ = {
    **dict.fromkeys(("to", "type_as", "expand_as", "view_as", "reshape_as"), 1),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"), 0),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), 0),
}


def _as_function(module: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of the function that a module of torch.nn applies."""

    def take(*names: str) -> dict[str, Any]:
        return {name: getattr(module, name) for name in names}

    match module:
        case nn.Conv2d():
            return "conv2d", take("weight", "stride", "padding", "dilation", "padding_mode")
        case nn.MaxPool2d():
            return "max_pool2d", take("kernel_size", "stride", "padding", "dilation")
        case nn.AvgPool2d():
            return "avg_pool2d", take("kernel_size", "stride", "padding")
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            return "adaptive_avg_pool2d", take("output_size")
        case nn.ZeroPad2d() | nn.ConstantPad2d() | nn.ReflectionPad2d() | nn.ReplicationPad2d():
            return "pad", {"pad": module.padding}
        case nn.GLU():
            return "glu", take("dim")
        case nn.Linear():
            return "linear", take("weight")
        case nn.Flatten():
            return "flatten", {}
        case nn.GroupNorm():
            return "group_norm", {}
        case nn.BatchNorm2d() | nn.SyncBatchNorm() | nn.InstanceNorm2d():  # without running statistics: the images'
            return "batch_norm" if module.track_running_stats else "instance_norm", {}
        case nn.Softmax() | nn.Softmin() | nn.LogSoftmax():
            return "softmax", take("dim")
        case _ if isinstance(module, _POINTWISE_MODULES):
            return "relu", {}
    return type(module).__name__, {}


# The walk along the graph.


class _Proxy(fx.Proxy):
    """Writes ``y += x`` down as what it is; torch.fx would take ``y = y + x``, which leaves other names of y alone."""


def _writes(operation: Callable) -> Callable[[_Proxy, Any], fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", operation, (self, other), {})


_WRITES = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv"}
for _name in _WRITES:
    setattr(_Proxy, f"__{_name}__", _writes(getattr(operator, _name)))


class _Tracer(fx.Tracer):
    """Writes down, besides the graph, which module each node belongs to and which node each module call returns.

    A call that returns none, but a tensor that was computed while tracing, has None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owner: dict[fx.Node, str] = {}
        self.calls: dict[str, list[fx.Node | None]] = defaultdict(list)
        self._path = [""]

    def trace(self, root: nn.Module, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        graph = super().trace(root, concrete_args)
        (output,) = (node for node in graph.nodes if node.op == "output")
        self._note("", output.args[0])
        return graph

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        name = self.path_of_module(m)
        self._path.append(name)
        result = super().call_module(m, forward, args, kwargs)
        self._path.pop()
        self._note(name, result)
        return result

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.owner[node] = self._path[-1]
        return node

    def _note(self, name: str, result: Any) -> None:
        if isinstance(result, tuple | list) and result:
            result = result[0]
        node = result.node if isinstance(result, fx.Proxy) else result
        self.calls[name].append(node if isinstance(node, fx.Node) else None)


class _Walk(fx.Interpreter):
    """Runs the graph on images without data and derives what the units of each result see."""

    def __init__(self, net: nn.Module, graph: fx.Graph, owner: Mapping[fx.Node, str]) -> None:
        super().__init__(net, graph=graph)
        self.extra_traceback = False
        self.rows: list[FieldRow] = []
        self.row_of: dict[fx.Node, FieldRow] = {}
        self._owner = owner
        self._maps: dict[fx.Node, _Map] = {}
        self._image: tuple[int, int] = (0, 0)
        self._uses: Counter[str] = Counter()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        function = getattr(n.target, "__name__", n.target)  # of a method, or a module, the target is its name
        called = n.op in ("call_function", "call_method")
        read = n.args[: _READ[function]] if called and function in _READ else n.all_input_nodes
        sources = [source for source in read if source in self._maps]
        if n.op == "placeholder" and isinstance(value, Tensor):
            self._image = tuple(value.shape[-2:])
            self._record(n, "input", "image", value, _Map(None, (_Span(), _Span()), whole=False))
        elif n.op == "call_module" and sources:
            function, constants = _as_function(self.fetch_attr(n.target))
            seen = self._seen(n, function, value, sources, constants)
            self._record(n, n.target, type(self.fetch_attr(n.target)).__name__, value, seen)
        elif called and sources and _holds_tensors(value):
            in_place = function.endswith("_") or function in _WRITES  # relu_ writes in place
            function = _WRITES.get(function, function).rstrip("_")
            same = next((source for source in n.all_input_nodes if self.env[source] is value), None)
            if same in self._maps and not in_place and function not in _POINTWISE:  # a check of the input's size, say
                self._maps[n], self.row_of[n] = self._maps[same], self.row_of[same]
            else:
                before = self._maps.get(same)
                self._record(n, self._name(n, function), function, value, self._seen(n, function, value, sources, {}))
                if same and self._maps[n] != before:
                    self._written(n, function, value)
        return value

    def _written(self, node: fx.Node, function: str, written: Tensor) -> None:
        """Let all names of a tensor that was written in place mean what was written."""
        memory = written.untyped_storage()
        for name, value in self.env.items():
            if value is written:
                self._maps[name] = self._maps[node]
            elif any(isinstance(x, Tensor) and x.untyped_storage()._cdata == memory._cdata for x in tree_leaves(value)):
                raise self._unknown(node, function, "it writes into memory that other views have, too")

    def _seen(self, node: fx.Node, function: str, value: Any, sources: list[fx.Node], constants: dict) -> _Map:
        maps = [self._maps[source] for source in sources]
        if not any(one.spans for one in maps):
            return _FLAT
        try:
            if function in _POINTWISE:
                spread = [one for one in maps if one.spans and one.shape[-2:] != value.shape[-2:]]
                if not all(_sees_all(one, self._image) for one in spread):
                    raise NotImplementedError("it spreads rows or columns that do not see the whole image over a map")
                return _merge([_FLAT if one in spread else one for one in maps])
            if function not in _RULES:
                raise NotImplementedError("no rule says which inputs its outputs see")
            args, kwargs = map_arg((node.args, node.kwargs), lambda arg: self._maps.get(arg, self.env.get(arg)))
            return _RULES[function](getattr(value, "shape", None), *args, **kwargs, **constants)
        except (NotImplementedError, TypeError) as error:  # a TypeError: arguments that the rule does not name
            raise self._unknown(node, function, error) from None

    def _unknown(self, node: fx.Node, function: str, reason: object) -> UnsupportedOperation:
        where = f"module {self._owner[node]!r}" if self._owner[node] else "the forward of the network"
        return UnsupportedOperation(
            f"the receptive field of {function!r} in {where} is not known: {reason}. "
            "effective_receptive_field measures the field of any network"
        )

    def _name(self, node: fx.Node, function: str) -> str:
        """Name a function as modules are named, after the module that calls it: ``layer1.0.add``."""
        name = ".".join(filter(None, (self._owner[node], function)))
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}_{self._uses[name] - 1}"

    def _record(self, node: fx.Node, name: str, kind: str, value: Any, seen: _Map) -> None:
        seen = self._maps[node] = replace(seen, shape=getattr(value, "shape", None))
        output = tuple(seen.shape[-2:]) if seen.shape and seen.spans else ()
        row = FieldRow(
            name,
            kind,
            output,
            size=_per_axis(self._image if seen.whole else [span.last - span.first + 1 for span in seen.spans]),
            stride=_per_axis([span.stride for span in seen.spans]),
            start=_per_axis([Fraction(span.first + span.last, 2) for span in seen.spans]),
            whole=seen.whole,
            aligned=seen.aligned,
        )
        self.rows.append(row)
        self.row_of[node] = row


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensors, value)))


def _pair(value: Any) -> tuple:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * 2 if len(values) == 1 else values


def _per_axis(numbers: Sequence[int | Fraction]) -> PerAxis | None:
    plain = tuple(int(number) if number == int(number) else float(number) for number in numbers)
    return None if not plain else plain[0] if len(set(plain)) == 1 else plain
