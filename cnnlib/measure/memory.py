"""The memory that one training step needs: computed in a moment and without a GPU, on tensors without data."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnlib.measure.dry_run import Memory, gradients_on, on_copy, with_gradient
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.rendering import megabytes, shape_text
from cnnlib.table import Column, Table

OPTIMIZER_STATES = {"sgd": 0, "sgd-momentum": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
"""Values that an optimiser keeps for each parameter."""


@dataclass(frozen=True)
class TrainingMemory:
    """What a training step holds, in bytes.

    ``parameters`` include buffers (running means and variances). ``activations`` are all tensors that the forward pass
    keeps for the backward pass, besides parameters and the ``batch`` of images. ``total`` is the sum of the parts.

    ``peak`` is the most that is alive at any moment of the forward and backward pass, optimiser state included: with
    the gradients of activations, which come and go, and with those gradients of parameters that exist by then. Work
    space of convolution kernels and what the framework holds for itself come on top of both.
    """

    model: str
    input_size: tuple[int, ...]
    batch_size: int
    optimizer: str
    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    batch: int
    peak: int

    @property
    def total(self) -> int:
        """All parts together, in bytes."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations + self.batch

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        images = f"{self.batch_size} image{'' if self.batch_size == 1 else 's'}"
        parts = {
            "parameters": self.parameters,
            "their gradients": self.gradients,
            f"state of {self.optimizer}": self.optimizer_state,
            "activations kept for the backward pass": self.activations,
            f"batch of {images}": self.batch,
        }
        return Table(
            caption=f"{self.model}: a training step, {images} of {shape_text(self.input_size)}",
            columns=(Column("held", numeric=False), Column("memory", "MB"), Column("share", "%")),
            rows=[(part, megabytes(size), f"{100 * size / self.total:.0f}") for part, size in parts.items()],
            footer=("total", megabytes(self.total), "100"),
            notes=[
                f"Most at one moment: {megabytes(self.peak)} MB, without the kernels' work space. 1 MB = 10^6 bytes."
            ],
        )


@gradients_on()
def training_memory(
    model: nn.Module,
    input_size: tuple[int, ...],
    batch_size: int,
    optimizer: str = "sgd-momentum",
    dtype: torch.dtype = torch.float32,
) -> TrainingMemory:
    """Compute what one training step holds, for a batch of images of ``input_size``, (channels, height, width).

    The network runs forward and backward in training mode on tensors that have shapes but no data. Its activations are
    what autograd saves, each block of memory once. ``dtype`` is the type of parameters and activations; ``optimizer``
    is one of :data:`OPTIMIZER_STATES`.

    Raises:
        BadArgument: if the optimiser is unknown, ``dtype`` is no floating-point type of PyTorch, ``batch_size`` is no
            number of images, ``input_size`` is no shape of one image, or the network has lazy modules that have not
            seen an input yet.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes. Also if
            batch normalisation would get a single value of a map, as of one image where maps of one pixel are left.
    """
    if optimizer not in OPTIMIZER_STATES:
        raise BadArgument(f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZER_STATES)}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise BadArgument(f"dtype must be a floating-point type, such as torch.float16, not {dtype!r}")

    def measure(net: nn.Module, images: Tensor) -> TrainingMemory:
        net, images = net.to(dtype).train(), images.to(dtype)
        own = [*net.parameters(), *net.buffers()]
        gradients = sum(_bytes(parameter) for parameter in net.parameters() if parameter.requires_grad)
        state = OPTIMIZER_STATES[optimizer] * gradients
        activations = _saved(net, images)
        peak = _peak(net, images)
        return TrainingMemory(
            type(net).__name__,
            tuple(input_size),
            batch_size,
            optimizer,
            parameters=sum(map(_bytes, own)),
            gradients=gradients,
            optimizer_state=state,
            activations=activations,
            batch=_bytes(images),
            peak=peak + state,
        )

    return on_copy(model, input_size, measure, batch_size)


def _saved(net: nn.Module, images: Tensor) -> int:
    """Bytes that autograd saves in a forward pass, besides the tensors that exist before it."""
    memory = Memory(images, *net.parameters(), *net.buffers())
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        if memory.is_new(tensor):
            saved += tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(images)
    return saved


def _peak(net: nn.Module, images: Tensor) -> int:
    """Most bytes that are alive at one moment of a forward and backward pass."""
    with _Alive(images, *net.parameters(), *net.buffers()) as alive:
        outputs = with_gradient(net(images))
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return alive.peak


class _Alive(TorchDispatchMode):
    """Follows every block of memory that an operation makes until nobody holds it any longer."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._blocks: dict[int, weakref.ref] = {}
        for tensor in tensors:
            self._follow(tensor)

    def __torch_dispatch__(
        self, func: Callable, types: tuple[type, ...], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        block = tensor.untyped_storage()
        address, size = block._cdata, block.nbytes()
        if address not in self._blocks:
            self._blocks[address] = weakref.ref(block, lambda _: self._release(address, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _release(self, address: int, size: int) -> None:
        del self._blocks[address]
        self.now -= size


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
