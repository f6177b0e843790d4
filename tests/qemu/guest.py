"""What a test asks of a booted board, and of the hub about it: pods, processes, times, memory. Told by the guest's
kernel, systemd and containerd, not by skerry, unless it says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from fleet import Fleet
from rig import until

from .machine import Machine

READY_TIMEOUT_S, POD_TIMEOUT_S = 300.0, 300.0
HOST = "10.0.2.2"  # the host's loopback, as QEMU's user network shows it to the guest


def active(machine: Machine, unit: str) -> str:
    return machine.console.run(f"systemctl is-active {unit}", check=False).strip()


def wait_active(machine: Machine, unit: str) -> None:
    until(
        lambda: active(machine, unit) == "active", f"{unit} to be active", READY_TIMEOUT_S,
        lambda: machine.console.run(f"systemctl status --no-pager -l {unit}; journalctl -b --no-pager -n 40 -u {unit}",
                                    check=False),
    )  # fmt: skip


def containers(machine: Machine) -> dict[str, int]:
    """Running containers that are no sandbox: name in the pod → pid in the guest."""
    said = machine.console.run("ctr -n k8s.io containers ls; echo ==; ctr -n k8s.io tasks ls", check=False)
    listed, _, tasks = said.partition("==")
    names = {line.split()[0] for line in listed.splitlines()[1:] if line.strip() and "pause" not in line}
    found = {}
    for line in tasks.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "RUNNING" and words[0] in names:
            found[words[0]] = int(words[1])
    return found


def wait_containers(machine: Machine, count: int = 1, timeout_s: float = POD_TIMEOUT_S) -> dict[str, int]:
    """Until so many containers run; their ids and pids."""

    def there() -> dict[str, int] | None:
        found = containers(machine)
        return found if len(found) == count else None

    found = until(there, f"{count} container(s) to run", timeout_s, lambda: trouble(machine))
    assert found is not None
    return found


def pods(machine: Machine) -> dict[str, int]:
    """Pod → pid of its (one) container, for those whose container runs."""
    running = containers(machine)
    if not running:
        return {}
    said = machine.console.run(
        f"for c in {' '.join(running)}; do ctr -n k8s.io containers info $c | grep -m1 'io.kubernetes.pod.name\"'; "
        "echo == $c; done"
    )
    found = {}
    for name, ident in re.findall(r'io.kubernetes.pod.name": "([^"]+)",?\n== (\S+)', said):
        found[name] = running[ident]
    return found


def wait_pods(machine: Machine, names: Iterable[str], timeout_s: float = POD_TIMEOUT_S) -> None:
    """Until a container of each of these pods runs."""
    wanted = set(names)
    until(lambda: wanted <= set(pods(machine)), f"{sorted(wanted)} to run", timeout_s, lambda: trouble(machine))


def start_times(machine: Machine, pids: list[int]) -> dict[int, float]:
    """Seconds after the guest's boot at which each process began."""
    said = machine.console.run(f"getconf CLK_TCK; for p in {' '.join(map(str, pids))}; do cat /proc/$p/stat; done")
    ticks, *lines = said.split("\n")
    found = {}
    for line in lines:
        if ") " in line:
            found[int(line.split()[0])] = int(line.rpartition(") ")[2].split()[19]) / int(ticks)
    return found


def reached(machine: Machine, unit: str) -> float:
    """Seconds after the guest's kernel began at which systemd had the unit active."""
    said = machine.console.run(f"systemctl show -p ActiveEnterTimestampMonotonic --value {unit}")
    return int(said.strip()) / 1e6


def agent_pss_kib(machine: Machine) -> int:
    """PSS of skerry's main process."""
    said = machine.console.run("cat /proc/$(systemctl show -p MainPID --value skerry)/smaps_rollup")
    found = re.search(r"^Pss:\s+(\d+) kB", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


def doctor(machine: Machine) -> list[dict[str, Any]]:
    """The checks of `skerry doctor`, whatever its exit code."""
    said = machine.console.run("skerry doctor --output json", check=False)
    start = min((i for i in (said.find("["), said.find("{")) if i >= 0), default=-1)
    assert start >= 0, said
    value = json.loads(said[start:])
    found = value if isinstance(value, list) else value["checks"]
    assert isinstance(found, list)
    return found


def wait_ready(fleet: Fleet, node: str) -> None:
    """Until kubectl on the host shows the board Ready."""
    wait = ["wait", f"node/{node}", "--for=condition=Ready", f"--timeout={int(READY_TIMEOUT_S)}s"]
    fleet.site.kubectl(*wait, timeout_s=READY_TIMEOUT_S + 30)


def wait_phase(fleet: Fleet, pod: str, phase: str = "Running") -> None:
    """Until kubectl on the host shows the phase."""
    fleet.wait_phase(pod, phase, POD_TIMEOUT_S)


def trouble(machine: Machine) -> str:
    """What to read when something did not happen."""
    return machine.console.run(
        "systemctl --failed --no-pager --plain; free -m; df -h /data / | cat; ctr -n k8s.io containers ls; "
        "ctr -n k8s.io tasks ls; journalctl -b --no-pager -n 40 -u skerry -u containerd -u skerry-images",
        check=False,
    )
