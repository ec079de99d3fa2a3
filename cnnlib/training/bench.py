"""How much faster this package trains than the loop that most people write, and what each step on the way gains."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import multiprocessing
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnlib import settings
from cnnlib.data import ImageSet
from cnnlib.data.augment import normalise
from cnnlib.models import create
from cnnlib.table import Column, Table
from cnnlib.training import hardware, interrupts, memory
from cnnlib.training.batches import Batches
from cnnlib.training.errors import BenchError, check_at_least
from cnnlib.training.graphs import STEPS_BEFORE, GraphStep, can_be_recorded, few_maps, kernels_fit
from cnnlib.training.network import check_channels, check_in_memory
from cnnlib.training.progress import Progress
from cnnlib.training.recipe import Recipe, recipe_for
from cnnlib.training.run import conditions
from cnnlib.training.step import AUTOCAST, Step


@dataclass(frozen=True)
class Loop:
    """What a training loop does. The fields stand in the order of the steps from the usual loop to this package's.

    Attributes:
        on_device: the images lie on the device, and an epoch of them is augmented at once.
        channels_last: images and weights have the channel as their last dimension in memory.
        unread: no number is read back within a step, the optimiser is one fused operation, and the convolutions use
            the same algorithms every time.
        less_memory: freed memory is kept, and ReLUs work in place; see memory.py.
        precision: of convolutions and matrix products.
        compiled: with ``torch.compile``.
        graph: each step is one CUDA graph; see graphs.py.
        few_maps: small convolutions and batch norms have kernels of their own; see kernels.py.
    """

    on_device: bool = False
    channels_last: bool = False
    unread: bool = False
    less_memory: bool = False
    precision: str = "fp32"
    compiled: bool = False
    graph: bool = False
    few_maps: bool = False


def ladder(device: torch.device, precision: str, *, workers: int, compile: bool) -> dict[str, Loop]:
    """Return the loops to compare, each with one thing more than the one before."""
    steps: list[tuple[str, dict[str, Any]]] = [
        (f"usual loop, {workers} workers", {}),
        ("images on the device, augmented by the epoch", {"on_device": True}),
        ("channels_last", {"channels_last": True}),
        ("nothing read back, fused optimiser, repeatable", {"unread": True}),
        ("memory kept, ReLU in place", {"less_memory": True}),
    ]
    if precision != "fp32":
        steps.append((precision, {"precision": precision}))
    if compile:
        steps.append(("torch.compile", {"compiled": True}))
    if device.type == "cuda":
        steps.append(("CUDA graph", {"graph": True}))
        if kernels_fit(device, precision, compile):
            steps.append(("kernels for few maps", {"few_maps": True}))
    loops = itertools.accumulate((changes for _, changes in steps), lambda all, more: all | more)
    return {label: Loop(**changes) for (label, _), changes in zip(steps, loops, strict=True)}


@dataclass(frozen=True)
class Limits:
    """What the machine can do: floating-point operations and bytes a second, of a product of matrices and of a copy."""

    operations: float
    bytes: float


@dataclass(frozen=True, repr=False)
class Bench:
    """Images per second of each loop, round by round.

    Attributes:
        model: registered name.
        batch_size: images a step.
        hardware: device and conditions in words.
        speeds: by loop, the usual one first, this package's last.
        operations: floating-point operations of one image's training step.
        bytes: what its operations read and write, one by one.
        limits: of the device, by the precision.
        convolutions: images per second that the convolutions alone would allow, round by round; see
            :func:`convolutions_alone`. Empty on other devices than a CPU.
    """

    model: str
    batch_size: int
    hardware: str
    speeds: dict[str, tuple[float, ...]]
    operations: float
    bytes: float
    limits: dict[str, Limits]
    convolutions: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """Median over the rounds of this package's speed to the usual loop's."""
        usual, *_, ours = self.speeds.values()
        return _ratio(ours, usual)

    def table(self) -> Table:
        """Return all loops as a table."""
        usual = next(iter(self.speeds.values()))
        before = [usual, *self.speeds.values()]
        return Table(
            caption=f"Training {self.model}, batch {self.batch_size}, on {self.hardware}",
            columns=(
                Column("each has what those above have", numeric=False),
                *(Column("median", "images/s"), Column("least"), Column("most")),
                *(Column("to usual"), Column("to above")),
            ),
            rows=tuple(
                (
                    label,
                    *(f"{statistic(speeds):,.0f}" for statistic in (statistics.median, min, max)),
                    *(f"{_ratio(speeds, other):.2f}" for other in (usual, above)),
                )
                for (label, speeds), above in zip(self.speeds.items(), before, strict=False)
            ),
            notes=(self._verdict(), self._rates(), *self._ceiling()),
        )

    def _verdict(self) -> str:
        rounds = len(next(iter(self.speeds.values())))
        return (
            f"cnnlib is {self.ratio:.2f} times as fast as the usual loop. Ratios are medians of {rounds} "
            f"round{'' if rounds == 1 else 's'}, in which the loops took turns."
        )

    def _rates(self) -> str:
        speed = statistics.median(list(self.speeds.values())[-1])
        limits = "; ".join(
            f"a product of matrices in {precision} reaches {limit.operations / 1e9:,.0f} GFLOP/s"
            for precision, limit in self.limits.items()
        )
        copy = next(iter(self.limits.values())).bytes
        return (
            f"A training step takes {self.operations / 1e6:,.0f} MFLOP an image, two for each multiply-add, and its "
            f"operations read and write {self.bytes / 1e6:,.0f} MB in fp32: at {speed:,.0f} images/s that is "
            f"{speed * self.operations / 1e9:,.0f} GFLOP/s and {speed * self.bytes / 1e9:,.1f} GB/s. On this device "
            f"{limits}; a copy of memory moves {copy / 1e9:,.1f} GB/s, reading and writing."
        )

    def _ceiling(self) -> Iterator[str]:
        if self.convolutions:
            usual = next(iter(self.speeds.values()))
            yield (
                "If all but the convolutions took no time, each of them at its best, it would be "
                f"{statistics.median(self.convolutions):,.0f} images/s, {_ratio(self.convolutions, usual):.2f} times "
                "the usual loop."
            )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _ratio(speeds: tuple[float, ...], others: tuple[float, ...]) -> float:
    return statistics.median(speed / other for speed, other in zip(speeds, others, strict=True))


def bench(
    data: ImageSet,
    model: str = "resnet20",
    *,
    batch_size: int = 128,
    rounds: int = 5,
    steps: int = 20,
    workers: int = 2,
    device: torch.device | str | None = None,
    precision: str | None = None,
    compile: bool = False,
    progress: bool = True,
) -> Bench:
    """Time training with this package against the usual loop, and with what lies between them.

    Each loop runs in a process of its own, and they take turns, so that a machine whose speed changes does not favour
    one of them. The usual loop is the one of many tutorials: a ``DataLoader`` with workers that transform image by
    image with torchvision, feature maps in NCHW order, and ``loss.item()`` in every step. Each round is an epoch of
    ``steps`` batches, so that our augmentation of a whole epoch at once is counted in full. The rounds of
    :func:`cold_rounds` come first and are not counted.

    Args:
        data: where the images come from.
        model: registered name.
        batch_size: images a step.
        rounds: how often each loop is timed.
        steps: batches in a round, at most those of an epoch.
        workers: processes of the usual loop's DataLoader.
        device: default :func:`cnnlib.device`.
        precision: of this package's loop; default as for :func:`cnnlib.fit`.
        compile: compare ``torch.compile`` as well; this takes a minute or more.
        progress: False shows none.

    Raises:
        BenchError: if one of the loops fails.
        ArgumentError: if an argument makes no sense, the data are no images in memory, or the model takes images of
            other channels.
        RecipeError: if there are fewer images than a batch has.
        UnknownModel: if there is no such model.
        UnknownDevice: if this machine has no such device.
    """
    check_at_least(1, batch_size=batch_size, rounds=rounds, steps=steps)
    check_at_least(0, workers=workers)
    check_in_memory(data)
    device = settings.device(device)
    precision = hardware.precision(device, precision)
    check_channels(model, data)
    recipe = recipe_for(model).replace(batch_size=batch_size)
    steps = min(steps, recipe.steps_per_epoch(len(data.train_labels)))
    images = batch_size * steps
    data = replace(
        data, train_images=data.train_images[:images].clone(), train_labels=data.train_labels[:images].clone()
    )
    loops = ladder(device, precision, workers=workers, compile=compile)
    try:
        moved = bytes_moved(model, data, batch_size)
    except Exception as error:  # so would the first of the loops, half a minute later
        raise _failed(next(iter(loops)), _in_words(error)) from error
    threads = torch.get_num_threads()
    speeds: dict[str, list[float]] = {label: [] for label in loops}
    alone: list[float] = []
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(contextlib.closing(Progress(progress)))
        turns = {
            label: stack.enter_context(_in_a_process(label, (loop, data, model, recipe, workers, str(device), threads)))
            for label, loop in loops.items()
        }
        cold = cold_rounds(device, steps)
        total = (cold + rounds) * len(loops)
        bar = stack.enter_context(display.start(f"{model}: {len(loops)} loops take turns of {steps} steps", total, 0))
        for _ in range(cold + rounds):
            for label, turn in turns.items():
                speeds[label].append(turn())
                bar.update()
            if device.type == "cpu":
                alone.append(convolutions_alone(model, data, batch_size, precision))
    image = data.train_images.shape[1:]
    return Bench(
        model=model,
        batch_size=batch_size,
        hardware=conditions(hardware.device_in_words(device), device.type, threads, precision, compiled=compile),
        speeds={label: tuple(values[cold:]) for label, values in speeds.items()},
        operations=hardware.operations_per_image(_network(model, data), torch.zeros(1, *image)),
        bytes=moved / batch_size,
        limits={name: limits(device, name) for name in dict.fromkeys(("fp32", precision))},
        convolutions=tuple(alone[cold:]),
    )


def cold_rounds(device: torch.device, steps: int) -> int:
    """Return how many rounds of ``steps`` steps warm up: one, and on a GPU all until a step is replayed as a graph."""
    return math.ceil((STEPS_BEFORE + 1) / steps) if device.type == "cuda" else 1


@contextlib.contextmanager
def _in_a_process(label: str, loop: tuple) -> Iterator[Callable[[], float]]:
    """Start a training loop in a process and give a function that runs one epoch and returns images a second.

    The process waits between the epochs; one that fails says why.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_turns, args=(theirs, *loop))  # not a daemon: it has workers of its own
    # Ctrl-C is this process's to handle: the new one inherits that it is ignored, and would end in a traceback.
    in_main_thread = threading.current_thread() is threading.main_thread()
    with interrupts.ignored() if in_main_thread else contextlib.nullcontext():
        process.start()
    theirs.close()

    def turn() -> float:
        try:
            ours.send("go")
            answer = ours.recv()
        except (EOFError, OSError) as error:
            raise BenchError(f"the process of “{label}” has died; is there enough memory?") from error
        if isinstance(answer, str):
            raise _failed(label, answer)
        return answer

    try:
        yield turn
    except BaseException:
        process.terminate()  # it may be starting, or within an epoch that nobody wants any more
        raise
    finally:
        ours.close()  # the process ends where it waits
        process.join()


