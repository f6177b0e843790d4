"""A token becomes this device's identity: key, authority, request, certificates, one file. Blocks, and brings modules
that the agent has no other use for, so it runs in a process of its own: `skerry enroll`, or a child of the agent.

Nothing is written but the key under way until everything that the hub gave was tried. docs/wire-protocol.md,
"Enrolment", has the two exchanges.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from skerry import identity
from skerry.errors import EnrolmentFailed, EnrolmentRefused, IdentityBroken, Malformed, SkerryError
from skerry.identity import Enrolled, Keys
from skerry.limits import (
    COMMON_NAME_CHARS_MAX,
    ENROL_BYTES_MAX,
    ENROL_TIMEOUT_S,
    EXCHANGE_KEY_BYTES,
    SIGNING_KEY_BYTES,
)
from skerry.model.streams import streams_name
from skerry.plan.certificate import Life, ended
from skerry.ports import DeviceKey, DeviceKeys
from skerry.wire import x509
from skerry.wire.address import HubAddress, broker_address, hub_address
from skerry.wire.enrolment import (
    CA_PATH,
    ENROLL_PATH,
    RENEW_PATH,
    Challenge,
    Issued,
    Renewal,
    Request,
    decode_challenge,
    decode_issued,
    decode_problem,
    encode_renewal,
    encode_request,
)
from skerry.wire.token import Token
from skerry.world import tls
from skerry.world.clock import known_time
from skerry.world.device_key import KeysInFiles
from skerry.world.entropy import SystemEntropy
from skerry.world.private_memory import keep_private
from skerry.world.sodium import Sodium

T = TypeVar("T")
ANEW = "skerry-hub token create --node NODE"
# Of these the hub says that they cannot change by asking again; 429 and all of 5xx can.
FINAL = frozenset((400, 401, 403, 404, 409, 410, 413, 422))
CLOCK = frozenset((9, 10))  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def enrol(folder: Path, token: Token, keys: DeviceKeys, node: str = "", force: bool = False) -> Enrolled:
    """Become `token.node`. `folder` is data_dir; `node`: the configuration's, empty if it names none; `force`: also
    where the device is enrolled under another name. The identity that it has stays in use until the new one is whole.
    A token that this device was enrolled with already asks nobody. Raises EnrolmentRefused, EnrolmentFailed, KeyFailed.
    """
    with identity.locked(folder):
        had = current(folder)
        judge(token, node, had, force)
        if had is not None and had.token == token.ident:
            return had
        hub = Hub.at(token.url)
        ca = hub.authority(token.ca_digest)
        key, own = _keys_under_way(folder, keys)
        signing = Sodium().public(bytes.fromhex(own.seed))
        sealing = Sodium().exchange_public(bytes.fromhex(own.sealing))
        issued = hub.enroll(ca, Request(token.ident, token.secret, key.csr(token.node), signing, sealing))
        check(issued, token.node, key, token.ca_digest)
        enrolled = Enrolled(issued, own, token.ident, had.keys.sealing if had is not None else "")
        identity.write(folder, enrolled)
        identity.forget(folder, identity.PENDING)
        return enrolled


def current(folder: Path) -> Enrolled | None:
    """The identity that there is; a broken one is none. Raises EnrolmentFailed."""
    try:
        return identity.read(folder)
    except IdentityBroken:
        return None
    except OSError as why:
        raise EnrolmentFailed(f"{folder / identity.IDENTITY}: {why.strerror}") from None


def judge(token: Token, node: str, had: Enrolled | None, force: bool = False) -> None:
    """Whether this device may use this token at all. Raises EnrolmentRefused."""
    if node and token.node != node:
        cure = f"take `node` out of the configuration, or ask the hub for a token for {node}"
        raise EnrolmentRefused(f"the token is for {token.node}, and this device's configuration says {node}: {cure}")
    room = COMMON_NAME_CHARS_MAX - len(streams_name(""))
    if len(token.node) > room:
        raise EnrolmentRefused(f"no certificate can have a name as long as {token.node}: at most {room} characters")
    if had is not None and had.issued.node != token.node and not force:
        why = f"the token is for {token.node}, and this device is {had.issued.node}, whose pods it would no longer run"
        raise EnrolmentRefused(f"{why}: if that is meant, skerry enroll --force")


def check(issued: Issued, node: str, key: DeviceKey, ca_digest: bytes = b"") -> None:
    """Whether the hub gave what was asked for: whatever is wrong shows now and not when the old identity is gone.
    `ca_digest`: SHA-256 of an authority that must be among those that it gave, if any. Raises EnrolmentRefused,
    KeyFailed."""
    wanted = {issued.certificate: node, issued.streams: streams_name(node)}
    try:
        broker_address(issued.broker)
        hub_address(issued.url)
        authorities = {hashlib.sha256(der).digest() for der in x509.pem_blocks(issued.ca)}
        names = {chain: x509.read(x509.pem_blocks(chain)[0]).common_name for chain in wanted}
    except Malformed as why:
        raise EnrolmentRefused(f"the hub gave what cannot be read: {why}") from None
    if issued.node != node or names != wanted:
        raise EnrolmentRefused(f"the hub gave certificates for another than {node}")
    if ca_digest and ca_digest not in authorities:
        raise EnrolmentRefused("the hub gave another authority than the token's")
    for chain in wanted:
        tls.prove(key, chain, issued.ca)


def _keys_under_way(folder: Path, keys: DeviceKeys) -> tuple[DeviceKey, Keys]:
    """The device's key, and all that it keeps: the same until an enrolment succeeds, because its answer may have been
    lost, and the hub answers no other keys."""
    own = identity.pending(folder)
    if own is not None:
        return keys.again(own.key), own
    key, entropy = keys.new(), SystemEntropy()
    own = Keys(key.kept, entropy.token(SIGNING_KEY_BYTES).hex(), entropy.token(EXCHANGE_KEY_BYTES).hex())
    identity.keep_pending(folder, own)
    return key, own


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a token says that the hub enrols."""

    address: HubAddress

    @staticmethod
    def at(url: str) -> Hub:
        """`url`: https://HOST:PORT, from a token or an identity. Raises EnrolmentRefused."""
        try:
            return Hub(hub_address(url))
        except Malformed as why:
            raise EnrolmentRefused(f"the hub's URL {url[:200]!r} {why}") from None

    def authority(self, digest: bytes) -> str:
        """The certificate, in PEM, whose SHA-256 is `digest`. Raises EnrolmentRefused, EnrolmentFailed."""
        status, body = self._ask(tls.unverified(), "GET", CA_PATH)
        if status != 200:
            raise EnrolmentFailed(f"{self}: answers {status} to {CA_PATH}")
        try:
            blocks = x509.pem_blocks(body.decode("ascii", "replace"))
        except Malformed:
            blocks = []
        for der in blocks:
            if hashlib.sha256(der).digest() == digest:
                return ssl.DER_cert_to_PEM_cert(der)
        why = "has another authority than the token's: it is not the hub that made the token, or somebody is in between"
        raise EnrolmentRefused(f"{self}: {why}; a hub that was set up anew wants a new token: {ANEW}")

    def enroll(self, ca: str, request: Request) -> Issued:
        """Raises EnrolmentRefused, EnrolmentFailed."""
        return self._given(*self._ask(_verifying(ca), "POST", ENROLL_PATH, encode_request(request)), decode_issued)

    def challenge(self, ca: str) -> Challenge:
        """What a renewal is to be signed over. Raises EnrolmentRefused, EnrolmentFailed."""
        return self._given(*self._ask(_verifying(ca), "GET", RENEW_PATH), decode_challenge)

    def renew(self, ca: str, request: Renewal) -> Issued:
        """Raises EnrolmentRefused, EnrolmentFailed."""
        return self._given(*self._ask(_verifying(ca), "POST", RENEW_PATH, encode_renewal(request)), decode_issued)

    def _given(self, status: int, body: bytes, decode: Callable[[bytes], T]) -> T:
        """Raises EnrolmentRefused, EnrolmentFailed."""
        if status == 200:
            try:
                return decode(body)
            except Malformed as why:
                raise EnrolmentFailed(f"{self}: its answer cannot be read: {why}") from None
        try:
            problem = decode_problem(body)
        except Malformed:
            raise EnrolmentFailed(f"{self}: answers {status}, and not as a hub does") from None
        said = f"{self}: {_line(problem.message)} ({_line(problem.reason)})"
        raise EnrolmentRefused(said) if status in FINAL else EnrolmentFailed(said)

    def _ask(self, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One exchange on a connection of its own, over within ENROL_TIMEOUT_S whatever the other side does."""
        host, port = self.address.host, self.address.port
        asking = http.client.HTTPSConnection(host, port, timeout=ENROL_TIMEOUT_S, context=context)
        outcome: list[tuple[int, bytes] | BaseException] = []

        def work() -> None:
            try:
                asking.connect()
                _judge(asking.sock)
                headers = {"Connection": "close"} | ({"Content-Type": "application/json"} if body else {})
                asking.request(method, path, body, headers)
                answer = asking.getresponse()
                outcome.append((answer.status, answer.read(ENROL_BYTES_MAX + 1)))
            except BaseException as why:
                outcome.append(why)

        # In a thread, because a look-up of a name cannot be interrupted, and a byte now and then outlasts any timeout.
        thread = threading.Thread(target=work, name="skerry-enrol", daemon=True)
        thread.start()
        thread.join(ENROL_TIMEOUT_S)
        if not outcome:
            _hang_up(asking.sock)
            raise EnrolmentFailed(f"{self}: no answer within {ENROL_TIMEOUT_S:g} s")
        asking.close()
        (found,) = outcome
        if isinstance(found, BaseException):
            self._trouble(found)
        if len(found[1]) > ENROL_BYTES_MAX:
            raise EnrolmentFailed(f"{self}: its answer is larger than {ENROL_BYTES_MAX} bytes")
        return found

    def _trouble(self, why: BaseException) -> NoReturn:
        """Raises what it means."""
        if isinstance(why, ssl.SSLCertVerificationError):
            if why.verify_code in CLOCK:  # a board without a real-time clock learns the time from the network, later
                clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
                raise EnrolmentFailed(f"{self}: {why.verify_message}; this device's clock says {clock}") from None
            cure = "it is not the hub that made the token, or its certificate lacks this name"
            raise EnrolmentRefused(f"{self}: {why.verify_message.rstrip('.')}: {cure}") from None
        if isinstance(why, ssl.SSLError):
            raise EnrolmentFailed(f"{self}: no TLS 1.3 with it: {why.reason or why}") from None
        if isinstance(why, TimeoutError):
            raise EnrolmentFailed(f"{self}: no answer within {ENROL_TIMEOUT_S:g} s") from None
        if isinstance(why, OSError):
            raise EnrolmentFailed(f"{self}: {why.strerror or why}") from None
        if isinstance(why, http.client.HTTPException):
            raise EnrolmentFailed(f"{self}: its answer is not HTTP: {type(why).__name__}") from None
        raise why

    def __str__(self) -> str:
        return str(self.address)


def _verifying(ca: str) -> ssl.SSLContext:
    """By this board's clock where it is known to be right."""
    return tls.verifying(ca, known_time().sure)


def _judge(sock: ssl.SSLSocket) -> None:
    """Whatever the clock says: what ended before this release was made has ended. Raises EnrolmentRefused."""
    der = sock.getpeercert(True) if sock.context.verify_mode is ssl.CERT_REQUIRED else None
    if der is not None:
        theirs = x509.read(der)
        if ended(Life(theirs.begins, theirs.ends), known_time()):
            raise EnrolmentRefused("the hub's certificate has ended: its operator must act")


def _hang_up(sock: socket.socket | None) -> None:
    """So that the thread that reads from it ends. Not through ssl, which would wait for the other side's word."""
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _line(text: str) -> str:
    """From outside, and shown on a terminal."""
    return "".join(char if char.isprintable() else " " for char in text).strip()


# --- the agent's child ------------------------------------------------------------------------------------------------


def enrol_by_file(folder: Path, node: str, keys: DeviceKeys | None = None) -> Enrolled:
    """With the token that lies in `folder`, which is removed then. Raises as `enrol`."""
    path = folder / identity.TOKEN
    try:
        token = identity.token(path)
    except Malformed as why:
        raise EnrolmentRefused(f"{path}: {why}") from None
    except OSError as why:
        raise EnrolmentFailed(f"{path}: {why.strerror}") from None
    enrolled = enrol(folder, token, keys or KeysInFiles(), node)
    identity.forget_used(folder, token)
    return enrolled


REFUSED = 2


def child(folder: str, node: str, say: Callable[[str], object] = sys.stderr.write) -> int:
    """`enrol_by_file` as a process: 0 when enrolled, REFUSED, or 1 when asking again may help; why is one line."""
    keep_private(say)
    try:
        enrol_by_file(Path(folder), node)
        return 0
    except SkerryError as why:
        say(f"{why}\n")
        return REFUSED if isinstance(why, EnrolmentRefused) else 1
