"""Memory, CPU, wake-ups and writes of the connected agent with 0, 1 and 10 pods.

PSS and USS from smaps_rollup. The agent runs from an interpreter, packages and libraries of its own, so that no other
Python process shares its pages: PSS is then nearly USS, as on a board where it is the only one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.fleets import grow, private_python
from bench.report import Row, progress
from fleet import Fleet
from rig import Device

SETTLE_S, SAMPLES, IDLE_S = 300.0, 10, 600.0
SETTLE_FEW_S = 20.0  # with 0 and 1 pods
BUDGET_MIB, CPU_BUDGET, WAKE_BUDGET = 40.0, 0.2, 2.0


def rows(quick: bool = False) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="skerry-python-", dir="/var/tmp") as folder, Fleet(secure=False) as fleet:
        argv = private_python(Path(folder))
        fleet.start()
        board = fleet.join("edge-1", agent_argv=lambda b: [*argv, "run", "--config", str(b.config_path)])
        board.boot(network=True)
        agent = board.start_agent()
        fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=60s")
        have = 0
        for count in (0, 1, 10):
            grow(fleet, board, have, count)
            have = count
            settle = 2.0 if quick else SETTLE_S if count == 10 else SETTLE_FEW_S
            progress(f"          {count} pods: settling for {settle:.0f} s")
            time.sleep(settle)
            pss, uss = memory(agent.pid, SAMPLES if not quick else 3)
            note = f"private interpreter and libraries, no TLS; median after {settle:.0f} s"
            yield Row("footprint", f"agent PSS, {count} pods", pss, "MiB", "budget", BUDGET_MIB, "lower", note)
            yield Row("footprint", f"agent USS, {count} pods", uss, "MiB", "budget", BUDGET_MIB, "lower")
            progress(f"          {count} pods: PSS {pss:.1f} MiB, USS {uss:.1f} MiB")
        yield from idle_rows(agent.pid, 5.0 if quick else IDLE_S)
        yield runtime_row(board)
        board.power_off()


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


def idle_rows(pid: int, seconds: float) -> Iterator[Row]:
    """CPU, wake-ups and bytes written over a quiet time with ten pods."""
    progress(f"          idle for {seconds:.0f} s")
    before, began = usage(pid), time.monotonic()
    time.sleep(seconds)
    after, took = usage(pid), time.monotonic() - began
    cpu = 100 * (after["cpu_s"] - before["cpu_s"]) / took
    wakes = (after["switches"] - before["switches"]) / took
    note = f"10 pods, {took:.0f} s"
    yield Row("footprint", "idle CPU", cpu, "% of a core", "budget", CPU_BUDGET, "lower", note)
    yield Row("footprint", "idle wake-ups", wakes, "per second", "budget", WAKE_BUDGET, "lower", note)
    for what, why in (("write_bytes", "pages made dirty (/proc/PID/io write_bytes)"), ("wchar", "handed to write()")):
        written = float(after[what] - before[what])
        budget = "; budget 0" if what == "write_bytes" else "; sockets and standard error included"
        yield Row("footprint", f"idle {what}", written, "B", "", None, "lower", f"{note}, {why}{budget}")


def usage(pid: int) -> dict[str, float]:
    """CPU seconds, voluntary context switches of all threads, bytes sent to storage and to any write call."""
    switches, cpu_ns = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                switches += int(line.split()[1])
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return {
        "cpu_s": cpu_ns / 1e9,
        "switches": switches,
        "write_bytes": int(io["write_bytes"]),
        "wchar": int(io["wchar"]),
    }


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
    note = "containerd and shims, 10 pods"
    return Row("footprint", "runtime PSS", total, "MiB", "", None, "lower", note)
