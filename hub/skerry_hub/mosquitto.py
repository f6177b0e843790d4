"""A mosquitto in which each client speaks for itself alone: its configuration and its access rules, as text.

Who a client is, its certificate says and nothing else: the common name is the user name, which is the client id too, so
that nobody is thrown off by another who takes its id. docs/operating.md says how other brokers do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skerry.model.streams import streams_name

HUB = "skerry-hub:"  # begins the names of hubs; no node's name has a colon


@dataclass(frozen=True, slots=True)
class Files:
    """Paths as mosquitto opens them. `ca`: the authority of all clients."""

    ca: str
    certificate: str
    key: str
    rules: str


def hub_names(replica: str = "") -> tuple[str, str]:
    """The common names of a hub's two connections, for state and for streams."""
    name = f"{HUB}{replica or 'hub'}"
    return name, streams_name(name)


def configuration(addresses: Sequence[str], port: int, files: Files) -> str:
    """mosquitto.conf(5), for 2.0.11 and later: `port` on each of `addresses`, TLS 1.3, certificates of both ends."""
    lines = [
        "# Written by skerry-hub up at each start.",
        "allow_anonymous false",
        f"acl_file {files.rules}",
        "persistence false",
        "log_dest stderr",
        "log_type error",
        "set_tcp_nodelay true",  # or a change right after another waits 40 ms for a delayed ACK
    ]
    for address in addresses:
        lines += [
            f"listener {port} {address}",
            f"cafile {files.ca}",
            f"certfile {files.certificate}",
            f"keyfile {files.key}",
            "tls_version tlsv1.3",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
        ]
    return "\n".join(lines) + "\n"


def rules(hubs: Sequence[str], revoked: Sequence[str] = ()) -> str:
    """The file of `acl_file`: a device has its own topics, each name in `hubs` the other ends of all of them, and the
    nodes in `revoked` nothing: what a user is denied goes before what a pattern allows. mosquitto reads it again on
    SIGHUP, and from then on asks it for each message of the connections that there are."""
    lines = [
        "# Written by skerry-hub up at each start. %u is the common name of the client's certificate.",
        "pattern read skerry/v1/%u/down",
        "pattern write skerry/v1/%u/up",
        "pattern write skerry/v1/%u/will",
    ]
    for name in hubs:
        lines += [
            f"user {name}",
            "topic write skerry/v1/+/down",
            "topic read skerry/v1/+/up",
            "topic read skerry/v1/+/will",
        ]
    for node in sorted(revoked):
        for name in (node, streams_name(node)):
            lines += [f"user {name}", "topic deny #"]
    return "\n".join(lines) + "\n"
