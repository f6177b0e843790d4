"""The hub with a thousand devices, at rest and when each gets a pod at once; and how soon a replica's devices are taken
over when it dies.

The devices are simulated (bench.crowd: real sessions, journals in memory); mosquitto, the embedded API and the hub are
the real ones, each a process of its own, in one network of the rig. The API calls are counted by the hub's own client.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.fleets import weigh
from bench.report import Row, progress
from fleet import BIN, MQTT_PORT, ROOT, Fleet
from rig import Process, until

METRICS_PORT = 9_400
DEADLINE_S = 300.0
TAKEOVER_BUDGET_S = 15.0
EAST, WEST = "east", "west"


def rows(quick: bool = False) -> Iterator[Row]:
    with Fleet(secure=False) as fleet:
        weigh(fleet)
        fleet.start_broker()
        fleet.start_api()
        yield from crowd(fleet, 100 if quick else 1000, 10.0 if quick else 60.0)
    with Fleet(secure=False) as fleet:
        weigh(fleet)
        fleet.start_broker()
        fleet.start_api()
        yield from takeover(fleet, 20 if quick else 100, 1 if quick else 5)


class Hub:
    """A hub process; with `replica` it shares the devices with others."""

    def __init__(self, fleet: Fleet, replica: str = "") -> None:
        self._fleet, self.socket = fleet, fleet.site.folder / f"hub-{replica}.sock"
        argv = [
            str(BIN / "skerry-hub"), "run", "--kubeconfig", str(fleet.site.kubeconfig),
            "--broker", f"mqtt://127.0.0.1:{MQTT_PORT}", "--status-socket", str(self.socket),
        ]  # fmt: skip
        argv += ["--replica", replica] if replica else ["--metrics-listen", f"127.0.0.1:{METRICS_PORT}"]
        self.process: Process = fleet.site.spawn(argv, name=f"hub-{replica}", cwd=ROOT)
        self.process.wait_log("ready", DEADLINE_S)

    def snapshot(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(DEADLINE_S)
            asked.connect(str(self.socket))
            with asked.makefile("rb") as answer:
                value: dict[str, Any] = json.loads(answer.read())
        return value

    def live(self) -> int:
        return sum(shown["state"] == "live" for shown in self.snapshot()["devices"].values())

    def api_calls(self) -> int:
        """Requests that its client of the API has made, watches included."""
        with self._fleet.site.dial(METRICS_PORT) as asked:
            asked.sendall(b"GET /metrics HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            with asked.makefile("rb") as answer:
                text = answer.read().decode()
        return sum(int(float(n)) for n in re.findall(r"^\w+_api_requests_total\{.*\} (\S+)$", text, re.MULTILINE))

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@dataclass(frozen=True)
class Reading:
    """The hub's counters at one moment; the difference of two is what happened between them."""

    at: float
    calls: int
    cpu_s: float
    bytes_in: int
    bytes_out: int


def read(hub: Hub) -> Reading:
    devices = hub.snapshot()["devices"].values()
    bytes_in, bytes_out = (sum(d[way] for d in devices) for way in ("bytes_in", "bytes_out"))
    return Reading(time.monotonic(), hub.api_calls(), hub.cpu_s(), bytes_in, bytes_out)


def onto_all(fleet: Fleet, what: str, count: int) -> dict[str, float]:
    argv = [str(BIN / "python"), "-m", "bench.onto_all", str(fleet.site.kubeconfig), what, str(count)]
    done: dict[str, float] = json.loads(tool(fleet, argv))
    return done


def tool(fleet: Fleet, argv: list[str]) -> str:
    run = ["env", "-C", str(ROOT), f"PYTHONPATH={ROOT / 'tests'}", *argv]
    return fleet.site.run(run, timeout_s=2 * DEADLINE_S).stdout


def devices(fleet: Fleet, count: int) -> Process:
    argv = [str(BIN / "python"), "-m", "bench.crowd", "127.0.0.1", str(MQTT_PORT), str(count)]
    env = {"PYTHONPATH": str(ROOT / "tests")}
    return fleet.site.spawn(argv, name="crowd", cwd=ROOT, env=env)


