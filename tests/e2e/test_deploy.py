"""A pod's life with the network up: deploy, update, delete, refusal, back-off, and a hub that is killed."""

from __future__ import annotations

import json

import pytest

from fleet import Fleet, identities, pod, truth
from rig import Device, until

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]


def test_apply_runs_a_real_container_and_delete_ends_it(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("life", "edge-1"))
    fleet.wait_phase("life")
    assert "default/life/main" in truth(board)
    until(lambda: fleet.view(board) == truth(board), "hub and board to agree")
    shown = fleet.get("pod", "life")
    assert shown["status"]["podIP"]
    assert shown["status"]["containerStatuses"][0]["ready"] is True
    fleet.kubectl("delete", "pod", "life", "--timeout=90s")
    until(lambda: truth(board) == {}, "the container to be gone")
    until(lambda: board.sandboxes() == [], "the sandbox to be gone")


def test_a_new_image_restarts_only_that_container(fleet: Fleet, board: Device) -> None:
    two = [
        {"name": "stays", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "8001"}]},
        {"name": "moves", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "8002"}]},
    ]
    fleet.apply(pod("pair", "edge-1", containers=two))
    fleet.wait_phase("pair")
    until(lambda: len(truth(board)) == 2, "both containers")
    before = identities(board)
    moves = "default/pair/moves"
    fleet.kubectl("patch", "pod", "pair", "-p", image_of("moves", "registry.invalid/none:1"))
    until(lambda: "Failed" in reasons(fleet, "pair"), "the pull to fail")
    assert identities(board) == before, "the old container serves until the new image is here"
    fleet.kubectl("patch", "pod", "pair", "-p", image_of("moves", "rig.local/hello:2"))
    until(lambda: identities(board).get(moves) not in (None, before[moves]), "the changed container to be replaced")
    after = identities(board)
    assert after["default/pair/stays"] == before["default/pair/stays"]
    assert after["default/pair/moves"] != before["default/pair/moves"]
    fleet.kubectl("delete", "pod", "pair", "--timeout=90s")


def image_of(container: str, image: str) -> str:
    return json.dumps({"spec": {"containers": [{"name": container, "image": image}]}})


def reasons(fleet: Fleet, name: str) -> set[str]:
    """The reasons of all events about a pod."""
    return {e["reason"] for e in fleet.get("events", "--field-selector", f"involvedObject.name={name}")["items"]}


def test_labels_and_annotations_restart_nothing(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("still", "edge-1"))
    fleet.wait_phase("still")
    until(lambda: "default/still/main" in truth(board), "the container")
    before = identities(board)
    for i in range(5):
        fleet.kubectl("label", "pod", "still", f"turn={i}", "--overwrite")
        fleet.kubectl("annotate", "pod", "still", f"note={i}", "--overwrite")
    fleet.kubectl("wait", "pod/still", "--for=condition=Ready", "--timeout=90s")
    assert identities(board) == before
    fleet.kubectl("delete", "pod", "still", "--timeout=90s")


def test_an_unsupported_field_is_refused_with_its_path_in_status_and_event(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("asks-much", "edge-1", hostPID=True))
    fleet.wait_phase("asks-much", "Failed")
    shown = fleet.get("pod", "asks-much")["status"]
    assert "spec.hostPID" in shown["message"]
    assert shown["reason"] == "Unsupported"

    def told() -> bool:
        events = fleet.get("events", "--field-selector", "involvedObject.name=asks-much")["items"]
        return any("spec.hostPID" in e["message"] and e["type"] == "Warning" for e in events)

    until(told, "an Event that names the field")
    fleet.kubectl("delete", "pod", "asks-much", "--timeout=90s")
    assert truth(board) == {}


def test_a_container_that_exits_is_restarted_with_backoff_and_counted(fleet: Fleet, board: Device) -> None:
    brief = [{"name": "main", "image": "rig.local/hello:1", "command": ["/bin/sh", "-c", "exit 3"]}]
    fleet.apply(pod("brief", "edge-1", containers=brief))

    def looping() -> bool:
        (c,) = fleet.get("pod", "brief")["status"].get("containerStatuses") or [{}]
        waiting = c.get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == "CrashLoopBackOff" and c["restartCount"] >= 1)

    until(looping, "CrashLoopBackOff")
    (c,) = fleet.get("pod", "brief")["status"]["containerStatuses"]
    assert c["lastState"]["terminated"]["exitCode"] == 3
    fleet.kubectl("delete", "pod", "brief", "--timeout=90s")


def test_a_job_like_pod_ends_succeeded_and_stays_so(fleet: Fleet, board: Device) -> None:
    once = [{"name": "main", "image": "rig.local/hello:1", "command": ["/bin/true"]}]
    fleet.apply(pod("once", "edge-1", containers=once, restartPolicy="Never"))
    fleet.wait_phase("once", "Succeeded")
    (c,) = fleet.get("pod", "once")["status"]["containerStatuses"]
    assert c["state"]["terminated"]["exitCode"] == 0
    assert c["restartCount"] == 0
    fleet.kubectl("delete", "pod", "once", "--timeout=90s")


def test_a_killed_hub_restarts_nothing(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("calm", "edge-1"))
    fleet.wait_phase("calm")
    until(lambda: "default/calm/main" in truth(board), "the container")
    before = identities(board)
    assert fleet.hub is not None
    fleet.hub.kill()
    fleet.start_hub()
    fleet.apply(pod("after", "edge-1"))
    fleet.wait_phase("after")
    assert identities(board)["default/calm/main"] == before["default/calm/main"]
    fleet.kubectl("delete", "pod", "calm", "after", "--timeout=90s")


def test_explain_tells_what_was_decided_from_the_journal(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("told", "edge-1"))
    fleet.wait_phase("told")
    argv = [*board.agent_argv(board)[:1], "explain", "told", "--config", str(board.config_path), "--output", "json"]
    (known,) = json.loads(board.nsenter(argv).stdout)
    whats = [d["what"] for d in known["decisions"]]
    assert any(w.startswith("RunPodSandbox") for w in whats)
    assert any(w.startswith("RunContainer main") for w in whats)
    fleet.kubectl("delete", "pod", "told", "--timeout=90s")


def test_one_bad_image_does_not_hold_up_its_sibling(fleet: Fleet, board: Device) -> None:
    mixed = [
        {"name": "bad", "image": "registry.invalid/none:1"},
        {"name": "good", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}]},
    ]
    fleet.apply(pod("mixed", "edge-1", containers=mixed))
    until(lambda: set(truth(board)) == {"default/mixed/good"}, "the good one to run")

    def told() -> bool:
        states = {c["name"]: c["state"] for c in fleet.get("pod", "mixed")["status"].get("containerStatuses", [])}
        waiting = states.get("bad", {}).get("waiting", {}).get("reason", "")
        return "running" in states.get("good", {}) and waiting in ("ErrImagePull", "ImagePullBackOff")

    until(told, "the bad one's reason at the hub")
    fleet.kubectl("delete", "pod", "mixed", "--timeout=90s")
