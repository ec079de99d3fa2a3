"""Several processes that train one network, started by ``torchrun``; PyTorch's own engine does the work.

Each process holds the whole network and takes its share of every batch; gradients, losses and counts are summed over
all of them. So the batch of the recipe is that of all processes together, and their number changes the sums' rounding
only. Two things are not sums, and do depend on it:

- Batch normalisation uses the mean and variance of the process's own share, as on the several GPUs of He et al. 2015.
  Its running averages are those of the first process. Synchronised batch normalisation uses the whole batch instead.
- What a network draws at random, in dropout for example, is drawn in each process from a stream of its own.

A training of two processes that is continued ends with the same numbers as in one go. With three or more it does up to
rounding: in the first step of a session PyTorch adds the gradients in another order than later.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from cnnlib import settings
from cnnlib.errors import CnnlibError
from cnnlib.training.checkpoint import differences
from cnnlib.training.errors import ProcessError, RecipeError

TIMEOUT = timedelta(minutes=10)
"""A process that has not answered for so long counts as lost."""
CONNECTION = re.compile(
    "gloo|nccl|process group|connection (closed|reset)|broken pipe|timed? ?out|DataLoader worker .* signal: Terminated",
    re.IGNORECASE,
)
"""What PyTorch's messages have in common when another process is gone. torchrun then ends those that read images."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together, seen from one of them. By default there is only this one.

    Attributes:
        device: of this process.
        rank: its number; the first is 0.
        count: how many there are.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Tensor) -> Tensor:
        """Return this process's part of ``items``; the parts of all processes, put together, are the whole."""
        if self.count == 1:
            return items
        return items[len(items) * self.rank // self.count : len(items) * (self.rank + 1) // self.count]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the device of this one. All must call this, in the same order."""
        if self.count == 1:
            return values
        total = values.to(self.device, copy=True)
        distributed.all_reduce(total)
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes; see :meth:`sum`."""
        return values if self.count == 1 else self.sum(values) / self.count

    def from_first(self, value: Value) -> Value:
        """Return the first process's value; what the others give is ignored."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=self.device)
        return values[0]

    def connect(self, module: nn.Module) -> nn.Module:
        """Return what to call instead of the network, so that its gradients become the mean over all processes."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=_may_leave_out(module),
        )

    def copy_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's running averages, before an evaluation."""
        if self.count > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def check_batch(self, batch_size: int) -> None:
        """Check that every process can have an equal share of a batch.

        Raises:
            RecipeError: naming the nearest batch sizes that can be shared.
        """
        if batch_size % self.count:
            less = batch_size - batch_size % self.count
            nearest = " or ".join(str(size) for size in (less, less + self.count) if size)
            raise RecipeError(
                f"{self.count} processes cannot take equal shares of a batch of {batch_size}: start another number of "
                f"processes, or use a batch size of {nearest}, which is then no longer the recipe's"
            )

    def check_sync_bn(self, sync_bn: bool) -> None:
        """Check that batch normalisation can be synchronised, if it is asked for.

        Raises:
            RecipeError: if this is no GPU.
        """
        if sync_bn and self.device.type != "cuda":
            raise RecipeError(
                f"batch normalisation can be synchronised on GPUs only, and this is a {self.device.type}; leave out "
                "sync_bn (--sync-bn)"
            )

    def check_same(self, identity: dict[str, Any]) -> None:
        """Check that all processes train the same.

        Raises:
            ProcessError: naming every value that differs.
        """
        if self.count == 1:
            return
        identities: list[dict[str, Any]] = [{}] * self.count
        distributed.all_gather_object(identities, identity)
        for rank, other in enumerate(identities):
            if different := differences(identities[0], other):
                raise ProcessError(
                    f"process {rank} (here) was not started with the settings of process 0 (there): "
                    f"{'; '.join(different)}. Give the same command, and the same data, on every host"
                )

    @contextlib.contextmanager
    def lost_ones_explained(self, checkpoint: Path | None) -> Iterator[None]:
        """Within this context the loss of another process is one clear error.

        PyTorch only says that a connection was closed; and torchrun sends SIGTERM to those that are left.

        Raises:
            ProcessError: saying how to continue.
        """
        if self.count == 1 or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, _raise_terminated)
        try:
            yield
        except (RuntimeError, _Terminated) as error:
            is_loss = isinstance(error, _Terminated) or CONNECTION.search(str(error))
            if isinstance(error, CnnlibError) or not is_loss:
                raise
            before = signal.SIG_IGN  # torchrun's signal must not cut the message off
            raise ProcessError(
                f"process {self.rank} of {self.count} stops, because another one has ended or no longer answers. "
                + self._how_to_continue(checkpoint)
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)

    def _how_to_continue(self, checkpoint: Path | None) -> str:
        if checkpoint is None:
            return "Without a checkpoint the training has to start again"
        if not self.is_first:  # on another host it does not see the file
            return f"The same command continues from the state in {checkpoint}, if process 0 had saved one"
        if checkpoint.exists():
            return f"The same command continues from the state in {checkpoint}"
        return "Nothing had been saved yet: the same command starts again"


def _may_leave_out(module: nn.Module) -> bool:
    """Tell whether a parameter may take no part in a step.

    All of a model of ours do, unless blocks are left out at random: other ones in each process. What somebody else's
    network does is not known.
    """
    return any(
        hasattr(part, "survives") or not type(part).__module__.startswith(("cnnlib.models.", "torch.nn."))
        for part in module.modules()
    )


ALONE = Processes()
"""One process that needs no other."""


def join(device: torch.device | str | None = None) -> Processes:
    """Return the processes that ``torchrun`` started, this one among them, after connecting them once.

    Args:
        device: default :func:`cnnlib.device`; of several GPUs each process takes the one of its own number.

    Raises:
        UnknownDevice: if this machine has no such device.
        ProcessError: if there are fewer GPUs than processes, or all were sent to one of them.
    """
    device = settings.device(device)
    started = distributed.is_available() and distributed.is_torchelastic_launched()
    if not started or os.environ["WORLD_SIZE"] == "1":
        return Processes(device)
    if device.type == "cuda":
        device = _own_gpu(device)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)
    return Processes(device, distributed.get_rank(), distributed.get_world_size())


def _own_gpu(device: torch.device) -> torch.device:
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.index is not None:
        raise ProcessError(f"every process takes a GPU of its own: give the device cuda, not {device}")
    if number >= there:
        raise ProcessError(f"this host has {there} GPUs: start torchrun with --nproc-per-node={there} or fewer")
    return torch.device("cuda", number)


class _Terminated(BaseException):
    """SIGTERM."""


def _raise_terminated(*_: object) -> None:
    # torchrun ends the processes that read images as well, and PyTorch would raise an error about these wherever this
    # process then is.
    if hasattr(signal, "SIGCHLD"):  # Windows has none
        signal.signal(signal.SIGCHLD, lambda *_: None)
    raise _Terminated
