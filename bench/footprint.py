"""Memory, CPU, wake-ups and writes of the connected agent with 0, 1 and 10 pods. PSS from smaps_rollup, with no other
process of this Python sharing pages: the agent runs from a copy of the interpreter of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.report import Row, progress
from fleet import Fleet, pod
from rig import Device, until

SETTLE_S, SAMPLES, IDLE_S = 60.0, 10, 600.0
BUDGET_MIB, CPU_BUDGET, WAKE_BUDGET = 40.0, 0.2, 2.0


def rows(quick: bool = False) -> Iterator[Row]:
    settle, idle = (5.0, 20.0) if quick else (SETTLE_S, IDLE_S)
    with Fleet() as fleet:
        fleet.start()
        board = fleet.join("edge-1")
        board.boot(network=True)
        agent = board.start_agent()
        fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=30s")
        have = 0
        for count in (0, 1, 10):
            grow(fleet, board, have, count)
            have = count
            time.sleep(settle)
            pss, uss = memory(agent.pid, SAMPLES if not quick else 3)
            note = f"median of samples after {settle:.0f} s; private pages {uss:.1f} MiB"
            yield Row("footprint", f"agent PSS, {count} pods", pss, "MiB", "budget", BUDGET_MIB, "lower", note)
            progress(f"          {count} pods: PSS {pss:.1f} MiB, USS {uss:.1f} MiB")
        yield from idle_rows(agent.pid, idle, quick)
        yield runtime_row(board)
        board.power_off()


def grow(fleet: Fleet, board: Device, have: int, want: int) -> None:
    names = [f"foot-{i}" for i in range(have, want)]
    if names:
        fleet.apply(*(pod(n, board.name) for n in names))
    for n in names:
        fleet.wait_phase(n)
    until(lambda: len([c for c in board.containers() if not c.sandbox]) == want, f"{want} containers")


def memory(pid: int, samples: int) -> tuple[float, float]:
    """(PSS, USS) in MiB."""
    seen = []
    for _ in range(samples):
        fields = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split(":")
            fields[name] = int(value.split()[0])
        seen.append((fields["Pss"] / 1024, (fields["Private_Clean"] + fields["Private_Dirty"]) / 1024))
        time.sleep(0.5)
    return median(p for p, _ in seen), median(u for _, u in seen)


def idle_rows(pid: int, seconds: float, quick: bool) -> Iterator[Row]:
    """CPU, wake-ups and bytes written over a quiet time with ten pods."""
    before, began = usage(pid), time.monotonic()
    time.sleep(seconds)
    after, took = usage(pid), time.monotonic() - began
    cpu = 100 * (after["cpu_s"] - before["cpu_s"]) / took
    wakes = (after["switches"] - before["switches"]) / took
    note = f"10 pods, {took:.0f} s"
    yield Row("footprint", "idle CPU", cpu, "% of a core", "budget", CPU_BUDGET, "lower", note)
    yield Row("footprint", "idle wake-ups", wakes, "per second", "budget", WAKE_BUDGET, "lower", note)
    written = float(after["write_bytes"] - before["write_bytes"])
    yield Row("footprint", "bytes written while idle", written, "B", "", None, "lower", f"{note}; budget 0")


def usage(pid: int) -> dict[str, float]:
    """CPU seconds, voluntary context switches of all threads, bytes sent to storage."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                switches += int(line.split()[1])
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return {"cpu_s": (int(stat[11]) + int(stat[12])) / 100, "switches": switches, "write_bytes": int(io["write_bytes"])}


def runtime_row(board: Device) -> Row:
    """What the runtime beside the agent takes: containerd and its shims."""
    total = 0.0
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            cgroup = (proc / "cgroup").read_text()
            name = (proc / "comm").read_text().strip()
            if board.cgroup in cgroup and name.startswith("containerd"):
                total += memory(int(proc.name), 1)[0]
        except OSError:
            continue
    note = "containerd and shims, 10 pods; measured by others at 84 MiB"
    return Row("footprint", "runtime PSS", total, "MiB", "", None, "lower", note)
