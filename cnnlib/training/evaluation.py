"""Loss and error over all images of a set, and the network's answers themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.data import ImageSet
from cnnlib.data.augment import normalise
from cnnlib.training.hardware import exact_convolutions

BATCH_SIZE = {"cpu": 250, "cuda": 2000}
"""Images at a time. On a CPU larger batches leave the caches and are slower."""
TRAINING_SAMPLE = 10_000
"""Training images that the error of a finished training is measured on, as many as CIFAR's test set has."""


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy ``loss`` and ``error`` in percent over ``n`` images."""

    loss: float
    error: float
    n: int


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and every part of it back as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), exact_convolutions():
            yield
    finally:
        for part, training in before:
            part.training = training


def predict(module: nn.Module, images: Tensor, data: ImageSet, *, batch_size: int | None = None) -> Tensor:
    """Return the logits of a network in evaluation mode, float32 (N, classes), on the network's device.

    Args:
        module: the network.
        images: uint8 (N, C, H, W), not normalised.
        data: the set whose mean and standard deviation the network was trained with.
        batch_size: images at a time; the result does not depend on it, but for rounding.
    """
    device = next(module.parameters()).device
    batches = images.split(batch_size or BATCH_SIZE.get(device.type, 250))
    with evaluating(module):
        return torch.cat([_logits(module, batch.to(device), data) for batch in batches])


def evaluate(module: nn.Module, data: ImageSet, split: str = "test", *, batch_size: int | None = None) -> Evaluation:
    """Return loss and error over all images of a split, in evaluation mode and float32, without augmentation.

    Args:
        module: the network; its mode is restored.
        data: the images.
        split: ``"test"`` or ``"train"``.
        batch_size: images at a time.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in ("test", "train"):
        raise ValueError(f"split must be 'test' or 'train', not {split!r}")
    images, labels = (data.test_images, data.test_labels) if split == "test" else (data.train_images, data.train_labels)
    return _evaluate(module, images, labels, data, batch_size)


def evaluate_training_sample(module: nn.Module, data: ImageSet) -> Evaluation:
    """Return loss and error over the training images, or a fixed random 10,000 of them if there are more."""
    images, labels = data.train_images, data.train_labels
    if len(labels) > TRAINING_SAMPLE:
        chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:TRAINING_SAMPLE]
        chosen = chosen.sort().values.to(labels.device)
        images, labels = images[chosen], labels[chosen]
    return _evaluate(module, images, labels, data)


def _evaluate(
    module: nn.Module, images: Tensor, labels: Tensor, data: ImageSet, batch_size: int | None = None
) -> Evaluation:
    device = next(module.parameters()).device
    batch_size = batch_size or BATCH_SIZE.get(device.type, 250)
    losses, correct = [], []
    with evaluating(module):
        for batch, answers in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            answers = answers.to(device)
            logits = _logits(module, batch.to(device), data)
            losses.append(F.cross_entropy(logits, answers, reduction="sum"))
            correct.append((logits.argmax(1) == answers).sum())
    n = len(labels)
    wrong = n - torch.stack(correct).sum().item()
    return Evaluation(loss=torch.stack(losses).cpu().double().sum().item() / n, error=100 * wrong / n, n=n)


def _logits(module: nn.Module, images: Tensor, data: ImageSet) -> Tensor:
    return module(normalise(images.contiguous(memory_format=torch.channels_last), data.mean, data.std)).float()
