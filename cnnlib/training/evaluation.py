"""Loss and error over all images of a set, and the network's answers themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.data import DataError, Images
from cnnlib.data.augment import normalise
from cnnlib.data.images import require_split
from cnnlib.errors import CnnlibError, kind_of
from cnnlib.measure.dry_run import example, require_fit, require_values
from cnnlib.training.distributed import ALONE, Processes
from cnnlib.training.errors import ArgumentError, check_at_least
from cnnlib.training.hardware import SHARED, exact_convolutions
from cnnlib.training.network import check_data, check_logits, check_outputs

BATCH_SIZE = {"cpu": 250, "cuda": 2000}
"""Images of 32x32 pixels at a time, of larger ones fewer. On a CPU larger batches leave the caches and are slower."""
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


def predict(module: nn.Module, images: Tensor, data: Images, *, batch_size: int | None = None) -> Tensor:
    """Return the logits of a network in evaluation mode, float32 (N, classes), on the network's device.

    Args:
        module: the network.
        images: uint8 (N, C, H, W), not normalised.
        data: the set whose mean and standard deviation the network was trained with.
        batch_size: images at a time. The result does not depend on it, but for rounding, unless the network uses
            the statistics of the batch in evaluation mode, too (:class:`cnnlib.search.shared.SharedNet`).

    Raises:
        ArgumentError: if there is no network or no set, a batch has no image, the images are not of 8 bits, or have
            more or fewer channels than those of the set, or the network puts out no logits.
        BadArgument: if the network is on the device ``meta``, without values.
        DoesNotFit: if the network does not take images of this size.
    """
    _check(module, data)
    check_at_least(1, batch_size=batch_size)
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        raise ArgumentError(
            f"images must be a uint8 tensor (N, C, H, W), not {kind_of(images)}; what is normalised, the network takes "
            "itself"
        )
    if images.shape[1] != len(data.mean):
        raise ArgumentError(f"images must have {len(data.mean)} channels like {data.name}, not {kind_of(images)}")
    device = _device(module)
    batches = images.split(batch_size or _batch_size(device, images.shape[1:]))
    with evaluating(module), misfits_explained(module, images.shape[1:]):
        return torch.cat([_logits(module, batch.to(device), data) for batch in batches])


def evaluate(
    module: nn.Module,
    data: Images,
    split: str = "test",
    *,
    batch_size: int | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Return loss and error over all images of a split, in evaluation mode and float32, without augmentation.

    Args:
        module: the network; its mode is restored.
        data: the images.
        split: ``"test"`` or ``"train"``.
        batch_size: images at a time.
        processes: evaluate their shares, and all get the sum.

    Raises:
        ArgumentError: if there is no network or no set, the network puts out no logits, or fewer than there are
            classes, or a batch has no image.
        BadArgument: if the network is on the device ``meta``, without values.
        DoesNotFit: if the network does not take images of this size.
        DataError: if there is no such split, it is empty, or an image in a file cannot be read.
    """
    _check(module, data)
    require_split(split)
    check_at_least(1, batch_size=batch_size)
    index = torch.arange(len(data.test_labels if split == "test" else data.train_labels))
    return _evaluate(module, data, split, index, processes, batch_size)


def evaluate_training_sample(module: nn.Module, data: Images, processes: Processes = ALONE) -> Evaluation:
    """Return loss and error over the training images, or a fixed random 10,000 of them if there are more."""
    index = torch.arange(len(data.train_labels))
    if len(index) > TRAINING_SAMPLE:
        chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:TRAINING_SAMPLE]
        index = chosen.sort().values
    return _evaluate(module, data, "train", index, processes)


def check_images(count: int, split: str) -> None:
    """Raise DataError if a split has no images to evaluate on."""
    if not count:
        raise DataError(f"there are no {split} images to evaluate on")


def _evaluate(
    module: nn.Module, data: Images, split: str, index: Tensor, processes: Processes, batch_size: int | None = None
) -> Evaluation:
    check_images(len(index), split)
    device = _device(module)
    batches = data.batches(split, processes.share(index), batch_size or _batch_size(device, data.image_size))
    losses, correct = [torch.zeros((), device=device)], [torch.zeros((), device=device, dtype=torch.int64)]
    with evaluating(module), misfits_explained(module, data.image_size):
        for images, labels in batches:
            labels = labels.to(device, non_blocking=True)
            images = images.to(device, non_blocking=True)
            with SHARED:
                logits = _logits(module, images, data)
            check_outputs(logits, data)
            losses.append(F.cross_entropy(logits, labels, reduction="sum"))
            correct.append((logits.argmax(1) == labels).sum())
    sums = torch.stack([torch.stack(values).cpu().double().sum() for values in (losses, correct)])
    loss, right = processes.sum(sums).tolist()
    n = len(index)
    return Evaluation(loss=loss / n, error=100 * (n - right) / n, n=n)


def _check(module: nn.Module, data: Images) -> None:
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"a network is evaluated, cnnlib.create('resnet20') or a run's module, say, not {module!r}")
    check_data(data)
    require_values(module)


def _device(module: nn.Module) -> torch.device:
    """Return where a network has its weights; without any it computes on the CPU."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))


@contextmanager
def misfits_explained(module: nn.Module, image_size: Sequence[int]) -> Iterator[None]:
    """Say what does not fit where a network cannot compute; only then is it looked for, which takes a while.

    Raises:
        ArgumentError: if the weights are no float32 numbers, as the images are.
        DoesNotFit: if the network does not take images of this size.
    """
    try:
        yield
    except CnnlibError:
        raise
    except (RuntimeError, ValueError):
        require_fit(module, tuple(image_size), batch_size=1)
        if (kind := example(module).dtype) != torch.float32:
            raise ArgumentError(
                f"{type(module).__name__} has weights in {str(kind).removeprefix('torch.')}, and the images come in "
                "float32; convert it, module.float()"
            ) from None
        raise


def _batch_size(device: torch.device, image_size: Sequence[int]) -> int:
    *_, height, width = image_size
    return max(1, BATCH_SIZE.get(device.type, 250) * 32 * 32 // max(height * width, 32 * 32))


def _logits(module: nn.Module, images: Tensor, data: Images) -> Tensor:
    logits = module(normalise(images.contiguous(memory_format=torch.channels_last), data.mean, data.std))
    check_logits(logits)
    return logits.float()
