"""How much faster this package trains than the loop that most people write."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.models import create
from cnnlib.training import hardware
from cnnlib.training.batches import Batches
from cnnlib.training.recipe import Recipe, recipe_for
from cnnlib.training.run import conditions
from cnnlib.training.step import Step
from cnnlib.training.table import Table


@dataclass(frozen=True, repr=False)
class Bench:
    """Images per second of both loops, round by round.

    Attributes:
        model: registered name.
        batch_size: images a step.
        hardware: device and conditions in words.
        workers: of the usual loop's DataLoader.
        usual: images per second of the usual loop, one number a round.
        ours: of this package.
    """

    model: str
    batch_size: int
    hardware: str
    workers: int
    usual: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the rounds of ours to the usual."""
        return statistics.median(ours / usual for ours, usual in zip(self.ours, self.usual, strict=True))

    def table(self) -> Table:
        """Return both speeds and their ratio as a table."""
        ratios = [ours / usual for ours, usual in zip(self.ours, self.usual, strict=True)]
        return Table(
            caption=f"Training {self.model}, batch {self.batch_size}, on {self.hardware}",
            columns=("", "images/s, median", "least", "most"),
            rows=tuple(
                (name, *(f"{statistic(speeds):,.0f}" for statistic in (statistics.median, min, max)))
                for name, speeds in ((f"usual loop, {self.workers} workers", self.usual), ("cnnlib", self.ours))
            ),
            notes=(
                f"cnnlib is {self.ratio:.2f} times as fast (median of {len(ratios)} alternating rounds, "
                f"{min(ratios):.2f} to {max(ratios):.2f}).",
            ),
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def bench(
    data: ImageSet,
    model: str = "resnet20",
    *,
    batch_size: int = 128,
    rounds: int = 5,
    steps: int = 20,
    workers: int = 2,
    device: torch.device | str | None = None,
) -> Bench:
    """Train with both loops in turns and compare their speed.

    The usual loop is torchvision's crop, flip and normalisation image by image in a DataLoader with workers, an eager
    network with its maps in NCHW order, and ``loss.item()`` in every step. Each round is an epoch of ``steps`` batches,
    so that our augmentation of a whole epoch at once is counted in full. One round before the first is not counted.

    Args:
        data: where the images come from.
        model: registered name.
        batch_size: images a step.
        rounds: how often each loop is timed.
        steps: batches in a round.
        workers: processes of the usual loop's DataLoader.
        device: default :func:`cnnlib.device`.
    """
    device = torch.device(device) if device else settings.device()
    recipe = recipe_for(model).replace(batch_size=batch_size)
    images = batch_size * steps
    recipe.steps_per_epoch(len(data.train_labels[:images]))
    data = replace(data, train_images=data.train_images[:images], train_labels=data.train_labels[:images])
    precision = hardware.precision_for(device)
    loops = {
        "usual": _usual(data, model, recipe, workers, device),
        "ours": _ours(data.to(device), model, recipe, precision, device),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(1 + rounds):
        for name, loop in loops.items():
            since = time.perf_counter()
            trained = next(loop)
            speeds[name].append(trained / (time.perf_counter() - since))
    return Bench(
        model=model,
        batch_size=batch_size,
        hardware=conditions(
            hardware.device_in_words(device), device.type, torch.get_num_threads(), precision, compiled=False
        ),
        workers=workers,
        usual=tuple(speeds["usual"][1:]),
        ours=tuple(speeds["ours"][1:]),
    )


def _ours(data: ImageSet, model: str, recipe: Recipe, precision: str, device: torch.device) -> Iterator[int]:
    """Yield the number of images after every epoch of this package's loop."""
    module = _network(model, data).to(device, memory_format=torch.channels_last)
    batches = Batches(data, recipe, seed=0)
    step = Step(module, recipe, data, precision, compiled=False)
    number = 0
    while True:
        losses = []
        for _ in range(batches.steps_per_epoch):
            losses.append(step(*batches[number], recipe.lr)[0])
            number += 1
        torch.stack(losses).tolist()
        yield batches.steps_per_epoch * recipe.batch_size


def _usual(data: ImageSet, model: str, recipe: Recipe, workers: int, device: torch.device) -> Iterator[int]:
    """Yield the number of images after every epoch of the loop of many tutorials."""
    from torchvision import transforms

    module = _network(model, data).to(device)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(data.train_images.shape[-1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        _Images(data.train_images.cpu(), data.train_labels.cpu(), transform),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        total = 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield len(loader) * recipe.batch_size


class _Images(torch.utils.data.Dataset):
    """Image by image, as torchvision's own data sets give them."""

    def __init__(self, images: Tensor, labels: Tensor, transform: object) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def _network(model: str, data: ImageSet) -> nn.Module:
    return create(model, num_classes=len(data.classes)).train()
