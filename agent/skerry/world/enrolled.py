"""This device's identity as its connections use it: who is enrolled connects, who has a token enrols first, and whose
certificates age has them renewed.

A token that lies in data_dir is a precondition of connecting and of nothing else; whatever goes wrong with it is a lost
link, which is tried again. Asking the hub happens in a child of its own (world.enrolment), so that the modules that it
takes do not stay in the agent's memory, and never on the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import skerry
from skerry import identity
from skerry.errors import (
    EnrolmentFailed,
    EnrolmentRefused,
    IdentityBroken,
    KeyFailed,
    LinkLost,
    Malformed,
    NodeChanged,
)
from skerry.identity import IDENTITY, TOKEN, Enrolled
from skerry.limits import CLOCK_OFF_S, ENROL_REACH_S, ENROL_REFUSED_S, ENROL_RETRY_S, ENROL_WHOLE_S, TEXT_CHARS_MAX
from skerry.model.streams import streams_name
from skerry.plan.backoff import full_jitter
from skerry.plan.certificate import Life, Time, Told, time_of
from skerry.ports import Clock, Entropy
from skerry.wire import x509
from skerry.wire.address import BrokerAddress, broker_address, hub_address
from skerry.wire.enrolment import trust_id
from skerry.wire.guard import About
from skerry.world.aside import Aside
from skerry.world.clock import made_s, synchronized
from skerry.world.mqtt_values import MqttOptions

if TYPE_CHECKING:
    import ssl


CURE = "skerry-hub token create --node NODE makes a token; skerry enroll --token-file F takes it"
_CHILD = "import sys; sys.path[:] = sys.argv[1].split(':'); from {} import child; sys.exit(child(*sys.argv[2:]))"
_REFUSED, _UNCHANGED = 2, 3  # of world.enrolment and world.renewal, which are not imported here


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one try: `problem` is empty when the hub gave what was asked for. `final`: the same token will not do later
    either, or the hub renews nothing for this device. `changed`: there is another identity."""

    problem: str = ""
    final: bool = False
    changed: bool = True


def ask(folder: Path, node: str) -> Outcome:
    """Enrol by the token in `folder`, in a child. Blocks for ENROL_WHOLE_S at most."""
    return _child("skerry.world.enrolment", str(folder), node)


def ask_again(folder: Path) -> Outcome:
    """Renew the certificates of the identity in `folder`, in a child. Blocks for ENROL_WHOLE_S at most."""
    return _child("skerry.world.renewal", str(folder))


def _child(module: str, *args: str) -> Outcome:
    path = ":".join([str(Path(skerry.__file__).parents[1]), *sys.path])
    flags = ["-I", "-S"] if sys.flags.no_site else ["-I"]
    argv = [sys.executable, *flags, "-c", _CHILD.format(module), path, *args]
    environment = {name: os.environ[name] for name in ("PATH", "SKERRY_PURE") if name in os.environ}
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=ENROL_WHOLE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(f"no end within {ENROL_WHOLE_S:g} s")
    except OSError as why:
        return Outcome(f"cannot start a process: {why.strerror}")
    if done.returncode in (0, _UNCHANGED):
        return Outcome(changed=done.returncode == 0)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with {done.returncode}"]
    return Outcome(lines[-1][:TEXT_CHARS_MAX], done.returncode == _REFUSED)


