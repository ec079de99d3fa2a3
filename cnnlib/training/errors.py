"""What can go wrong in a training that the user can mend."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnlib.errors import CnnlibError, first_line, require_whole

if TYPE_CHECKING:
    import torch

    from cnnlib.training.recipe import Recipe


class RecipeError(CnnlibError, ValueError):
    """A recipe that makes no sense, or that does not suit the data."""


class ArgumentError(CnnlibError, ValueError):
    """An argument of a training, or of a measurement, that makes no sense."""


class Diverged(CnnlibError, RuntimeError):
    """The loss became infinite, not a number, or absurdly large."""


class OutOfMemory(CnnlibError, MemoryError):
    """The device cannot hold a training step of this batch size."""


class CheckpointError(CnnlibError, RuntimeError):
    """A checkpoint that cannot be read or written, or that another training uses."""


class CheckpointMismatch(CheckpointError):
    """A checkpoint of another training than the one asked for."""


class ProcessError(CnnlibError, RuntimeError):
    """One of the processes that train together was lost, or does not suit the others."""


class RunError(CnnlibError, ValueError):
    """A run that cannot be read from its file, or could not be written into it."""


class BenchError(CnnlibError, RuntimeError):
    """One of the loops that are compared failed."""


class TrainingWarning(UserWarning):
    """Something that a training does otherwise than asked to, and goes on."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. The message says where the training stopped and how to continue it."""


def check_at_least(least: int, **arguments: int | None) -> None:
    """Check whole numbers; None stands for one that was not given.

    Raises:
        ArgumentError: naming the one that is too small, or none.
    """
    require_whole(ArgumentError, least, **{name: value for name, value in arguments.items() if value is not None})


@contextlib.contextmanager
def memory_errors_explained(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Say which batch size to try when memory runs out."""
    try:
        yield
        return
    except MemoryError:
        pass
    except RuntimeError as error:
        if not re.search("out of memory|can't allocate memory|not enough memory", str(error)):
            raise
    # Raised here and not above, where the traceback of the first error would keep the tensors alive.
    if recipe.batch_size == 1:
        advice = "not even one image a step fits; use a smaller network"
    else:
        half = recipe.batch_size // 2
        lr = f"{recipe.lr * half / recipe.batch_size:g}"
        advice = (
            f"try batch_size={half} and lr={lr}, a smaller batch with the learning rate in proportion (on the command "
            f"line --batch-size {half} --lr {lr}); it is then no longer the published recipe"
        )
    raise OutOfMemory(f"{device} has not enough memory for batches of {recipe.batch_size}: {advice}")


@contextlib.contextmanager
def lost_readers_explained() -> Iterator[None]:
    """Say what to do when a process that reads images was ended, or hangs, for want of memory for example.

    Raises:
        ProcessError: in the place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        # torchrun's SIGTERM, which they get too, is distributed.py's to explain
        if not re.match(r"DataLoader (timed out|worker .*(exited unexpectedly|signal: (?!Terminated)))", str(error)):
            raise
        said = str(error).strip().rstrip(".")
        raise ProcessError(
            f"a process that reads images does not deliver ({said}); there may be too little memory, or shared "
            "memory, for so many: try fewer, --workers N on the command line, workers=N in Python"
        ) from error


@contextlib.contextmanager
def lone_images_explained(processes: int) -> Iterator[None]:
    """Say which batch size batch normalisation needs where each map is one number.

    Raises:
        ArgumentError: in the place of PyTorch's error.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        least = 2 * processes
        raise ArgumentError(
            "batch normalisation needs at least 2 images in each process's share of a batch: give "
            f"batch_size={least}, on the command line --batch-size {least}, or more"
        ) from error


@contextlib.contextmanager
def compile_errors_explained() -> Iterator[None]:
    """Say how to train where ``torch.compile`` does not work, for want of a compiler for example.

    Raises:
        ArgumentError: in the place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise ArgumentError(
            f"torch.compile does not work here: {first_line(error)}; train without it, compile=False, on the "
            "command line without --compile, or with --no-compile"
        ) from error
