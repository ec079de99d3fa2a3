"""The order of a method that advances in steps: how fast its error falls as the steps become smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cnnlib.measure.errors import BadArgument


def convergence_order(errors: Mapping[float, float]) -> float:
    """Return the slope of log error over log step, by least squares: 4 if halving the step divides the error by 16.

    Args:
        errors: step to error, both positive and finite. Leave out steps so small that only rounding is left.

    Raises:
        BadArgument: if there are fewer than two steps, or a number is not positive and finite.
    """
    if len(errors) < 2 or not all(0 < number < math.inf for number in (*errors, *errors.values())):
        raise BadArgument(f"an order needs errors at two steps or more, all positive and finite, not {dict(errors)}")
    steps, values = zip(*errors.items(), strict=True)
    return float(np.polyfit(np.log(steps), np.log(values), 1)[0])
