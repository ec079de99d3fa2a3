"""Random numbers that are the same on every machine, for images that are drawn."""

from __future__ import annotations

import numpy as np


class Random:
    """Random numbers for ``count`` images.

    Their bits come from the PCG64 generator itself, whose stream numpy guarantees.
    """

    def __init__(self, seed: tuple[int, ...], count: int) -> None:
        self.count = count
        self.bits = np.random.PCG64(np.random.SeedSequence(seed))

    def __call__(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Return uniform float32 numbers in [low, high), (count, *shape)."""
        raw = self.bits.random_raw(self.count * int(np.prod(shape))) >> np.uint64(40)
        fraction = raw.astype(np.float32) * np.float32(2**-24)
        return np.float32(low) + np.float32(high - low) * fraction.reshape(self.count, *shape)
