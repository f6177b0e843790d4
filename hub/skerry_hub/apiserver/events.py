"""Forgets events that nothing has happened to for an hour, and requests for certificates that are decided, so that they
cannot fill the store.

One task; what is too old is decided by `stale`, here and in signing_requests. Source: the API server's --event-ttl.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from . import kinds, limits, signing_requests, verbs
from .normalize import parse_time
from .status import ApiError
from .store import Stale, Store, Write

Obj = dict[str, Any]
log = logging.getLogger("skerry_hub.apiserver")


def stale(event: Obj, now: datetime) -> bool:
    """Whether the last thing that an event tells of is longer ago than EVENT_TTL_S."""
    told = [event["metadata"].get("creationTimestamp"), event.get("lastTimestamp"), event.get("eventTime")]
    told.append((event.get("series") or {}).get("lastObservedTime"))
    return all(now - parse_time(stamp) > timedelta(seconds=limits.EVENT_TTL_S) for stamp in told if stamp)


async def sweep(
    store: Store, now: datetime, kind: str = kinds.EVENTS.id, old: Callable[[Obj, datetime], bool] = stale
) -> int:
    """Removes every object of a kind that is `old`; answers how many."""
    gone = 0
    for i, ((ns, name), found) in enumerate(list(store.all(kind))):
        if i % 100 == 99:
            await asyncio.sleep(0)  # others have their turn
        key = (kind, ns, name)
        if old(found.obj(), now) and store.latest(key) is found:
            await store.commit(Write(key, found, None))
            gone += 1
    return gone


async def run(store: Store) -> None:
    """Sweeps every EVENT_SWEEP_S until cancelled."""
    while True:
        await asyncio.sleep(limits.EVENT_SWEEP_S)
        try:
            await sweep(store, verbs.now())
            await sweep(store, verbs.now(), kinds.CERTIFICATE_SIGNING_REQUESTS.id, signing_requests.stale)
        except (ApiError, Stale) as why:
            log.warning("events: %s", why)
