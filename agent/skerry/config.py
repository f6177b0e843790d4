"""The device's configuration: one TOML file, read once into one frozen value. Decides bounds; of other files it only
asks who this device was enrolled as.

`KEYS` is the whole list, and docs/configuration.md is generated from it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import ConfigInvalid, Malformed
from skerry.identity import IDENTITY, node_of
from skerry.limits import CONTAINER_LOG_BYTES_MAX, KIB, MIB, MQTT_KEEPALIVE_S, NAME_CHARS_MAX
from skerry.model.streams import STREAMS_SUFFIX
from skerry.wire.address import BrokerAddress, broker_address

FILE_BYTES_MAX = 64 * KIB
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NODE_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key: type, default, lowest and highest value for numbers, unit, what it is for."""

    name: str
    kind: type
    default: Any
    unit: str
    about: str
    low: int = 0
    high: int = 0


KEYS = (
    KeySpec(
        "node", str, "", "DNS name",
        "name of the Node object at the hub; if not set, the one that this device is enrolled as, else the host's name",
    ),
    KeySpec(
        "broker", str, "", "URL",
        "the MQTT broker: mqtts://HOST:PORT, or mqtt://HOST:PORT in clear on this machine; if not set, the one that"
        " enrolment gave, else no hub is looked for",
    ),
    KeySpec(
        "insecure", bool, False, "",
        "allow a broker in clear beyond loopback, and exec, attach and port-forward, as in a closed test network",
    ),
    KeySpec("data_dir", str, "/var/lib/skerry", "path", "journal and volumes on disk"),
    KeySpec("run_dir", str, "/run/skerry", "path", "volumes in memory; emptied by a boot"),
    KeySpec("log_dir", str, "/var/log/pods", "path", "container logs, in CRI's layout"),
    KeySpec("manifests_dir", str, "/etc/skerry/manifests", "path", "manifests to run without a hub; may be absent"),
    KeySpec("containerd_socket", str, "/run/containerd/containerd.sock", "path", "containerd's gRPC socket"),
    KeySpec("cgroup_parent", str, "/skerry", "cgroup", "parent of all pods' cgroups"),
    KeySpec("secret_env", bool, False, "", "allow Secrets as variables: containerd keeps them in clear on disk"),
    KeySpec("keepalive_s", int, MQTT_KEEPALIVE_S, "seconds", "MQTT keepalive: one ping per this when idle", 5, 3600),
    KeySpec("journal_bytes_max", int, 256 * MIB, "bytes", "size of the journal's map", MIB, 1024 * MIB),
    KeySpec("metrics_listen", str, "", "HOST:PORT", "where Prometheus may ask for /metrics; if not set, nowhere"),
    KeySpec(
        "container_log_bytes", int, CONTAINER_LOG_BYTES_MAX, "bytes",
        "a container's log is rotated once it is so large; three files of it are kept", 64 * KIB, 1024 * MIB,
    ),
    KeySpec("volume_bytes_max", int, 64 * MIB, "bytes", "memory for ConfigMap and Secret volumes", MIB, 1024 * MIB),
)


@dataclass(frozen=True, slots=True)
class Config:
    node: str
    node_given: bool  # by the file, so that no token may give another
    broker_host: str  # empty: the one that enrolment gave, or none
    broker_port: int
    broker_tls: bool
    insecure: bool
    data_dir: Path
    run_dir: Path
    log_dir: Path
    manifests_dir: Path
    containerd_socket: Path
    cgroup_parent: str
    secret_env: bool
    keepalive_s: int
    journal_bytes_max: int
    container_log_bytes: int
    volume_bytes_max: int
    metrics_listen: str = ""  # empty: nowhere


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigInvalid with the key's name or the line."""
    tomllib = _toml()
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigInvalid(str(path), f"is larger than {FILE_BYTES_MAX} bytes")
        return parse(tomllib.loads(data.decode()), os.uname().nodename, node_of)
    except OSError as why:
        raise ConfigInvalid(str(path), why.strerror or "cannot be read") from None
    except UnicodeDecodeError as why:
        raise ConfigInvalid(str(path), f"is not UTF-8 at byte {why.start}") from None
    except tomllib.TOMLDecodeError as why:
        raise ConfigInvalid(str(path), str(why)) from None
    except RecursionError:
        raise ConfigInvalid(str(path), "is nested too deeply") from None


