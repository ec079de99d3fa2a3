"""How long a network takes for its answer on this machine, and how much memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from cnnlib.errors import require_whole
from cnnlib.measure.allocated import allocated_peak
from cnnlib.measure.dry_run import example, private_copy
from cnnlib.measure.errors import BadArgument


@dataclass(frozen=True)
class Inference:
    """Measured on one machine.

    Attributes:
        seconds: of each measured pass over one batch.
        peak: most bytes alive at once besides parameters and images.
        batch_size: images in a batch.
    """

    seconds: tuple[float, ...]
    peak: int
    batch_size: int

    @property
    def median(self) -> float:
        """Median seconds of a pass."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Seconds between the fastest and the slowest pass."""
        return max(self.seconds) - min(self.seconds)


def inference(
    model: nn.Module, input_size: tuple[int, int, int], *, batch_size: int = 1, repeats: int = 5
) -> Inference:
    """Time a network in evaluation mode, without gradients, on its own device and in its own precision.

    One pass before the first is not counted. The network stays as it is.

    Args:
        model: the network.
        input_size: shape of one image, (channels, height, width).
        batch_size: images in a batch.
        repeats: how many passes.

    Raises:
        BadArgument: if ``repeats`` is no number of passes or ``batch_size`` none of images, ``input_size`` is no shape
            of one image, or the network has lazy modules that have not seen an input yet or is on the ``meta`` device.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes.
    """
    require_whole(BadArgument, 1, repeats=repeats, batch_size=batch_size)
    peak = allocated_peak(model, input_size, batch_size)
    net = private_copy(model)
    images = example(net).new_zeros(batch_size, *input_size)
    seconds = []
    with torch.no_grad():
        for _ in range(1 + repeats):
            _wait(images.device)
            since = time.perf_counter()
            net(images)
            _wait(images.device)
            seconds.append(time.perf_counter() - since)
    return Inference(tuple(seconds[1:]), peak, batch_size)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
