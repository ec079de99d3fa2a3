"""The effective receptive field: how much each input pixel moves a unit, measured by gradient.

After Luo, Li, Urtasun and Zemel 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks" (arXiv 1701.04128): put a gradient of 1 on the central unit of a layer and 0 on all others, propagate it back
to the input, and average its absolute value over images. They find it Gaussian, and much smaller than the theoretical
field.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.measure.dry_run import example, gradients_on, named_layers, private_copy, require_batch, require_shape
from cnnlib.measure.errors import BadArgument

BATCH = 8
"""Images that go through the network together."""


@gradients_on()
def effective_receptive_field(
    model: nn.Module,
    images: Tensor | tuple[int, int, int],
    layer: str | None = None,
    *,
    samples: int = 16,
    seed: int = 0,
) -> np.ndarray:
    """Return the mean absolute gradient of a layer's central unit, as an array (height, width) that sums to 1.

    The unit is that of all channels together. The network is used in evaluation mode and is not changed.

    Args:
        model: the network, with the weights that are of interest.
        images: a batch (N, C, H, W), or the shape (C, H, W) of ``samples`` images of standard normal noise.
        layer: name of a module that puts out maps, at its last call; else the last one with more than one unit.
        samples: number of noise images.
        seed: of the noise.

    Raises:
        UnknownLayer: if the network has no module of this name.
        BadArgument: if the shape is none of an image, ``samples`` is no number of images, the batch is none, the
            network is on the ``meta`` device, the layer puts out no maps, or the gradient does not reach the input at
            all.
        DoesNotFit: if the network does not take such images.
    """
    net = private_copy(model).requires_grad_(False)
    of_weights = example(net)
    if not isinstance(images, Tensor):
        require_whole(BadArgument, 1, samples=samples)
        images = torch.randn(samples, *require_shape(images, axes=3), generator=torch.Generator().manual_seed(seed))
    require_batch(model, images)

    modules = net.modules() if layer is None else named_layers(net, [layer]).values()
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and (layer is not None or output.shape[-2:].numel() > 1):
            maps[:] = [output.clone()]  # a copy, because the next layer may write into the output

    for module in modules:
        module.register_forward_hook(keep)

    total = torch.zeros(images.shape[-2:], dtype=torch.float64)
    for batch in images.detach().split(BATCH):
        batch = batch.to(of_weights, copy=True).requires_grad_()
        net(batch.clone())  # the first layer may write into what it gets, which a leaf forbids
        if not maps:
            raise BadArgument(f"{layer or type(model).__name__!r} puts out no maps; name a layer that does")
        height, width = maps[0].shape[-2:]
        unit = maps[0][:, :, height // 2, width // 2].sum()
        if unit.requires_grad:  # else the layer is cut off from the images
            (gradient,) = torch.autograd.grad(unit, batch, materialize_grads=True)
            total += gradient.abs().sum((0, 1)).double().cpu()
    if not total.any():
        raise BadArgument("the gradient of the central unit is zero for every image; try other images or another layer")
    return (total / total.sum()).numpy()


def effective_spread(field: np.ndarray) -> tuple[float, float]:
    """Return the standard deviations (vertical, horizontal) of a field as a distribution over pixels. In pixels."""
    return _deviation(field.sum(1)), _deviation(field.sum(0))


def effective_size(field: np.ndarray, threshold: float = 1 - 0.9545) -> float:
    """Return the size of a field: the square root of the number of pixels above ``threshold`` times its peak.

    This is the measure, and the default the threshold, of Luo et al. 2016, section 3. In pixels.
    """
    return float(np.sqrt(np.count_nonzero(field > threshold * field.max())))


def _deviation(marginal: np.ndarray) -> float:
    positions = np.arange(len(marginal))
    weights = marginal / marginal.sum()
    mean = weights @ positions
    return float(np.sqrt(weights @ (positions - mean) ** 2))
