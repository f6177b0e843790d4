"""A Secret from kubectl to the pod: in clear in the pod's own tmpfs while it runs, and nowhere else on the way.

What is planted is looked for on the whole flash of the board, in every log, in what the broker passes on, in what
`skerry explain` and `skerry status` show, and in the environment of every process of this machine.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import BIN, Fleet, identities, pod, status, truth
from rig import Device, Process, until
from rig.process import pids
from skerry_hub import pki_files
from skerry_hub.enrolment.authority import NAME, STEM

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]
CANARY = b"nobody-may-read-this-4711"  # as many bytes as not to end a group of base64
SPELLED = (CANARY, base64.b64encode(CANARY)[:32], CANARY.hex().encode())
POD = "default/reader/main"
EAR = "skerry-hub:ear"
LISTEN = """
import ssl, sys
from paho.mqtt.client import CallbackAPIVersion, Client
client = Client(CallbackAPIVersion.VERSION2)
client.tls_set(*sys.argv[2:5], tls_version=ssl.PROTOCOL_TLS_CLIENT)
out = open(sys.argv[1], "wb", buffering=0)
client.on_connect = lambda client, *_: client.subscribe("#")
client.on_subscribe = lambda *_: print("listens", flush=True)
client.on_message = lambda _c, _u, said: out.write(said.topic.encode() + b" " + said.payload + b"\\n")
client.connect("127.0.0.1", 8883)
client.loop_forever()
"""


def secret(value: bytes = CANARY) -> dict[str, Any]:
    meta = {"name": "creds", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"word": value.decode()}}


def reader(board: Device, name: str = "reader", does: str = "sleep 10000", **spec: Any) -> dict[str, Any]:
    main = {
        "name": "main", "image": "rig.local/hello:1", "command": ["/bin/sh", "-c", does],
        "volumeMounts": [{"name": "creds", "mountPath": "/creds"}],
    }  # fmt: skip
    volumes = [{"name": "creds", "secret": {"secretName": "creds"}}]
    return pod(name, board.name, containers=[main], volumes=volumes, **spec)


def word(board: Device) -> bytes:
    """What the pod reads."""
    shell = ["tasks", "exec", "--exec-id", os.urandom(6).hex(), truth(board)[POD], "cat", "/creds/word"]
    return board.ctr(*shell).encode()


def holding(*folders: Path) -> list[str]:
    """The files below these that hold what was planted, however it is spelled."""
    argv = ["grep", "-raFl", *(f"-e{said.decode()}" for said in SPELLED), *map(str, folders)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def in_memory(board: Device) -> list[str]:
    return holding(board.outside(board.run_dir) / "volumes")


def environments() -> list[str]:
    """The processes whose environment holds it: those of the boards, of their containers and of everybody else."""
    out = []
    for pid in pids():
        try:
            said = Path(f"/proc/{pid}/environ").read_bytes()
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        out += [f"{pid} {name!r}"] if any(spelled in said for spelled in SPELLED) else []
    return out


def logs(fleet: Fleet) -> list[Path]:
    return [*fleet.site.folder.glob("logs"), *fleet.site.folder.glob("*/logs")]


@pytest.fixture
def heard(fleet: Fleet) -> Iterator[Path]:
    """All that the broker passes on, to one who listens as a hostile broker does."""
    authority = pki_files.authority(fleet.trust, STEM, NAME)
    pki_files.pair(fleet.trust, "ear", authority, EAR, (), ())
    rules = fleet.trust / "rules"
    rules.write_text(f"{rules.read_text()}user {EAR}\ntopic read #\n")
    broker = fleet.broker
    assert broker is not None
    broker.signal(signal.SIGHUP)
    at = fleet.site.folder / "heard"
    files = [str(fleet.trust / name) for name in (f"{STEM}.crt", "ear.crt", "ear.key")]
    ear: Process = fleet.site.spawn([sys.executable, "-c", LISTEN, str(at), *files], "ear")
    ear.wait_log("listens")
    yield at
    ear.kill()


def test_a_secret_is_in_clear_in_the_pods_tmpfs_alone(fleet: Fleet, board: Device, heard: Path) -> None:
    fleet.apply(secret(), reader(board))
    fleet.wait_phase("reader")
    assert word(board) == CANARY
    assert in_memory(board), "the search finds it where it is"
    seen = heard.read_bytes()
    assert f"skerry/v1/{board.name}/down".encode() in seen
    assert not [said for said in SPELLED if said in seen]
    skerry = [str(BIN / "skerry")]
    for command in (["explain", "reader"], ["status"], ["get", "pods"]):
        argv = [*skerry, *command, "--config", str(board.config_path), "--output", "json"]
        shown = board.nsenter(argv, check=False)
        assert CANARY.decode() not in shown.stdout + shown.stderr
    assert environments() == []
    assert holding(board.disk, *logs(fleet)) == []
    fleet.kubectl("delete", "pod", "reader", "--timeout=60s")
    until(lambda: not in_memory(board), "the Secret to be gone from memory")
    assert holding(board.disk, *logs(fleet)) == []


def test_it_goes_with_the_end_of_a_pod_that_is_not_deleted(fleet: Fleet, board: Device) -> None:
    fleet.apply(secret(), reader(board, "short", "cat /creds/word | wc -c; sleep 1", restartPolicy="Never"))
    fleet.wait_phase("short", "Succeeded")
    until(lambda: not in_memory(board), "the Secret to be gone from memory")
    assert fleet.kubectl("logs", "short").split() == [str(len(CANARY))]


def test_a_change_arrives_and_neither_it_nor_a_new_hub_nor_a_new_enrolment_restarts_the_pod(
    fleet: Fleet, board: Device
) -> None:
    fleet.apply(secret(), reader(board))
    fleet.wait_phase("reader")
    before = identities(board)
    fleet.apply(secret(CANARY[::-1]))
    until(lambda: word(board) == CANARY[::-1], "the changed Secret", 60)
    fleet.apply(secret())
    until(lambda: word(board) == CANARY, "the Secret as it was", 60)
    settled = status(board)
    assert fleet.hub is not None
    fleet.hub.kill()
    fleet.start_hub()
    until(lambda: fleet.sessions()[board.name]["state"] == "live", "the session", 60)
    fleet.apply(pod("after", board.name))  # whatever the new hub has to say comes with it, or came before
    fleet.wait_phase("after")
    now = status(board)
    assert now["generation"] == settled["generation"] + 1, "the hub sent nothing again"
    token = board.disk / "token"
    token.write_text(fleet.token(board.name) + "\n")
    board.kill_agent()
    board.start_agent()
    until(lambda: not token.exists(), "the new enrolment", 60)
    until(lambda: status(board)["generation"] > now["generation"], "the Secret, sealed to the new key", 60)
    assert word(board) == CANARY
    board.cut()
    board.kill_agent()
    board.start_agent()
    board.connect()
    assert {name: who for name, who in identities(board).items() if name in before} == before
    assert holding(board.disk, *logs(fleet)) == []


def test_a_board_without_network_opens_it_from_its_journal(fleet: Fleet, board: Device) -> None:
    fleet.apply(secret(), reader(board))
    fleet.wait_phase("reader")
    board.reboot(network=False)
    until(lambda: POD in truth(board), "the pod to run again, offline", 60)
    assert word(board) == CANARY
    assert holding(board.disk) == []
    keys = json.loads((board.disk / "identity.json").read_text())
    assert len(keys["sealing"]) == 64, "and whoever has the card has this, so the Secret too"
    board.connect()
