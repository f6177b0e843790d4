"""Input that nobody prepared: odd and wrong manifests, hostile frames, misused commands.

What is wrong is refused with the field, the limit or the offset; what is odd but valid runs; whatever came, the pod
that runs is not touched and the next good change goes through.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import BIN, ROOT, Fleet, identities, pod, status, truth
from rig import Device, until
from rig.site import kubectl

pytestmark = pytest.mark.e2e
SECURE = False  # a stranger at a broker in clear: test_trust.py has one where everything is protected


@pytest.fixture(autouse=True)
def no_traceback(fleet: Fleet, clean: None) -> Iterator[None]:
    """No log of agent, hub or API ever holds a traceback."""
    yield
    logs = [*fleet.site.folder.glob("logs/*.log"), *fleet.site.folder.glob("*/logs/*.log")]
    assert [str(log) for log in logs if b"Traceback" in log.read_bytes()] == []


def main(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}], **fields}]


def mounted(source: dict[str, Any], path: str = "/v") -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}], "containers": main(volumeMounts=[{"name": "v", "mountPath": path}])}


def said(fleet: Fleet, name: str) -> str:
    """All that the hub shows as reason and message of a pod and its first container."""
    shown = fleet.get("pod", name)["status"]
    state = ((shown.get("containerStatuses") or [{}])[0]).get("state", {})
    parts = [shown, state.get("waiting", {}), state.get("terminated", {})]
    return " ".join(f"{p.get('reason', '')}: {p.get('message', '')}" for p in parts)


def wait_said(fleet: Fleet, name: str, pattern: str) -> None:
    until(lambda: re.search(pattern, said(fleet, name)), f"{name}: {pattern}", 120, lambda: said(fleet, name))


@pytest.fixture
def rock(fleet: Fleet, board: Device) -> Iterator[tuple[str, int, int]]:
    """A pod that runs, and still runs untouched after the test."""
    fleet.apply(pod("rock", "edge-1"))
    until(lambda: "default/rock/main" in truth(board), "the container")
    identity = identities(board)["default/rock/main"]
    yield identity
    assert identities(board)["default/rock/main"] == identity


def alive(fleet: Fleet, board: Device, name: str, timeout_s: float = 90.0) -> None:
    """The next good change still goes through."""
    fleet.apply(pod(name, "edge-1"))
    until(lambda: f"default/{name}/main" in truth(board), f"{name} to run", timeout_s)
    until(lambda: f"default/{name}/main" in fleet.view(board), f"{name} to be shown", timeout_s)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "many-containers": ({"containers": [{"name": f"c{i}", "image": "x"} for i in range(300)]},
                        "spec.containers: at most 32 items are allowed, got 300"),
    "many-variables": ({"containers": main(env=[{"name": f"V{i}", "value": "x"} for i in range(1500)])},
                       "spec.containers[0].env: at most 1000 items are allowed, got 1500"),
    "long-grace": ({"terminationGracePeriodSeconds": 99_999_999}, "terminationGracePeriodSeconds: must be between"),
    "a-gpu": ({"containers": main(resources={"limits": {"nvidia.com/gpu": "1"}})},
              "spec.containers[0].resources.limits.nvidia.com/gpu: is not supported"),
    "nul-variable": ({"containers": main(env=[{"name": "X", "value": "a\0b"}])}, "spec.containers[0].env[0].value"),
    "nul-argument": ({"containers": main(args=["\0"])}, "spec.containers[0].args[0]"),
    "negative-room": (mounted({"emptyDir": {"medium": "Memory", "sizeLimit": "-1"}}), "emptyDir.sizeLimit"),
    "one-port-twice": ({"containers": main(ports=[{"containerPort": n, "hostPort": 9000} for n in (80, 81)])},
                       "spec.containers[0].ports[1].hostPort"),
}  # fmt: skip
WAITING: dict[str, tuple[dict[str, Any], str]] = {
    "no-command": ({"containers": main(command=["/nope"])}, "RunContainerError: .*/nope"),
    "tiny-memory": ({"containers": main(resources={"limits": {"memory": "1"}})}, "RunContainerError: .*memory limit"),
    "wrong-type": (mounted({"hostPath": {"path": "/etc/passwd", "type": "Directory"}}), "FailedMount: .*/etc/passwd"),
    "no-such-host-path": (mounted({"hostPath": {"path": "/nix", "type": "Socket"}}), "FailedMount: .*/nix"),
    "over-the-root": (mounted({"emptyDir": {}}, "/"), "RunContainerError: "),
    "no-such-digest": ({"containers": main(image="rig.local/hello@sha256:" + "a" * 64)}, "ImagePull"),
    "no-image-name": ({"containers": main(image="UPPER/!!:::")}, "ImagePull.*UPPER/!!:::"),
}
ODD: dict[str, dict[str, Any]] = {
    "mounts-in-mounts": {
        "volumes": [{"name": n, "emptyDir": {}} for n in ("v", "w")],
        "containers": main(volumeMounts=[{"name": "v", "mountPath": "/v/x"}, {"name": "w", "mountPath": "/v"}]),
    },
    "huge-memory": {"containers": main(resources={"limits": {"memory": "1Ei"}})},
    "huge-cpu": {"containers": main(resources={"limits": {"cpu": "1000000"}})},
    "tiny-cpu": {"containers": main(resources={"limits": {"cpu": "0.0001"}})},
    "a.name-with.dots": {},
}


def test_odd_and_wrong_pods_are_refused_wait_or_run_and_the_reason_is_told(
    fleet: Fleet, board: Device, rock: tuple[str, int, int]
) -> None:
    began = time.monotonic()
    everything = {**{n: s for n, (s, _) in (REFUSED | WAITING).items()}, **ODD}
    fleet.apply(*(pod(name, "edge-1", **spec) for name, spec in everything.items()))
    for name, (_, words) in REFUSED.items():
        wait_said(fleet, name, re.escape(words))
        assert fleet.get("pod", name)["status"]["phase"] == "Failed"
    for name, (_, pattern) in WAITING.items():
        wait_said(fleet, name, pattern)
    until(lambda: {f"default/{name}/main" for name in ODD} <= set(truth(board)), "the odd ones to run")
    restarts = fleet.get("pod", "no-command")["status"]["containerStatuses"][0]["restartCount"]
    pauses = 4 + (time.monotonic() - began) / 60  # of 10, 20, 40 s and so on
    assert restarts <= pauses, "a container that cannot start is started again without a pause"
    alive(fleet, board, "after")
    fleet.kubectl("delete", "pod", *everything, "--timeout=120s")
    until(lambda: set(truth(board)) == {"default/rock/main", "default/after/main"}, "nothing else to run")
    assert sorted(p["name"] for p in status(board)["pods"]) == ["default/after", "default/rock"]


def test_what_kubectl_cannot_apply_changes_nothing(fleet: Fleet, board: Device, rock: tuple[str, int, int]) -> None:
    version = status(board)["generation"]
    head = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"
    wrong = {
        "{": "error parsing",
        "a: b: c": "mapping values",
        f"{head}spec: 5": "PodSpec",
        f"{head}spec: {{containers: {{}}}}": "spec.containers",
        f"{head}spec: {{containers: []}}": "spec.containers: Required value",
        f"{head}spec: {{containers: [{{name: a, image: b}}, {{name: a, image: b}}]}}": "spec.containers[1].name",
    }
    for text, words in wrong.items():
        done = fleet.site.run([kubectl(), "apply", "-f", "-"], stdin=text, check=False)
        assert done.returncode == 1
        assert words in done.stderr, text
    assert status(board)["generation"] == version


def test_objects_up_to_the_largest_that_kubernetes_allows_arrive(fleet: Fleet, board: Device) -> None:
    blob = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "blob"}, "binaryData": {"b": "/w8A/+8="}}
    large = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"x": "a" * 1_000_000}}
    too_large = {**large, "metadata": {"name": "too-large"}, "data": {"x": "a" * 1_200_000}}
    fleet.kubectl("create", "-f", "-", stdin=json.dumps(blob))
    fleet.kubectl("create", "-f", "-", stdin=json.dumps(large))
    done = fleet.site.run([kubectl(), "create", "-f", "-"], stdin=json.dumps(too_large), check=False)
    assert done.returncode == 1
    assert "1048576" in done.stderr
    fleet.apply(pod("b", "edge-1", **mounted({"configMap": {"name": "blob"}})),
                pod("l", "edge-1", **mounted({"configMap": {"name": "large"}})))  # fmt: skip
    until(lambda: {"default/b/main", "default/l/main"} <= set(truth(board)), "both to run")
    for name, key, size in (("b", "b", 5), ("l", "x", 1_000_000)):
        container = truth(board)[f"default/{name}/main"]
        counted = board.ctr("tasks", "exec", "--exec-id", "x", container, "/bin/sh", "-c", f"wc -c < /v/{key}")
        assert int(counted) == size


def test_deletions_of_every_kind(fleet: Fleet, board: Device, rock: tuple[str, int, int]) -> None:
    kept = pod("kept", "edge-1")
    kept["metadata"]["finalizers"] = ["example.com/wait"]
    never = pod("never-ran", "edge-1", containers=main(image="registry.invalid/x:1"))
    fleet.apply(kept, never, pod("forced", "edge-1"), pod("again", "edge-1"))
    until(lambda: {f"default/{n}/main" for n in ("kept", "forced", "again")} <= set(truth(board)), "three to run")
    first = truth(board)["default/again/main"]
    fleet.kubectl("delete", "pod", "never-ran", "--timeout=90s")
    fleet.kubectl("delete", "pod", "forced", "again", "--force", "--grace-period=0", "--timeout=90s")
    fleet.apply(pod("again", "edge-1"))  # at once, under the same name
    fleet.kubectl("delete", "pod", "kept", "--wait=false")
    until(lambda: truth(board).get("default/again/main", first) != first, "the new one in the old one's place")
    until(lambda: set(truth(board)) == {"default/rock/main", "default/again/main"}, "all others to be gone")
    assert fleet.get("pod", "kept")["metadata"]["deletionTimestamp"]
    fleet.kubectl("patch", "pod", "kept", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    until(lambda: "kept" not in fleet.kubectl("get", "pods", "-o", "name"), "the finalized one to be gone")


FRAMES = """
import random, sys, time, zlib
import cbor2
import paho.mqtt.client as mqtt
from skerry.wire import message
from unit.wire import examples
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "stranger", protocol=mqtt.MQTTv5)
client.connect(sys.argv[1], 1883)
client.loop_start()
dice, frames = random.Random(7), []
for value in vars(examples).values():
    for one in value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else [value]:
        try:
            frames.append(message.encode(one))
        except Exception:
            pass