def crowd(fleet: Fleet, count: int, rest_s: float) -> Iterator[Row]:
    progress(f"          {count} devices join")
    onto_all(fleet, "nodes", count)
    hub = Hub(fleet)
    empty = hub.rss_mib()
    began = time.monotonic()
    devices(fleet, count)
    until(lambda: hub.live() == count, f"{count} devices to be live", DEADLINE_S)
    joined = time.monotonic() - began
    time.sleep(rest_s / 2)  # the first Leases and statuses are written
    progress(f"          {count} devices at rest")
    first, rss_rest = read(hub), hub.rss_mib()
    time.sleep(rest_s)
    last = read(hub)
    seconds = last.at - first.at
    what = f"{count} simulated devices, embedded API"
    note = f"VmRSS; {empty:.1f} with the Nodes alone"
    yield Row("hub", f"RSS, {what}, at rest", rss_rest, "MiB", note=note)
    yield Row("hub", "  of it a device", (rss_rest - empty) * 1024 / count, "KiB")
    note = f"{seconds:.0f} s; by the hub's client; Leases last 40 s"
    yield Row("hub", "API calls at rest", (last.calls - first.calls) / seconds, "per second", note=note)
    bytes_ = (last.bytes_in - first.bytes_in + last.bytes_out - first.bytes_out) / count
    yield Row("hub", "bytes a device at rest", bytes_ / seconds, "B/s", note="frames both ways, without MQTT's own")
    yield Row("hub", "CPU at rest", (last.cpu_s - first.cpu_s) / seconds * 100, "% of a core")
    yield Row("hub", f"{count} devices connect → all live", joined, "s")
    progress(f"          a pod for each of {count} devices")
    yield from change(fleet, hub, count)


def change(fleet: Fleet, hub: Hub, count: int) -> Iterator[Row]:
    """One new pod for each device, as fast as the API takes them, until all are shown running."""
    before = read(hub)
    took = onto_all(fleet, "pods", count)
    after, rss = read(hub), hub.rss_mib()
    seconds, calls = took["running_s"], after.calls - before.calls
    note = f"{count} pods, created in {took['created_s']:.1f} s by 16 writers"
    yield Row("hub", "a pod for each device → all shown Running", seconds, "s", note=note)
    yield Row(
        "hub", "API calls meanwhile", calls / (after.at - before.at), "per second", note=f"{calls / count:.2f} a pod"
    )
    yield Row("hub", "RSS after it", rss, "MiB")
    note = "frames, without MQTT's own"
    yield Row("hub", "bytes to a device for its pod", (after.bytes_out - before.bytes_out) / count, "B", note=note)
    yield Row("hub", "bytes from a device for its pod", (after.bytes_in - before.bytes_in) / count, "B", note=note)
    yield Row("hub", "CPU for it", (after.cpu_s - before.cpu_s) / count * 1e3, "ms a pod")


def takeover(fleet: Fleet, count: int, rounds: int) -> Iterator[Row]:
    progress(f"          a replica dies, {rounds} times")
    onto_all(fleet, "nodes", count)
    hubs = {name: Hub(fleet, name) for name in (EAST, WEST)}
    devices(fleet, count)
    took, orphans = [], 0
    for turn in range(rounds):
        dead, heir = ((EAST, WEST), (WEST, EAST))[turn % 2]
        until(lambda: shared(hubs, count), "each replica to have its share", DEADLINE_S)
        orphans = hubs[dead].live()
        died = time.monotonic()
        hubs[dead].process.kill()
        until(lambda name=heir: hubs[name].live() == count, "the heir to have all", DEADLINE_S)  # type: ignore[misc]
        took.append(time.monotonic() - died)
        hubs[dead] = Hub(fleet, dead)
    note = (
        f"SIGKILL → the last of its {orphans} devices lives at the other; {len(took)} deaths, worst {max(took):.1f} s"
    )
    yield Row("hub", "takeover from a dead replica", median(took), "s", "budget", TAKEOVER_BUDGET_S, note=note)


def shared(hubs: dict[str, Hub], count: int) -> bool:
    """Whether every device is at one replica, and neither has all."""
    live = [hub.live() for hub in hubs.values()]
    return sum(live) == count and all(live)
