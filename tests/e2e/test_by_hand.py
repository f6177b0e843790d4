"""At the box: manifests in a folder, and what a person types there. Most of it without broker and hub.

The agent is the installed one; the person's commands are `skerry` in a process of its own, on the board.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, identities, truth
from rig import Device, Site, images, until
from rig.device import ROOT
from rig.process import children

pytestmark = [pytest.mark.e2e]

BUSYBOX = images.hello()
LOOP = "echo began; trap 'echo ends; exit 0' TERM; i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done"


def config(board: Device) -> str:
    return (
        f'data_dir = "{board.journal_path.parent}"\n'
        f'run_dir = "{board.run_dir}"\n'
        f'log_dir = "{board.disk / "log"}"\n'
        f'containerd_socket = "{board.cri_socket}"\n'
        f'manifests_dir = "{folder(board)}"\n'
    )


def folder(board: Device) -> Path:
    return board.disk / "etc" / "manifests"


def manifest(name: str, script: str = LOOP, **spec: Any) -> str:
    main = {"name": "main", "image": BUSYBOX.name, "command": ["sh", "-c", script], "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [main], "terminationGracePeriodSeconds": 5, **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, indent=1)


def skerry(board: Device, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return board.nsenter(argv(board, *words), 120, stdin=stdin, check=False)


def argv(board: Device, command: str, *words: str) -> list[str]:
    return [str(ROOT / ".venv" / "bin" / "skerry"), command, "--config", str(board.config_path), *words]


def shown(board: Device) -> dict[str, dict[str, Any]]:
    done = skerry(board, "get", "-o", "json")
    return {p["name"]: p for p in json.loads(done.stdout)["pods"]} if done.returncode == 0 else {}


def running(board: Device, name: str) -> dict[str, Any]:
    """What `get` shows of a manifest's pod that runs; empty while it does not."""
    found = shown(board).get(f"{name}-{board.name}", {})
    return found if found.get("status") == "Running" else {}


@pytest.fixture(scope="module")
def alone() -> Iterator[Device]:
    """A board that never joined a hub, with one manifest in its folder before the agent's first start."""
    with Site() as site:
        board = site.device("alone", images=[BUSYBOX], agent_config=config)
        board.boot()
        folder(board).mkdir()
        (folder(board) / "beacon.json").write_text(manifest("beacon"))
        board.start_agent()
        yield board
        board.power_off()
        assert board.leftovers() == []


