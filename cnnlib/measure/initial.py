"""The loss of a network as it was drawn, before any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.measure.dry_run import main_answer, own_random_numbers
from cnnlib.measure.errors import BadArgument


def initial_losses(
    draw: Callable[[], nn.Module], images: Tensor, labels: Tensor, seeds: Iterable[int] = (0, 1, 2)
) -> tuple[float, ...]:
    """Return the mean cross-entropy of freshly drawn networks, one for each seed.

    In training mode, so batch normalisation takes the statistics of these images. A net that guesses has ln K for K
    classes. The caller's random numbers stay as they are.

    Args:
        draw: returns a new network of seeded random numbers, such as ``lambda: cnnlib.create("resnet20")``.
        images: float (N, C, H, W), normalised, on the processor.
        labels: int64 (N,).
        seeds: of the weights; :func:`cnnlib.fit` with the same seed begins with the same weights.

    Raises:
        BadArgument: if there are no images.
    """
    if not len(images):
        raise BadArgument("initial_losses needs at least one image")
    return tuple(_loss(draw, images, labels, seed) for seed in seeds)


def _loss(draw: Callable[[], nn.Module], images: Tensor, labels: Tensor, seed: int) -> float:
    with own_random_numbers(images.device), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        return F.cross_entropy(main_answer(draw().train()(images.clone())), labels).item()
