"""What a device reports, as the API shows it: tables of patches, and that nothing is written when nothing changed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from skerry.model.report import ContainerStatus, Event, Life, NodeFacts, Phase, PodStatus
from skerry_hub.apiserver import patch_strategic, quantity
from skerry_hub.edgecontroller.status import (
    READY,
    RESTORED,
    awaiting,
    event_object,
    full_patch,
    held_patch,
    node_patch,
    pod_patch,
    presence_patch,
    refusal_event,
    timestamp,
)
from unit.hub.manifests import api_pod

AT, LATER = 1_800_000_000, 1_800_000_060
RUNNING = ContainerStatus("main", Life.RUNNING, "busybox:1", "sha256:1", "c1", started_at=AT)
STATUS = PodStatus("uid-web", "default", "web", Phase.RUNNING, (RUNNING,), pod_ip="10.0.0.5", started_at=AT)
FACTS = NodeFacts(
    4000, 512 << 20, 110, "arm64", "linux", "Debian 12", "6.1", "boot", "machine", "containerd://1.6.20", "0.1.0",
    ("192.168.1.9", "fe80::1"),
)  # fmt: skip


def patched(said: PodStatus, have: dict[str, Any], wall: float = AT) -> dict[str, Any]:
    """The status after the patch, as the API's own strategic merge makes it."""
    pod = {"status": have}
    patch = pod_patch(said, api_pod()["spec"], have, "192.168.1.9", wall)
    after = patch_strategic.apply("Pod", pod, {"status": patch}) if patch is not None else pod
    shown: dict[str, Any] = copy.deepcopy(after["status"])
    return shown


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


REFUSED = PodStatus("uid-web", "default", "web", Phase.FAILED, reason="Unsupported", message="spec.hostPID: no")


@pytest.mark.parametrize(
    ("owner", "phase"),
    [
        (None, "Failed"),
        ({"kind": "Job", "controller": True}, "Failed"),
        ({"kind": "Node", "controller": True}, "Failed"),
        ({"kind": "ReplicaSet"}, "Failed"),
        ({"kind": "ReplicaSet", "controller": True}, "Pending"),
        ({"kind": "DaemonSet", "controller": True}, "Pending"),
        ({"kind": "RoleBasedGroup", "controller": True}, "Pending"),
    ],
)
def test_a_refused_pod_waits_where_its_controller_would_make_another_at_once(
    owner: dict[str, Any] | None, phase: str
) -> None:
    meta = {"ownerReferences": [owner]} if owner else {}
    got = patched(awaiting(REFUSED, meta), {"phase": "Pending"})
    assert (got["phase"], got["reason"], got["message"]) == (phase, "Unsupported", "spec.hostPID: no")
    assert conditions(got)["Ready"] == "False"


def test_what_has_really_ended_or_is_gone_is_no_refusal() -> None:
    meta = {"ownerReferences": [{"kind": "ReplicaSet", "controller": True}]}
    ended = replace(STATUS, phase=Phase.FAILED, containers=(replace(RUNNING, life=Life.TERMINATED, exit_code=1),))
    for said in (STATUS, ended, replace(REFUSED, gone=True)):
        assert awaiting(said, meta) is said


def test_a_running_pod() -> None:
    got = patched(STATUS, {"phase": "Pending", "qosClass": "BestEffort"})
    assert got["phase"] == "Running"
    assert got["qosClass"] == "BestEffort"
    assert (got["podIP"], got["podIPs"], got["hostIP"]) == ("10.0.0.5", [{"ip": "10.0.0.5"}], "192.168.1.9")
    assert got["startTime"] == timestamp(AT)
    assert got["containerStatuses"] == [
        {
            "name": "main", "state": {"running": {"startedAt": timestamp(AT)}}, "lastState": {}, "ready": True,
            "started": True, "restartCount": 0, "image": "busybox:1", "imageID": "sha256:1",
            "containerID": "containerd://c1",
        }
    ]  # fmt: skip
    assert conditions(got) == dict.fromkeys(("Initialized", "Ready", "ContainersReady", "PodScheduled"), "True")


def test_nothing_is_written_when_nothing_changed() -> None:
    shown = patched(STATUS, {})
    assert pod_patch(STATUS, api_pod()["spec"], shown, "192.168.1.9", LATER) is None