class Enrolment:
    """world.link.Credentials of this device. The coroutine belongs to the event loop, everything else to its thread."""

    def __init__(
        self,
        folder: Path,
        node: str,
        node_given: bool,
        address: BrokerAddress | None,
        clock: Clock,
        entropy: Entropy,
        log: Callable[[str], None],
        ask: Callable[[Path, str], Outcome] = ask,
        ask_again: Callable[[Path], Outcome] = ask_again,
    ) -> None:
        """`folder` is data_dir, `node` whom the agent runs as and whether the configuration says so, `address` the
        configured broker, if any."""
        self._folder, self._node, self._required = folder, node, node if node_given else ""
        self._address, self._clock, self._entropy, self._log = address, clock, entropy, log
        self._ask, self._ask_again = ask, ask_again
        self._turn = asyncio.Lock()  # state and streams may come at the same time
        self._enrolling = Aside("enrol", ENROL_WHOLE_S + ENROL_REACH_S)
        self._renewing = Aside("renew", ENROL_WHOLE_S + ENROL_REACH_S)  # beside it: no connection waits for it
        self._news = asyncio.Event()
        self._contexts: dict[str, tuple[str, int, ssl.SSLContext]] = {}  # client → where to, and what with
        self._of: tuple[int, ...] = ()  # which identity those are of
        self.enrolled: Enrolled | None = None  # the identity that `complete` found last
        self._present: Enrolled | None = None  # the same, or a newer one that no connection has used yet
        self.refused = False
        self._told: Told | None = None
        self._made_s = made_s()
        self._token: tuple[int, ...] = ()  # which token the rest is about
        self._tries, self._not_before, self._problem = 0, 0.0, ""

    async def complete(self, options: MqttOptions) -> MqttOptions:
        """Raises LinkLost, NodeChanged. It may take ENROL_WHOLE_S when there is a token, else the time to read a file.
        """
        async with self._turn:
            host, port, tls = await self._enrolling.do(lambda: self._found(options.client_id))
            if self.enrolled != self._present:
                self._present, self.refused = self.enrolled, False
                self._news.set()
        return replace(options, host=host, port=port, tls=tls)

    def refuse(self) -> None:
        self.refused = True
        self._news.set()

    # --- loops.renew.Renewable ----------------------------------------------------------------------------------------

    @property
    def life(self) -> Life | None:
        """Of the identity that `complete` found last, or `renew` made."""
        enrolled = self._present
        if enrolled is None:
            return None
        try:
            ours = x509.read(x509.pem_blocks(enrolled.issued.certificate)[0])
        except (Malformed, IndexError):
            return None
        return Life(ours.begins, ours.ends)

    @property
    def other_trust(self) -> bool:
        """Of the identity that `complete` found last, or `renew` made."""
        wanted, enrolled = self._told.trust if self._told is not None else b"", self._present
        if not wanted or enrolled is None:
            return False
        return wanted != trust_id(x509.pem_blocks(enrolled.issued.ca))

    def told(self, about: About) -> None:
        """What the hub of a new session says, signed."""
        if about.wall_s:
            self._told = Told(float(about.wall_s), self._clock.now(), about.trust)
            self._news.set()

    def time(self) -> Time:
        life = self.life
        floor_s = max(self._made_s, life.begins_s if life is not None else 0.0)
        return time_of(self._clock.wall(), synchronized(), floor_s, self._told, self._clock.now())

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def renew(self) -> bool:
        return await self._renewing.do(self._renewed)

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _renewed(self) -> bool:
        enrolled = self._identity()
        if enrolled is None:
            raise EnrolmentFailed(f"not enrolled: {CURE}")
        away = _away(enrolled.issued.url)
        if away:
            raise EnrolmentFailed(away)
        outcome = self._ask_again(self._folder)
        if outcome.problem:
            raise EnrolmentRefused(outcome.problem) if outcome.final else EnrolmentFailed(outcome.problem)
        if outcome.changed:
            self._present, self.refused = self._identity(), False
        return outcome.changed

    def _found(self, client: str) -> tuple[str, int, ssl.SSLContext]:
        if identity.mark(self._folder, TOKEN):
            self._enrol()
        else:
            self._problem = ""
        mark = (*identity.mark(self._folder, IDENTITY), self._judges())
        if len(mark) == 1:
            raise LinkLost(f"not enrolled: {self._problem or CURE}")
        if mark != self._of:
            self._of = mark
            self._contexts.clear()
        if client not in self._contexts:
            self._contexts[client] = self._made(client)
        return self._contexts[client]

    def _judges(self) -> bool:
        """Whether the clock, by which the TLS library judges, is known to be right."""
        time = self.time()
        return time.sure and abs(self._clock.wall() - time.now_s) <= CLOCK_OFF_S

    def _made(self, client: str) -> tuple[str, int, ssl.SSLContext]:
        from skerry.world import tls
        from skerry.world.device_key import KeysInFiles

        enrolled = self._identity()
        if enrolled is None:
            raise LinkLost(f"not enrolled: {CURE}")
        issued = enrolled.issued
        if issued.node != self._node:
            raise NodeChanged(f"enrolled as {issued.node}, and running as {self._node}")
        try:
            address = self._address or broker_address(issued.broker)
            context = tls.verifying(issued.ca, self._judges())
            chain = issued.streams if client == streams_name(issued.node) else issued.certificate
            KeysInFiles().again(enrolled.keys.key).load_into(context, chain)
        except (Malformed, KeyFailed, OSError) as why:  # ssl.SSLError is one of these
            raise LinkLost(f"{self._folder / IDENTITY}: {why}; enrol this device with a new token") from None
        self.enrolled = enrolled
        return address.host, address.port, context

    def _identity(self) -> Enrolled | None:
        try:
            return identity.read(self._folder)
        except IdentityBroken as why:
            raise LinkLost(str(why)) from None
        except OSError as why:
            raise LinkLost(f"{self._folder / IDENTITY}: {why.strerror}") from None

    def _enrol(self) -> None:
        """Try the token that lies here, unless it was refused a short while ago."""
        mark = identity.mark(self._folder, TOKEN)
        if mark != self._token:
            self._token, self._tries, self._not_before = mark, 0, 0.0
        if self._clock.now() < self._not_before:
            return
        enrolled = bool(identity.mark(self._folder, IDENTITY))
        outcome = self._tried()
        if not outcome.problem:
            self._problem = ""
            self._log(f"enrolment: done, as {identity.node_of(self._folder)[0]}")
            return
        self._tries += 1
        bounds = ENROL_REFUSED_S if outcome.final else ENROL_RETRY_S if enrolled else None
        if bounds is not None:  # without an identity the link's own delays are enough
            self._not_before = self._clock.now() + full_jitter(bounds, self._tries, self._entropy.uniform())
        if enrolled and outcome.problem != self._problem:
            self._log(f"enrolment: {outcome.problem}; the identity that this device has stays in use")
        self._problem = outcome.problem

    def _tried(self) -> Outcome:
        path = self._folder / TOKEN
        try:
            token = identity.token(path)
        except Malformed as why:
            return Outcome(f"{path}: {why}", final=True)
        except OSError as why:
            return Outcome(f"{path}: {why.strerror}")
        with suppress(LinkLost):
            enrolled = self._identity()
            if enrolled is not None and enrolled.token == token.ident:  # the power went before the file did
                with suppress(EnrolmentFailed):
                    identity.forget_used(self._folder, token)
                return Outcome()
        away = _away(token.url)
        return Outcome(away) if away else self._ask(self._folder, self._required)


def _away(url: str) -> str:
    """Why the hub cannot be reached. Cheap: a device that is away for a year starts no process each minute."""
    try:
        where = hub_address(url)
    except Malformed as why:
        return f"the hub's URL {why}; enrol this device with a new token"
    try:
        socket.create_connection((where.host, where.port), ENROL_REACH_S).close()
    except OSError as why:
        return f"{where}: {why.strerror or why}"
    return ""
