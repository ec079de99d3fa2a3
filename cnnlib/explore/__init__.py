"""Explorers for the page and the notebook, drawings of networks, and figures, all in one style.

``style`` and ``logo`` need nothing but Python; everything else is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from cnnlib.explore import style

# Where each name lives.
_HOME = {
    "along_the_net": "degradation",
    "arriving_gradients": "effects",
    "error_by_depth": "effects",
    "error_gaps": "effects",
    "resolution": "effects",
    "smallest_difference": "effects",
    "cell": "cells",
    "gallery": "rows",
    "conv_arithmetic": "convolution",
    "complexity_explorer": "complexity",
    "depth_errors": "degradation",
    "depth_explorer": "depth",
    "channel_spread": "channels",
    "channel_shuffle": "separable",
    "channels_by_class": "channels",
    "depth_histogram": "survival",
    "convergence": "orders",
    "frames": "interactive",
    "inception_module": "inception",
    "diagram": "drawing",
    "volumes": "boxes",
    "describe": "figures",
    "efficiency_timeline": "timeline",
    "effective_fields": "effective",
    "effective_growth": "effective",
    "feature_maps": "projections",
    "feature_reuse": "reuse",
    "flow_by_block": "flows",
    "flow_by_depth": "flows",
    "grey": "patterns",
    "head_gradients": "heads",
    "ilsvrc_timeline": "timeline",
    "images": "figures",
    "joints": "keypoints",
    "kernels": "figures",
    "layer_bars": "figures",
    "learning_curves": "figures",
    "memory_by_depth": "reuse",
    "neighbours": "nearest",
    "extent": "taps",
    "reach": "taps",
    "receptive_field": "receptive",
    "released_errors": "released",
    "roofline": "speed",
    "samples": "figures",
    "scaling_factors": "scaling",
    "separable_cost": "separable",
    "speed_up": "speed",
    "search_history": "searches",
    "path_matrices": "width",
    "source": "listing",
    "stripe_filter": "patterns",
    "variance_kept": "projections",
    "wide_network": "width",
    "survival_rule": "survival",
    "zone_plate": "patterns",
    "favicon_svg": "logo",
    "logo_svg": "logo",
    "STACKS": "receptive",
    "Html": "html",
    "Stack": "receptive",
    "BadId": "html",
    "NoFrames": "interactive",
    "NoSource": "listing",
    "NoSuchNet": "complexity",
    "NoSuchStack": "receptive",
    "NotDrawable": "graph",
    "NotDrawn": "width",
    "NothingMeasured": "depth",
    "NothingToDraw": "boxes",
    "OutOfRange": "checks",
}

__all__ = ["style", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cnnlib.explore' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cnnlib.explore.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
