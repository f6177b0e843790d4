"""Who of two pods has a host port that both ask for. The other one waits; nobody is stopped for it.

A scheduler would never bring the two together, but a pod that names its node goes past the scheduler, and the port
mapping of CNI lets both run while only one is reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from skerry.model.observed import PodSeen
from skerry.model.pod import Pod, Port
from skerry.model.report import PodStatus
from skerry.plan.verdict import FINAL

ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


class Claim(IntEnum):
    """How well a pod holds its ports; of two equal claims the lower uid has them."""

    NONE = 0  # it has ended: what it held is free
    NEW = 1
    BEGAN = 2  # the journal says that it has had a container
    HELD = 3  # its sandbox is there, so the mapping is, or is being made


def claim(status: PodStatus | None, seen: PodSeen, granted: bool) -> Claim:
    """What a pod's claim is worth now; `granted`: it was let past in this process."""
    if any(s.ready for s in seen.sandboxes):
        return Claim.HELD
    if status is not None and (status.gone or (status.phase in FINAL and status.containers)):
        return Claim.NONE
    if granted:
        return Claim.HELD
    began = status is not None and any(c.container_id for c in status.containers)
    return Claim.BEGAN if began else Claim.NEW


def waits_for(pod: Pod, own: Claim, others: Iterable[tuple[Pod, Claim]]) -> str:
    """Empty, or the port that `pod` has to wait for and who has it, as a message for people."""
    for other, its in others:
        if its is Claim.NONE or (its, pod.uid) < (own, other.uid):
            continue
        port = _shared(pod, other)
        if port is not None:
            return f"hostPort {port.host_port}/{port.protocol} is taken by pod {other.full_name}"
    return ""


def host_ports(pod: Pod) -> list[Port]:
    return [port for c in pod.containers for port in c.ports if port.host_port]


def _shared(pod: Pod, other: Pod) -> Port | None:
    for port in host_ports(pod):
        for its in host_ports(other):
            same = (port.host_port, port.protocol) == (its.host_port, its.protocol)
            if same and (port.host_ip == its.host_ip or {port.host_ip, its.host_ip} & set(ANY_ADDRESS)):
                return port
    return None
