"""How shapes, lengths and memory are written in the tables of measurements."""

from __future__ import annotations

from collections.abc import Sequence


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as ``96x55x55``."""
    return "x".join(map(str, shape))


def per_axis_text(length: float | Sequence[float] | None) -> str:
    """Write a length as ``195``, or as ``3x11`` where height and width differ; ``-`` if there is none."""
    return "-" if length is None else "x".join(f"{n:g}" for n in (length if isinstance(length, tuple) else (length,)))


def megabytes(count: float) -> str:
    """Write a number of bytes in MB of 10^6 bytes."""
    return f"{count / 1e6:,.1f}"
