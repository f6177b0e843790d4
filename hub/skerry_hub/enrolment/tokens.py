"""What an operator does with tokens, as calls on a Cluster, and the loop that takes old ones away. Prints nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import ConfigInvalid, Malformed
from skerry.limits import API_BACKOFF_S, TOKEN_SECRET_BYTES
from skerry.ports import Clock, Entropy
from skerry.wire import token as line
from skerry_hub.enrolment import published, records
from skerry_hub.enrolment.authority import certificates_in, digest_of
from skerry_hub.enrolment.enrol import MakeNode
from skerry_hub.enrolment.published import Where
from skerry_hub.enrolment.records import NAMESPACE, TOKEN_TYPE, TokenRecord
from skerry_hub.limits import (
    DEVICE_NAME_CHARS_MAX,
    TOKEN_DRAWS_MAX,
    TOKEN_KEPT_S,
    TOKEN_SWEEP_MAX,
    TOKEN_SWEEP_S,
    TOKEN_TTL_S_MAX,
    TOKEN_TTL_S_MIN,
)
from skerry_hub.ports import NAMESPACES, SECRETS, Cluster, ClusterError, Conflict, NotFound, Obj

IDENT_BYTES = 10  # 16 characters of base32


@dataclass(frozen=True, slots=True)
class Made:
    """`text` is the line for the device; nobody can show it again. `replaces`: a device has the name already, and who
    uses this token takes its place."""

    text: str
    record: TokenRecord
    where: Where
    replaces: bool = False


def device_name(node: str) -> str:
    """A node's name that fits into both of its certificates. Raises ConfigInvalid."""
    if len(node) > DEVICE_NAME_CHARS_MAX:
        problem = f"{node[:80]!r} has more than {DEVICE_NAME_CHARS_MAX} characters, which a certificate cannot hold"
        raise ConfigInvalid("--node", problem)
    return node


def ttl(seconds: float) -> int:
    """Seconds. Raises ConfigInvalid."""
    if not TOKEN_TTL_S_MIN <= seconds <= TOKEN_TTL_S_MAX:
        days = TOKEN_TTL_S_MAX // 86_400
        raise ConfigInvalid("--ttl", f"must be {TOKEN_TTL_S_MIN}s to {days * 24}h ({days} days)")
    return int(seconds)


async def where(cluster: Cluster, url: str, ca: Path | None) -> Where:
    """What was said, and what the hub has published for the rest. Raises ConfigInvalid, ClusterError."""
    known = await published.read(cluster) if not url or ca is None else None
    if known is None and (not url or ca is None):
        await ensure_namespace(cluster)  # where the hub wants to publish it
        missing = "--enroll-url" if not url else "--device-ca-cert"
        problem = "is needed: no hub with --enroll-listen has published it on this API yet"
        raise ConfigInvalid(missing, f"{problem}; one that runs does within {API_BACKOFF_S[1]:.0f} s")
    digest = digest_of(certificates_in(ca)[0]) if ca is not None else known.ca_digest if known is not None else b""
    found = Where(url or (known.url if known is not None else ""), digest)
    try:  # as the device will read it
        line.decode(line.encode(line.Token(found.url, found.ca_digest, "node", "abcdef", bytes(TOKEN_SECRET_BYTES))))
    except Malformed:
        raise ConfigInvalid("--enroll-url", f"{found.url!r} is not https://HOST:PORT") from None
    return found


async def create(
    cluster: Cluster,
    clock: Clock,
    entropy: Entropy,
    at: Where,
    node: str,
    ttl_s: int,
    tainted: bool,
    make_node: MakeNode,
) -> Made:
    """A token for `node`, whose Node object is there afterwards, as is the namespace. Raises ClusterError."""
    secret = entropy.token(TOKEN_SECRET_BYTES)
    digest = hashlib.sha256(secret).digest()
    await make_node(cluster, node, tainted)
    replaces = await _enrolled(cluster, node)
    for _ in range(TOKEN_DRAWS_MAX):
        ident = base64.b32encode(entropy.token(IDENT_BYTES)).decode().lower()
        record = TokenRecord(ident, node, digest, clock.wall() + ttl_s, tainted)
        try:
            await _create(cluster, records.token_secret(record))
        except Conflict:
            continue
        return Made(line.encode(line.Token(at.url, at.ca_digest, node, ident, secret)), record, at, replaces)
    raise ClusterError("the API has every token that is drawn already")


async def every(cluster: Cluster) -> list[TokenRecord]:
    """By node, then by end. Raises ClusterError."""
    found = []
    for obj in await _secrets(cluster):
        try:
            found.append(records.token_record(obj))
        except Malformed:
            continue
    return sorted(found, key=lambda record: (record.node, record.expires))


async def delete(cluster: Cluster, ident: str) -> None:
    """Nobody can use it any more; who has used it stays enrolled. Raises ConfigInvalid, ClusterError."""
    if not records.IDENT.fullmatch(ident):
        raise ConfigInvalid("IDENT", f"{ident[:80]!r} is no token's name; skerry-hub token list shows them")
    try:
        await cluster.delete(SECRETS, NAMESPACE, records.token_name(ident))
    except NotFound:
        raise NotFound(f"there is no token {ident}; skerry-hub token list shows them") from None


def state(record: TokenRecord, now: float) -> str:
    """For a person: unused, used or expired."""
    if record.used_by:
        return "used"
    return "expired" if now >= record.expires else "unused"


async def ensure_namespace(cluster: Cluster) -> None:
    """Have the namespace of enrolment. Raises ClusterError."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    with suppress(Conflict):
        await cluster.create(NAMESPACES, "", namespace)


async def sweep(cluster: Cluster, clock: Clock, entropy: Entropy, log: Callable[[str], None]) -> None:
    """Delete tokens that ended TOKEN_KEPT_S ago. Never returns, raises nothing; what fails is done next time."""
    told = ""
    first, last = TOKEN_SWEEP_S
    while True:
        await clock.sleep_until(clock.now() + first + (last - first) * entropy.uniform())
        try:
            for record in old(await every(cluster), clock.wall()):
                try:
                    await cluster.delete(SECRETS, NAMESPACE, records.token_name(record.ident), uid=record.uid)
                except (Conflict, NotFound):  # another replica sweeps too
                    continue
            told = ""
        except ClusterError as why:
            if told != str(why):
                log(f"enrolment: old tokens: {why}")
            told = str(why)


def old(found: list[TokenRecord], now: float) -> list[TokenRecord]:
    """Those that nobody needs to hear of any more, TOKEN_SWEEP_MAX at most."""
    return [record for record in found if now >= record.expires + TOKEN_KEPT_S][:TOKEN_SWEEP_MAX]


# --- private ----------------------------------------------------------------------------------------------------------


async def _enrolled(cluster: Cluster, node: str) -> bool:
    """Whether there is a device of that name which is not revoked. Raises ClusterError."""
    try:
        return not records.identity_of(await cluster.get(SECRETS, NAMESPACE, records.identity_name(node))).revoked
    except (NotFound, Malformed):
        return False


async def _create(cluster: Cluster, secret: Obj) -> None:
    try:
        await cluster.create(SECRETS, NAMESPACE, secret)
    except NotFound:
        await ensure_namespace(cluster)
        await cluster.create(SECRETS, NAMESPACE, secret)


async def _secrets(cluster: Cluster) -> tuple[Obj, ...]:
    return (await cluster.list(SECRETS, namespace=NAMESPACE, fields=f"type={TOKEN_TYPE}")).items
