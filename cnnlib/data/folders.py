"""Images in files, one folder for each class, as ImageNet has them; read while they are needed.

    ROOT/train/CLASS/*.jpg
    ROOT/val/CLASS/*.jpg

For training a random part of each image, from 8 to 100 % of its area and of a shape between 3:4 and 4:3, is scaled to
the size of the network's input and mirrored half of the time (Szegedy et al. 2015, arXiv:1409.4842, section 6). For
evaluation the shorter side is scaled to 8/7 of that size, 256 pixels for 224, and the centre cut out.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlib.data.images import DataError, ImageSet, require_folder, require_split
from cnnlib.errors import require_whole
from cnnlib.files import user_path

LAYOUT = "images lie in ROOT/train/CLASS/ and ROOT/val/CLASS/, and ROOT is what to name"
IMAGENET = (1000, 1_281_167, 50_000)
"""Classes, training and validation images of ImageNet-1k. Only a folder with these counts is called so."""
BATCHES_AHEAD = 4
"""What each worker process reads ahead of need."""
SILENCE = 300
"""Seconds without a batch after which the processes that read ahead count as lost; PyTorch would wait for ever."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageFolders:
    """Training and test images in files, with their labels. An image is read when it is needed, and cropped.

    Attributes:
        name: ``"ImageNet"``, or the folder's own name if it does not hold as many images.
        root: the folder.
        train_files: names of the training images, relative to ``root``, bytes (N,).
        train_labels: int64 (N,), indices into ``classes``.
        test_files: names of the test images, those in ``val``, likewise.
        test_labels: int64 (M,).
        classes: the names of the classes' folders.
        size: height and width of the images that are cut out, in pixels.
        workers: processes that read ahead; None means one for each processor core, shared among the processes that
            train together. No number depends on it.
        mean: per channel, of ImageNet's training images scaled to [0, 1].
        std: per channel, likewise.
        stands_in_for: None, as for every set that was asked for.
    """

    name: str
    root: Path
    train_files: np.ndarray  # not a list: worker processes share one array, and would copy the objects of a list
    train_labels: Tensor
    test_files: np.ndarray
    test_labels: Tensor
    classes: tuple[str, ...]
    size: int = 224
    workers: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    stands_in_for: None = None

    def __post_init__(self) -> None:
        require_whole(DataError, 1, size=self.size)
        require_whole(DataError, 0, workers=0 if self.workers is None else self.workers)

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.train_labels):,} training and {len(self.test_labels):,} test images in files, "
            f"cut to {self.size}x{self.size} RGB, {len(self.classes):,} classes"
        )

    __repr__ = __str__

    @property
    def origin(self) -> str:
        """Where the images are, in words."""
        return f"the folder {self.root.name}"

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (3, self.size, self.size)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, sizes, and a digest of all labels and files' names, which tell one image set from another."""
        digest = hashlib.sha256()
        for values in (self.train_labels.numpy(), self.test_labels.numpy(), self.train_files, self.test_files):
            digest.update(values.tobytes())
        return {
            "name": self.name,
            "size": self.size,
            "train_images": len(self.train_labels),
            "test_images": len(self.test_labels),
            "digest": digest.hexdigest()[:16],
        }

    def to(self, device: torch.device | str) -> ImageFolders:
        """Return the set itself: its files stay where they are."""
        return self

    def batches(self, split: str, index: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through images of a split, central parts, in the order of ``index``.

        Args:
            split: ``"train"`` or ``"test"``.
            index: int64 (n,), which images.
            size: how many at a time.

        Returns:
            uint8 images (size or fewer, 3, H, W) and int64 labels.

        Raises:
            DataError: naming an image that cannot be read; if there is no such split, or ``size`` is not a whole number
                of at least 1.
        """
        require_whole(DataError, 1, size=size)
        keys = [(number, None) for number in index.tolist()]
        return self.read(split, [keys[start : start + size] for start in range(0, len(keys), size)])

    def read(self, split: str, batches: Iterable[Sequence[tuple[int, int | None]]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read batches of images, in order and ahead of need.

        Args:
            split: ``"train"`` or ``"test"``.
            batches: for each image its index and the seed of its random part, or None for the central part.

        Returns:
            uint8 images (batch, 3, H, W) and int64 labels, in memory from which a GPU copies fast, if there is one.

        Raises:
            DataError: naming an image that cannot be read; if there is no such split.
        """
        require_split(split)
        workers = _cores() if self.workers is None else self.workers
        loader = torch.utils.data.DataLoader(
            _Reader(self, split),
            batch_sampler=batches,
            num_workers=workers,
            prefetch_factor=BATCHES_AHEAD if workers else None,
            collate_fn=_stacked,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # otherwise it draws from the caller's
            pin_memory=torch.cuda.is_available(),
            timeout=SILENCE if workers else 0,
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


def image_folders(root: str | Path, *, size: int = 224, workers: int | None = None) -> ImageFolders:
    """Return the images in ``root/train`` and ``root/val``, each of which holds one folder for each class.

    Args:
        root: the folder.
        size: height and width that all images are cut to, in pixels.
        workers: processes that read ahead; default: one for each processor core.

    Raises:
        DataError: if a folder is missing, a class has no images, the two do not hold the same classes, or a number is
            not a whole one or too small.
    """
    require_folder(root)
    root = user_path(root).absolute()
    train, test = _listed(root, "train"), _listed(root, "val")
    if train.classes != test.classes:
        name = min({*train.classes} ^ {*test.classes})
        here, there = ("train", "val") if name in train.classes else ("val", "train")
        raise DataError(f"{root / here} has a class {name!r} that {root / there} has not; {LAYOUT}")
    counts = (len(train.classes), len(train.samples), len(test.samples))
    files, labels = zip(*(_columns(root, part.samples) for part in (train, test)), strict=True)
    return ImageFolders(
        name="ImageNet" if counts == IMAGENET else root.name,
        root=root,
        train_files=files[0],
        train_labels=labels[0],
        test_files=files[1],
        test_labels=labels[1],
        classes=tuple(train.classes),
        size=size,
        workers=workers,
    )


def _listed(root: Path, part: str) -> Any:
    """Return torchvision's list of the images."""
    from torchvision.datasets import ImageFolder  # here, because this import takes a second or more

    folder = root / part
    if not os.path.isdir(folder):  # False, too, where one may not look; Path.is_dir raises there
        raise DataError(f"there is no folder {folder}; {LAYOUT}")
    try:
        return ImageFolder(folder)
    except OSError as error:  # its message names the empty classes
        raise DataError(f"{folder} cannot be used: {error}; {LAYOUT}") from None


def _columns(root: Path, samples: Sequence[tuple[str, int]]) -> tuple[np.ndarray, Tensor]:
    files = np.array([os.fsencode(os.path.relpath(file, root)) for file, _ in samples])
    return files, torch.tensor([label for _, label in samples])


def _cores() -> int:
    """Return the processor cores for each of the processes that torchrun has started on this host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class _Reader(torch.utils.data.Dataset):
    """Reads and cuts single images. Runs in the worker processes."""

    def __init__(self, data: ImageFolders, split: str) -> None:
        from torchvision import transforms

        self.root = data.root
        self.files = data.train_files if split == "train" else data.test_files
        self.labels = data.train_labels if split == "train" else data.test_labels
        self.random_part = transforms.Compose(
            [transforms.RandomResizedCrop(data.size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
        )
        self.central_part = transforms.Compose(
            [transforms.Resize(round(data.size * 8 / 7)), transforms.CenterCrop(data.size), transforms.PILToTensor()]
        )

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, Tensor] | DataError:
        """Return image and label; or the error, because one raised here would reach the user with a traceback."""
        from PIL import Image

        index, seed = key
        path = self.root / os.fsdecode(self.files[index])
        try:
            with Image.open(path) as file:
                if file.mode.startswith(("I", "F")):  # Pillow would make all that is bright white
                    return DataError(f"the image {path} has more than 8 bits a channel; convert it to 8")
                if file.mode == "P":  # otherwise Pillow warns where some colours of the palette are transparent
                    file = file.convert("RGBA")
                image = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).replace(repr(str(path)), "it")
            return DataError(f"the image {path} cannot be read ({reason}); replace it")
        if seed is None:
            return self.central_part(image), self.labels[index]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.random_part(image), self.labels[index]


def _stacked(items: Sequence[tuple[Tensor, Tensor] | DataError]) -> tuple[Tensor, Tensor] | DataError:
    for item in items:
        if isinstance(item, DataError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.stack(labels)


def _ignore_interrupts(worker: int) -> None:
    """Let the process that trains decide what Ctrl-C means: it needs the worker to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


Images = ImageSet | ImageFolders
"""What a network is trained on: tensors, or files."""
