"""What happened at the kubelet endpoint since the hub started; shown by `skerry-hub status`."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counts:
    requests: int = 0
    unauthorized: int = 0  # nobody asked, or somebody whom nobody knows
    forbidden: int = 0
    wrong: int = 0  # requests that no node can serve
    streams: int = 0  # opened towards devices
    refused: int = 0  # by a device, or because it is away
    broken: int = 0  # ended otherwise than well, the client still there
    malformed: int = 0  # SPDY, WebSocket or resize bytes that do not parse: the connection was ended
    slow: int = 0  # clients that did not open their streams in time
    bytes_in: int = 0  # from clients, after the upgrade
    bytes_out: int = 0

    def snapshot(self) -> dict[str, int]:
        return asdict(self)
