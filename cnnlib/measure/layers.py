"""The layer table: what each layer puts out, how many parameters and multiply-adds it has, and what it sees.

torchinfo runs the network and tells which layers were called, in which order, with which output shapes. Its
``mult_adds`` include biases and a part of the normalisations, so multiply-adds come from PyTorch's own counter, which
looks at the convolutions and matrix products that are executed: 15,470,264,320 for VGG-16 and a 224x224 image, the
papers' 15.5 G.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torchinfo
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cnnlib.errors import require_whole
from cnnlib.measure.dry_run import Memory, gradients_on, on_copy, require_network, require_shape, skip_arithmetic
from cnnlib.measure.errors import BadArgument, NotTraceable, UnknownLayer, UnsupportedOperation
from cnnlib.measure.rendering import per_axis_text, shape_text
from cnnlib.measure.theoretical import FieldRow, PerAxis, receptive_field
from cnnlib.table import Column, Table

FP32_BYTES = 4

_PRODUCTS = {
    torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix.numel(),
    torch.ops.aten.addmv: lambda added, matrix, vector, **_: 2 * matrix.numel(),
    torch.ops.aten.dot: lambda one, other, **_: 2 * one.numel(),
    torch.ops.aten.vdot: lambda one, other, **_: 2 * one.numel(),
    torch.ops.aten.addbmm: lambda added, one, other, **_: 2 * one.numel() * other[-1],
    torch.ops.aten._trilinear: lambda one, weight, other, *_, **__: 2 * one[0] * weight.numel(),  # of nn.Bilinear
}
"""Operations of products, two for each multiply-add, by shapes: PyTorch's counter does not know them."""


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer, for one image.

    ``output_shape`` is (channels, height, width) or (features,), without the batch. ``parameters`` are counted at the
    first call that uses them. ``multiply_adds`` leave biases out. ``activation_bytes`` is the memory of the output
    values in fp32, and 0 where the layer makes no new values: it writes in place, or passes its input on. A module that
    is never ``called`` has its parameters only.

    ``receptive_field`` and ``stride`` are in input pixels: one number, or (height, width) where these differ. They are
    None where they are not known, and ``stride`` also where the output is no map. ``sees_all`` tells that every unit
    sees the whole input.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    receptive_field: PerAxis | None = None
    stride: PerAxis | None = None
    sees_all: bool = False
    called: bool = True


@dataclass(frozen=True)
class LayerTable:
    """The layers of a network in the order in which an image passes them.

    Iterate over its rows, or ask for one by name (the last call, if there are several): ``table["features.0"]``.
    ``fields_missing`` says why no receptive fields are given, if so.
    """

    model: str
    input_size: tuple[int, ...]
    output_shape: tuple[int, ...]
    rows: tuple[LayerRow, ...]
    fields_missing: str = ""

    @property
    def total(self) -> LayerRow:
        """The sums over all rows."""
        return LayerRow(
            "total",
            self.model,
            self.output_shape,
            parameters=sum(row.parameters for row in self.rows),
            multiply_adds=sum(row.multiply_adds for row in self.rows),
            activation_bytes=sum(row.activation_bytes for row in self.rows),
        )

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> LayerRow:
        named = {row.name: row for row in self.rows}
        if name not in named:
            raise UnknownLayer(name, named)
        return named[name]

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        columns = (
            Column("layer", numeric=False, least=12),
            Column("kind", numeric=False, least=12),
            Column("output"),
            Column("parameters"),
            Column("mult-adds"),
            Column("memory", "kB"),
            Column("field", "px"),
            Column("stride", "px"),
        )
        notes = [
            "Multiply-adds of convolutions and matrix products, without biases, in evaluation mode.",
            "Memory of the outputs in fp32, 4 bytes a value; 0 where a layer makes no new values.",
        ]
        if self.fields_missing:
            notes.append(f"No receptive fields: {self.fields_missing}")
        return Table(
            caption=f"{self.model}: layers for one input of {shape_text(self.input_size)}",
            columns=columns,
            rows=[_cells(row) for row in self.rows],
            footer=_cells(self.total),
            notes=notes,
        )


