"""A step of training as one CUDA graph: recorded once, then replayed as a whole.

A small network's step is hundreds of kernels of a few microseconds each. Launched one by one from Python, they take a
large GPU several times as long as it computes. A replay launches all of them at once, with the same numbers.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cnnlib.data import Images, ImageSet
from cnnlib.models.cells import CellNet, DropPath
from cnnlib.models.efficientnet import DropConnect
from cnnlib.training import hardware
from cnnlib.training.distributed import ALONE, Processes
from cnnlib.training.errors import TrainingWarning
from cnnlib.training.recipe import Recipe
from cnnlib.training.step import AUTOCAST, Step

STEPS_BEFORE = 3
"""Real steps that are taken before the recording: they load kernels and allocate what stays."""


DRAWING = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    DropConnect,
)
"""Layers that draw random numbers in every training step, if their probability ``p`` is not 0."""


class GraphStep:
    """A :class:`Step` on a GPU that becomes a graph after some steps. Called like the step, and as good as it."""

    def __init__(self, step: Step) -> None:
        self.step = step
        current = torch.cuda.current_stream(step.device)
        # Nothing can be recorded on the default stream.
        is_default = current == torch.cuda.default_stream(step.device)
        self.stream = torch.cuda.Stream(step.device) if is_default else current
        self.graph: torch.cuda.CUDAGraph | None = None
        self.taken = 0

    def __call__(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Update the weights once; see :meth:`Step.__call__`."""
        if self.taken < STEPS_BEFORE:
            self.taken += 1
            return self._on_the_stream(images, labels, lr)
        if self.graph is None:
            self._record(images, labels)
        self.step.set_lr(lr)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.loss.clone(), self.correct.clone()

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on, besides the weights."""
        return self.step.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` returned. The graph is recorded anew: it knows the tensors of before."""
        self.step.restore(state)
        self.graph, self.taken = None, 0

    def _on_the_stream(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Take a step on the stream of the recording, where PyTorch expects the gradients' places to come from."""
        self.stream.wait_stream(torch.cuda.current_stream(self.step.device))
        with torch.cuda.stream(self.stream):
            outcome = self.step(images, labels, lr)
        torch.cuda.current_stream(self.step.device).wait_stream(self.stream)
        return outcome

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Record the step on copies of a batch. Nothing is computed yet.

        Without ``torch.cuda.graph``, which first waits for all that the GPU has to do, for other trainings too.
        """
        self.images, self.labels = images.clone(memory_format=torch.preserve_format), labels.clone()
        make_room(self.step.device)
        graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(self.step.device))
        with torch.cuda.stream(self.stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.loss, self.correct = self.step.update(self.images, self.labels)
            finally:
                graph.capture_end()
        self.graph = graph


def make_room(device: torch.device) -> None:
    """Give back the memory that PyTorch keeps for later on a GPU, where a recording might lack it.

    While a step is recorded, PyTorch gives back nothing of what earlier graphs used, and the recording takes memory of
    its own: at most about as much again as PyTorch holds after the real steps.
    """
    free, total = torch.cuda.mem_get_info(device)
    if free < max(total / 4, torch.cuda.memory_reserved(device)):
        torch.cuda.empty_cache()


def step_for(
    module: nn.Module, recipe: Recipe, data: Images, precision: str, compiled: bool, processes: Processes = ALONE
) -> Step | GraphStep:
    """Return the step to train with: one that is recorded where there is a GPU and nothing speaks against it.

    Several processes exchange gradients in every step, and batches from files are large enough to keep a GPU busy:
    these take their steps one kernel at a time.
    """
    step = Step(module, recipe, data, precision, compiled, processes)
    alone_on_a_gpu = step.device.type == "cuda" and processes.count == 1
    return GraphStep(step) if alone_on_a_gpu and isinstance(data, ImageSet) and can_be_recorded(module) else step


def few_maps(step: Step | GraphStep) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a network takes this step with our kernels for few maps, where they can be used.

    They are for half precision, and a compiled network has its own. Launched one by one from Python they would take
    longer than cuDNN's, so they are only for steps that become graphs.
    """
    if not isinstance(step, GraphStep) or not kernels_fit(step.step.device, step.step.precision, step.step.compiled):
        return contextlib.nullcontext()
    from cnnlib.training import kernels  # needs Triton

    with hardware.SHARED:
        trouble = kernels.trouble(step.step.module, AUTOCAST[step.step.precision])
    if trouble:
        warnings.warn(
            f"Triton's kernels cannot be used here, and the usual ones are slower: {trouble}",
            TrainingWarning,
            stacklevel=4,
        )
        return contextlib.nullcontext()
    return kernels.few_maps(step.step.module)


def kernels_fit(device: torch.device, precision: str, compiled: bool) -> bool:
    """Tell whether steps that become graphs on this device use our kernels for few maps."""
    return precision != "fp32" and not compiled and hardware.has_triton(device)


def can_be_recorded(module: nn.Module) -> bool:
    """Tell whether a graph, replayed from this thread, does what the training steps of a network do.

    Every step must launch the same kernels with the same arguments. Not so if the network decides on the host which of
    its blocks take part (``survives``), or changes with the progress of the training (``set_progress``), or computes a
    dropout twice (``draws_twice``), for which PyTorch before 2.10 reads the state of the random number generator while
    it records, and fails.

    Before PyTorch 2.13 all graphs of a process read the seed of their random numbers at one place on the GPU. Trainings
    that replay side by side, in threads, would draw each other's numbers: there, networks that draw are not recorded.
    """
    in_a_thread = threading.current_thread() is not threading.main_thread()
    if in_a_thread and torch.__version__ < (2, 13) and draws_random_numbers(module):
        return False
    return not any(
        hasattr(part, "survives") or _follows_progress(part) or getattr(part, "draws_twice", False)
        for part in module.modules()
    )


def _follows_progress(part: nn.Module) -> bool:
    """Tell whether a part changes as the training goes on. A net of cells only passes the news on to its drop paths."""
    if isinstance(part, CellNet):
        return False
    return part.final > 0 if isinstance(part, DropPath) else hasattr(part, "set_progress")


def draws_random_numbers(module: nn.Module) -> bool:
    """Tell whether a network draws random numbers on the device in its training steps, by the layers it has."""
    return any(isinstance(part, DRAWING) and part.p > 0 for part in module.modules())
