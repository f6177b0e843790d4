"""What an administrator sees of a device's identity on its Node: Events as a kubelet writes them (core/v1). Pure."""

from __future__ import annotations

from skerry_hub.enrolment.records import stamp
from skerry_hub.limits import EVENT_MESSAGE_CHARS_MAX
from skerry_hub.ports import Obj

NAMESPACE = "default"  # where Events about nodes are


def node_event(node: str, ident: str, reason: str, text: str, wall: float) -> Obj:
    """About `node`, told once for each `ident`. `wall`: seconds since 1970."""
    at = stamp(wall)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node}.{ident}", "namespace": NAMESPACE},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "reason": reason,
        "message": text[:EVENT_MESSAGE_CHARS_MAX],
        "type": "Warning" if reason == "Revoked" else "Normal",
        "source": {"component": "skerry-hub"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
