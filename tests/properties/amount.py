"""How many examples a property takes: what it says, or fewer with `--hypothesis-profile=few` (tests/conftest.py)."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> int:
    """`count`, in the ratio of the loaded profile to hypothesis's own 100."""
    return max(1, count * settings().max_examples // 100)