def test_a_patch_holds_only_what_changed() -> None:
    shown = patched(STATUS, {})
    patch = pod_patch(replace(STATUS, pod_ip="10.0.0.6"), api_pod()["spec"], shown, "192.168.1.9", LATER)
    assert patch == {"podIP": "10.0.0.6", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.6"}]}
    assert patched(replace(STATUS, pod_ip="10.0.0.6"), shown)["podIPs"] == [{"ip": "10.0.0.6"}]


PULL = "ImagePullBackOff"
WAITING = replace(RUNNING, life=Life.WAITING, container_id="", started_at=0, reason=PULL, message="no route")
ENDED = replace(RUNNING, life=Life.TERMINATED, exit_code=3, reason="Error", message="bye", finished_at=LATER)
LOOPING = ContainerStatus(
    "main", Life.WAITING, "busybox:1", "sha256:1", "c1", 4, "CrashLoopBackOff", "back-off 40s", 0, AT, LATER,
    last_container_id="c1", last_exit_code=3, last_reason="Error", last_started_at=AT, last_finished_at=LATER,
)  # fmt: skip


@pytest.mark.parametrize(
    ("container", "state", "last", "ready"),
    [
        (RUNNING, {"running": {"startedAt": timestamp(AT)}}, {}, True),
        (WAITING, {"waiting": {"reason": "ImagePullBackOff", "message": "no route"}}, {}, False),
        (
            ENDED,
            {
                "terminated": {
                    "exitCode": 3, "reason": "Error", "message": "bye", "startedAt": timestamp(AT),
                    "finishedAt": timestamp(LATER), "containerID": "containerd://c1",
                }
            },
            {},
            False,
        ),
        (
            LOOPING,
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            {
                "terminated": {
                    "exitCode": 3, "reason": "Error", "startedAt": timestamp(AT), "finishedAt": timestamp(LATER),
                    "containerID": "containerd://c1",
                }
            },
            False,
        ),
    ],
)  # fmt: skip
def test_container_states(container: ContainerStatus, state: Any, last: Any, ready: bool) -> None:
    (shown,) = patched(replace(STATUS, containers=(container,)), {})["containerStatuses"]
    assert (shown["state"], shown["lastState"], shown["ready"]) == (state, last, ready)
    assert shown["restartCount"] == container.restarts


@pytest.mark.parametrize(
    ("phase", "container", "ready", "reason"),
    [
        (Phase.RUNNING, RUNNING, "True", None),
        (Phase.PENDING, WAITING, "False", "ContainersNotReady"),
        (Phase.RUNNING, LOOPING, "False", "ContainersNotReady"),
        (Phase.SUCCEEDED, ENDED, "False", "PodCompleted"),
        (Phase.FAILED, ENDED, "False", "PodFailed"),
    ],
)
def test_ready_follows_phase_and_containers(phase: Phase, container: ContainerStatus, ready: str, reason: Any) -> None:
    got = patched(replace(STATUS, phase=phase, containers=(container,)), {})
    for kind in ("Ready", "ContainersReady"):
        (condition,) = [c for c in got["conditions"] if c["type"] == kind]
        assert (condition["status"], condition.get("reason")) == (ready, reason)


def test_a_transition_moves_its_time_and_only_its_own() -> None:
    shown = patched(STATUS, {}, AT)
    got = patched(replace(STATUS, containers=(LOOPING,)), shown, LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in got["conditions"]}
    assert times == {
        "Initialized": timestamp(AT), "PodScheduled": timestamp(AT),
        "Ready": timestamp(LATER), "ContainersReady": timestamp(LATER),
    }  # fmt: skip
    again = patched(replace(STATUS, phase=Phase.FAILED, containers=(ENDED,)), got, LATER + 60)
    assert {c["lastTransitionTime"] for c in again["conditions"] if c["type"] == "Ready"} == {timestamp(LATER)}


def test_conditions_of_others_stay() -> None:
    gate = {"type": "example.com/gate", "status": "True"}
    assert gate in patched(STATUS, {"conditions": [gate]})["conditions"]


def test_reason_and_message_go_when_they_no_longer_hold() -> None:
    shown = patched(replace(STATUS, reason="FailedMount", message="no such secret"), {})
    assert (shown["reason"], shown["message"]) == ("FailedMount", "no such secret")
    assert not {"reason", "message"} & set(patched(STATUS, shown))


def test_a_pod_that_lost_its_address_shows_none() -> None:
    got = patched(replace(STATUS, pod_ip=""), patched(STATUS, {}))
    assert not got.get("podIP")
    assert not got.get("podIPs")


def test_containers_stand_in_the_order_of_the_spec_and_strangers_are_left_out() -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}]}
    said = replace(STATUS, containers=tuple(replace(RUNNING, name=n) for n in ("x", "b", "a")))
    patch = pod_patch(said, spec, {}, "", AT)
    assert patch is not None
    assert [c["name"] for c in patch["containerStatuses"]] == ["a", "b"]


