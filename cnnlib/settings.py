"""The two settings that everything else follows: the budget of a training and the device it runs on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnnlib.errors import CnnlibError

if TYPE_CHECKING:
    import torch

BUDGETS = ("smoke", "short", "medium", "full")
"""From seconds (``smoke``, for tests) to the paper's recipe (``full``). A study says what each means for it."""


class UnknownBudget(CnnlibError, ValueError):
    """The environment variable ``CNNLIB_BUDGET``, or an argument, names no budget."""


class UnknownDevice(CnnlibError, ValueError):
    """The environment variable ``CNNLIB_DEVICE``, or an argument, names no device of this machine."""


def budget(name: str | None = None) -> str:
    """Return the budget in force: ``name``, else ``CNNLIB_BUDGET``, else ``medium`` with a GPU and ``short`` without.

    Raises:
        UnknownBudget: if the name is not one of :data:`BUDGETS`.
    """
    from_environment = name in (None, "") and os.environ.get("CNNLIB_BUDGET")
    if name in (None, ""):
        name = from_environment or ("medium" if device().type == "cuda" else "short")
    if name not in BUDGETS:
        advice = "set CNNLIB_BUDGET to" if from_environment else "choose"
        raise UnknownBudget(f"unknown budget {name!r}; {advice} one of {', '.join(BUDGETS)}")
    return name


def device(name: torch.device | str | None = None) -> torch.device:
    """Return the device to train on: ``name``, else ``CNNLIB_DEVICE``, else a CUDA GPU if there is one, else the CPU.

    Apple's ``mps`` is used only if asked for: some operations of these networks have no deterministic kernel there.

    Raises:
        UnknownDevice: if this machine has no such device.
    """
    import torch

    from_environment = name in (None, "") and os.environ.get("CNNLIB_DEVICE")
    if name in (None, ""):
        name = from_environment or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        count = torch.get_device_module(device).device_count()
    except (RuntimeError, TypeError):  # PyTorch knows no device of this name
        count = 0
    if not count or (device.index or 0) >= count:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        advice = "set CNNLIB_DEVICE to" if from_environment else "use"
        raise UnknownDevice(f"there is no device {str(name)!r} here; {advice} {' or '.join(there)}")
    return device
