"""The loss of a network as it was drawn, before any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.measure.dry_run import example, main_answer, own_random_numbers, require_batch, require_images
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.gradients import mean_cross_entropy


def initial_losses(
    draw: Callable[[], nn.Module], images: Tensor, labels: Tensor, seeds: Iterable[int] = (0, 1, 2)
) -> tuple[float, ...]:
    """Return the mean cross-entropy of freshly drawn networks, one for each seed.

    In training mode, so batch normalisation takes the statistics of these images. A net that guesses has ln K for K
    classes. The caller's random numbers stay as they are.

    Args:
        draw: returns a new network of seeded random numbers, such as ``lambda: cnnlib.create("resnet20")``.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,).
        seeds: of the weights; :func:`cnnlib.fit` with the same seed begins with the same weights.

    Raises:
        BadArgument: if there is no batch of images with labels, ``draw`` is no function, or returns one network twice,
            or one that has lazy modules or is on the ``meta`` device, a label is none of its classes, or the seeds are
            no list of whole numbers from 0.
        DoesNotFit: if the network does not take such images.
    """
    if not callable(draw) or isinstance(draw, nn.Module):
        raise BadArgument("draw must be a function that returns a new network, as lambda: cnnlib.create('resnet20')")
    if not isinstance(seeds, Iterable):
        raise BadArgument(f"seeds is a list, even of one: [{seeds!r}]")
    seeds = tuple(seeds)
    for seed in seeds:
        require_whole(BadArgument, 0, seed=seed)
    require_images(images, labels)
    with own_random_numbers(images.device):
        net = draw()
        if draw() is net:  # drawn by no seed, and changed by every pass in training mode
            raise BadArgument("draw must return a new network each time, such as lambda: cnnlib.create('resnet20')")
    require_batch(net, images, labels, training=True)
    return tuple(_loss(draw, images, labels, seed) for seed in seeds)


def _loss(draw: Callable[[], nn.Module], images: Tensor, labels: Tensor, seed: int) -> float:
    with own_random_numbers(images.device), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        net = draw().train()
        answer = main_answer(net(images.to(example(net), copy=True)))
        return mean_cross_entropy(net, answer, labels).item()
