"""Randomness from the kernel."""

from __future__ import annotations

import os

MANTISSA_BITS = 53  # a float's


class SystemEntropy:
    """ports.Entropy."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def uniform(self) -> float:
        return (int.from_bytes(os.urandom(7), "big") >> (56 - MANTISSA_BITS)) / (1 << MANTISSA_BITS)
