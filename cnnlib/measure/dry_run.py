"""Run a network without its data and without touching it.

Shapes, counts and graphs do not depend on the values of weights. So everything here is measured on a private copy whose
tensors have a shape and a type but no memory (PyTorch's ``meta`` device): ResNet-152 is counted in a fraction of a
second, and the network that was asked about keeps its mode, hooks, gradients, device and random state.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from cnnlib.errors import CnnlibError, DoesNotFit, first_line, kind_of, require_whole
from cnnlib.measure.errors import BadArgument, UnknownLayer
from cnnlib.measure.rendering import shape_text

Result = TypeVar("Result")
LARGEST_TRIED = 512
"""Where the search for an input size that works gives up. In pixels."""


@contextlib.contextmanager
def gradients_on() -> Iterator[None]:
    """Record gradients, whatever the caller does; also a decorator, ``@gradients_on()``.

    Tensors that were made in inference mode stay without gradients outside it: only copies of them can have some. So
    private copies and copies of images and labels are to be made in here.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


def private_copy(model: nn.Module, *, meta: bool = False) -> nn.Module:
    """Return a copy in evaluation mode, without hooks; with ``meta`` its tensors have shapes but no values.

    Weights that a hook computes at each call, as that of the old ``torch.nn.utils.weight_norm`` does, stay what they
    were at the last one. Parametrizations are no hooks and are kept.

    Raises:
        BadArgument: as :func:`require_network`, or if it is TorchScript.
    """
    require_network(model)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise BadArgument(f"{type(model).__name__} is TorchScript; measure the network that it was made of")

    # deepcopy takes from the memo what it would copy: so no value is copied that is not needed, and no hook is.
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in tree_leaves(vars(module)):  # parameters, buffers, and what it keeps in lists or dictionaries
            if isinstance(value, Tensor) and id(value) not in memo:
                empty = value.detach().to("meta") if meta else value.detach().clone()
                memo[id(value)] = nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                memo[id(value)] = OrderedDict()
    net = copy.deepcopy(model, memo)
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = getattr(child, "_orig_mod", child)  # what torch.compile wraps
    return getattr(net, "_orig_mod", net).eval()


def require_network(model: nn.Module) -> None:
    """Raise BadArgument if it is no network, or has lazy modules that have not seen an input yet."""
    if not isinstance(model, nn.Module):
        raise BadArgument(f"a network is measured, such as cnnlib.create('resnet20'), not {model!r}")
    if any(is_lazy(tensor) for tensor in chain(model.parameters(), model.buffers())):
        raise BadArgument(f"{type(model).__name__} has lazy layers without shapes; run it once on an image before")


def on_copy(
    model: nn.Module, input_size: tuple[int, ...], measure: Callable[[nn.Module, Tensor], Result], batch_size: int = 1
) -> Result:
    """Return ``measure(copy, images)`` for a private copy of the model and a batch of images of this size.

    The copy has no data where the network can run like that, else it is a full one and the images are black.

    Raises:
        BadArgument: if ``input_size`` is no shape of one image, ``batch_size`` is no number of images, or the network
            has lazy modules that have not seen an input yet.
        DoesNotFit: if the network cannot take such images; names the smallest square ones that it takes.
    """
    input_size = require_shape(input_size)
    require_whole(BadArgument, 1, batch_size=batch_size)
    for meta in (True, False):  # a network that reads values, or makes tensors on another device, needs a full copy
        try:
            net = private_copy(model, meta=meta)
            images = example(net).new_zeros(batch_size, *input_size)
            with own_random_numbers(images.device):
                return measure(net, images)
        except CnnlibError:
            raise
        except Exception as error:
            failure = error
    if isinstance(failure, RuntimeError | ValueError):
        raise DoesNotFit(_why(model, input_size, failure)) from failure
    raise failure


def require_shape(input_size: Iterable[int], axes: int | None = None) -> tuple[int, ...]:
    """Return the shape of one image, (channels, height, width) or (features,), as a tuple.

    Raises:
        BadArgument: if it is no such shape, or does not have this number of ``axes``.
    """
    try:
        shape = tuple(input_size)
        require_whole(BadArgument, 1, axes=len(shape), **{f"axis {axis}": length for axis, length in enumerate(shape)})
    except (TypeError, BadArgument):  # the former of a number, say
        shape = ()
    if not shape or axes not in (None, len(shape)):
        raise BadArgument(f"input_size must be the shape of one image, (channels, height, width), not {input_size!r}")
    return shape


def require_fit(model: nn.Module, input_size: tuple[int, ...], batch_size: int, *, training: bool = False) -> None:
    """Raise the errors of :func:`on_copy` unless the network takes such images, in evaluation or training mode."""
    with torch.no_grad():
        on_copy(model, input_size, lambda net, images: net.train(training)(images), batch_size)


def require_batch(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, training: bool = False) -> None:
    """Raise an error unless the network can really compute on these images, in evaluation or training mode.

    Raises:
        BadArgument: as :func:`require_values` and :func:`require_images`.
        DoesNotFit: if the network does not take such images.
    """
    require_values(model)
    require_images(images, labels)
    require_fit(model, images.shape[1:], len(images) if training else 1, training=training)


def require_values(model: nn.Module) -> None:
    """Raise BadArgument if weights of the network have shapes but no values."""
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        raise BadArgument(f"{type(model).__name__} is on the device 'meta', without values; make it on another one")


