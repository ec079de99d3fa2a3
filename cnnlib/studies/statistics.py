"""Means with error bars over seeds, and when a difference counts as shown.

A difference counts as shown if the 95 % confidence intervals of the two means do not overlap. The intervals are
Student's: mean ± t s / sqrt(n) with n - 1 degrees of freedom, which for 3 seeds is 4.30 standard errors and not 2
(Student 1908, "The probable error of a mean"). Two intervals can overlap although a test at the 5 % level would find a
difference, so for one pair this rule errs on the careful side (Schenker and Gentleman 2001, "On judging the
significance of differences by examining the overlap between confidence intervals"). With 3 seeds it shows one in about
two hundred of the pairs without a difference if their spreads are alike, one in sixty if one is five times the other,
and never more than one in twenty. A table of ten arms of like spread has 45 pairs, though, and for each error and
budget a chance of about one in seven of a difference that is none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import TypeVar

import numpy as np

from cnnlib.studies.errors import StudyError

Item = TypeVar("Item")
CONFIDENCE = 0.95
LEGEND = (
    "Mean ± standard deviation (number of seeds), after the last step. A difference counts as shown where the "
    f"{100 * CONFIDENCE:.0f} % confidence intervals of the means do not overlap."
)
"""The note below tables of such means."""


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (with n - 1) and 95 % confidence interval of ``n`` values.

    With one value there is neither deviation nor interval: both are None.
    """

    n: int
    mean: float
    std: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and 95 % interval.

    Raises:
        StudyError: if there are no values, or one of them is no number.
    """
    values = [*values]
    if not values or not all(isinstance(value, Real) and math.isfinite(value) for value in values):
        raise StudyError(f"a mean needs at least one finite value, and only such, not {values}")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Summary(1, mean, None, None)
    std = statistics.stdev(values)
    half = student(n - 1) * std / math.sqrt(n)
    return Summary(n, mean, std, (mean - half, mean + half))


def differ(a: Summary, b: Summary) -> bool:
    """Tell whether the intervals of two means lie apart. Without an interval nothing is shown.

    Raises:
        StudyError: if one of them is not what :func:`summarise` returns, such as the values themselves.
    """
    for side in (a, b):
        if not isinstance(side, Summary):
            raise StudyError(f"differ compares summaries, not {side!r:.80}; pass summarise(values) of either side")
    if a.interval is None or b.interval is None:
        return False
    return a.interval[1] < b.interval[0] or b.interval[1] < a.interval[0]


@cache
def student(degrees: int) -> float:
    """Return the factor t that ±t covers 95 % of Student's distribution, to about four digits.

    With t = sqrt(degrees) tan(angle) the density becomes cos(angle)^(degrees - 1), which is integrated numerically.
    """
    angle = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angle) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(np.interp(CONFIDENCE, area / area[-1], angle))


def frontier(items: Iterable[Item], cost: Callable[[Item], float], error: Callable[[Item], float]) -> list[Item]:
    """Return the items whose error no other one equals or beats at the same or a lower cost, from the cheapest on.

    Of several with the same cost and error the first is returned.
    """
    best: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), error(item))):
        if not best or error(item) < error(best[-1]):
            best.append(item)
    return best