def _failed(label: str, reason: str) -> BenchError:
    return BenchError(f"“{label}” failed: {reason}")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _take_turns(connection: Connection, loop: Loop, data: ImageSet, model: str, recipe: Recipe, *settings: Any) -> None:
    """Train an epoch whenever asked to, until nobody asks any more."""
    workers, device, threads = settings
    torch.set_num_threads(threads)
    epochs = train(loop, data, model, recipe, workers, torch.device(device))
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        # Ctrl-C is ignored, see _in_a_process, which ends this one; from here on in good order, with its workers.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while connection.recv():
            try:
                since = time.perf_counter()
                images = next(epochs)
                connection.send(images / (time.perf_counter() - since))
            except Exception as error:
                connection.send(_in_words(error))


def train(loop: Loop, data: ImageSet, model: str, recipe: Recipe, workers: int, device: torch.device) -> Iterator[int]:
    """Train, and yield the number of images after every epoch."""
    layout = torch.channels_last if loop.channels_last else torch.contiguous_format
    module = _network(model, data).to(device, memory_format=layout)
    epochs = _epochs_on_device(data.to(device), recipe) if loop.on_device else _epochs_of_loader(data, recipe, workers)
    as_in_fit = (hardware.exact_convolutions(),) if loop.unread else ()
    less_memory = (memory.kept(device), memory.relu_in_place(module)) if loop.less_memory else ()
    with contextlib.ExitStack() as stack:
        for context in (*as_in_fit, *less_memory):
            stack.enter_context(context)
        if loop.unread:
            take = _fused_step(module, recipe, data, loop, stack)
        else:
            take = _plain_step(module, recipe, data, loop)
        for epoch in epochs:
            images = 0
            losses = []
            for batch, labels in epoch:
                batch = batch.to(device).contiguous(memory_format=layout)
                losses.append(take(batch, labels.to(device)))
                images += len(labels)
            if loop.unread:
                torch.stack(losses).tolist()
            yield images


