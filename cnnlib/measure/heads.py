"""What auxiliary heads add to the gradient of the layers before them.

Szegedy et al. 2014, "Going Deeper with Convolutions", section 5, attach small classifiers to the middle of GoogLeNet to
"increase the gradient signal that gets propagated back". Here the two parts of that gradient are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlib.measure.dry_run import (
    example,
    gradients_on,
    named_layers,
    own_random_numbers,
    private_copy,
    require_batch,
)
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.gradients import mean_cross_entropy, rms
from cnnlib.models.layers import WithAuxiliary


@dataclass(frozen=True)
class HeadGradient:
    """The two parts of the gradient by the weights of one part of a network, as root mean squares over its values.

    Attributes:
        part: its name in the network.
        main: of the loss of the network's own answer.
        heads: of the losses of the heads, weighted as in training; 0 for a part that no head comes after.
        cosine: between the two: 1 if they point the same way, 0 if they have nothing to do with each other or there is
            no second one.
    """

    part: str
    main: float
    heads: float
    cosine: float

    @property
    def together(self) -> float:
        """The root mean square of their sum, which is what a training with heads follows."""
        return math.sqrt(max(0.0, self.main**2 + self.heads**2 + 2 * self.cosine * self.main * self.heads))

    @property
    def factor(self) -> float:
        """How many times larger the gradient is with the heads than without."""
        return self.together / self.main if self.main else math.inf


@gradients_on()
def head_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, *, parts: Sequence[str] | None = None
) -> tuple[HeadGradient, ...]:
    """Return what the heads add to the gradient, for each layer or each part of a network.

    The losses are mean cross-entropies in training mode, those of the heads times the network's ``auxiliary_weight``.
    They are computed on a private copy with dropout drawn from a fixed seed: the network and its statistics stay as
    they are, and so do the random numbers. Weights of 2D convolutions and linear layers count; biases, normalisation
    and what is frozen do not.

    Args:
        model: a network that returns :class:`cnnlib.models.layers.WithAuxiliary` in training mode.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,).
        parts: names of modules of the network, each measured as a whole. By default every 2D convolution and linear
            layer that the network's own answer depends on, in the order of their calls.

    Returns:
        One entry a part.

    Raises:
        BadArgument: if there is no batch of images with labels, the network has no auxiliary heads, its answer does not
            depend on the weights of a part, or on any, or a label is none of its classes.
        DoesNotFit: if the network does not take such images.
        UnknownLayer: if the network has no module of the name of a part.
    """
    net = private_copy(model).train()
    named_layers(net, parts or ())
    require_batch(net, images, labels, training=True)
    images = images.to(example(net), copy=True)  # a network may write into them
    called: dict[nn.Module, None] = {}
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad:
            layer.register_forward_hook(lambda layer, *_: called.setdefault(layer))
    with own_random_numbers(images.device):
        torch.default_generator.manual_seed(0)
        if images.is_cuda:
            torch.cuda.default_generators[images.device.index].manual_seed(0)
        answer = net(images)
        if not isinstance(answer, WithAuxiliary) or not answer.auxiliary:
            raise BadArgument(f"{type(model).__name__} has no auxiliary heads; make it with auxiliary=True")
        weights = [layer.weight for layer in called]
        main = mean_cross_entropy(net, answer.logits, labels)
        by_main = _gradients(main, weights)
        heads = net.auxiliary_weight * sum(mean_cross_entropy(net, head, labels) for head in answer.auxiliary)
        by_heads = _gradients(heads, weights)
    names = {layer: name for name, layer in net.named_modules()}
    gradients = {
        names[layer]: (of_main, torch.zeros_like(of_main) if of_heads is None else of_heads)
        for layer, of_main, of_heads in zip(called, by_main, by_heads, strict=True)
        if of_main is not None
    }
    if not gradients:
        raise BadArgument(f"the answer of {type(model).__name__} does not depend on any weights that are trained")
    return tuple(_measure(part, gradients) for part in (gradients if parts is None else parts))


def _gradients(loss: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient by each weight, None for those that the loss does not depend on."""
    if not (weights and loss.requires_grad):
        return [None] * len(weights)
    return torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)


def _measure(part: str, gradients: Mapping[str, tuple[Tensor, Tensor]]) -> HeadGradient:
    inside = [pair for name, pair in gradients.items() if name == part or name.startswith(f"{part}.")]
    if not inside:
        raise BadArgument(f"the answer of the network does not depend on any weights of {part!r}")
    main, heads = (torch.cat([values.double().flatten() for values in column]) for column in zip(*inside, strict=True))
    norms = (main.norm() * heads.norm()).item()
    return HeadGradient(part, rms(main), rms(heads), (main @ heads).item() / norms if norms else 0.0)
