"""A labelled set of images, held as tensors."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from cnnlib.errors import CnnlibError, kind_of, require_integers, require_whole


class DataError(CnnlibError, RuntimeError):
    """A data set that is not there, does not verify, could not be downloaded, or cannot give what was asked."""


class ImageError(CnnlibError, ValueError):
    """Images, or an argument of what is done with them, of another form than they must have."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Training and test images with their labels, as they are: uint8, not augmented, not normalised.

    Attributes:
        name: ``"CIFAR-10"``, ``"CIFAR-100"`` or ``"Shapes-10"``.
        train_images: uint8 (N, C, H, H), square; those of the three are (N, 3, 32, 32).
        train_labels: int64 (N,), indices into ``classes``.
        test_images: uint8 (M, C, H, H).
        test_labels: int64 (M,).
        classes: the names of the classes.
        mean: per channel, of all training images scaled to [0, 1].
        std: per channel, likewise.
        origin: where the images came from, in words.
        stands_in_for: the data set that was asked for, if this is another one in its place.

    Raises:
        DataError: if images or labels have another form, or do not belong together, or cannot be normalised.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    origin: str
    stands_in_for: str | None = None

    def __post_init__(self) -> None:
        self._check("train", self.train_images, self.train_labels)
        self._check("test", self.test_images, self.test_labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            sizes = " and ".join(str(tuple(part.shape[1:])) for part in (self.train_images, self.test_images))
            raise DataError(f"{self.name}: training and test images must have one size, not {sizes}")
        channels = self.train_images.shape[1]
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise DataError(f"{self.name}: {what} must be one number for each of {channels} channels, not {values}")
        if not all(0 <= value <= 1 for value in self.mean):
            raise DataError(f"{self.name}: mean must lie in [0, 1], as pixels divided by 255 do, not {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise DataError(f"{self.name}: std must be positive and finite, not {self.std}")

    def _check(self, split: str, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Check what PyTorch would take without a word, or refuse only in the middle of a training."""
        for what, values in (("images", images), ("labels", labels)):
            if not isinstance(values, torch.Tensor):
                kind = type(values).__name__
                raise DataError(
                    f"{self.name}: {split}_{what} must be a tensor, not a {kind}; torch.as_tensor makes one"
                )
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[2] != images.shape[3]:
            raise DataError(
                f"{self.name}: {split}_images must be square ones of 8 bits, uint8 (N, C, H, H), not "
                f"{described(images)}"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{self.name}: {split}_labels must be int64 ({len(images)},), one for each image, not "
                f"{described(labels)}"
            )
        if len(labels) and not labels.is_meta and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise DataError(
                f"{self.name}: {split}_labels must be indices into {len(self.classes)} classes, 0 to "
                f"{len(self.classes) - 1}, not {labels.min().item()} to {labels.max().item()}"
            )

    def __str__(self) -> str:
        channels, height, width = self.image_size
        colours = {1: "grey", 3: "RGB"}.get(channels, f"of {channels} channels")
        sizes = (
            f"{len(self.train_images):,} training and {len(self.test_images):,} test images, "
            f"{width}x{height} {colours}, {len(self.classes)} classes"
        )
        if self.stands_in_for:
            return f"{self.name.upper()}, GENERATED, IN PLACE OF {self.stands_in_for}: {sizes}"
        return f"{self.name}: {sizes}"

    __repr__ = __str__

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return tuple(self.train_images.shape[1:])

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, sizes, and a digest of all labels and some images, which tell one image set from another."""
        digest = hashlib.sha256()
        for tensor in (self.train_labels, self.test_labels, self.train_images[::50], self.test_images[::50]):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return {
            "name": self.name,
            "train_images": len(self.train_labels),
            "test_images": len(self.test_labels),
            "digest": digest.hexdigest()[:16],
        }

    def batches(self, split: str, index: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Go through images of a split in the order of ``index``.

        Args:
            split: ``"train"`` or ``"test"``.
            index: int64 (n,), which images.
            size: how many at a time.

        Returns:
            uint8 images (size or fewer, C, H, W) and int64 labels.

        Raises:
            DataError: if there is no such split, or ``size`` is not a whole number of at least 1.
        """
        require_split(split)
        require_whole(DataError, 1, size=size)
        images, labels = {
            "train": (self.train_images, self.train_labels),
            "test": (self.test_images, self.test_labels),
        }[split]
        index = index.to(labels.device)
        for start in range(0, len(index), size):
            part = index[start : start + size]
            yield images[part], labels[part]

    def subset(self, n: int, seed: int = 0, *, test: int | None = None) -> ImageSet:
        """Return the same set with only ``n`` training images, equally many of each class (or one more of some).

        The choice depends on ``n`` and ``seed`` only. Mean and std stay those of the full set.

        Args:
            n: how many training images.
            seed: of the choice.
            test: keep at most so many test images, the first ones; default all.

        Raises:
            DataError: if a class has too few images, or a number is not a whole one or too small.
        """
        require_integers(DataError, n=n, seed=seed, test=1 if test is None else test)
        if n < 1:
            raise DataError(f"a subset needs at least one training image, not {n}")
        if test is not None and test < 1:
            raise DataError(f"a subset needs at least one test image, not {test}")
        if not -(2**63) <= seed < 2**64:
            raise DataError(f"seed must fit into 64 bits, and {seed} does not")
        generator = torch.Generator().manual_seed(int(seed))  # PyTorch takes no integer of NumPy
        labels = self.train_labels.cpu()
        each, more = divmod(n, len(self.classes))
        chosen = []
        for label, name in enumerate(self.classes):
            members = (labels == label).nonzero().flatten()
            wanted = each + (label < more)
            if wanted > len(members):
                raise DataError(
                    f"a subset of {n:,} training images needs {wanted:,} of class {name!r}, but {self.name} has "
                    f"{len(members):,}; ask for at most {len(self.train_labels):,}"
                )
            chosen.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
        index = torch.cat(chosen).sort().values.to(self.train_images.device)
        chosen = replace(self, train_images=self.train_images[index], train_labels=self.train_labels[index])
        if test is None:
            return chosen
        return replace(chosen, test_images=self.test_images[:test], test_labels=self.test_labels[:test])

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the same set with its four tensors on ``device``."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def require_folder(root: object) -> None:
    """Raise :class:`DataError` unless this is a path."""
    if not isinstance(root, str | os.PathLike):
        raise DataError(f"root is the path of a folder, a str or a pathlib.Path, not {root!r}")


def require_split(split: object) -> None:
    """Raise :class:`DataError` unless this is the name of a split."""
    if split not in ("train", "test"):
        raise DataError(f"there is no split {split!r}; choose train or test")


def channel_statistics(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images (N, C, H, W), scaled to [0, 1].

    Both come from the histogram of the 256 levels in float64, so no sum over millions of pixels rounds anything.
    """
    histogram = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    weights = histogram.double().cpu() / histogram[0].sum().item()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().tolist())


def require_images(images: object) -> None:
    """Raise :class:`ImageError` unless this is a tensor (N, C, H, W)."""
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        raise ImageError(f"images must be a tensor (N, C, H, W), not {described(images)}")


def described(value: object) -> str:
    """Return type and shape of a tensor, such as "uint8 (60, 3, 32, 32)", and the type of what is none."""
    return kind_of(value).removeprefix("torch.")
