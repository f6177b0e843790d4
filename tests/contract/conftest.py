"""A test module that names LOOPS runs its coroutines on each of them; the others on asyncio's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop

FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: Any) -> Mapping[str, Callable[[], Any]]:
    del config
    wanted = getattr(getattr(item, "module", None), "LOOPS", ("asyncio",))
    return {name: FACTORIES[name] for name in wanted}
