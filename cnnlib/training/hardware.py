"""What a training runs on, in words, and what follows from it: number format, compilation, reproducibility."""

from __future__ import annotations

import contextlib
import importlib.util
import operator
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnnlib.measure.dry_run import own_random_numbers
from cnnlib.training.errors import ArgumentError

PRECISIONS = ("fp32", "bf16", "fp16")
SEEDS = 2**63
"""Seeds are whole numbers below this, as many as PyTorch's generators take."""

SHARED = threading.RLock()
"""Held by a training while it draws random numbers or calls a network: the threads of a process share PyTorch's global
generators, and whoever traces a network or counts its operations sees the calls of all. Only so can several trainings
run side by side, each in a thread, with the numbers that each has alone. On a GPU a call only launches work."""

# When compiling pays: estimates for a GPU.
COMPILE_SECONDS_PER_LAYER = 1.5
COMPILE_SAVES = 0.2
OPERATIONS_PER_SECOND = 1e14


def device_in_words(device: torch.device) -> str:
    """Return the name of the processor or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    return _cpu("model name") or platform.processor() or platform.machine() or "CPU"


def precision_for(device: torch.device) -> str:
    """Return the number format of the matrix products: the fastest that the hardware itself computes in.

    bf16 on GPUs from Ampere on and on CPUs with instructions for it, fp16 on older GPUs, fp32 elsewhere. PyTorch's own
    answers are of no use here: they are true for emulated bf16 too, which is slower than fp32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and {"avx512_bf16", "amx_bf16"} & set(_cpu("flags").split()):
        return "bf16"
    return "fp32"


def precision(device: torch.device, name: str | None = None) -> str:
    """Return the number format to compute in: ``name``, else that of :func:`precision_for`.

    Raises:
        ArgumentError: if there is no such format.
    """
    name = name or precision_for(device)
    if name not in PRECISIONS:
        raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, not {name!r}")
    return name


def _cpu(property: str) -> str:
    """Return what Linux says about the first processor, or nothing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(property):
                return line.partition(":")[2].strip()
    return ""


def operations_per_image(module: nn.Module, image: torch.Tensor) -> int:
    """Return the floating-point operations of a training step for one image: three times those of the forward pass.

    Args:
        module: the network.
        image: (1, C, H, W), on the device of the network.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    module.train(was_training)
    return 3 * counter.get_total_flops()


def compiling_pays(device: torch.device, *, operations: float, layers: int) -> bool:
    """Tell whether ``torch.compile`` saves at least twice the time it takes: from counts and the device alone.

    Never from timing, so that the same seed gives the same numbers: compiled and eager losses soon differ in the fourth
    digit. On a CPU it never pays: where the memory is kept (memory.py) a compiled step is no faster than an eager one,
    which ``python -m cnnlib bench --compile`` shows.

    Args:
        device: where the training runs.
        operations: floating-point operations of the whole training.
        layers: convolutions and linear layers; compile time grows with them.
    """
    if not has_triton(device):
        return False
    saved = COMPILE_SAVES * operations / OPERATIONS_PER_SECOND
    return saved > 2 * COMPILE_SECONDS_PER_LAYER * layers


def has_triton(device: torch.device) -> bool:
    """Tell whether this is a GPU that Triton supports, and Triton is there, which PyTorch brings on Linux."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def checked_seed(seed: int) -> int:
    """Return a seed as a number of Python, which a record can hold.

    Raises:
        ArgumentError: if it is none.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < SEEDS:
        raise ArgumentError(f"seed must be a whole number from 0 to {SEEDS - 1}, not {seed!r}")
    return number


def stream(seed: int, *key: int) -> int:
    """Return the seed of an independent stream of random numbers, named by whole numbers.

    Raises:
        ArgumentError: if ``seed`` is no whole number from 0.
    """
    return int(np.random.SeedSequence((checked_seed(seed), *key)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed PyTorch's global generators that a training on this device draws from, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextlib.contextmanager
def exact_convolutions() -> Iterator[None]:
    """Within this context cuDNN chooses the same algorithm every time, and fp32 means fp32 in every layer.

    Neither a GPU nor a processor may then compute it in TF32 or bf16. It holds whichever of PyTorch's switches for
    that the caller has used, and restores them.
    """
    cudnn, matmul, mkldnn = torch.backends.cudnn, torch.backends.cuda.matmul, torch.backends.mkldnn
    switches = [(cudnn, "enabled", True), (cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    switches += [(cudnn, "allow_tf32", False)]
    # Since PyTorch 2.9 there are new switches, which count; where they were used the old ones cannot be read any more.
    if hasattr(matmul, "fp32_precision"):
        parts = (cudnn.conv, cudnn.rnn, matmul, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)
        switches += [(part, "fp32_precision", "ieee") for part in parts]
    before, precision = [], None
    with contextlib.suppress(RuntimeError):
        precision = torch.get_float32_matmul_precision()
    for part, name, _ in switches:
        with contextlib.suppress(RuntimeError):
            before.append((part, name, getattr(part, name)))
    try:
        torch.set_float32_matmul_precision("highest")
        for part, name, value in switches:
            setattr(part, name, value)
        yield
    finally:
        if precision:
            torch.set_float32_matmul_precision(precision)
        for part, name, value in before:
            setattr(part, name, value)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Within this context equal seeds give equal numbers; afterwards the caller's settings are as before.

    Restored are the state of PyTorch's global random number generators, the number of threads, and cuDNN's settings.
    """
    before = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        with SHARED:
            stack.enter_context(own_random_numbers(device))
            stack.enter_context(exact_convolutions())
        try:
            yield
        finally:
            with SHARED:
                stack.close()
                torch.set_num_threads(before)
