"""`skerry-hub join` and `adopt`: what an operator does to nodes, as calls on a Cluster. Prints nothing."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from skerry.errors import ConfigInvalid
from skerry.limits import NAME_CHARS_MAX
from skerry.model.streams import STREAMS_SUFFIX
from skerry_hub.edgecontroller import identity
from skerry_hub.edgecontroller.registration import DEVICE_LABEL, new_node
from skerry_hub.ports import NODES, Cluster, ClusterError, Conflict, NotFound

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
VERSION_SUFFIX = "+skerry"  # of kubeletVersion, as edgecontroller.status tells it of a device
PORTS = {"mqtt": 1883, "mqtts": 8883}  # by scheme, where a URL names none


def node_name(text: str, what: str = "NODE") -> str:
    """A name that a Node may have (RFC 1123 subdomain). Raises ConfigInvalid."""
    labels = text.split(".")
    good = len(text) <= NAME_CHARS_MAX and all(_NODE_NAME.fullmatch(label) for label in labels)
    if not good:
        raise ConfigInvalid(what, f"{text[:80]!r} is no Kubernetes node name (lower-case letters, digits, - and .)")
    if text.endswith(STREAMS_SUFFIX):
        raise ConfigInvalid(what, f"{text[:80]!r} ends in {STREAMS_SUFFIX}, which is kept for devices' streams")
    return text


def broker_url(url: str) -> tuple[str, int, bool]:
    """Host and port of mqtt://HOST[:PORT] or mqtts://HOST[:PORT], and whether it is the latter. Raises
    ConfigInvalid."""
    try:
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else PORTS.get(parts.scheme, 0)
    except ValueError as why:
        raise ConfigInvalid("--broker", str(why)) from None
    extra = parts.username or parts.query or parts.fragment or parts.path not in ("", "/")
    if parts.scheme not in PORTS or not parts.hostname or extra or not 0 < port < 1 << 16:
        raise ConfigInvalid("--broker", f"{url!r} is not mqtt://HOST:PORT or mqtts://HOST:PORT")
    return parts.hostname, port, parts.scheme == "mqtts"


def broker_address(url: str) -> tuple[str, int]:
    """Host and port of mqtt://HOST[:PORT]. Raises ConfigInvalid."""
    host, port, secure = broker_url(url)
    if secure:
        raise ConfigInvalid("--broker", f"{url}: devices come there by a token: skerry-hub token create --node NAME")
    return host, port


async def join(cluster: Cluster, node: str, tainted: bool = True) -> bool:
    """Make the Node object of a device, with the taint that keeps other pods away or without; True if it is new. An
    existing one gets the label and keeps its taints. Raises ClusterError, also where it is a kubelet's."""
    label = {DEVICE_LABEL: "true"}
    try:
        await cluster.create(NODES, "", new_node(node, tainted))
        return True
    except Conflict:
        found = await cluster.get(NODES, "", node)
    if (found["metadata"].get("labels") or {}).get(DEVICE_LABEL) != "true":
        version = str(((found.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or "")
        if version and not version.endswith(VERSION_SUFFIX):
            raise ClusterError(f"node {node} is a kubelet's ({version}) and no device's: choose another name")
        await cluster.patch(NODES, "", node, {"metadata": {"labels": label}})
    return False


async def adopt(cluster: Cluster, node: str | None) -> list[str]:
    """Let this API's epoch replace the sets of one device, or of all; gives the marked nodes. Raises ClusterError."""
    found = await identity.read(cluster)
    epoch = identity.epoch_of(found) if found is not None else ""
    if not epoch:
        raise ClusterError("this API has no epoch yet: no hub has run on it")
    if node is None:
        listing = await cluster.list(NODES, labels=f"{DEVICE_LABEL}=true")
        names = sorted(str(item["metadata"]["name"]) for item in listing.items)
    else:
        shown = await cluster.get(NODES, "", node)
        if (shown["metadata"].get("labels") or {}).get(DEVICE_LABEL) != "true":
            raise NotFound(f"node {node} is no device of skerry; skerry-hub join makes it one")
        names = [node]
    for name in names:
        await cluster.patch(NODES, "", name, {"metadata": {"annotations": {identity.ADOPT: epoch}}})
    return names


def device_toml(node: str, broker: str) -> str:
    """The device's configuration as far as the hub knows it (keys of skerry.config)."""
    host, port = broker_address(broker)
    shown = f"[{host}]" if ":" in host else host
    return f'node = "{node}"\nbroker = "mqtt://{shown}:{port}"\n'
