"""Shattered gradients: how alike the gradients at two neighbouring inputs are.

Balduzzi et al. 2017, "The Shattered Gradients Problem: If resnets are the answer, then what is the question?" (arXiv
1702.08591): at initialisation, the deeper a plain net, the more its gradient looks like white noise as its input moves
along a line; that of a residual net keeps its shape much longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.measure.dry_run import (
    example,
    gradients_on,
    main_answer,
    named_layers,
    own_random_numbers,
    private_copy,
    require_batch,
)
from cnnlib.measure.errors import BadArgument


@gradients_on()
def gradient_correlation(model: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[float, ...]:
    """Return how alike the gradients at neighbouring images are, by the output of each layer.

    The gradient is that of the sum of the images' first logits by what the layer puts out for each of them, in training
    mode. There batch normalisation takes the statistics of these images, so a part of it comes by the other images'
    logits. Alike means the cosine between the gradients at images *i* and *i* + 1, averaged over *i*: 1 where the
    gradient does not change along the line, about 0 where neighbours have nothing in common. Measured on a private
    copy: the network stays as it is.

    Args:
        model: the network.
        images: float (N, C, H, W): neighbours, such as points on a line from one image to another.
        layers: names of modules of the network; ``""`` means the images themselves.

    Raises:
        BadArgument: if there is no batch of two images or more, ``layers`` is no list or empty, or the first logit does
            not depend on what a layer puts out.
        UnknownLayer: if the network has no such layer.
        DoesNotFit: if the network does not take such images.
    """
    if not layers:
        raise BadArgument("gradient_correlation needs at least one layer")
    net = private_copy(model).train()
    modules = named_layers(net, layers)
    require_batch(net, images, training=True)
    if len(images) < 2:
        raise BadArgument("neighbouring gradients need at least two images")
    images = images.detach().to(example(net), copy=True).requires_grad_()
    kept: dict[str, Tensor] = {"": images}

    def keep(name: str, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad:
            return None
        kept[name] = output
        return output.clone()  # the next layer may write into what it gets

    for name in filter(None, modules):
        modules[name].register_forward_hook(lambda layer, inputs, output, name=name: keep(name, output))
    with own_random_numbers(images.device):
        answer = net(images.clone())  # the first layer may write into what it gets, which a leaf forbids
        first = main_answer(answer)[:, 0].sum()
        cut_off = [name for name in layers if name not in kept or not first.requires_grad]
        gradients = [] if cut_off else torch.autograd.grad(first, [kept[name] for name in layers], allow_unused=True)
    cut_off += [name for name, gradient in zip(layers, gradients, strict=False) if gradient is None]
    if cut_off:
        source = f"what {cut_off[0]!r} puts out" if cut_off[0] else "the images"
        raise BadArgument(f"the first logit of {type(model).__name__} does not depend on {source}")
    return tuple(_alike(gradient.double().flatten(1)) for gradient in gradients)


def _alike(gradients: Tensor) -> float:
    return F.cosine_similarity(gradients[:-1], gradients[1:]).mean().item()
