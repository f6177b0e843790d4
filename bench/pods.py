"""`kubectl apply` to Running, split into its parts, beside Debian's `podman kube play` of the same
pod in the same run. All on one machine; the parts are told apart by time stamps of one clock."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, progress
from fleet import BIN, Fleet, pod
from rig import Device, images, until

ROUNDS = 10


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = 3 if quick else ROUNDS
    with Fleet() as fleet:
        fleet.start()
        board = fleet.join("edge-1")
        board.boot(network=True)
        board.start_agent()
        fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=30s")
        deploy(fleet, board, "warm-up")
        splits = [deploy(fleet, board, f"bench-{i}") for i in range(rounds)]
        exits = [first_restart(fleet, board, f"crash-{i}") for i in range(rounds)]
        offline = [offline_boot(fleet, board)] if not quick else []
        board.power_off()
    peers = list(podman(rounds))
    total = median(s["total"] for s in splits)
    peer = median(peers) if peers else None
    note = f"median of {rounds}, image present; kubectl's own start included in ours" if peers else "podman is missing"
    yield Row("pods", "kubectl apply → Running", total * 1e3, "ms", "podman kube play", ms(peer), "lower", note)
    for part in ("kubectl and API", "hub, wire and journal", "image and sandbox", "container"):
        value = median(s[part] for s in splits)
        yield Row("pods", f"  of it {part}", value * 1e3, "ms", "whole", total * 1e3, "lower")
    yield Row("pods", "exit → running again", median(exits) * 1e3, "ms", "budget", 150.0, "lower", "first restart")
    for value in offline:
        name = "boot without network → 3 pods"
        yield Row("pods", name, value * 1e3, "ms", "budget", 500.0, "lower", "from agent start")


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def deploy(fleet: Fleet, board: Device, name: str) -> dict[str, float]:
    """One pod; the seconds that each part took."""
    began = time.time()
    fleet.apply(pod(name, board.name))
    applied = time.time()
    until(lambda: any(c.pod == name and not c.sandbox for c in board.containers()), f"{name} to run")
    fleet.wait_phase(name)
    log = stamps(board, name)
    parts = {
        "kubectl and API": applied - began,
        "hub, wire and journal": max(0.0, log["journaled"] - applied),
        "image and sandbox": max(0.0, log["sandbox"] - log["journaled"]),
        "container": max(0.0, log["running"] - log["sandbox"]),
        "total": log["running"] - began,
    }
    fleet.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--timeout=30s")
    until(lambda: not board.containers(), "the board to be empty")
    return parts


def stamps(board: Device, name: str) -> dict[str, float]:
    """When steer first had the pod, had its sandbox, and saw it run: wall clock, from `skerry explain`."""
    argv = [str(BIN / "skerry"), "explain", name, "--config", str(board.config_path), "--output", "json"]
    (known,) = json.loads(board.nsenter(argv).stdout)
    at = {d["what"].split()[0]: d["at"] for d in known["decisions"]}
    return {"journaled": at["Wanted"], "sandbox": at["RunPodSandbox"], "running": at["Started"]}


def first_restart(fleet: Fleet, board: Device, name: str) -> float:
    """Seconds from a container's death to its successor's start, by the kernel's and containerd's word."""
    fleet.apply(pod(name, board.name))
    fleet.wait_phase(name)
    (victim,) = [c for c in board.containers() if not c.sandbox]
    argv = ["kill", "-9", str(victim.pid)]
    began = time.time()
    subprocess.run(argv, check=True)
    until(lambda: [c for c in board.containers() if not c.sandbox and c.id != victim.id], "the restart", 20)
    took = time.time() - began
    fleet.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--timeout=30s")
    until(lambda: not board.containers(), "the board to be empty")
    return took


def offline_boot(fleet: Fleet, board: Device) -> float:
    """Seconds from the agent's start, without network, to three journaled pods running."""
    fleet.apply(*(pod(f"boot-{i}", board.name) for i in range(3)))
    for i in range(3):
        fleet.wait_phase(f"boot-{i}")
    board.reboot(network=False, agent=False)
    began = time.time()
    board.start_agent()
    until(lambda: len([c for c in board.containers() if not c.sandbox]) == 3, "three pods")
    return time.time() - began


def podman(rounds: int) -> Iterator[float]:
    """Seconds of `podman kube play` for the same pod, with a storage of its own; nothing if podman is missing."""
    if shutil.which("podman") is None:
        progress("          podman is not installed: apt-get install podman for the comparison")
        return
    folder = Path(tempfile.mkdtemp(prefix="skerry-podman-", dir="/var/tmp"))
    base = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--runtime", "crun",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none"]  # fmt: skip
    wrap = ["unshare", "-m", "--propagation", "slave", "sh", "-c",
            'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh"]  # fmt: skip
    try:
        archive = images.hello().write(folder)
        subprocess.run([*wrap, *base, "load", "-i", str(archive)], check=True, capture_output=True)
        for i in range(rounds + 1):
            manifest = folder / f"pod-{i}.yaml"
            manifest.write_text(json.dumps(local(pod(f"peer-{i}", "any"))))
            began = time.time()
            play = [*wrap, *base, "kube", "play", "--network", "host", str(manifest)]
            subprocess.run(play, check=True, capture_output=True)
            if i:
                yield time.time() - began
            subprocess.run([*wrap, *base, "kube", "down", str(manifest)], check=True, capture_output=True)
    except subprocess.CalledProcessError as why:
        progress(f"          podman failed: {why.stderr.decode(errors='replace').strip()[-200:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def local(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same pod without a node, and with the image under the name that podman gives it."""
    manifest["spec"].pop("nodeName")
    return manifest
