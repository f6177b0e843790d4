"""`skerry-hub token create|list|delete`: what a person types, and what is shown for it. Prints nothing itself."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.errors import ConfigInvalid
from skerry_hub.limits import TOKEN_TTL_S

if TYPE_CHECKING:
    from skerry_hub.enrolment.records import TokenRecord
    from skerry_hub.enrolment.tokens import Made
    from skerry_hub.ports import Cluster

Shown = tuple[dict[str, Any], str]  # for --output json, and for a person
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|m|s|ms))+")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s)")
_UNIT_S = {"h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def add(token: argparse.ArgumentParser, kubeconfig: Path | None) -> None:
    """The subcommands and their arguments."""
    verbs = token.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="a token for one device, and its Node")
    every = verbs.add_parser("list", help="the tokens that there are; not their secrets")
    delete = verbs.add_parser("delete", help="make a token good for nothing")
    create.add_argument("--node", required=True, metavar="NAME", help="who the device will be")
    create.add_argument("--ttl", default=f"{TOKEN_TTL_S // 3_600}h", metavar="DURATION", help="1m to 720h; default 1h")
    create.add_argument("--no-taint", action="store_true", help="pods that tolerate nothing may run on it")
    create.add_argument("--device-ca-cert", type=Path, metavar="F", help="default: as the hub has published it")
    create.add_argument("--enroll-url", default="", metavar="URL", help="default: as the hub has published it")
    delete.add_argument("ident", metavar="IDENT")
    for verb in (create, every, delete):
        verb.add_argument("--kubeconfig", type=Path, default=kubeconfig, metavar="F", help="default $KUBECONFIG")
        verb.add_argument("--output", choices=("text", "json"), default="text")


def do(args: argparse.Namespace) -> Shown:
    """Run one of them. Raises SkerryError."""
    from skerry_hub import boot
    from skerry_hub.enrolment import tokens

    if args.verb == "create":
        made = boot.run(boot.with_cluster(args.kubeconfig, _creation(args)))
        more = {"url": made.where.url, "replaces": made.replaces}
        return {"token": made.text, **_row(made.record), **more}, made.text
    if args.verb == "list":
        return _listed(boot.run(boot.with_cluster(args.kubeconfig, tokens.every)))
    boot.run(boot.with_cluster(args.kubeconfig, partial(_deleted, args.ident)))
    return {"deleted": args.ident}, f"deleted {args.ident}"


def seconds(text: str) -> float:
    """A duration as Go and Kubernetes write it: 90s, 1h30m. Raises ConfigInvalid."""
    if not _DURATION.fullmatch(text):
        raise ConfigInvalid("--ttl", f"{text[:80]!r} is no duration such as 1h30m or 90s")
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


# --- private ----------------------------------------------------------------------------------------------------------


def _creation(args: argparse.Namespace) -> Any:
    from skerry.world.clock import SystemClock
    from skerry.world.entropy import SystemEntropy
    from skerry_hub import join
    from skerry_hub.enrolment import tokens

    node = tokens.device_name(join.node_name(args.node, "--node"))
    ttl_s = tokens.ttl(seconds(args.ttl))

    async def create(cluster: Cluster) -> Made:
        at = await tokens.where(cluster, args.enroll_url, args.device_ca_cert)
        who = SystemClock(), SystemEntropy()
        return await tokens.create(cluster, *who, at, node, ttl_s, not args.no_taint, join.join)

    return create


async def _deleted(ident: str, cluster: Cluster) -> None:
    from skerry_hub.enrolment import tokens

    await tokens.delete(cluster, ident)


def _listed(found: list[TokenRecord]) -> Shown:
    rows = [_row(record) for record in found]
    head = ("IDENT", "NODE", "STATE", "EXPIRES")
    cells = [head, *((row["ident"], row["node"], row["state"], row["expires"]) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return {"tokens": rows}, "\n".join(lines) if rows else "there are no tokens"


def _row(record: TokenRecord) -> dict[str, Any]:
    from skerry.world.clock import SystemClock
    from skerry_hub.enrolment.records import stamp
    from skerry_hub.enrolment.tokens import state

    row = {
        "ident": record.ident,
        "node": record.node,
        "expires": stamp(record.expires),
        "state": state(record, SystemClock().wall()),
    }
    return {**row, "key": record.used_by, "used": stamp(record.used)} if record.used_by else row
