"""A hub's enrolment on an embedded API, over real TLS: what a device asks, and how it is answered."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from patience import WAIT_S
from skerry.wire import enrolment as wire
from skerry.wire import token as line
from skerry.wire.token import Token
from skerry.world.entropy import SystemEntropy
from skerry_hub.enrolment import authority, tokens
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.options import enrolment_options
from skerry_hub.enrolment.part import EnrolmentPart
from skerry_hub.enrolment.published import Where
from skerry_hub.join import join
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import Cluster
from unit.apiserver.serving import Client, running

BROKER = "mqtts://broker.example:8883"
HOUR_S = 3_600


class WallClock:
    """The real one, and the wall's may be moved."""

    def __init__(self) -> None:
        self.moved_s = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return datetime.now(timezone.utc).timestamp() + self.moved_s

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - self.now()))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, *names: tuple[x509.ObjectIdentifier, str], algorithm: Any = None) -> str:
    """A request with these attributes as its subject."""
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = builder.sign(key, hashes.SHA256() if algorithm is None else algorithm)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def csr_for(node: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    return csr(key or new_key(), (NameOID.COMMON_NAME, node))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> wire.Problem:
        return wire.decode_problem(self.body)

    @property
    def issued(self) -> wire.Issued:
        assert self.status == 200, self
        return wire.decode_issued(self.body)


def trusting(ca: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.believed_pem.decode())
    return context


async def ask(
    port: int, context: ssl.SSLContext | None, method: str, path: str, body: bytes = b"", host: str = "127.0.0.1"
) -> Reply:
    """One request on a connection of its own."""
    head = f"{method} {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return await raw(port, context, head.encode() + body, host)


async def raw(port: int, context: ssl.SSLContext | None, data: bytes, host: str = "127.0.0.1") -> Reply:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(data)
        return parsed(await asyncio.wait_for(reader.read(), WAIT_S))
    finally:
        await hung_up(writer)


async def hung_up(writer: asyncio.StreamWriter) -> None:
    """Whatever the other end makes of it."""
    writer.close()
    with suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), WAIT_S)


def parsed(said: bytes) -> Reply:
    head, _, body = said.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    return Reply(int(status.split()[1]), headers, body)


@dataclass
class Site:
    """`admin` is the administrator; each hub in `parts` is a replica."""

    admin: KubeClient
    api: Client
    authority: Authority
    clock: WallClock
    lines: list[str]
    parts: list[EnrolmentPart] = field(default_factory=list)

    def port(self, replica: int = 0) -> int:
        return int(self.parts[replica].url.rpartition(":")[2])

    async def token(self, node: str = "pi", ttl_s: int = HOUR_S, tainted: bool = True) -> Token:
        at = Where(self.parts[0].url, self.authority.digest)
        made = await tokens.create(
            self.admin, self.clock, SystemEntropy(), at, node, ttl_s, tainted, join
        )  # fmt: skip
        return line.decode(made.text)

    async def enroll(
        self, token: Token, key: ec.EllipticCurvePrivateKey | None = None, *, replica: int = 0, node: str = "",
        secret: bytes = b"", signing: bytes = bytes(32), sealing: bytes = bytes(32),
    ) -> Reply:  # fmt: skip
        csr = csr_for(node or token.node, key)
        request = wire.Request(token.ident, secret or token.secret, csr, signing, sealing)
        return await self.post(wire.encode_request(request), replica)

    async def post(self, body: bytes, replica: int = 0) -> Reply:
        return await ask(self.port(replica), trusting(self.authority), "POST", wire.ENROLL_PATH, body)

    async def objects(self, resource: Any, namespace: str = "") -> dict[str, dict[str, Any]]:
        return {o["metadata"]["name"]: o for o in (await self.admin.list(resource, namespace=namespace)).items}


@asynccontextmanager
async def part_on(
    cluster: Cluster, ca: Authority, clock: Any, lines: list[str], days: int = 90, listen: str = "127.0.0.1:0"
) -> AsyncIterator[EnrolmentPart]:
    options = enrolment_options(ca, listen, (), "", BROKER, "", days)
    assert options is not None
    part = EnrolmentPart(cluster, clock, SystemEntropy(), options, join, lines.append)
    task = asyncio.ensure_future(part.run())
    try:
        yield part
    finally:
        await part.close()
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), f"it ended: {end!r}"


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    with running(folder / "api") as api:
        files = authority.make(folder)
        ca = authority.load(*files)
        async with KubeClient(load(api.at.kubeconfig)) as admin:
            await tokens.ensure_namespace(admin)
            made = Site(admin, api, ca, WallClock(), [])
            async with part_on(admin, ca, made.clock, made.lines) as part:
                made.parts.append(part)
                yield made
