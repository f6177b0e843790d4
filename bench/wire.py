"""Bytes on the wire for a deploy and for a change, beside the JSON of the same objects (compact, as GET returns it,
without managedFields and status). The usual pod is bench/usual-pod.json."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import Row
from skerry.model.desired import set_digest
from skerry.wire import message
from skerry_hub.cloudhub.session import HubSession, Send
from skerry_hub.edgecontroller.target import pod_object, usable
from skerry_hub.sets import Target

USUAL = Path(__file__).with_name("usual-pod.json")
BUDGET_NEW, BUDGET_CHANGE = 0.6, 250.0


def rows(quick: bool = False) -> Iterator[Row]:
    whole = len(json.dumps(json.loads(USUAL.read_text()), separators=(",", ":")))
    new, change = (float(len(message.encode(delta))) for delta in deltas())
    note = "one Delta frame, MQTT payload in clear; signed and sealed: bench --only trust"
    yield Row("wire", "new usual pod", new, "B", f"{BUDGET_NEW:.0%} of its JSON", BUDGET_NEW * whole, "lower", note)
    yield Row("wire", "one changed field", change, "B", "budget", BUDGET_CHANGE, "lower", note)
    yield Row("wire", "new usual pod", new, "B", "its JSON", float(whole), "lower", note)


def deltas() -> tuple[message.Delta, message.Delta]:
    """What the hub sends for the usual pod to an empty device, and for the change of a field afterwards."""
    pod = json.loads(USUAL.read_text())
    changed = copy.deepcopy(pod)
    changed["spec"]["containers"][0]["image"] = "registry.example/shop/frontend:1.4.3"
    hub, nonce = HubSession("edge-1"), bytes(8)
    hello = message.Hello("edge-1", nonce, bytes(16), "boot", "", "", 0, 0, set_digest(()), 1, 1, 0, "0")
    hub.received(hello, 0.0)
    first = _sent(hub.target(_target(pod, 5), 0.0))
    hub.received(message.Ack(nonce, generation=1, digest=first.digest), 0.0)
    return first, _sent(hub.target(_target(changed, 6), 0.0))


def _target(pod: dict[str, Any], version: int) -> Target:
    obj = usable(pod_object(pod))
    assert obj is not None
    ids = ("0d5bd2cf-1f6e-4ae2-9d3c-0a2f0f6f8a11", "6f1c2a34-77aa-4c1d-8a0e-5b1de2c9f001")
    return Target(*ids, version, {obj.key: obj})


def _sent(effects: list[Any]) -> message.Delta:
    (delta,) = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, message.Delta)]
    return delta
