"""How long layers and networks take on a device: records of few multiply-adds against little time.

A record holds three things of one device: what it can do at best (a product of matrices, a copy of memory), how long
single layers take, dense and depthwise and pointwise convolutions of several widths and batch sizes, and how long
training steps of whole networks take. ``python -m cnnlib speed`` measures one; some come with the package.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import nn

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.errors import CnnlibError
from cnnlib.files import read_json, user_path, write_json
from cnnlib.measure import multiply_adds
from cnnlib.studies.errors import RecordError, StudyError
from cnnlib.studies.schemas import refuse_other_format, what_to_do
from cnnlib.table import Column, Table
from cnnlib.training import StepTimes, hardware, step_times
from cnnlib.training.bench import Limits, limits
from cnnlib.training.errors import ArgumentError, check_at_least
from cnnlib.training.run import conditions
from cnnlib.training.step import AUTOCAST
from cnnlib.training.timing import Work

FORMAT = 1
SHIPPED = Path(__file__).with_name("speeds")
"""The records that come with the package, one a device."""

KINDS = ("dense 3x3", "depthwise 3x3", "pointwise 1x1", "separable")
CHANNELS = (32, 128, 512)
BATCHES = (1, 128)
PASSES = ("forward", "training")
SIDE = 16
"""Height and width of the maps that the layers are timed on."""

NETS = ("resnet20", "resnet32", "mobilenet-v1-cifar", "mobilenet-v2-cifar-0.5", "mobilenet-v2-cifar-0.75")
"""The networks of the study ``efficient-nets``."""


@dataclass(frozen=True)
class LayerTime:
    """The time of one layer from C maps to C maps of 16x16 pixels, without bias.

    Attributes:
        kind: one of :data:`KINDS`; the separable convolution is the depthwise one and then the pointwise one.
        channels: the number C.
        batch_size: images at once.
        work: ``"forward"``, or ``"training"``: forward, and backward to the input and the weights.
        multiply_adds: of all this work.
        bytes: what the operations read and write, each on its own.
        seconds: of each round.
    """

    kind: str
    channels: int
    batch_size: int
    work: str
    multiply_adds: int
    bytes: int
    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        """Return the seconds of the fastest round. Whatever else a machine does can only add to them."""
        return min(self.seconds)

    @property
    def operations_per_second(self) -> float:
        """Floating-point operations, two for a multiply-add."""
        return 2 * self.multiply_adds / self.least

    @property
    def bytes_per_second(self) -> float:
        """What is read and written."""
        return self.bytes / self.least

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte read or written."""
        return 2 * self.multiply_adds / self.bytes


