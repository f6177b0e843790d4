"""What a device's Node shows beside what the device tells: labels, taint, the hub's own address, calm conditions. Pure.

Decides nothing about Ready. Sources: Kubernetes API reference, NodeStatus v1 core; "Well-Known Labels, Annotations and
Taints"; kube-apiserver's `--kubelet-preferred-address-types`, which by default takes a Hostname before an InternalIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry_hub.ports import Obj

DEVICE_LABEL = "skerry.dev/device"
ROLE_LABEL = "node-role.kubernetes.io/edge"
HOSTNAME_LABEL, OS_LABEL, ARCH_LABEL = "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"
# A device that is away says nothing of the zone that it is counted to: a node lifecycle controller stops evicting from
# the nodes of a zone most of which is not ready. And no load balancer of a cloud reaches a device behind NAT.
EXEMPT = ("node.kubernetes.io/exclude-disruption", "node.kubernetes.io/exclude-from-external-load-balancers")
LABEL_VALUE_CHARS_MAX = 63  # the API's; a Node's name may have more, and then it is no label's value
TAINT = {"key": DEVICE_LABEL, "value": "true", "effect": "NoSchedule"}
# Conditions that every node shows. A node lifecycle controller makes them Unknown while no Lease is renewed, and only
# the node itself makes them anything else again.
CALM = ("MemoryPressure", "DiskPressure", "PIDPressure")
CALM_REASON, CALM_MESSAGE = "NoPressureTold", "the device is connected and tells of none"

Endpoint = tuple[str, int]  # address and port where the API server finds logs and exec of one node


def new_node(name: str, tainted: bool) -> Obj:
    """The Node of a device that has not come yet."""
    labels = {DEVICE_LABEL: "true", ROLE_LABEL: "", **dict.fromkeys(EXEMPT, ""), **_hostname(name)}
    spec: Obj = {"taints": [dict(TAINT)]} if tainted else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec}


def label_patch(node: Mapping[str, Any]) -> Obj | None:
    """The merge patch that gives a node its hostname, and the labels that follow from what the device told; None when
    it has them. A hostname that somebody chose stays."""
    have = node["metadata"].get("labels") or {}
    info = (node.get("status") or {}).get("nodeInfo") or {}
    want = {OS_LABEL: info.get("operatingSystem"), ARCH_LABEL: info.get("architecture")}
    missing = {name: value for name, value in want.items() if value and have.get(name) != value}
    if HOSTNAME_LABEL not in have:
        missing |= _hostname(node["metadata"]["name"])
    return {"metadata": {"labels": missing}} if missing else None


def endpoint_patch(endpoint: Endpoint, have: Mapping[str, Any]) -> Obj:
    """The strategic merge patch of a node's `status` that leads the API server to the hub; empty when it does."""
    address, port = endpoint
    shown = [a.get("address") for a in have.get("addresses") or () if a.get("type") == "InternalIP"]
    patch: Obj = {}
    if shown != [address]:
        patch["addresses"] = [{"type": "InternalIP", "address": address}]
    if ((have.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") != port:
        patch["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
    return patch


def _hostname(name: str) -> dict[str, str]:
    return {HOSTNAME_LABEL: name} if len(name) <= LABEL_VALUE_CHARS_MAX else {}