assert len(frames) > 5
evil = [b"", bytes(1), b"\\xff" * 100, b"\\x9f" * 5000, *frames]
for head in (0x10, 0x11, 0x12):
    evil.append(bytes([head]) + zlib.compress(bytes(30_000_000)))
    values = None, -1, 2**64, "x", [], [99, {}], [1, []], [2, {0: 2**63}], float("nan"), cbor2.CBORTag(1, 1)
    evil += [bytes([head]) + cbor2.dumps(value) for value in values]
for frame in frames:
    for _ in range(3):
        bad = bytearray(frame)
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        evil.append(bytes(bad))
    evil.append(frame[: len(frame) // 2])
dice.shuffle(evil)
sent = [client.publish(f"skerry/v1/edge-1/{sys.argv[2]}", frame, qos=1) for frame in evil[:150]]
sent.append(client.publish("skerry/v1/edge-1/nonsense", b"x", qos=1))
for one in sent:
    one.wait_for_publish(60)
time.sleep(1)
print(len(evil))
"""


def test_hostile_frames_change_nothing_and_cost_pauses_only(
    fleet: Fleet, board: Device, rock: tuple[str, int, int]
) -> None:
    before = status(board)
    lines = len(board.agent.log().splitlines()) if board.agent else 0
    for direction in ("up", "down"):
        argv = [str(BIN / "python"), "-c", FRAMES, fleet.site.address, direction]
        fleet.site.run(argv, env={"PYTHONPATH": str(ROOT / "tests")}, timeout_s=120)
        now = status(board)
        assert (now["digest"], now["generation"]) == (before["digest"], before["generation"])
    assert board.agent is not None
    assert fleet.hub is not None
    assert board.agent.running
    assert fleet.hub.running
    until(lambda: fleet.sessions()["edge-1"]["malformed"] > 20, "the hub to count what is malformed")
    assert fleet.sessions()["edge-1"]["crashes"] == 0
    assert len(board.agent.log().splitlines()) - lines < 40, "the log is flooded"
    board.stop_agent()  # rather than to wait for the end of the pause
    board.start_agent()
    alive(fleet, board, "after", 120)


def test_a_second_agent_on_the_same_journal_is_refused_by_name(fleet: Fleet, board: Device) -> None:
    assert board.agent is not None
    done = board.nsenter(board.agent_argv(board), check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"skerry: journal \S+: in use by process \d+\n", done.stderr)


def test_a_second_api_on_the_same_folder_or_port_is_refused(fleet: Fleet, board: Device) -> None:
    own = fleet.data.with_name("own")
    for folder, words in ((fleet.data, "another process serves this data folder"), (own, "cannot listen on")):
        argv = [str(BIN / "skerry-hub"), "api", "--data", str(folder), "--listen", "127.0.0.1:6443"]
        done = fleet.site.run(argv, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    fleet.kubectl("get", "nodes")