def require_images(images: Tensor, labels: Tensor | None = None) -> None:
    """Raise BadArgument unless these are images, float (N, C, H, W), and if given their labels, int64 (N,)."""
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim != 4 or not images.numel():
        advice = "; cnnlib.data.normalise makes them of uint8" if kind_of(images).startswith("torch.uint8") else ""
        raise BadArgument(
            f"images must be a float tensor (N, C, H, W) of at least one image, not {kind_of(images)}{advice}"
        )
    if labels is not None:
        require_int64(labels)
        if labels.shape != images.shape[:1]:
            raise BadArgument(f"labels must be of shape ({len(images)},), one for each image, not {kind_of(labels)}")


def require_int64(labels: Tensor) -> None:
    """Raise BadArgument unless labels are a tensor of whole numbers, as cross-entropy wants them."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        raise BadArgument(f"labels must be an int64 tensor, one for each image, not {kind_of(labels)}")


def named_layers(net: nn.Module, names: Collection[str]) -> dict[str, nn.Module]:
    """Return the modules of these names.

    Raises:
        BadArgument: if ``names`` is one name, whose letters would be taken for names, or a generator, which one look at
            them would use up.
        UnknownLayer: if the network has no module of one of them.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise BadArgument(f"layers is a list, even of one: [{names!r}]")
    modules, found = dict(net.named_modules()), {}
    for name in names:
        if not isinstance(name, str) or name not in modules:
            raise UnknownLayer(name, filter(None, modules))
        found[name] = modules[name]
    return found


_SAME_SIZE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Hardswish, nn.Hardsigmoid)


def skip_arithmetic(net: nn.Module) -> None:
    """Let the layers of a private copy without data that keep the size of their input put out an empty tensor.

    On tensors without data PyTorch does the arithmetic of a batch normalisation or an activation step by step in
    Python, which takes most of the time of a deep network. Memory is used as before: what works in place still does.
    """
    if not any(parameter.is_meta for parameter in net.parameters()):
        return
    for module in net.modules():
        if type(module) in _SAME_SIZE:
            module.forward = functools.partial(_same_size, module)


def _same_size(module: nn.Module, x: Tensor) -> Tensor:
    maps = getattr(module, "num_features", None)
    if maps is not None and (x.dim() != 4 or x.shape[1] != maps):
        raise ValueError(f"a batch normalisation of {maps} maps got an input of {shape_text(x.shape)}")
    return x if getattr(module, "inplace", False) else torch.empty_like(x)


class Memory:
    """Tells tensors with memory of their own from views of, and results written into, memory seen before."""

    def __init__(self, *tensors: Tensor) -> None:
        self._blocks: dict[int, torch.UntypedStorage] = {}  # kept, so that no address is used twice
        for tensor in tensors:
            self.is_new(tensor)

    def is_new(self, tensor: Tensor) -> bool:
        """Say whether the memory of this tensor is seen for the first time."""
        block = tensor.untyped_storage()
        known = len(self._blocks)
        self._blocks.setdefault(block._cdata, block)
        return len(self._blocks) > known

    def new_values(self, tensors: Iterable[Tensor]) -> int:
        """Count the values of the tensors whose memory is seen for the first time, those in common only once."""
        counts: dict[int, int] = {}
        for tensor in tensors:
            block = tensor.untyped_storage()
            if block._cdata in counts or self.is_new(tensor):
                views = counts.get(block._cdata, 0) + tensor.numel()
                counts[block._cdata] = min(views, block.nbytes() // tensor.element_size())
        return sum(counts.values())


def smallest_input(model: nn.Module, channels: int = 3) -> int | None:
    """Return the side of the smallest square image that the network takes, in pixels.

    It is None if none up to 512 works, or if the network cannot run without data.

    Raises:
        BadArgument: if the network has lazy modules that have not seen an input yet, or ``channels`` is no number of
            them.
    """
    require_whole(BadArgument, 1, channels=channels)
    size = first_accepted(model, ((channels, side, side) for side in range(1, LARGEST_TRIED + 1)))
    return size and size[-1]


def first_accepted(model: nn.Module, input_sizes: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the first of these shapes of one image that the network takes, or None if it takes none of them."""
    net = private_copy(model, meta=True)

    def takes(input_size: tuple[int, ...]) -> bool:
        try:
            net(example(net).new_zeros(1, *input_size))
        except Exception:
            return False
        return True

    with torch.no_grad(), own_random_numbers(torch.device("cpu")):
        return next(filter(takes, input_sizes), None)


def example(net: nn.Module) -> Tensor:
    """Return a tensor of the type and on the device that the network's images must have."""
    on_meta = any(parameter.is_meta for parameter in net.parameters())
    default = torch.empty(0, device="meta" if on_meta else None)
    return next((parameter for parameter in net.parameters() if parameter.is_floating_point()), default)


def own_random_numbers(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context in which random numbers of the processor and of this device are not taken from the caller's."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def with_gradient(answer: Any) -> list[Tensor]:
    """Return those tensors of a network's answer that gradients can come from."""
    return [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor) and leaf.requires_grad]


def main_answer(answer: Any) -> Tensor:
    """Return a network's own answer without those of its auxiliary heads."""
    return answer if isinstance(answer, Tensor) else answer[0]


def _why(model: nn.Module, input_size: tuple[int, ...], error: Exception) -> str:
    message = f"{type(model).__name__} does not take an input of {shape_text(input_size)}: {first_line(error)}"
    if "more than 1 value per channel" in message:
        return f"{message}: batch normalisation in training mode needs a larger batch, or a larger image"
    if len(input_size) == 4:
        return f"{message}; input_size is the shape of one image, without the batch"
    if len(input_size) != 3 or first_accepted(model, [input_size]):
        return message
    side = smallest_input(model, channels=input_size[0])
    return message if side is None else f"{message}; the smallest square input that it takes is {side}x{side}"
