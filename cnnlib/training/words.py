"""How errors, durations and data sets are written in the tables of trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float | None, digits: int = 2) -> str:
    """Return an error in percent as text, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f} %"


def in_words(seconds: float) -> str:
    """Return a duration in the unit that suits it: ``"8.1 s"``, ``"2 min 5 s"``, ``"3 h 20 min"``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def in_brackets(overrides: Mapping[str, Any]) -> str:
    """Return what was changed in a network, as it stands behind its name: ``" (width=0.5)"``, or nothing."""
    changes = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return f" ({changes})" if changes else ""


def data_in_words(name: str, stands_in_for: str | None) -> str:
    """Return the name of a data set; that of a stand-in in capitals, with what it stands in for."""
    return f"{name.upper()}, IN PLACE OF {stands_in_for}" if stands_in_for else name
