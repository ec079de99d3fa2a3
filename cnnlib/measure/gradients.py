"""How signals and gradients flow: their size at every layer or block, in one forward and one backward pass.

After Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", section 4.2,
who draw the same for every layer of a network, before and after training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from cnnlib.measure.dry_run import (
    example,
    gradients_on,
    main_answer,
    own_random_numbers,
    private_copy,
    require_batch,
    require_int64,
)
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.rendering import shape_text


@dataclass(frozen=True)
class Flow:
    """What one layer puts out and gets back, as root mean squares over all values.

    Attributes:
        layer: its name in the network.
        signal: of its output.
        gradient: of the loss's gradient by its output, for one image.
        weight_gradient: of the loss's gradient by its weight, for the mean over the images.
    """

    layer: str
    signal: float
    gradient: float
    weight_gradient: float


@dataclass(frozen=True)
class BlockFlow:
    """What one residual block puts out and gets back, as root mean squares over all values.

    Attributes:
        block: its name in the network.
        signal: of its output.
        gradient: of the loss's gradient by its output, for one image.
        shortcut_gradient: the same for the part that came back by the shortcuts alone, past the branches of all later
            blocks.
    """

    block: str
    signal: float
    gradient: float
    shortcut_gradient: float


@gradients_on()
def gradient_flow(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Flow, ...]:
    """Return signal and gradient at every 2D convolution and linear layer, in the order of their calls.

    The loss is the mean cross-entropy in training mode, so batch normalisation takes the statistics of these images.
    It is computed on a private copy: the network and its statistics stay as they are, and so do the random numbers.
    Frozen layers are measured like the others; those whose weight is no parameter but computed, as by weight
    normalisation, are left out.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,).

    Raises:
        BadArgument: if there is no batch of images, the network has no convolution or linear layer that they reach, its
            answer does not give logits (N, classes) for the labels, or a label is none of its classes.
        DoesNotFit: if the network does not take such images.
    """
    net = private_copy(model).train().requires_grad_()
    require_batch(net, images, training=True)
    outputs = _outputs(net, [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)])
    _backward(net, images, labels)
    reached = [layer for layer in outputs if outputs[layer].grad is not None and layer.weight.grad is not None]
    if not reached:
        raise BadArgument(f"{type(model).__name__} has no convolution or linear layer that the images reach")
    names = {layer: name for name, layer in net.named_modules()}
    return tuple(
        Flow(
            layer=names[layer],
            signal=rms(outputs[layer]),
            gradient=len(images) * rms(outputs[layer].grad),
            weight_gradient=rms(layer.weight.grad),
        )
        for layer in reached
    )


@gradients_on()
def block_flow(model: nn.Module, images: Tensor, labels: Tensor, *, branch: str = "f") -> tuple[BlockFlow, ...]:
    """Return signal and gradient at the output of every residual block, in the order of their calls.

    The same as :func:`gradient_flow` on the path that the blocks share, and how much of the gradient came back along
    this path without passing any branch: a second pass lets no gradient through the branches.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,).
        branch: the name that the residual branch has in every block; a module with a child of this name is a block.
            A branch may be a list or dictionary of modules. What a branch holds is no block, whatever its children are
            called.

    Raises:
        BadArgument: if there is no batch of images, the network has no such block that they reach, a block puts out
            anything but a tensor, the network's answer does not give logits (N, classes) for the labels, or a label is
            none of its classes.
        DoesNotFit: if the network does not take such images.
    """
    passes = []
    for cut in (False, True):
        net = private_copy(model).train().requires_grad_()
        if not cut:
            require_batch(net, images, training=True)
        names = _blocks(net, branch)
        outputs = _outputs(net, list(names))
        if cut:
            for block in names:
                for part in _called(block.get_submodule(branch)):
                    part.register_forward_pre_hook(_detached, with_kwargs=True)
        _backward(net, images, labels)
        passes.append([(names[block], output) for block, output in outputs.items() if output.grad is not None])
    if not passes[0]:
        raise BadArgument(f"{type(model).__name__} has no block with a branch {branch!r} that the images reach")
    by_shortcut = {name: output.grad for name, output in passes[1]}
    return tuple(
        BlockFlow(
            block=name,
            signal=rms(output),
            gradient=len(images) * rms(output.grad),
            shortcut_gradient=len(images) * rms(by_shortcut[name]) if name in by_shortcut else 0.0,
        )
        for name, output in passes[0]
    )


def _blocks(net: nn.Module, branch: str) -> dict[nn.Module, str]:
    """Return the modules with a child of this name, and their own names."""
    blocks: dict[nn.Module, str] = {}
    inside: set[nn.Module] = set()
    for name, module in net.named_modules():
        if module not in inside and branch in dict(module.named_children()):
            blocks[module] = name
            inside.update(module.get_submodule(branch).modules())
    return blocks


def _called(part: nn.Module) -> list[nn.Module]:
    """Return the module, or if it only holds others and is never called, as a list is, those that it holds."""
    if type(part).forward is not nn.Module.forward:
        return [part]
    return [inner for child in part.children() for inner in _called(child)]


def _detached(part: nn.Module, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Return a module's arguments, whose tensors let no gradient through."""
    return tree_map_only(Tensor, Tensor.detach, (inputs, named))


def _outputs(net: nn.Module, modules: list[nn.Module]) -> dict[nn.Module, Tensor]:
    """Return a mapping that a forward pass fills with the first output of each module, its gradient kept."""
    outputs: dict[nn.Module, Tensor] = {}
    names = {module: name for name, module in net.named_modules()}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not isinstance(output, Tensor):
            where = names[module] or type(net).__name__
            raise BadArgument(f"{where!r} must put out one tensor to be measured, not a {type(output).__name__}")
        if module not in outputs and output.requires_grad:
            output.retain_grad()
            outputs[module] = output
            return output.clone()  # the next layer may write into what it gets
        return None

    for module in modules:
        module.register_forward_hook(keep)
    return outputs


def _backward(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Compute the mean cross-entropy and its gradients; the random numbers stay as they are."""
    images = images.to(example(net), copy=True)
    with own_random_numbers(images.device):
        mean_cross_entropy(net, main_answer(net(images)), labels).backward()


def mean_cross_entropy(net: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of a network's answer.

    Raises:
        BadArgument: if the answer does not give logits (N, classes) for the labels, or a label is none of its classes.
    """
    require_int64(labels)
    if logits.ndim < 2 or logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise BadArgument(
            f"{type(net).__name__} must answer with one row of logits for each label: labels of "
            f"{shape_text(labels.shape)} do not go with an answer of {shape_text(logits.shape)}"
        )
    require_classes(net, labels, logits.shape[1])
    # A copy, because autograd keeps the labels, which it refuses for those made in inference mode.
    return F.cross_entropy(logits, labels.to(logits.device, copy=True))


def require_classes(net: nn.Module, labels: Tensor, classes: int) -> None:
    """Raise BadArgument if a label is none of a network's classes."""
    least, most = labels.min().item(), labels.max().item()
    if least < 0 or most >= classes:
        raise BadArgument(
            f"labels of {type(net).__name__} are 0 to {classes - 1}, as it has {classes} classes, and these are "
            f"{least} to {most}"
        )


def rms(values: Tensor) -> float:
    """Return the root mean square of all values."""
    return values.detach().double().square().mean().sqrt().item()