def parse(
    said: dict[str, Any], host_name: str = "", enrolled: Callable[[Path], tuple[str, str]] = lambda _: ("", "")
) -> Config:
    """A Config from the file's keys. `enrolled` gives the node that the device of a data_dir is enrolled as and which
    file says so, as identity.node_of. Raises ConfigInvalid."""
    known = {key.name: key for key in KEYS}
    for name in said:
        if name not in known:
            shown = name if name.isprintable() else repr(name)
            raise ConfigInvalid(shown, f"no such key; there are {', '.join(sorted(known))}")
    values = {key.name: _value(key, said.get(key.name)) for key in KEYS}
    for name in ("data_dir", "run_dir", "log_dir", "manifests_dir", "containerd_socket"):
        if not values[name].startswith("/"):
            raise ConfigInvalid(name, "must be absolute")
        values[name] = Path(values[name])
    values["node"] = _node(said, values, host_name.lower(), *enrolled(values["data_dir"]))
    del values["broker"]
    broker = _broker(said["broker"]) if "broker" in said else BrokerAddress("", 0, False)
    if "metrics_listen" in said:
        listen_address(values["metrics_listen"], values["insecure"])
    return Config(
        node_given="node" in said, broker_host=broker.host, broker_port=broker.port, broker_tls=broker.tls, **values
    )


def _node(said: dict[str, Any], values: dict[str, Any], host_name: str, enrolled: str, by: str) -> str:
    node: str = values["node"] if "node" in said else enrolled or host_name
    if len(node) > NAME_CHARS_MAX or not _NODE_NAME.fullmatch(node):
        other = f"that of {by}" if by else "the host's name"
        whose = "" if "node" in said else f"is not set, and {other} "
        raise ConfigInvalid("node", f"{whose}{node!r} is not a Kubernetes node name (RFC 1123)")
    if node.endswith(STREAMS_SUFFIX):
        raise ConfigInvalid("node", f"{node!r} ends in {STREAMS_SUFFIX}, which is kept for a device's streams")
    if by == IDENTITY and node != enrolled:
        cure = "take the key away, or enrol the device anew (skerry enroll --force)"
        raise ConfigInvalid("node", f"{node!r} is set, and this device is enrolled as {enrolled!r}: {cure}")
    return node


def _toml() -> Any:
    """The TOML reader, imported late: it is needed once."""
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def _value(key: KeySpec, value: Any) -> Any:
    if value is None:
        return key.default
    if type(value) is not key.kind:
        raise ConfigInvalid(key.name, f"{key.kind.__name__} expected, got {type(value).__name__}")
    if isinstance(value, str) and not value.isprintable():
        raise ConfigInvalid(key.name, f"{value[:40]!r} has characters that cannot be printed")
    if isinstance(value, int) and key.kind is int and not key.low <= value <= key.high:
        raise ConfigInvalid(key.name, f"must be between {key.low} and {key.high} {key.unit}, got {value}")
    return value


def _broker(url: str) -> BrokerAddress:
    try:
        return broker_address(url)
    except Malformed as why:
        raise ConfigInvalid("broker", str(why)) from None


def listen_address(text: str, insecure: bool) -> tuple[str, int]:
    """Host and port of `metrics_listen`: an address, which is this machine's own unless `insecure`. Raises
    ConfigInvalid."""
    import ipaddress  # by the few that set it

    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise ValueError
    except ValueError:
        raise ConfigInvalid("metrics_listen", f"{text!r} is not ADDRESS:PORT, as 127.0.0.1:9100") from None
    if not (address.is_loopback or insecure):
        raise ConfigInvalid("metrics_listen", f"{address} is no loopback address; others need insecure = true")
    return str(address), int(port)
