"""Words for the tests of enrolment: a hub of the test's own on real TLS, whose every answer can be another."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from contract.certificates import STATEMENT, TOKEN_NAME, authority, digest, pem, signed
from skerry.wire import enrolment, token
from skerry.wire.enrolment import Issued, Problem
from skerry.wire.token import Token
from skerry_hub import pki

SECRET = bytes(range(16))
NODE = "edge-1"


@dataclass(frozen=True, slots=True)
class Asked:
    """An enrolment as the hub saw it."""

    request: enrolment.Request
    public_key: bytes


Answer = Callable[["Hub", enrolment.Request], tuple[int, bytes]]


def issue(hub: Hub, request: enrolment.Request) -> tuple[int, bytes]:
    """What a good hub answers."""
    return 200, enrolment.encode_issued(hub.issued(request))


def problem(status: int, reason: str, message: str) -> Answer:
    return lambda hub, request: (status, enrolment.encode_problem(Problem(reason, message)))


class Hub:
    """HTTPS on loopback, a thread for each connection. `script` replaces everything after the handshake."""

    def __init__(
        self, folder: Path, *, names: tuple[str, ...] = ("127.0.0.1", "localhost"), made: datetime | None = None
    ) -> None:
        """`made`: when its own certificate was."""
        self.authority = authority()
        self.answer: Answer = issue
        self.script: Callable[[ssl.SSLSocket], None] | None = None
        self.begins: datetime | None = None  # of the certificates that it gives
        self.role = ExtendedKeyUsageOID.CLIENT_AUTH
        self.ca_shown = pem(self.authority)
        self.asked: list[Asked] = []
        self.connections = 0
        self.node, self.streams, self.broker = NODE, f"{NODE}.streams", "mqtts://127.0.0.1:8883"
        pair = pki.issue(self.authority, "hub", (), names, 90, made or pki.utc_now())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pki.save(pair, folder / "hub.crt", folder / "hub.key")
        self.context.load_cert_chain(folder / "hub.crt", folder / "hub.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def token(self) -> Token:
        return Token(f"https://127.0.0.1:{self.port}", digest(self.authority), NODE, TOKEN_NAME, SECRET)

    def issued(self, request: enrolment.Request) -> Issued:
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        names = (self.node, self.streams)
        own, streams = (signed(self.authority, key, name, self.begins, role=self.role) for name in names)
        url = f"https://127.0.0.1:{self.port}"
        return Issued(self.node, own, streams, pem(self.authority), self.broker, url, STATEMENT)

    def changed(self, **changes: str) -> Answer:
        """As `issue`, with members that are other ones."""
        return lambda hub, request: (200, enrolment.encode_issued(replace(hub.issued(request), **changes)))

    def close(self) -> None:
        """Nobody listens afterwards: a closed descriptor alone would not end an accept() in another thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(sock, server_side=True) as tls:
            if self.script is not None:
                self.script(tls)
                return
            head, body = _request(tls)
            status, answer = 200, self.ca_shown.encode()
            if head.startswith(b"POST /enroll "):
                request = enrolment.decode_request(body)
                csr = x509.load_pem_x509_csr(request.csr.encode())
                assert csr.is_signature_valid
                key = csr.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                self.asked.append(Asked(request, key))
                status, answer = self.answer(self, request)
            tls.sendall(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))


def _request(tls: ssl.SSLSocket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(tls)
    head, _, body = data.partition(b"\r\n\r\n")
    sizes = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < sum(sizes):
        body += _more(tls)
    return head, body


def _more(tls: ssl.SSLSocket) -> bytes:
    data = tls.recv(65536)
    if not data:
        raise OSError("gone")
    return data


def endless(tls: ssl.SSLSocket) -> None:
    """A body that does not end."""
    _request(tls)
    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        tls.sendall(b"x" * 65536)


def dripping(tls: ssl.SSLSocket) -> None:
    """A byte now and then, so that no time between two of them is long."""
    _request(tls)
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        tls.sendall(b"x")
        time.sleep(0.02)


def mumbling(tls: ssl.SSLSocket) -> None:
    """Anything but HTTP."""
    _request(tls)
    tls.sendall(b"SSH-2.0-x\r\n")


def silent(tls: ssl.SSLSocket) -> None:
    while tls.recv(65536):
        pass


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[Hub]:
    folder.mkdir(exist_ok=True)
    hub = Hub(folder, **how)
    try:
        yield hub
    finally:
        hub.close()


def secrets_of(hub: Hub) -> tuple[str, ...]:
    """The token's secret in every form in which it could be told."""
    plain = base64.b64encode(SECRET).decode()
    return plain, base64.urlsafe_b64encode(SECRET).decode().rstrip("="), SECRET.hex(), token.encode(hub.token)
