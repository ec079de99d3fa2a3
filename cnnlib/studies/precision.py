"""Half precision against single: the same training, in fewer bits.

Micikevicius et al. 2018, "Mixed Precision Training" (arXiv 1710.03740), keep weights and updates in single precision,
and so do we, with bf16, whose range needs no scaling of the loss. Where the hardware does not compute in bf16 itself,
PyTorch emulates it, slowly.
"""

from __future__ import annotations

from cnnlib.studies.study import Arm, course_study
from cnnlib.training import RECIPES

PRECISION = course_study(
    name="half-precision",
    question="Does a network train as well in half precision?",
    arms={precision: Arm("resnet20", RECIPES["resnet-cifar"], precision=precision) for precision in ("fp32", "bf16")},
    short=100,
)
"""ResNet-20; weights, their updates and the loss are in single precision in both arms."""
