"""Make ``import torchvision`` work beside a PyTorch build that its compiled extension does not match.

On import torchvision registers shape functions for two of its compiled operators. Where the extension cannot be
loaded (a CPU build of PyTorch beside a CUDA build of torchvision, say) these operators do not exist and the import
fails, although the datasets, transforms and models need none of them. Declaring the two schemas is enough.
Matching builds load their extension and are left as they are.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _extension_loads(package: Path) -> bool:
    import torch

    for library in sorted([*package.glob("_C*.so"), *package.glob("_C*.pyd"), *package.glob("_C*.dylib")]):
        try:
            torch.ops.load_library(library)
        except OSError:
            return False
        return True
    return False


def declare_missing_operators() -> None:
    """Declare torchvision's operators if, and only if, its compiled extension cannot be loaded.

    A second import of cnnlib in one process finds them declared: PyTorch keeps them until the process ends.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return
    if _extension_loads(Path(spec.submodule_search_locations[0])):
        return

    import torch

    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
