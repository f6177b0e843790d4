from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unit.enrolment.site import Site, site


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made
