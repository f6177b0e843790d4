"""The targets of cross-build/targets/ that a board may name, and Debian's name of each one's architecture."""

from __future__ import annotations

TARGETS = {"aarch64-bookworm": "arm64", "aarch64-jammy": "arm64", "aarch64-trixie": "arm64", "armhf-bookworm": "armhf"}


def suite_of(target: str) -> str:
    return target.partition("-")[2]
