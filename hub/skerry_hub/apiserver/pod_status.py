"""What a pod's status may not say: a container that has ended for good runs again, addresses that are none.

Pure; answers causes. Source: the real API server's ValidatePodStatusUpdate (pkg/apis/core/validation).
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from .status import Cause, forbidden_value, invalid_value

Obj = dict[str, Any]


def change(subresource: str, new: Obj, old: Obj, _now: datetime) -> list[Cause]:
    """What an update of `old` to `new` by this path may not do."""
    if subresource != "status":
        return []
    now, was, spec = new["status"], old["status"], old["spec"]
    out: list[Cause] = []
    if now.get("qosClass", "") != was.get("qosClass", ""):
        out.append(invalid_value("status.qosClass", now.get("qosClass", ""), "field is immutable"))
    for key in ("containerStatuses", "initContainerStatuses"):
        out += _left_terminated(
            now.get(key, []), was.get(key, []), spec.get("restartPolicy", "Always"), f"status.{key}"
        )
    out += _addresses(now.get("podIPs", []), was.get("podIPs", []), "status.podIPs")
    hosts = now.get("hostIPs", [])
    if hosts and hosts[0].get("ip", "") != now.get("hostIP", ""):
        out.append(invalid_value("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
    return out + _addresses(hosts, was.get("hostIPs", []), "status.hostIPs")


# --- private ----------------------------------------------------------------------------------------------------------


def _left_terminated(now: list[Obj], was: list[Obj], policy: str, path: str) -> list[Cause]:
    if policy == "Always":
        return []
    out = []
    for i, before in enumerate(was):
        ended = (before.get("state") or {}).get("terminated")
        if ended is None or (policy == "OnFailure" and ended.get("exitCode", 0) != 0):
            continue
        after = next((c for c in now if c.get("name") == before.get("name")), None)
        if after is not None and "terminated" not in (after.get("state") or {}):
            out.append(forbidden_value(f"{path}[{i}].state", "may not be transitioned to non-terminated state"))
    return out


def _addresses(now: list[Obj], was: list[Obj], path: str) -> list[Cause]:
    """What was there before may stay as it is."""
    kept = {one.get("ip") for one in was}
    said = [one.get("ip", "") for one in now]
    why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    out = [invalid_value(f"{path}[{i}]", ip, why) for i, ip in enumerate(said) if ip not in kept and not _is_ip(ip)]
    families = [":" in ip for ip in said]
    if len(said) > 1 and len(set(families)) != len(families):
        out.append(invalid_value(path, now, "may specify no more than one IP for each IP family"))
    return out


def _is_ip(text: str) -> bool:
    """No zone, no leading zeros, no IPv4 address in IPv6's form."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and getattr(found, "ipv4_mapped", None) is None
