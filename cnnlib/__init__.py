"""Convolutional architectures from LeNet-5 to EfficientNet: models, measurements and trainings that can be checked."""

from __future__ import annotations

import importlib
from typing import Any

from cnnlib._torchvision import declare_missing_operators
from cnnlib.settings import budget, device

__version__ = "0.1.0"

declare_missing_operators()

# Where each `cnnlib.name` lives. Loaded on first use, so that one part of the package never pays for another.
_HOME = {
    "create": "cnnlib.models",
    "available": "cnnlib.models",
    "card": "cnnlib.models",
    "load_data": "cnnlib.data",
    "layer_table": "cnnlib.measure",
    "receptive_field": "cnnlib.measure",
    "effective_receptive_field": "cnnlib.measure",
    "conv_output_size": "cnnlib.measure",
    "pool_output_size": "cnnlib.measure",
    "Recipe": "cnnlib.training",
    "RECIPES": "cnnlib.training",
    "Run": "cnnlib.training",
    "fit": "cnnlib.training",
    "evaluate": "cnnlib.training",
    "source": "cnnlib.explore",
}

__all__ = ["__version__", "budget", "device", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cnnlib' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