def _plain_step(module: nn.Module, recipe: Recipe, data: ImageSet, loop: Loop) -> Callable[[Tensor, Tensor], float]:
    """Return the step of many tutorials; images come as bytes or, from the loader, normalised."""
    optimizer = torch.optim.SGD(
        module.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )

    def take(images: Tensor, labels: Tensor) -> float:
        if loop.on_device:
            images = normalise(images, data.mean, data.std)
        optimizer.zero_grad()
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return take


def _fused_step(
    module: nn.Module, recipe: Recipe, data: ImageSet, loop: Loop, contexts: contextlib.ExitStack
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return this package's step, to be taken within ``contexts``."""
    step = Step(module, recipe, data, loop.precision, loop.compiled)
    if loop.graph and can_be_recorded(module):
        step = GraphStep(step)
    if loop.few_maps:
        contexts.enter_context(few_maps(step))
    return lambda images, labels: step(images, labels, recipe.lr)[0]


def _epochs_on_device(data: ImageSet, recipe: Recipe) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    batches = Batches(data, recipe, seed=0)
    for first in itertools.count(step=batches.steps_per_epoch):
        yield (batches[number] for number in range(first, first + batches.steps_per_epoch))


def _epochs_of_loader(data: ImageSet, recipe: Recipe, workers: int) -> Iterator[torch.utils.data.DataLoader]:
    from torchvision import transforms

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
        _Images(data.train_images, data.train_labels, transform),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return itertools.repeat(loader)


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


def bytes_moved(model: str, data: ImageSet, batch_size: int) -> int:
    """Return the bytes that the operations of one training step read and write, each on its own, in fp32.

    It is what memory would have to move if no two operations were fused and no cache held anything between them.
    """
    return traffic(model, data, batch_size).bytes


def traffic(model: str, data: ImageSet, batch_size: int) -> Traffic:
    """Return how many operations the forward and the backward pass of a batch are, and what they move, in fp32."""
    with torch.device("meta"):
        net = _network(model, data)
        images = torch.empty(batch_size, *data.train_images.shape[1:])
    with Traffic() as counted:
        sum(leaf.sum() for leaf in tree_leaves(net(images))).backward()
    return counted


class Traffic(TorchDispatchMode):
    """Counts operations and sums the sizes of what each reads and writes. A view is none and moves nothing."""

    operations = 0
    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            self.bytes += sum(x.nbytes for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor))
        return result


