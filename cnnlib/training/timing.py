"""How long one step of training takes for several networks, side by side, and what there is to do in it."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.errors import require_whole
from cnnlib.measure import count_parameters, multiply_adds
from cnnlib.models import create
from cnnlib.table import Column, Table
from cnnlib.training import hardware
from cnnlib.training.bench import Traffic, cold_rounds, ladder, traffic, train
from cnnlib.training.errors import BenchError
from cnnlib.training.network import check_channels, check_in_memory
from cnnlib.training.recipe import recipe_for
from cnnlib.training.run import conditions


@dataclass(frozen=True)
class Work:
    """What a network has to do in a step.

    Attributes:
        parameters: trainable ones.
        multiply_adds: of the forward pass of one image.
        operations: of the forward and the backward pass; each waits for what it reads.
        bytes: what these read and write for one image, each on its own, in fp32.
    """

    parameters: int
    multiply_adds: int
    operations: int
    bytes: float


@dataclass(frozen=True, repr=False)
class StepTimes:
    """Seconds of a training step of several networks, round by round.

    Attributes:
        hardware: device and conditions in words.
        batch_size: images a step.
        seconds: of each network, in the order in which they were given.
        work: of each network.
    """

    hardware: str
    batch_size: int
    seconds: dict[str, tuple[float, ...]]
    work: dict[str, Work]

    def ratio(self, model: str) -> float:
        """Return the median over the rounds of a network's time to that of the first network in the same round."""
        first = next(iter(self.seconds.values()))
        return statistics.median(own / other for own, other in zip(self.seconds[model], first, strict=True))

    def table(self) -> Table:
        """Return all networks as a table."""
        rounds = len(next(iter(self.seconds.values())))
        return Table(
            caption=f"Training step, batch {self.batch_size}, on {self.hardware}",
            columns=(
                *(Column("network", numeric=False), Column("parameters"), Column("multiply-adds")),
                *(Column("operations"), Column("read and written", "MB an image")),
                *(Column("median", "ms"), Column("least", "ms"), Column("time to the first's")),
            ),
            rows=tuple(
                (
                    *(model, f"{work.parameters:,}", f"{work.multiply_adds:,}"),
                    *(f"{work.operations:,}", f"{work.bytes / 1e6:.1f}"),
                    *(f"{1e3 * statistic(self.seconds[model]):,.0f}" for statistic in (statistics.median, min)),
                    f"{self.ratio(model):.2f}",
                )
                for model, work in self.work.items()
            ),
            notes=(
                f"The networks took turns; ratios are medians of {rounds} round{'' if rounds == 1 else 's'}. "
                "Operations are those of the forward and the backward pass, one after another; what they read and "
                "write is counted in fp32, each operation on its own.",
            ),
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def step_times(
    data: ImageSet,
    models: Sequence[str],
    *,
    batch_size: int = 128,
    rounds: int = 5,
    device: torch.device | str | None = None,
    precision: str | None = None,
) -> StepTimes:
    """Time one training step of each network, with the loop of :func:`cnnlib.fit`.

    The networks take turns, so that a machine whose speed changes favours none of them. The rounds before the first
    that counts warm up: one, and on a GPU those in which a step is not yet replayed as a graph.

    Args:
        data: where the images come from.
        models: registered names; times are given relative to the first one's.
        batch_size: images a step.
        rounds: how often each network is timed.
        device: default :func:`cnnlib.device`.
        precision: default as for :func:`cnnlib.fit`.

    Raises:
        BenchError: if there is no network, or a number is not positive, or the data set has too few images for a batch.
        ArgumentError: if there is no such precision, the data are no images in memory, or a network takes images of
            other channels.
        UnknownModel: if there is no such network.
        UnknownDevice: if this machine has no such device.
    """
    if isinstance(models, str) or not models:
        raise BenchError(f"models are one or more names in a list, such as ['resnet20'], not {models!r}")
    check_in_memory(data)
    for model in models:
        check_channels(model, data)
    require_whole(BenchError, 1, rounds=rounds, batch_size=batch_size)
    if batch_size > (there := len(data.train_labels)):
        raise BenchError(f"{data.name} has {there:,} training images, too few for a batch of {batch_size}")
    device = settings.device(device)
    precision = hardware.precision(device, precision)
    one_step = replace(
        data, train_images=data.train_images[:batch_size].clone(), train_labels=data.train_labels[:batch_size].clone()
    )
    *_, loop = ladder(device, precision, workers=0, compile=False).values()
    seconds: dict[str, list[float]] = {model: [] for model in models}
    with contextlib.ExitStack() as stack:
        stack.enter_context(hardware.exact_convolutions())  # each turn's own would restore what another had set
        turns = {
            model: stack.enter_context(
                contextlib.closing(
                    train(loop, one_step, model, recipe_for(model).replace(batch_size=batch_size), 0, device)
                )
            )
            for model in seconds
        }
        cold = cold_rounds(device, steps=1)
        for _ in range(cold + rounds):
            for model, turn in turns.items():
                since = time.perf_counter()
                next(turn)  # reads the losses back, and so waits for the device
                seconds[model].append(time.perf_counter() - since)
    return StepTimes(
        hardware=conditions(
            hardware.device_in_words(device), device.type, torch.get_num_threads(), precision, compiled=False
        ),
        batch_size=batch_size,
        seconds={model: tuple(values[cold:]) for model, values in seconds.items()},
        work={model: _work(model, data, traffic(model, data, batch_size), batch_size) for model in seconds},
    )


def _work(model: str, data: ImageSet, counted: Traffic, batch_size: int) -> Work:
    with torch.device("meta"):
        net = create(model, num_classes=len(data.classes))
    return Work(
        count_parameters(net),
        multiply_adds(net, tuple(data.train_images.shape[1:])),
        counted.operations,
        counted.bytes / batch_size,
    )
