"""The training set on the device, and its images in the order of each epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnlib.data import ImageSet
from cnnlib.data.augment import crop_and_flip, pad
from cnnlib.training.hardware import stream
from cnnlib.training.recipe import Recipe

ORDER, AUGMENTATION = 1, 2
"""Streams of random numbers, see :func:`cnnlib.training.hardware.stream`; the other one is in engine.py."""
PADDING = 4


class Batches:
    """Batches of an image set that lies on the training device, padded once if the recipe augments.

    Order and augmentation of an epoch depend on the seed and the number of the epoch alone, so that a training can
    continue at any step without having kept either.
    """

    def __init__(self, data: ImageSet, recipe: Recipe, seed: int) -> None:
        self.seed = seed
        self.labels = data.train_labels
        self.augment = recipe.augment
        self.size = data.train_images.shape[-1]
        self.images = data.train_images
        if recipe.augment:
            reflect = recipe.padding == "reflect"
            self.images = _reflected(self.images) if reflect else pad(self.images, PADDING, value=data.mean)
        self.batch_size = recipe.batch_size
        self.steps_per_epoch = recipe.steps_per_epoch(len(self.labels))
        self._epoch: int | None = None

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images, uint8 (batch, C, H, W) in channels_last order, and labels of a step of the run."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._prepare(epoch)
        batch = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self._images[batch].permute(0, 3, 1, 2), self._labels[batch]

    def _prepare(self, epoch: int) -> None:
        """Augment the whole epoch at once and put it in order; (N, H, W, C) in memory."""
        device = self.labels.device
        order = torch.randperm(len(self.labels), generator=_generator("cpu", self.seed, epoch, ORDER)).to(device)
        images = self.images
        if self.augment:
            images = crop_and_flip(images, _generator(device, self.seed, epoch, AUGMENTATION), self.size)
        self._images = images.permute(0, 2, 3, 1)[order].contiguous()
        self._labels = self.labels[order]
        self._epoch = epoch


def _generator(device: torch.device | str, seed: int, *key: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(stream(seed, *key))


def _reflected(images: Tensor) -> Tensor:
    """Surround images (N, C, H, W) with their mirror image; the outermost pixels are not repeated."""
    size = images.shape[-1]
    position = torch.arange(-PADDING, size + PADDING, device=images.device).abs()
    position = torch.minimum(position, 2 * (size - 1) - position)
    return images[:, :, position][:, :, :, position]
