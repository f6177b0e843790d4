"""Whoever owns the broker: reads every topic and says anything on any. He cannot be told from a broker that is hostile,
but that he drops nothing.

`python -m fleet.owner HOST PORT FOLDER` is his connection. FOLDER has his certificate; what he hears is appended to
FOLDER/heard, and what lies in FOLDER/say under a number is said, one line for each message: topic, payload.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions

if TYPE_CHECKING:
    from fleet import Fleet

NAME, EVERYTHING = "owner", "skerry/v1/#"
DAYS, POLL_S, TOGETHER = 2, 0.02, 20


class Said(NamedTuple):
    topic: str
    payload: bytes

    @staticmethod
    def of(line: str) -> Said:
        topic, _, payload = line.partition(" ")
        return Said(topic, bytes.fromhex(payload))

    def __str__(self) -> str:
        return f"{self.topic} {self.payload.hex()}"


class Owner:
    """Of a fleet's broker."""

    def __init__(self, fleet: Fleet) -> None:
        from fleet import BIN, MQTTS_PORT, ROOT
        from rig import until
        from skerry_hub import pki
        from skerry_hub.enrolment.authority import STEM

        self._folder, self._numbers = fleet.site.folder / NAME, itertools.count()
        (self._folder / "say").mkdir(parents=True)
        self._own: set[Said] = set()  # what nobody said before him
        authority = pki.load(fleet.trust / f"{STEM}.crt", fleet.trust / f"{STEM}.key")
        assert authority is not None
        assert fleet.broker is not None
        mine = pki.issue(authority, NAME, (), (), DAYS, pki.utc_now())
        pki.save(mine, self._folder / "crt", self._folder / "key")
        (self._folder / "ca").write_bytes(authority.certificate_pem)
        with (fleet.trust / "rules").open("a") as rules:
            rules.write(f"user {NAME}\ntopic readwrite {EVERYTHING}\n")
        fleet.broker.signal(signal.SIGHUP)
        argv = [str(BIN / "python"), "-m", "fleet.owner", "127.0.0.1", str(MQTTS_PORT), str(self._folder)]
        self._process = fleet.site.spawn(argv, name=NAME, cwd=ROOT / "tests")
        self._process.wait_log("listening")
        # The broker reads its rules again when it comes round to it.
        until(self._hears_himself, "the broker to let its owner read")

    def heard(self, *topics: str) -> list[Said]:
        """What others have said until now; all of it, or on these topics."""
        return [one for one in self._all() if one not in self._own and (not topics or one.topic in topics)]

    def say(self, messages: Sequence[Said], per_s: float = 1_000.0) -> None:
        """All of them, in order, handed to the broker when this returns."""
        self._own.update(set(messages) - set(self._all()))
        for first in range(0, len(messages), TOGETHER):
            part = messages[first : first + TOGETHER]
            file = self._folder / "say" / str(next(self._numbers))
            new = file.with_suffix(".new")
            new.write_text("".join(f"{said}\n" for said in part))
            new.rename(file)
            while file.exists():
                assert self._process.running, self._process.log()
                time.sleep(POLL_S)
            time.sleep(len(part) / per_s)

    def _hears_himself(self) -> bool:
        self.say([Said("skerry/v1/nobody/up", b"test")])
        return bool(self._all())

    def _all(self) -> list[Said]:
        file = self._folder / "heard"
        return [Said.of(line) for line in file.read_text().splitlines()] if file.exists() else []


async def main(host: str, port: int, folder: Path) -> None:
    tls = ssl.create_default_context(cafile=str(folder / "ca"))
    tls.load_cert_chain(folder / "crt", folder / "key")
    connection = MqttConnection(MqttOptions(host, port, NAME, tls=tls, inbox_max=100_000))
    await connection.connect([EVERYTHING])
    print("listening", flush=True)

    async def hear() -> None:
        with (folder / "heard").open("a", buffering=1) as heard:
            while True:
                got = await connection.recv()
                heard.write(f"{Said(got.topic, got.payload)}\n")

    async def say() -> None:
        while True:
            for file in sorted(p for p in (folder / "say").iterdir() if not p.suffix):
                for line in file.read_text().splitlines():
                    said = Said.of(line)
                    await connection.publish(said.topic, said.payload)
                file.unlink()
            await asyncio.sleep(POLL_S)

    await asyncio.gather(hear(), say())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
