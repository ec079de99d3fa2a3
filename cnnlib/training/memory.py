"""Two ways to touch less memory in a training step. Neither changes a number.

A step of a small network moves far more bytes than it seems: every activation is a new tensor of megabytes. The C
library gives such blocks back to the system as soon as they are free, so the next step has every page of them mapped
and cleared again; and a ReLU writes a second copy of what it reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import operator
import platform
from collections.abc import Iterator

import torch
from torch import nn

from cnnlib.training.calls import calls

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # mallopt's names for them, from malloc.h
USUAL_MMAP_THRESHOLD = 32 << 20
"""Where glibc's own adjustment of the threshold ends."""

FRESH = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
"""Layers that do not need their output for the backward pass."""
ADDITIONS = (operator.add, torch.add)


@contextlib.contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Within this context the process keeps the memory that it frees; at the end it gives it back.

    Only for a CPU, and only with the GNU C library; elsewhere it does nothing. PyTorch manages a GPU's memory like
    this on its own.
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, USUAL_MMAP_THRESHOLD)
        libc.mallopt(TRIM_THRESHOLD, 2 * USUAL_MMAP_THRESHOLD)
        libc.malloc_trim(0)


@contextlib.contextmanager
def relu_in_place(module: nn.Module) -> Iterator[None]:
    """Within this context each ReLU of a network overwrites its input, where nothing else will read it.

    So neither hooks nor attributes that keep an output see it overwritten, see :func:`~cnnlib.training.calls.calls`.
    """
    layers = _safe_in_place(module)
    for layer in layers:
        layer.inplace = True
    try:
        yield
    finally:
        for layer in layers:
            layer.inplace = False


def _safe_in_place(module: nn.Module) -> list[nn.ReLU]:
    """Return the ReLUs whose input, wherever they are called, is fresh and has no other reader."""
    parts = dict(module.named_modules())

    def is_fresh(node: torch.fx.Node) -> bool:
        if len(node.users) > 1:
            return False
        if node.op == "call_module":
            return isinstance(parts[node.target], FRESH)
        return node.op == "call_function" and node.target in ADDITIONS

    safe: dict[nn.ReLU, bool] = {}
    for node in calls(module):
        layer = parts[node.target] if node.op == "call_module" else None
        if isinstance(layer, nn.ReLU) and not layer.inplace:
            safe[layer] = safe.get(layer, True) and is_fresh(node.all_input_nodes[0])
    return [layer for layer, is_safe in safe.items() if is_safe]