# --- nodes ------------------------------------------------------------------------------------------------------------


def after(node: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    if patch is not None:
        node = patch_strategic.apply("Node", {"status": node}, {"status": patch})["status"]
    return node


def test_a_node_shows_what_the_device_says_of_itself() -> None:
    shown = after({}, node_patch(FACTS, {}, AT))
    assert shown["capacity"] == shown["allocatable"] == {"cpu": "4", "memory": "512Mi", "pods": "110"}
    assert shown["addresses"] == [{"type": "ExternalIP", "address": "192.168.1.9"}]
    assert shown["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20"
    assert shown["nodeInfo"]["kubeletVersion"] == "v0.1.0+skerry"
    assert node_patch(FACTS, shown, AT) is None


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0"), (1 << 29, "512Mi"), ((1 << 29) + 4096, "524292Ki"), (3 << 30, "3Gi"), (1 << 40, "1Ti")],
)
def test_memory_is_written_as_the_api_shows_it(size: int, shown: str) -> None:
    status = after({}, node_patch(replace(FACTS, memory_bytes=size), {}, AT))
    assert status["capacity"]["memory"] == shown == quantity.canonical(shown)


def test_a_node_that_lost_its_address_and_gained_half_a_core() -> None:
    hub = [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": "pi"}]
    shown = after({"addresses": hub}, node_patch(FACTS, {"addresses": hub}, AT))
    assert {a["type"] for a in shown["addresses"]} == {"InternalIP", "ExternalIP"}, "no name that nobody resolves"
    changed = replace(FACTS, cpu_millis=4500, addresses=())
    shown = after(shown, node_patch(changed, shown, AT))
    assert shown["capacity"]["cpu"] == "4500m"
    assert shown["addresses"] == hub[:1]
    assert node_patch(changed, shown, AT) is None


def test_ready_while_the_session_lives_and_unknown_with_the_time_since_it_ended() -> None:
    shown = after({}, presence_patch(True, {}, AT))
    assert presence_patch(True, shown, LATER) is None
    shown = after(shown, presence_patch(False, shown, LATER))
    (ready,) = shown["conditions"]
    assert (ready["status"], ready["reason"], ready["lastTransitionTime"]) == ("Unknown", "Holdover", timestamp(LATER))
    assert presence_patch(False, shown, LATER + 600) is None


def test_a_problem_of_the_device_makes_it_not_ready_for_as_long_as_it_lasts() -> None:
    troubled = replace(FACTS, problem="container runtime is down: no answer in time")
    shown = after(after({}, node_patch(FACTS, {}, AT)), presence_patch(True, {}, AT))
    assert [c["type"] for c in shown["conditions"]] == [READY]  # a device without problems has no such condition
    shown = after(shown, node_patch(troubled, shown, LATER))
    assert node_patch(troubled, shown, LATER + 9) is None
    shown = after(shown, presence_patch(True, shown, LATER))
    assert ready_of(shown) == ("False", "KubeletNotReady", troubled.problem, timestamp(LATER))
    assert presence_patch(True, shown, LATER + 9) is None
    shown = after(shown, node_patch(FACTS, shown, LATER + 9))
    shown = after(shown, presence_patch(True, shown, LATER + 9))
    assert ready_of(shown)[:2] == ("True", "SessionLive")
    assert node_patch(FACTS, shown, LATER + 99) is None


def test_a_device_with_a_problem_that_goes_is_unknown_and_not_ready_again_when_it_comes_back() -> None:
    troubled = replace(FACTS, problem="container runtime is down: no answer in time")
    shown = after({}, node_patch(troubled, {}, AT))
    shown = after(shown, presence_patch(False, shown, AT))
    assert ready_of(shown)[:2] == ("Unknown", "Holdover")
    shown = after(shown, presence_patch(True, shown, LATER))
    assert ready_of(shown) == ("False", "KubeletNotReady", troubled.problem, timestamp(LATER))


def test_another_problem_is_told_and_changes_no_time() -> None:
    shown = after({}, node_patch(replace(FACTS, problem="one"), {}, AT))
    shown = after(shown, presence_patch(True, shown, AT))
    shown = after(shown, node_patch(replace(FACTS, problem="two"), shown, LATER))
    shown = after(shown, presence_patch(True, shown, LATER))
    assert ready_of(shown) == ("False", "KubeletNotReady", "two", timestamp(AT))


def ready_of(shown: dict[str, Any]) -> tuple[str, str, str, str]:
    (found,) = [c for c in shown["conditions"] if c["type"] == READY]
    return found["status"], found["reason"], found["message"], found["lastTransitionTime"]


def test_restored_hub_is_written_only_where_it_matters() -> None:
    assert held_patch(False, "", {}, AT) is None
    shown = after({}, held_patch(True, "an older backup", {}, AT))
    (condition,) = shown["conditions"]
    assert (condition["type"], condition["status"], condition["message"]) == (RESTORED, "True", "an older backup")
    assert held_patch(True, "an older backup", shown, LATER) is None
    shown = after(shown, held_patch(False, "", shown, LATER))
    assert shown["conditions"][0]["status"] == "False"
    assert held_patch(False, "", shown, LATER) is None


def test_disk_pressure_comes_with_its_reason_and_goes_with_it() -> None:
    assert full_patch("", {}, AT) is None
    shown = after({}, full_patch("journal: No space left on device", {}, AT))
    (condition,) = shown["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("DiskPressure", "True", "JournalFull")
    assert condition["message"].startswith("journal: No space left on device; ")
    assert full_patch("journal: No space left on device", shown, LATER) is None
    shown = after(shown, full_patch("", shown, LATER))
    assert shown["conditions"][0]["status"] == "False"
    assert full_patch("", shown, LATER) is None


# --- events -----------------------------------------------------------------------------------------------------------

EVENT = Event("uid-web", "default", "web", "Started", "container main", False, AT, "e1")


def test_a_repeated_event_has_the_same_name_and_another_one_has_not() -> None:
    name = event_object(EVENT, "pi", AT)["metadata"]["name"]
    assert event_object(EVENT, "pi", LATER)["metadata"]["name"] == name
    assert event_object(replace(EVENT, id="e2"), "pi", AT)["metadata"]["name"] != name
    assert event_object(EVENT, "pa", AT)["metadata"]["name"] != name


def test_an_event_names_its_pod_or_its_node() -> None:
    assert event_object(EVENT, "pi", AT)["involvedObject"]["uid"] == "uid-web"
    of_node = event_object(replace(EVENT, pod_uid="", namespace="", name=""), "pi", AT)
    assert of_node["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "pi", "uid": "pi"}
    assert of_node["metadata"]["namespace"] == "default"


def test_an_event_fits_the_api_however_long_its_words_are() -> None:
    long = event_object(replace(EVENT, name="n" * 253, reason="R" * 253, message="m" * 2048), "pi", AT)
    assert len(long["metadata"]["name"]) <= 253
    assert (len(long["reason"]), len(long["message"])) == (128, 1024)


def test_a_refusal_is_one_event_for_one_problem() -> None:
    one, two = refusal_event(api_pod(), "too large", "pi", AT), refusal_event(api_pod(), "too large", "pi", LATER)
    assert one["metadata"]["name"] == two["metadata"]["name"]
    assert one["type"] == "Warning"
    assert "too large" in one["message"]


@pytest.mark.parametrize(
    ("wall", "text"), [(0, "1970-01-01T00:00:00Z"), (-5, "1970-01-01T00:00:00Z"), (1 << 62, "9999-12-31T23:59:59Z")]
)
def test_times_that_no_clock_should_show(wall: float, text: str) -> None:
    assert timestamp(wall) == text
