"""The training images in the order of each epoch, augmented and on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cnnlib.data import ImageFolders, Images, ImageSet
from cnnlib.data.augment import crop_and_flip, pad
from cnnlib.training.distributed import ALONE, Processes
from cnnlib.training.hardware import stream
from cnnlib.training.recipe import Recipe

ORDER, AUGMENTATION = 1, 2
"""Streams of random numbers, see :func:`cnnlib.training.hardware.stream`; the other one is in engine.py."""
PADDING = 4


def batches_of(data: Images, recipe: Recipe, seed: int, processes: Processes) -> Batches | FileBatches:
    """Return the batches of a training.

    Of either kind ``batches[step]`` are images, uint8 (share of the batch, C, H, W) in channels_last order, and labels,
    both on the device. Order and augmentation of an epoch depend on the seed and the number of the epoch alone, so that
    a training can continue at any step without having kept either.
    """
    if isinstance(data, ImageFolders):
        return FileBatches(data, recipe, seed, processes)
    return Batches(data, recipe, seed, processes)


class Batches:
    """Batches of an image set that lies on the training device, padded once if the recipe augments.

    A whole epoch is augmented at once.
    """

    def __init__(self, data: ImageSet, recipe: Recipe, seed: int, processes: Processes = ALONE) -> None:
        self.seed, self.processes = seed, processes
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
        """Return images and labels of a step of the run."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._prepare(epoch)
        batch = slice(index * self.batch_size, (index + 1) * self.batch_size)
        images, labels = self.processes.share(self._images[batch]), self.processes.share(self._labels[batch])
        return images.permute(0, 3, 1, 2), labels

    def close(self) -> None:
        """Nothing has to be ended."""

    def _prepare(self, epoch: int) -> None:
        """Augment the whole epoch at once and put it in order; (N, H, W, C) in memory."""
        device = self.labels.device
        order = _order(len(self.labels), self.seed, epoch).to(device)
        images = self.images
        if self.augment:
            images = crop_and_flip(images, _generator(device, self.seed, epoch, AUGMENTATION), self.size)
        self._images = images.permute(0, 2, 3, 1)[order].contiguous()
        self._labels = self.labels[order]
        self._epoch = epoch


class FileBatches:
    """Batches of images in files, which are read and augmented one by one, ahead of need, as long as steps follow."""

    def __init__(self, data: ImageFolders, recipe: Recipe, seed: int, processes: Processes = ALONE) -> None:
        self.data, self.recipe, self.seed, self.processes = data, recipe, seed, processes
        self.steps_per_epoch = recipe.steps_per_epoch(len(data.train_labels))
        self.steps = recipe.steps(len(data.train_labels))
        self._epoch: int | None = None
        self._next: int | None = None
        self._reader: Iterator[tuple[Tensor, Tensor]] = iter(())

    def close(self) -> None:
        """End the processes that read ahead. They would hold on to whatever this process has opened."""
        self._reader, self._next = iter(()), None

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of a step of the run."""
        if step != self._next:
            self._reader = self.data.read("train", map(self._files, range(step, self.steps)))
        self._next = step + 1
        images, labels = (part.to(self.processes.device, non_blocking=True) for part in next(self._reader))
        return images.contiguous(memory_format=torch.channels_last), labels

    def _files(self, step: int) -> list[tuple[int, int | None]]:
        """Return which images this process needs for a step, each with the seed of its augmentation."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            count = len(self.data.train_labels)
            self._order = _order(count, self.seed, epoch)
            draw = _generator("cpu", self.seed, epoch, AUGMENTATION)
            self._seeds = torch.randint(2**63 - 1, (count,), generator=draw)  # by image: who reads it does not matter
            self._epoch = epoch
        size = self.recipe.batch_size
        mine = self.processes.share(self._order[index * size : (index + 1) * size])
        seeds = self._seeds[mine].tolist() if self.recipe.augment else [None] * len(mine)
        return list(zip(mine.tolist(), seeds, strict=True))


def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=_generator("cpu", seed, epoch, ORDER))


def _generator(device: torch.device | str, seed: int, *key: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(stream(seed, *key))


def _reflected(images: Tensor) -> Tensor:
    """Surround images (N, C, H, W) with their mirror image; the outermost pixels are not repeated."""
    size = images.shape[-1]
    position = torch.arange(-PADDING, size + PADDING, device=images.device).abs()
    position = torch.minimum(position, 2 * (size - 1) - position)
    return images[:, :, position][:, :, :, position]