def limits(device: torch.device, precision: str, *, size: int | None = None, seconds: float = 0.3) -> Limits:
    """Measure what a product of matrices and a copy of memory reach on a device, at their best.

    Args:
        device: the device.
        precision: of the matrices.
        size: their side; the copy moves 16 bytes for each of the elements. Default: 8192 on a GPU, 2048 on a CPU, 256
            on one that emulates the precision, where the product of larger ones takes minutes.
        seconds: how long to measure each.
    """
    emulated = precision not in ("fp32", hardware.precision_for(device))
    size = size or (8192 if device.type != "cpu" else 256 if emulated else 2048)
    dtype = AUTOCAST[precision]
    a, b, product = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(3))
    source, target = (torch.ones(16, size, size, device=device, dtype=torch.uint8) for _ in range(2))
    return Limits(
        operations=2 * size**3 / _best(lambda: torch.mm(a, b, out=product), device, seconds),
        bytes=2 * source.nbytes / _best(lambda: target.copy_(source), device, seconds),
    )


def convolutions_alone(model: str, data: ImageSet, batch_size: int, precision: str, *, seconds: float = 0.1) -> float:
    """Measure how many images/s a network's convolutions would allow on the CPU if nothing else took time.

    Each is timed by itself, forward and backward, in this package's layout, and counts with its fastest run. So the
    sum is what a training step cannot fall below with these convolutions, whatever is done about the rest. On a GPU the
    same measurement would be one of the time that launching takes.

    Args:
        model: registered name.
        data: its images give the size of the network's input.
        batch_size: images a step.
        precision: of the convolutions.
        seconds: how long to measure each kind of convolution.
    """
    alike: dict[tuple[str, torch.Size, bool], list[nn.Conv2d]] = defaultdict(list)

    def note(layer: nn.Conv2d, inputs: tuple[Tensor], _: Tensor) -> None:
        alike[repr(layer), inputs[0].shape[1:], inputs[0].requires_grad].append(layer)

    net = _network(model, data)
    hooks = [layer.register_forward_hook(note) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    net(torch.zeros(2, *data.train_images.shape[1:]))
    for hook in hooks:
        hook.remove()
    layout = {"dtype": AUTOCAST[precision], "memory_format": torch.channels_last}
    total = 0.0
    for (_, shape, not_the_first), layers in alike.items():
        layer = layers[0].to(**layout)
        images = torch.randn(batch_size, *shape).to(**layout).requires_grad_(not_the_first)
        wanted = [x for x in (images, *layer.parameters()) if x.requires_grad]
        run = functools.partial(_forward_and_backward, layer, images, wanted, torch.ones_like(layer(images)))
        total += len(layers) * _best(run, torch.device("cpu"), seconds)
    return batch_size / total


def _forward_and_backward(layer: nn.Module, images: Tensor, wanted: list[Tensor], gradient: Tensor) -> None:
    torch.autograd.grad(layer(images), wanted, gradient)


def _best(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Return the seconds of the fastest of several runs."""
    wait = functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait()
        since = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - since)
    return best
