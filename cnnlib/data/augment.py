"""Augmentation of a whole epoch at once, on the device that holds the images.

The usual recipe for CIFAR: four pixels of padding, a random 32x32 crop, a mirror image half of the time (He et al.
2016, arXiv:1512.03385, section 4.2; Lee et al. 2015, arXiv:1409.5185). One gather draws all images of an epoch; each
has its own crop and flip, exactly as image by image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnlib.data.images import ImageError, described, require_images
from cnnlib.errors import require_whole


def pad(images: Tensor, padding: int = 4, *, value: Sequence[float]) -> Tensor:
    """Surround uint8 images (N, C, H, W) with ``padding`` pixels of one colour, once before all epochs.

    Args:
        images: uint8 (N, C, H, W).
        padding: pixels on every side.
        value: the colour, one number in [0, 1] a channel. The papers pad with zeros *after* the mean is subtracted,
            so give ``ImageSet.mean``: rounded to uint8, it is normalised to zero within half a grey level.

    Returns:
        uint8 (N, C, H + 2 padding, W + 2 padding).

    Raises:
        ImageError: if the images have another form, ``padding`` is not a whole number of at least 0, or ``value`` is
            not one number in [0, 1] a channel.
    """
    if getattr(images, "dtype", None) != torch.uint8 or images.ndim != 4:  # floats would be cut to integers silently
        raise ImageError(f"images must be uint8 (N, C, H, W), not {described(images)}")
    require_whole(ImageError, 0, padding=padding)
    count, _, height, width = images.shape
    levels = _by_channel(value, images)
    if not ((levels >= 0) & (levels <= 1)).all():
        raise ImageError(f"the colour of the padding is given in [0, 1], not {tuple(value)}")
    colour = levels.mul(255).round().to(torch.uint8)
    padded = colour.repeat(count, 1, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    return padded


def crop_and_flip(padded: Tensor, generator: torch.Generator | None = None, size: int = 32) -> Tensor:
    """Cut a random ``size`` x ``size`` window out of every image and mirror half of them.

    Args:
        padded: uint8 (N, C, H, W), from :func:`pad`.
        generator: of random numbers, on the device of ``padded``.
        size: height and width of the windows.

    Returns:
        uint8 (N, C, size, size), in channels-last memory format.

    Raises:
        ImageError: if the images have another form, ``size`` is not a whole number of at least 1, or the images are
            smaller than the window.
    """
    require_images(padded)
    require_whole(ImageError, 1, size=size)
    count, _, height, width = padded.shape
    if min(height, width) < size:
        raise ImageError(f"no {size}x{size} window fits into images of {height}x{width}; pad them first")
    draw = {"device": padded.device, "generator": generator}
    top = torch.randint(height - size + 1, (count, 1), **draw)
    left = torch.randint(width - size + 1, (count, 1), **draw)
    flip = torch.rand(count, 1, **draw) < 0.5
    step = torch.arange(size, device=padded.device)
    rows = top + step
    columns = left + torch.where(flip, size - 1 - step, step)
    images = torch.arange(count, device=padded.device)
    # The three index tensors stand apart, so their dimensions come first: (N, size, size, C), which is channels-last.
    return padded[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Return float32 images of mean 0 and standard deviation 1: (images / 255 - mean) / std, memory format kept.

    Args:
        images: uint8 (N, C, H, W), or floats from 0 to 255.
        mean: C numbers in [0, 1], see ``ImageSet.mean``; a tensor on the device saves a copy in every step.
        std: C numbers, likewise.

    Raises:
        ImageError: if the images have another form, or mean or deviation is not one number a channel.
    """
    require_images(images)
    return images.to(torch.float32, copy=True).div_(255).sub_(_by_channel(mean, images)).div_(_by_channel(std, images))


def _by_channel(values: Sequence[float] | Tensor, images: Tensor) -> Tensor:
    """Return one number a channel as float32 (C, 1, 1) on the device of the images."""
    try:
        tensor = torch.as_tensor(values, dtype=torch.float32, device=images.device)
    except (TypeError, ValueError):  # no numbers
        tensor = None
    if tensor is None or tensor.shape != images.shape[1:2]:
        raise ImageError(f"give one number for each of the {images.shape[1]} channels, not {values}")
    return tensor.view(-1, 1, 1)
