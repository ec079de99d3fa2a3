"""A queue of trainings: what is recorded is skipped, and with a folder one that fails does not stop the others."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import torch

from cnnlib import settings
from cnnlib.errors import CnnlibError
from cnnlib.files import locked
from cnnlib.studies.errors import StudyError, Unfinished
from cnnlib.training import Progress, hardware
from cnnlib.training.errors import OutOfMemory, check_at_least
from cnnlib.training.interrupts import STOP, ignored


@dataclass(frozen=True)
class Task:
    """One training of a queue.

    Attributes:
        study: name of the study that it belongs to.
        label: of what is trained.
        seed: its seed.
        path: where its record lies, if anywhere.
        train: ``train(display, together=1)`` returns the record; ``together`` is how many train at a time.
    """

    study: str
    label: str
    seed: int
    path: Path | None
    train: Callable[..., Any]

    def __str__(self) -> str:
        return f"{self.study}, {self.label}"

    @property
    def recorded(self) -> bool:
        """Whether the record is there, whoever wrote it."""
        return self.path is not None and self.path.exists()

    def kept_going(self) -> Task:
        """Return the task in a form that hands its failure back instead of stopping those that come after it."""
        return replace(self, train=functools.partial(_attempt, self))


class _Failure(str):
    """What failed and why, in words: the error itself would hold the network."""


def _attempt(task: Task, display: Progress, together: int = 1) -> Any:
    """Return the record of a training, or how it failed."""
    try:
        return task.train(display, together=together)
    # OSError if the record cannot be written, PyTorch's error if a probe does not fit; the checkpoint stays
    except (CnnlibError, OSError, torch.OutOfMemoryError) as error:
        crowded = together > 1 and isinstance(error, OutOfMemory | torch.OutOfMemoryError)
        advice = f". {together} were trained at a time; fewer need less memory" if crowded else ""
        return _Failure(f"{task}, seed {task.seed}: {error}{advice}")


def check_jobs(jobs: int) -> None:
    """Check how many are to train at a time.

    Raises:
        ArgumentError: if it is not a positive whole number.
        StudyError: if there is no GPU for several.
    """
    check_at_least(1, jobs=jobs)
    device = settings.device()
    if jobs > 1 and device.type != "cuda":
        raise StudyError(f"{jobs} trainings at a time need a GPU: a {device.type} is busy with one")


def work_off(tasks: Sequence[Task], jobs: int = 1, progress: bool = True) -> list[Any]:
    """Return the records of trainings, in their order.

    Raises:
        Unfinished: if some handed back why they failed.
    """
    waiting = sum(not task.recorded for task in tasks)
    jobs = min(jobs, max(1, waiting))  # a record says how many shared the GPU
    with contextlib.closing(Progress(progress)) as display:
        finished = _side_by_side(tasks, jobs, display) if jobs > 1 else _in_turn(tasks, display)
        # What another process had in hand when its turn came may be recorded by now.
        failed = [number for number, result in enumerate(finished) if isinstance(result, _Failure)]
        recorded = [number for number in failed if tasks[number].recorded]
        for number, result in zip(recorded, _in_turn([tasks[number] for number in recorded], display), strict=True):
            finished[number] = result
    if failures := [result for result in finished if isinstance(result, _Failure)]:
        raise Unfinished(failures, [result for result in finished if not isinstance(result, _Failure)])
    return finished


def _in_turn(tasks: Sequence[Task], display: Progress) -> list[Any]:
    """Train one after the other."""
    finished = []
    for number, task in enumerate(tasks, start=1):
        display.prefix = f"{task}, {number} of {len(tasks)}: "
        finished.append(task.train(display))
    return finished


def _side_by_side(tasks: Sequence[Task], jobs: int, display: Progress) -> list[Any]:
    """Train several at a time on one GPU: each in a thread that launches its steps on a stream of its own.

    One process that replays 8 graphs on 8 streams trains twice as much a second as 8 processes, which take turns.
    """
    device = settings.device()
    torch.cuda.synchronize(device)  # the images are there
    try:
        with (
            hardware.reproducible(device),
            ThreadPoolExecutor(jobs, initializer=lambda: torch.cuda.set_stream(torch.cuda.Stream(device))) as pool,
            display.start(f"{jobs} trainings at a time", len(tasks), 0) as bar,
        ):
            try:
                futures = [pool.submit(task.train, Progress(False), together=jobs) for task in tasks]
                for future in as_completed(futures):
                    bar.update()
                    future.result()
            except BaseException as error:  # Ctrl-C, or that of a training without a folder
                with ignored():
                    STOP.set()  # each thread ends its step and saves
                    pool.shutdown(cancel_futures=True)
                traceback.clear_frames(error.__traceback__)  # they hold the training that failed
                raise
    finally:
        STOP.clear()  # whatever interrupted the wait, and after the pool's own: a thread not yet stopped would go on
    return [future.result() for future in futures]


@contextlib.contextmanager
def in_hand(path: Path | None) -> Iterator[None]:
    """Within this context no other process has the training of this record in hand, not even between its parts.

    Raises:
        StudyError: if another process does.
    """
    with contextlib.ExitStack() as stack:
        if path:
            try:
                stack.enter_context(locked(path, wait=path.exists()))  # a finished one is soon read
            except filelock.Timeout:
                raise StudyError("another process has it in hand at this moment; wait for its end") from None
        yield