@dataclass(frozen=True, repr=False)
class Speed:
    """Times of layers and networks on one device.

    Attributes:
        hardware: device and conditions in words.
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        limits: what the device can do at best, in this number format.
        layers: times of single layers, which took turns.
        nets: times of training steps, None if they were left out.
    """

    hardware: str
    device_type: str
    limits: Limits
    layers: tuple[LayerTime, ...]
    nets: StepTimes | None = None

    def layer(self, kind: str, channels: int, batch_size: int, work: str = "forward") -> LayerTime:
        """Return one of the times.

        Raises:
            StudyError: if it was not measured.
        """
        for row in self.layers:
            if (row.kind, row.channels, row.batch_size, row.work) == (kind, channels, batch_size, work):
                return row
        raise StudyError(f"no time of a {kind} convolution of {channels} maps, batch {batch_size}, {work}")

    def table(self, batch_size: int, work: str = "forward") -> Table:
        """Return the dense convolutions and the separable ones of one batch size as a table.

        The ratio of the multiply-adds says how many times faster the separable convolution would be, if time were
        proportional to them.

        Raises:
            StudyError: if it was not measured.
        """
        widths = [
            row.channels for row in self.layers if (row.kind, row.batch_size, row.work) == (KINDS[0], batch_size, work)
        ]
        if not widths:
            raise StudyError(f"no times of batch {batch_size}, {work}")
        rows = []
        for channels in widths:
            dense, depthwise, pointwise, separable = (self.layer(kind, channels, batch_size, work) for kind in KINDS)
            rows.append(
                (
                    *(f"{channels}", f"{dense.multiply_adds / separable.multiply_adds:.1f}"),
                    f"{dense.least / separable.least:.1f}",
                    *(_three_digits(1e3 * row.least) for row in (dense, depthwise, pointwise)),
                    *(_three_digits(row.operations_per_second / 1e9) for row in (dense, depthwise)),
                    _three_digits(depthwise.bytes_per_second / 1e9),
                )
            )
        return Table(
            caption=f"{work.capitalize()}, batch {batch_size}, maps of {SIDE}x{SIDE}, on {self.hardware}",
            columns=(
                *(Column("maps"), Column("fewer multiply-adds", "times"), Column("less time", "times")),
                *(Column(name, "ms") for name in ("dense", "depthwise", "pointwise")),
                *(Column(name, "GFLOP/s") for name in ("dense", "depthwise")),
                Column("depthwise", "GB/s"),
            ),
            rows=tuple(rows),
            notes=(
                "Dense 3x3 against depthwise 3x3, then pointwise 1x1. Fastest rounds; the layers took turns. Here "
                f"a product of matrices reaches {self.limits.operations / 1e9:,.0f} GFLOP/s, which a convolution may "
                f"beat, and a copy moves {self.limits.bytes / 1e9:,.0f} GB/s.",
            ),
        )

    def save(self, path: str | Path) -> Path:
        """Write the record, and return where it lies."""
        return write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> Speed:
        """Read a record.

        Raises:
            RecordError: if the file holds none.
        """
        try:
            content = read_json(path)
            refuse_other_format(content, FORMAT)
            del content["format"]
            nets = content.pop("nets")
            found = cls(
                limits=Limits(**content.pop("limits")),
                layers=tuple(LayerTime(**{**row, "seconds": tuple(row["seconds"])}) for row in content.pop("layers")),
                nets=nets and _step_times(nets),
                **content,
            )
            for batch_size, work in {(row.batch_size, row.work) for row in found.layers}:
                str(found.table(batch_size, work))  # which fails if a value is missing, or of another kind
            str(found.nets)
            return found
        except (ValueError, OSError, KeyError, TypeError, AttributeError, ZeroDivisionError, CnnlibError) as error:
            raise RecordError(f"{path} holds no record of times ({error}); {what_to_do(error)}") from error


def _step_times(content: dict) -> StepTimes:
    if not content["seconds"]:
        raise RecordError("times of no network")
    return StepTimes(
        hardware=content["hardware"],
        batch_size=content["batch_size"],
        seconds={model: tuple(seconds) for model, seconds in content["seconds"].items()},
        work={model: Work(**work) for model, work in content["work"].items()},
    )


def load_speeds(folder: str | Path | None = None) -> list[Speed]:
    """Return the records in a folder, CPUs first; without a folder those that come with the package.

    Raises:
        RecordError: if there is no such folder, or a file in it holds none.
    """
    folder = user_path(folder or SHIPPED)
    if not folder.is_dir():
        raise RecordError(f"there is no folder {folder}")
    speeds = [Speed.load(path) for path in sorted(folder.glob("*.json"))]
    return sorted(speeds, key=lambda speed: (speed.device_type != "cpu", speed.hardware))


def layer_times(
    *,
    channels: Sequence[int] = CHANNELS,
    batches: Sequence[int] = BATCHES,
    rounds: int = 5,
    seconds: float = 0.02,
    device: torch.device | str | None = None,
    precision: str | None = None,
) -> tuple[LayerTime, ...]:
    """Time dense, depthwise, pointwise and separable convolutions, in turns; a round before the first is not counted.

    Args:
        channels: numbers of maps.
        batches: numbers of images at once.
        rounds: how often each layer is timed.
        seconds: how long it is repeated each time, about; the time is that of one repetition.
        device: default :func:`cnnlib.device`.
        precision: of all values; default as for :func:`cnnlib.fit`.

    Raises:
        ArgumentError: if there is no such precision, or a number is not positive.
        UnknownDevice: if this machine has no such device.
    """
    check_at_least(1, rounds=rounds)
    if not 0 < seconds < math.inf:
        raise ArgumentError(f"seconds must be positive and finite, not {seconds!r}")
    for width, batch_size in product(channels, batches):
        check_at_least(1, channels=width, batches=batch_size)
    device = settings.device(device)
    dtype = AUTOCAST[hardware.precision(device, precision)]
    times = []
    with hardware.exact_convolutions():  # as in a training: fp32 is not TF32
        for batch_size, width in product(batches, channels):
            x = torch.randn(batch_size, width, SIDE, SIDE, device=device, dtype=dtype)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            layers = {kind: _layer(kind, width).to(device, dtype, memory_format=torch.channels_last) for kind in KINDS}
            turns = {(kind, work): _turn(layer, x, work) for kind, layer in layers.items() for work in PASSES}
            measured: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
            repeats = {key: _repeats(turn, device, seconds) for key, turn in turns.items()}
            for _ in range(rounds):
                for key, turn in turns.items():
                    measured[key].append(_seconds(turn, device, repeats[key]))
            for (kind, work), values in measured.items():
                times.append(
                    LayerTime(
                        *(kind, width, batch_size, work),
                        multiply_adds=batch_size
                        * multiply_adds(_layer(kind, width), (width, SIDE, SIDE))
                        * (3 if work == "training" else 1),
                        bytes=_bytes(layers[kind], x, work),
                        seconds=tuple(values),
                    )
                )
    return tuple(times)


