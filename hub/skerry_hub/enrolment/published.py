"""What `skerry-hub token create` must know and no operator should have to type: a ConfigMap that the hub keeps.

It holds where the hub enrols and the authority's certificate. All of it is public.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cryptography import x509

from skerry.errors import ConfigInvalid
from skerry.limits import API_BACKOFF_S
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry_hub.enrolment.authority import digest_of
from skerry_hub.enrolment.records import NAMESPACE
from skerry_hub.limits import ENROL_PUBLISH_S
from skerry_hub.ports import CONFIG_MAPS, Cluster, ClusterError, Conflict, NotFound, Obj

NAME = "skerry-enrolment"
URL, CA, BROKER = "url", "ca.crt", "broker"
LOST = (
    "another device authority ({}) was published on this API: devices that it enrolled believe neither this hub nor its"
    " broker; give this hub its certificate and key back, or enrol them anew"
)


@dataclass(frozen=True, slots=True)
class Where:
    """`url`: https://HOST:PORT of the enrolment server; `ca_digest`: SHA-256 of the authority's certificate in DER."""

    url: str
    ca_digest: bytes


def config_map(url: str, broker: str, ca: bytes) -> Obj:
    """`ca` is the authority's certificate in PEM."""
    meta = {"name": NAME, "namespace": NAMESPACE, "annotations": {"skerry.dev/about": "written by skerry-hub run"}}
    data = {URL: url, BROKER: broker, CA: ca.decode()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def read(cluster: Cluster) -> Where | None:
    """None where no hub has enrolled yet. Raises ClusterError, and ConfigInvalid for what cannot be read."""
    try:
        data = (await cluster.get(CONFIG_MAPS, NAMESPACE, NAME)).get("data") or {}
    except NotFound:
        return None
    try:
        return Where(str(data[URL]), digest_of(x509.load_pem_x509_certificate(str(data[CA]).encode())))
    except (KeyError, ValueError):
        raise ConfigInvalid(f"ConfigMap {NAMESPACE}/{NAME}", "lacks the hub's URL or its certificate") from None


async def keep(
    cluster: Cluster,
    wanted: Obj,
    clock: Clock,
    entropy: Entropy,
    log: Callable[[str], None],
    believed: Collection[bytes] = (),
) -> None:
    """Have it so at the API, and again when somebody changes it. `believed`: digests of the authorities that devices of
    this hub are to believe; where another one was published before, its files are lost, and it is told. Never returns,
    raises nothing."""
    failures, told = 0, ""
    while True:
        try:
            before = await _write(cluster, wanted)
            failures, told = 0, ""
            if before and believed and before not in believed:
                log(f"enrolment: {LOST.format(before.hex()[:16])}")
            first, last = ENROL_PUBLISH_S
            wait_s = first + (last - first) * entropy.uniform()
        except ClusterError as why:
            failures += 1
            cure = f"; if there is no namespace {NAMESPACE}: skerry-hub token create makes it"
            line = f"ConfigMap {NAMESPACE}/{NAME}: {why}{cure if isinstance(why, NotFound) else ''}"
            if line != told:
                log(f"enrolment: {line}")
            told = line
            wait_s = full_jitter(API_BACKOFF_S, failures, entropy.uniform())
        await clock.sleep_until(clock.now() + wait_s)


async def _write(cluster: Cluster, wanted: Obj) -> bytes:
    """The digest of the authority that was there before; nothing where none was, or none that can be read. Raises
    ClusterError."""
    try:
        await cluster.create(CONFIG_MAPS, NAMESPACE, wanted)
        return b""
    except Conflict:
        data = (await cluster.get(CONFIG_MAPS, NAMESPACE, NAME)).get("data") or {}
    if data != wanted["data"]:
        await cluster.patch(CONFIG_MAPS, NAMESPACE, NAME, {"data": wanted["data"]})
    try:
        return digest_of(x509.load_pem_x509_certificate(str(data.get(CA)).encode()))
    except ValueError:
        return b""