def test_a_manifest_runs_before_any_hub_and_get_shows_it(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    text = skerry(alone, "get")
    assert text.stdout.splitlines()[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert text.stdout.splitlines()[1].split()[:5] == ["default", "beacon-alone", "1/1", "Running", "0"]
    assert (text.returncode, text.stderr) == (0, "")


def test_logs_of_a_pod_by_the_name_in_its_manifest(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    until(lambda: "line 2" in skerry(alone, "logs", "beacon").stdout, "two lines")
    whole = skerry(alone, "logs", "default/beacon-alone")
    assert whole.stdout.startswith("began\nline 1\n")
    assert len(skerry(alone, "logs", "beacon", "--tail", "1").stdout.splitlines()) == 1
    assert skerry(alone, "logs", "beacon", "--tail", "1", "--timestamps").stdout[:2] == "20"
    assert skerry(alone, "logs", "beacon", "--since", "1h").stdout.startswith("began\n")
    missing = skerry(alone, "logs", "nobody")
    assert (missing.returncode, missing.stderr) == (
        1, "skerry: there is no pod 'nobody' on this device; skerry get lists them\n",
    )  # fmt: skip
    other = skerry(alone, "logs", "beacon", "-c", "side")
    assert (other.returncode, other.stderr) == (1, "skerry: container side is not valid for pod beacon-alone\n")


def test_a_followed_log_goes_on_until_it_is_interrupted(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    follow = alone.spawn(argv(alone, "logs", "-f", "beacon", "--tail", "1"), "follow")
    until(lambda: len(follow.log().splitlines()) >= 3, "three lines")
    assert follow.running


def test_exec_passes_input_output_and_exit_code(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    done = skerry(alone, "exec", "beacon", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    piped = skerry(alone, "exec", "-i", "beacon", "--", "cat", stdin="a\nb\n" * 10_000)
    assert (piped.returncode, piped.stdout) == (0, "a\nb\n" * 10_000)
    wrong = skerry(alone, "exec", "beacon", "--", "/no/such/command")
    assert wrong.returncode == 1
    assert "/no/such/command" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_exec_with_a_terminal_is_raw_and_has_its_size(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    script = "read x; stty size; echo got $x; read y; stty size; exit 5"
    inside = alone.ns.argv_inside(argv(alone, "exec", "-it", "beacon", "--", "sh", "-c", script))
    person = subprocess.Popen(inside, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    before = termios.tcgetattr(slave)
    said = b""

    def until_said(what: bytes) -> None:
        nonlocal said
        end = time.monotonic() + 60
        while what not in said:
            assert time.monotonic() < end, said
            if select.select([master], [], [], 1)[0]:
                said += os.read(master, 4096)

    time.sleep(3)  # the size comes after the start, as with kubectl
    os.write(master, b"word\r")
    until_said(b"33 99\r\n")
    until_said(b"got word")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
    os.kill(children(person.pid)[0], signal.SIGWINCH)  # it is not in the foreground of a terminal of its own here
    time.sleep(1)
    os.write(master, b"more\r")
    until_said(b"44 88")
    assert person.wait(60) == 5
    assert termios.tcgetattr(slave) == before, "the terminal is as it was"
    os.close(master)
    os.close(slave)


def test_an_interrupted_exec_leaves_no_process(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    sleeper = alone.spawn(argv(alone, "exec", "beacon", "--", "sleep", "98765"), "sleeper")

    def sleeps() -> bool:
        return "sleep 98765" in skerry(alone, "exec", "beacon", "--", "ps").stdout

    until(sleeps, "the sleep in the container")
    os.kill(sleeper.pid, signal.SIGHUP)
    until(lambda: not sleeper.running, "the command to end")
    until(lambda: not sleeps(), "its process to be gone")


def test_restart_stops_gracefully_and_the_agent_starts_again(alone: Device) -> None:
    before = until(lambda: running(alone, "beacon"), "the beacon")
    done = skerry(alone, "restart", "beacon")
    assert (done.returncode, done.stdout) == (0, "default/beacon-alone: stopped main; the agent starts them again\n")

    def again() -> bool:
        now = running(alone, "beacon")
        return bool(now and now["restarts"] == before["restarts"] + 1 and now["uid"] == before["uid"])

    until(again, "the restart")
    assert "ends" in skerry(alone, "logs", "--previous", "beacon").stdout


def test_a_pod_that_nothing_would_start_again_is_not_restarted(alone: Device) -> None:
    (folder(alone) / "once.json").write_text(manifest("once", restartPolicy="Never"))
    until(lambda: running(alone, "once"), "the pod")
    refused = skerry(alone, "restart", "once")
    assert refused.returncode == 1
    assert refused.stderr == "skerry: pod default/once-alone has restartPolicy Never: nothing would start it again\n"
    (folder(alone) / "once.json").unlink()
    until(lambda: "once-alone" not in shown(alone), "the pod to go")


def test_the_agent_dies_and_the_same_container_runs_on(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    before = identities(alone)
    alone.kill_agent()
    assert shown(alone)["beacon-alone"]["status"] == "Running", "get needs no agent"
    alone.start_agent()
    until(lambda: "is up" in (alone.agent.log() if alone.agent else ""), "the agent")
    time.sleep(3)
    assert identities(alone) == before


def test_an_edit_replaces_a_comment_does_not_a_mistake_keeps_and_a_removal_removes(alone: Device) -> None:
    file = folder(alone) / "second.yaml"
    text = "# first\n" + manifest("second")
    file.write_text(text)
    first = until(lambda: running(alone, "second"), "the second pod")
    before = identities(alone)
    file.write_text("# another comment\n" + manifest("second"))
    file.write_text(file.read_text() + "---\n{half")
    until(lambda: "second.yaml" in skerry(alone, "get").stdout, "the mistake to be told")
    assert identities(alone) == before
    file.write_text("# another comment\n" + manifest("second"))
    until(lambda: "second.yaml" not in skerry(alone, "get").stdout, "the mistake to be gone")
    assert identities(alone) == before
    file.write_text(manifest("second", LOOP.replace("began", "changed")))

    def replaced() -> bool:
        now = running(alone, "second")
        return bool(now and now["uid"] != first["uid"])

    until(replaced, "the edited pod")
    assert skerry(alone, "logs", "second").stdout.startswith("changed\n")
    file.unlink()
    until(lambda: set(truth(alone)) == {"default/beacon-alone/main"}, "only the beacon")


def test_after_a_power_cut_the_folders_pods_run(alone: Device) -> None:
    until(lambda: running(alone, "beacon"), "the beacon")
    uid = shown(alone)["beacon-alone"]["uid"]
    alone.reboot()
    until(lambda: set(truth(alone)) == {"default/beacon-alone/main"}, "the beacon")
    assert shown(alone)["beacon-alone"]["uid"] == uid


def test_the_hub_shows_a_mirror_that_follows_the_device_and_that_nobody_can_stop_it_with(tmp_path: Path) -> None:
    with Fleet() as fleet:
        fleet.start()
        board = fleet.join("edge-7", images=[BUSYBOX])
        joined = board.agent_config
        assert joined is not None
        board.agent_config = lambda b: joined(b) + f'manifests_dir = "{folder(b)}"\n'
        board.boot(network=True)
        folder(board).mkdir()
        (folder(board) / "beacon.json").write_text(manifest("beacon"))
        board.start_agent()
        until(lambda: fleet.kubectl("get", "pod", "beacon-edge-7", "--ignore-not-found", "-o", "name"), "the mirror")
        fleet.wait_phase("beacon-edge-7")
        shown = fleet.get("pod", "beacon-edge-7")
        local = until(lambda: running(board, "beacon"), "the beacon on the board")
        annotations = shown["metadata"]["annotations"]
        assert annotations["kubernetes.io/config.source"] == "file"
        assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"] == local["uid"]
        assert fleet.view(board) == truth(board)
        until(lambda: "line 1\n" in fleet.kubectl("logs", "beacon-edge-7", check=False), "kubectl logs of the mirror")
        assert fleet.kubectl("exec", "beacon-edge-7", "--", "echo", "in there") == "in there\n"
        before = identities(board)
        fleet.kubectl("delete", "pod", "beacon-edge-7", "--timeout=60s", "--wait=false")

        def again() -> bool:
            try:
                now = fleet.get("pod", "beacon-edge-7")
            except Exception:
                return False
            fresh = now["metadata"]["uid"] != shown["metadata"]["uid"]
            return bool(fresh and now.get("status", {}).get("phase") == "Running")

        until(again, "the mirror to be made again")
        assert identities(board) == before
        (folder(board) / "beacon.json").unlink()
        until(lambda: not fleet.get("pods")["items"], "the mirror to go")
        assert truth(board) == {}
        board.power_off()
        assert board.leftovers() == []