def _three_digits(number: float) -> str:
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"


def _layer(kind: str, channels: int) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    convolutions = {
        "dense 3x3": (nn.Conv2d(channels, channels, 3, padding=1, bias=False),),
        "depthwise 3x3": (depthwise,),
        "pointwise 1x1": (pointwise,),
        "separable": (depthwise, pointwise),
    }
    return nn.Sequential(*convolutions[kind])


def _turn(layer: nn.Module, x: torch.Tensor, work: str) -> Callable[[], object]:
    if work == "forward":

        def forward() -> None:
            with torch.no_grad():
                layer(x)

        return forward
    wanted = [x, *layer.parameters()]
    gradient = torch.ones_like(x)
    return lambda: torch.autograd.grad(layer(x), wanted, gradient)


def _bytes(layer: nn.Sequential, x: torch.Tensor, work: str) -> int:
    """Return what the convolutions read and write: input, weights, output; backward also the gradients of all three."""
    total = 0
    for convolution in layer:
        maps, weights = 2 * x.nbytes, convolution.weight.nbytes
        to_input, to_weights = maps + weights, maps + weights  # each reads the gradient of the output
        total += maps + weights + (to_input + to_weights if work == "training" else 0)
    return total


def _seconds(turn: Callable[[], object], device: torch.device, repeats: int) -> float:
    _wait(device)
    since = time.perf_counter()
    for _ in range(repeats):
        turn()
    _wait(device)
    return (time.perf_counter() - since) / repeats


def _repeats(turn: Callable[[], object], device: torch.device, seconds: float) -> int:
    _seconds(turn, device, 1)  # the first call chooses kernels
    return max(1, round(seconds / _seconds(turn, device, 2)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_speed(
    data: ImageSet | None = None,
    *,
    device: torch.device | str | None = None,
    precision: str | None = None,
    rounds: int = 5,
    batch_size: int = 128,
    **layers: object,
) -> Speed:
    """Measure a device: its limits, single layers, and, given images to train on, the networks of :data:`NETS`.

    Args:
        data: where the images of the training steps come from; None leaves the networks out.
        device: default :func:`cnnlib.device`.
        precision: default as for :func:`cnnlib.fit`.
        rounds: how often each layer and each network is timed.
        batch_size: images a step of the networks.
        layers: other arguments of :func:`layer_times`.

    Raises:
        ArgumentError, UnknownDevice: as :func:`layer_times`.
    """
    if not isinstance(data, ImageSet | None):  # before the first measurement, and not after it
        raise ArgumentError(f"data must be images, such as cnnlib.load_data('cifar10'), or None, not {data!r}")
    check_at_least(1, rounds=rounds, batch_size=batch_size)
    if data and batch_size > (there := len(data.train_labels)):
        raise ArgumentError(f"{data.name} has {there:,} training images, too few for batch_size={batch_size}")
    device = settings.device(device)
    precision = hardware.precision(device, precision)
    return Speed(
        hardware=conditions(
            hardware.device_in_words(device), device.type, torch.get_num_threads(), precision, compiled=False
        ),
        device_type=device.type,
        limits=limits(device, precision),
        layers=layer_times(device=device, precision=precision, rounds=rounds, **layers),
        nets=data and step_times(data, NETS, batch_size=batch_size, rounds=rounds, device=device, precision=precision),
    )
