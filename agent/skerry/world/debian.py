"""Python packages of the distribution, from which the installed program is otherwise isolated (`python3 -IS`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGES = "/usr/lib/python3/dist-packages"  # Debian Python Policy, 3.1


@contextmanager
def debian_packages() -> Iterator[None]:
    """What is imported inside is looked for there last: what lies beside skerry comes first."""
    sys.path.append(PACKAGES)
    try:
        yield
    finally:
        sys.path.remove(PACKAGES)
