"""Versions of an image that are all equally far from it in pixels, and look very different."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlib.errors import kind_of
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.similarity import pixel_distance

KEEPS_STRUCTURE = ("shift", "contrast", "brightness")
"""Distortions that change values and leave all that is in the picture where it was, but for one pixel."""
DESTROYS_STRUCTURE = ("blur", "noise")
"""Distortions that remove or cover detail."""
WIDEST = 8.0
"""Standard deviation of the strongest blur, in pixels."""
HALVINGS = 25


def equal_distortions(images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Return five distorted versions of each image that have the same pixel distance from it.

    ``shift`` moves the image one pixel to the right (the left edge is repeated) and sets the distance. ``contrast``
    moves all values towards the image's mean, ``brightness`` adds one value to all, ``blur`` is a Gaussian one,
    ``noise`` is normal; each is as strong as it takes. Values stay in [0, 1]. Where even the full strength is not
    enough (stripes that a shift turns into their negative), the version is nearer than the shift.

    Args:
        images: float (N, C, H, W) in [0, 1].
        seed: of the noise.

    Returns:
        By name, a tensor like ``images``.

    Raises:
        BadArgument: if there is no image, or they are no floats in [0, 1].
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise BadArgument(f"images must be floats (N, C, H, W) in [0, 1], one or more, not {kind_of(images)}")
    if not ((images >= 0) & (images <= 1)).all():  # NaN is neither
        raise BadArgument(f"images must be floats in [0, 1], but these go from {images.min():g} to {images.max():g}")
    shifted = F.pad(images, (1, 0, 0, 0), mode="replicate")[..., :-1]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images)
    mean = images.mean((1, 2, 3), keepdim=True)
    room = torch.where(mean < 0.5, 1.0, -1.0).to(images)  # dark images become brighter, bright ones darker

    def column(strength: Tensor) -> Tensor:
        return strength.view(-1, 1, 1, 1)

    by_strength: dict[str, Callable[[Tensor], Tensor]] = {
        "contrast": lambda strength: images + column(strength) * (mean - images),
        "brightness": lambda strength: images + column(strength) * room,
        "blur": lambda strength: blurred(images, WIDEST * strength),
        "noise": lambda strength: images + column(strength) * noise,
    }
    wanted = pixel_distance(images, shifted)
    return {"shift": shifted} | {name: _as_far(images, wanted, way) for name, way in by_strength.items()}


def blurred(images: Tensor, deviation: Tensor) -> Tensor:
    """Return images under a Gaussian blur; the edges are repeated.

    Args:
        images: float (N, C, H, W).
        deviation: (N,), the standard deviation for each image, in pixels.
    """
    reach = max(1, math.ceil(3 * float(deviation.max())))
    steps = torch.arange(-reach, reach + 1, device=images.device)
    bells = torch.exp(-(steps**2) / (2 * deviation.clamp(min=1e-3).view(-1, 1) ** 2)).to(images)
    bells = bells / bells.sum(1, keepdim=True)
    down, across = (_blur_matrix(bells, steps, length) for length in images.shape[-2:])
    return down[:, None] @ images @ across[:, None].mT


def _blur_matrix(bells: Tensor, steps: Tensor, length: int) -> Tensor:
    """Return (N, length, length): row i holds the weight that each pixel has in pixel i of the blurred image."""
    at = torch.arange(length, device=steps.device)
    reads = (at[:, None] + steps).clamp(0, length - 1)  # beyond the edge its last pixel is repeated
    shape = len(bells), length, len(steps)
    return bells.new_zeros(len(bells), length, length).scatter_add(2, reads.expand(shape), bells[:, None].expand(shape))


def _as_far(images: Tensor, wanted: Tensor, way: Callable[[Tensor], Tensor]) -> Tensor:
    """Search for each image the strength in (0, 1] that gives the wanted distance, or take 1."""
    low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        near = pixel_distance(images, way(middle).clamp(0, 1)) < wanted
        low, high = torch.where(near, middle, low), torch.where(near, high, middle)
    return way(high).clamp(0, 1)
