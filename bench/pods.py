"""`kubectl apply` to a running container, split into its parts, beside Debian's `podman kube play` of the same pod in
the same run; a container's death to its successor; a boot without network. All on one machine and one clock: the parts
are told apart by stamps inside hub and agent (bench/traced.py), starts and exits are told by containerd's events.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from bench import podman
from bench.fleets import Events, Stamped, empty, read_stamps, stamped
from bench.report import Row, progress
from fleet import pod
from rig import Device, until
from rig.cri import Cri

ROUNDS = 10
BOOT_PARTS = ("start and journal", "look", "sandboxes and containers")
PARTS = ("kubectl and API", "hub", "wire", "journal", "runtime")


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = 2 if quick else ROUNDS
    with Stamped() as fleet:
        fleet.start()
        board = fleet.join("edge-1", agent_argv=stamped(fleet))
        board.boot(network=True)
        board.start_agent()
        fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=60s")
        events = Events(board)
        deploy(fleet, board, events, pod("warm-up", "edge-1"))
        progress(f"          {rounds} pods, {rounds} deaths")
        splits = [deploy(fleet, board, events, pod(f"bench-{i}", "edge-1")) for i in range(rounds)]
        exits = [first_restart(fleet, board, events, f"crash-{i}") for i in range(rounds)]
        progress("          boots without network")
        boots, bare = [], []
        for i, boot in enumerate(offline_boots(fleet, board, 1 if quick else 5)):
            boots.append(boot)
            bare.append(bare_cri(board, i))  # taking turns: both meet the same machine
        board.power_off()
    yield from deploy_rows(splits, f"median of {rounds}, image present, containerd, CNI bridge")
    yield from peer_rows(splits, rounds, quick)
    note = f"median of {rounds}: SIGKILL → the successor's start, told by containerd"
    yield Row("pods", "exit → running again", median(exits) * 1e3, "ms", "budget", 150.0, "lower", note)
    yield from boot_rows(boots, median(bare) * 1e3)


def boot_rows(boots: list[dict[str, float]], bare: float) -> Iterator[Row]:
    total = median(b["total"] for b in boots) * 1e3
    name, note = "boot without network → 3 pods", f"median of {len(boots)}: exec of the agent → the last start"
    yield Row("pods", name, total, "ms", "budget", 500.0, "lower", note)
    for part in BOOT_PARTS:
        yield Row("pods", f"  of it {part}", median(b[part] for b in boots) * 1e3, "ms", "whole", total, "lower")
    note = "nothing but RunPodSandbox, CreateContainer, StartContainer for three pods at once, same containerd"
    yield Row("pods", name, total, "ms", "bare CRI calls", bare, "lower", note)


def deploy_rows(splits: list[dict[str, float]], note: str) -> Iterator[Row]:
    total = median(s["total"] for s in splits) * 1e3
    shown = median(s["shown"] for s in splits) * 1e3
    yield Row("pods", "kubectl apply → container runs", total, "ms", "", None, "lower", note)
    for part in PARTS:
        value = median(s[part] for s in splits) * 1e3
        yield Row("pods", f"  of it {part}", value, "ms", "whole", total, "lower")
    for part in ("sandbox", "create", "start"):
        value = median(s[part] for s in splits) * 1e3
        yield Row("pods", f"    of runtime {part}", value, "ms", "whole", total, "lower", "within containerd")
    yield Row("pods", "kubectl apply → shown Running", shown, "ms", "", None, "lower", "the hub's patch is answered")


def peer_rows(splits: list[dict[str, float]], rounds: int, quick: bool) -> Iterator[Row]:
    """podman has the easier task: no API, no hub, and the host's network, which skerry does not support."""
    peers = list(podman.play(pod("peer", "any"), rounds)) if podman.ready(install=not quick) else []
    if not peers:
        return
    total, runtime = (median(s[part] for s in splits) * 1e3 for part in ("total", "runtime"))
    peer, name = median(peers) * 1e3, f"podman {podman.version()} kube play"
    note = f"median of {len(peers)}; podman on the host's network (ours: a CNI bridge), crun, one machine"
    yield Row("pods", "the same pod, apply → runs", total, "ms", name, peer, "lower", note)
    yield Row("pods", "the same pod, journaled → runs", runtime, "ms", name, peer, "lower", note)


def deploy(fleet: Stamped, board: Device, events: Events, manifest: dict[str, Any]) -> dict[str, float]:
    """One pod; the seconds that each part took."""
    began = time.time()
    fleet.apply(manifest)
    ran = events.starts(began, 2)[-1].at
    fleet.wait_phase(manifest["metadata"]["name"])
    hub, agent = read_stamps(fleet.stamps("hub"), began), read_stamps(fleet.stamps(board.name), began)
    heard, sent = first(hub, "heard"), first(hub, "send>")
    framed, applied = first(agent, "frame<"), first(agent, "apply<")
    shown = next(at for at, what in hub if what == "patch<" and at > ran)
    empty(fleet, board)
    return {
        "kubectl and API": heard - began,
        "hub": sent - heard,
        "wire": framed - sent,
        "journal": applied - framed,
        "runtime": ran - applied,
        "total": ran - began,
        "shown": shown - began,
        **{part: first(agent, f"{part}<") - first(agent, f"{part}>") for part in ("sandbox", "create", "start")},
    }


def first(stamps: list[tuple[float, str]], word: str) -> float:
    return next(at for at, what in stamps if what == word)


def first_restart(fleet: Stamped, board: Device, events: Events, name: str) -> float:
    """Seconds from a container's death to its successor's start."""
    fleet.apply(pod(name, board.name))
    fleet.wait_phase(name)
    (victim,) = board.containers()
    began = time.time()
    os.kill(victim.pid, signal.SIGKILL)
    ran = events.starts(began, 1)[0].at
    empty(fleet, board)
    return ran - began


def offline_boots(fleet: Stamped, board: Device, count: int) -> Iterator[dict[str, float]]:
    """Seconds from the agent's start, without network, to three journaled pods running, and their parts."""
    fleet.apply(*(pod(f"boot-{i}", board.name) for i in range(3)))
    for i in range(3):
        fleet.wait_phase(f"boot-{i}")
    stamp, agent = board.folder / "exec-at", board.agent_argv
    board.agent_argv = lambda b: ["sh", "-c", f'date +%s.%N >{stamp}; exec "$@"', "sh", *agent(b)]
    for _ in range(count):
        board.reboot(network=False, agent=False)
        events, began = Events(board), time.time()
        board.start_agent()
        ran = events.starts(began, 6)[-1].at
        until(lambda: len(board.containers()) == 3, "three pods")
        stamps, execed = read_stamps(fleet.stamps(board.name), began), float(stamp.read_text())
        look, sandbox = first(stamps, "look>"), first(stamps, "sandbox>")
        parts = (look - execed, sandbox - look, ran - sandbox)
        yield {"total": ran - execed, **dict(zip(BOOT_PARTS, parts, strict=True))}


def bare_cri(board: Device, round_: int) -> float:
    """Seconds for three pods by nothing but CRI calls, at the same time, on the same containerd after a reboot."""
    board.reboot(network=False, agent=False)

    def run(name: str) -> None:
        with Cri(board.outside(board.cri_socket)) as cri:
            cri.run_pod(name, "rig.local/hello:1")

    began = time.time()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, [f"bare-{round_}-{i}" for i in range(3)]))
    return time.time() - began
