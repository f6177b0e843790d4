"""The paths of the enrolment server, over HTTP: GET /ca, POST /enroll, GET and POST /renew (skerry.wire.enrolment).

Decides who is listened to, which status and Problem an error becomes, and that nobody who asks sees more than one line.
Refuses to know what an enrolment is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from skerry.errors import Malformed
from skerry.limits import TEXT_CHARS_MAX
from skerry.ports import Clock
from skerry.wire import enrolment as wire
from skerry_hub.enrolment.enrol import Declined
from skerry_hub.enrolment.failures import Failures
from skerry_hub.http import BadRequest, Headers, Reply, Request
from skerry_hub.limits import ENROL_AWAY_S, ENROL_WORK_MAX, ENROL_WORK_S
from skerry_hub.ports import ClusterError

NO_STORE = ("cache-control", "no-store")
JSON, PEM = "application/json", "application/x-pem-file"
Enrol = Callable[[wire.Request], Awaitable[wire.Issued]]
Renew = Callable[[wire.Renewal], Awaitable[wire.Issued]]
_ALLOWED = {wire.CA_PATH: "GET, HEAD", wire.ENROLL_PATH: "POST", wire.RENEW_PATH: "GET, HEAD, POST"}


class EnrolmentPaths:
    """`ca` is the authority's certificate in PEM."""

    def __init__(
        self,
        enrol: Enrol,
        renew: Renew,
        challenge: Callable[[], wire.Challenge],
        ca: bytes,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._enrol, self._renew, self._challenge = enrol, renew, challenge
        self._ca, self._clock, self._log = ca, clock, log
        self._failures = Failures(clock.now())
        self._room = asyncio.Semaphore(ENROL_WORK_MAX)
        self._told = ""
        self.enrolled = self.renewed = self.refused = self.limited = self.failed = 0

    async def __call__(self, request: Request, reply: Reply) -> None:
        path, reads = request.path, request.method in ("GET", "HEAD")
        if path == wire.CA_PATH and reads:
            reply.send(200, [("content-type", PEM)], self._ca)
        elif path == wire.RENEW_PATH and reads:
            reply.send(200, [("content-type", JSON), NO_STORE], wire.encode_challenge(self._challenge()))
        elif path in (wire.ENROLL_PATH, wire.RENEW_PATH) and request.method == "POST":
            await self._asked(request, reply)
        elif path in _ALLOWED:
            allow = _ALLOWED[path]
            self._refuse(request, reply, 405, "WrongMethod", f"only {allow}", [("allow", allow)])
        else:
            self._refuse(request, reply, 404, "WrongPath", f"there are only {', '.join(_ALLOWED)}")

    def snapshot(self) -> dict[str, int]:
        """Requests since the start, by how they ended."""
        return {
            "enrolled": self.enrolled,
            "renewed": self.renewed,
            "refused": self.refused,
            "limited": self.limited,
            "failed": self.failed,
        }

    # --- private ------------------------------------------------------------------------------------------------------

    async def _asked(self, request: Request, reply: Reply) -> None:
        wait_s = self._failures.wait_s(request.address, self._clock.now())
        if wait_s:
            self.limited += 1
            seconds = max(1, math.ceil(wait_s))
            _problem(reply, 429, "TooManyFailures", f"too many refused requests; ask again in {seconds} s", seconds)
            return
        try:
            issued = await asyncio.wait_for(self._work(request), ENROL_WORK_S)
        except Malformed as why:
            self._refuse(request, reply, 400, "Malformed", str(why))
        except Declined as why:
            said = why.refusal
            if said.status >= 500:
                self._away(reply, said.reason, said.message)
            else:
                self._refuse(request, reply, said.status, said.reason, said.message)
        except ClusterError as why:
            self._tell(f"enrolment: the API: {why}")
            self._away(reply, "ApiAway", "the hub cannot reach its API now; ask again")
        except asyncio.TimeoutError:
            self._tell(f"enrolment: not done within {ENROL_WORK_S:g} s")
            self._away(reply, "ApiAway", "the hub's API is slow; ask again")
        except Exception as why:  # a bug: who asks sees none of it
            self._tell(f"enrolment: failed: {type(why).__name__}: {why}")
            self.failed += 1
            _problem(reply, 500, "Failed", "the hub failed, see its log; ask again", ENROL_AWAY_S)
        else:
            self._told = ""
            if request.path == wire.RENEW_PATH:
                self.renewed += 1
            else:
                self.enrolled += 1
            reply.send(200, [("content-type", JSON), NO_STORE], wire.encode_issued(issued))

    async def _work(self, request: Request) -> wire.Issued:
        if request.path == wire.RENEW_PATH:
            renewal = wire.decode_renewal(request.body)
            async with self._room:
                return await self._renew(renewal)
        asked = wire.decode_request(request.body)
        async with self._room:
            return await self._enrol(asked)

    def _refuse(
        self, request: Request, reply: Reply, status: int, reason: str, message: str, headers: Headers = ()
    ) -> None:
        self.refused += 1
        self._failures.failed(request.address, self._clock.now())
        _problem(reply, status, reason, message, headers=headers)

    def _tell(self, line: str) -> None:
        """Once, however many ask meanwhile."""
        if line != self._told:
            self._log(_line(line))
        self._told = line

    def _away(self, reply: Reply, reason: str, message: str) -> None:
        self.failed += 1
        _problem(reply, 503, reason, message, ENROL_AWAY_S)


def refusal(why: BadRequest) -> tuple[str, bytes]:
    """What HTTP itself refuses, as a Problem."""
    return JSON, wire.encode_problem(wire.Problem("BadRequest", _line(str(why))))


def _problem(
    reply: Reply, status: int, reason: str, message: str, retry_after_s: int = 0, headers: Headers = ()
) -> None:
    more = [("retry-after", str(retry_after_s))] if retry_after_s else []
    body = wire.encode_problem(wire.Problem(reason, _line(message)))
    reply.send(status, [("content-type", JSON), *headers, *more], body)


def _line(text: str) -> str:
    return " ".join(text.split())[:TEXT_CHARS_MAX]