@gradients_on()  # not for gradients: in inference mode the counter copies what a layer in it only passes on
def layer_table(model: nn.Module, input_size: tuple[int, ...], *, depth: int | None = None) -> LayerTable:
    """Measure every layer of a network for one image of ``input_size``, (channels, height, width).

    A module has a row for each of its calls if it is a leaf, or if its own ``forward`` adds something: parameters,
    multiply-adds or an output that no layer in it has put out. Modules that are never called (auxiliary classifiers in
    evaluation mode, say) have one row with their parameters, so that the rows add up to all of the network.
    ``depth=1`` gives one row for each module that the network itself calls, ``depth=2`` goes into these, and so on.

    Raises:
        BadArgument: if ``depth`` is below 1, if ``input_size`` is no shape of one image, or if the network has lazy
            modules that have not seen an input yet.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes.
        cnnlib.models.layers.InputTooSmall: the same, said by our own models.
    """
    if depth is not None:
        require_whole(BadArgument, 1, depth=depth)
    input_size = require_shape(input_size)
    calls, uncalled = on_copy(model, input_size, _watch)
    try:
        fields, missing = receptive_field(model, input_size).calls, ""
    except (BadArgument, NotTraceable, UnsupportedOperation) as error:
        fields, missing = {}, str(error)

    rows: list[LayerRow] = []
    folded = _Call()
    for call in calls:
        if depth is not None and call.level > depth:
            folded.add(call)
            continue
        call.add(folded)
        folded = _Call()
        if call.is_leaf or call.level == depth or call.parameters or call.multiply_adds or call.activation_bytes:
            known = fields.get(call.name, ())
            rows.append(call.row(known[call.repeat] if call.repeat < len(known) else None))
    return LayerTable(type(model).__name__, input_size, calls[-1].output_shape, (*rows, *uncalled), missing)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters of a network, frozen ones too. A shared parameter counts once.

    Raises:
        BadArgument: if it is no network, or has lazy modules that have not seen an input yet.
    """
    require_network(model)
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, input_size: tuple[int, ...]) -> int:
    """Return the multiply-adds of convolutions and matrix products for one image, (channels, height, width).

    Raises:
        BadArgument: if ``input_size`` is no shape of one image, or the network has lazy modules that have not seen an
            input yet.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes.
    """

    def measure(net: nn.Module, images: Tensor) -> int:
        with torch.no_grad(), _counter() as counter:
            net(images)
        return counter.get_total_flops() // 2

    return on_copy(model, input_size, measure)


def activation_bytes(model: nn.Module, input_size: tuple[int, ...]) -> int:
    """Return the memory of all outputs in fp32 for one image, in bytes: the sum of a layer table, in less time.

    Raises:
        BadArgument: if ``input_size`` is no shape of one image, or the network has lazy modules that have not seen an
            input yet.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes.
    """

    def measure(net: nn.Module, images: Tensor) -> int:
        memory, values = Memory(images), 0

        def count(module: nn.Module, inputs: tuple, output: Any) -> None:
            nonlocal values
            values += memory.new_values(_tensors(output))

        skip_arithmetic(net)
        for module in net.modules():
            module.register_forward_hook(count)
        with torch.no_grad():
            net(images)
        return FP32_BYTES * values

    return on_copy(model, input_size, measure)


@contextlib.contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    """Return PyTorch's counter, and let attention and recurrent layers be made of matrix products.

    It knows no CPU kernel of attention, and no kernel of oneDNN or cuDNN for a whole recurrent layer.
    """
    libraries = (torch.backends.mkldnn, torch.backends.cudnn)
    fast, enabled = torch.backends.mha.get_fastpath_enabled(), [library.enabled for library in libraries]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for library in libraries:
            library.enabled = False
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=_PRODUCTS) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, was in zip(libraries, enabled, strict=True):
            library.enabled = was


@dataclass
class _Call:
    """What one call of a module adds by itself, without the modules that it calls."""

    name: str = ""
    level: int = 0
    repeat: int = 0
    kind: str = ""
    is_leaf: bool = True
    output_shape: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0

    def add(self, other: _Call) -> None:
        self.parameters += other.parameters
        self.multiply_adds += other.multiply_adds
        self.activation_bytes += other.activation_bytes

    def row(self, seen: FieldRow | None) -> LayerRow:
        counts = (self.parameters, self.multiply_adds, self.activation_bytes)
        field = (seen.size, seen.stride, seen.whole) if seen else ()
        return LayerRow(self.name or "forward", self.kind, self.output_shape, *counts, *field)


def _watch(net: nn.Module, images: Tensor) -> tuple[list[_Call], list[LayerRow]]:
    """Run the network. Return its module calls in the order in which they ended, and rows for what was not called."""
    with _counter() as counter:
        watcher = _Watcher(net, images, counter)
        try:
            summary = torchinfo.summary(net, input_data=images, mode="eval", verbose=0)
        except RuntimeError as error:  # torchinfo's wrapping of what the network raised
            raise error.__cause__ or error from None
    executed = [info for info in summary.summary_list if info.executed]
    for call, info in zip(watcher.calls, executed, strict=True):
        call.kind, call.is_leaf, call.output_shape = info.class_name, info.is_leaf_layer, tuple(info.output_size[1:])

    names = {call.name for call in watcher.calls}
    uncalled = []
    for name, module in net.named_modules():
        if name not in names and not any(called.startswith(f"{name}.") for called in names):
            count = watcher.first_use(module.parameters())
            if count:
                uncalled.append(LayerRow(name, type(module).__name__, (), count, 0, 0, called=False))
    return watcher.ended, uncalled


class _Watcher:
    """Hooks that split parameters, multiply-adds and memory among the module calls of a running network."""

    def __init__(self, net: nn.Module, images: Tensor, counter: FlopCounterMode) -> None:
        self.calls: list[_Call] = []
        self.ended: list[_Call] = []
        self._running: list[_Call] = []
        self._counter = counter
        self._counted = 0
        self._memory = Memory(images)
        self._counted_parameters: set[int] = set()
        self._repeats: Counter[str] = Counter()
        for name, module in net.named_modules():
            module.register_forward_pre_hook(lambda module, _, name=name: self._enter(name, module))
            module.register_forward_hook(lambda _, __, output: self._leave(output))

    def first_use(self, parameters: Iterable[nn.Parameter]) -> int:
        """Count the values of those parameters that were not counted before."""
        new = {id(parameter): parameter.numel() for parameter in parameters}
        new = {key: count for key, count in new.items() if key not in self._counted_parameters}
        self._counted_parameters.update(new)
        return sum(new.values())

    def _enter(self, name: str, module: nn.Module) -> None:
        self._book()
        call = _Call(name, level=len(self._running), repeat=self._repeats[name])
        call.parameters = self.first_use(module.parameters(recurse=False))
        self._repeats[name] += 1
        self._running.append(call)
        self.calls.append(call)

    def _leave(self, output: Any) -> None:
        self._book()
        call = self._running.pop()
        call.activation_bytes = FP32_BYTES * self._memory.new_values(_tensors(output))
        self.ended.append(call)

    def _book(self) -> None:
        """Book the multiply-adds since the last hook on the module that is running."""
        counted = self._counter.get_total_flops() // 2
        if self._running:
            self._running[-1].multiply_adds += counted - self._counted
        self._counted = counted


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, tuple | list | dict):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


def _cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        shape_text(row.output_shape) if row.called else "not called",
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        f"{row.activation_bytes / 1000:,.1f}",
        "all" if row.sees_all else per_axis_text(row.receptive_field),
        per_axis_text(row.stride),
    )
