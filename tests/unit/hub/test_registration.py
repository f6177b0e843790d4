"""What makes a device's Node one like others."""

from __future__ import annotations

from typing import Any

from skerry_hub.apiserver import patch_strategic, patches
from skerry_hub.edgecontroller.registration import (
    ARCH_LABEL,
    CALM,
    DEVICE_LABEL,
    EXEMPT,
    HOSTNAME_LABEL,
    OS_LABEL,
    TAINT,
    endpoint_patch,
    label_patch,
    new_node,
)
from skerry_hub.edgecontroller.status import calm_patch, presence_patch, timestamp

AT = 1_800_000_000.0


def status_after(status: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    assert patch is not None
    done = patch_strategic.apply("Node", {"status": status}, {"status": patch})
    shown: dict[str, Any] = done["status"]
    return shown


def test_a_new_node_keeps_the_cluster_s_own_pods_away_unless_it_is_a_cluster_of_devices() -> None:
    node = new_node("pi", tainted=True)
    assert node["spec"] == {"taints": [TAINT]}
    assert node["metadata"]["labels"][DEVICE_LABEL] == "true"
    assert node["metadata"]["labels"][HOSTNAME_LABEL] == "pi"
    assert new_node("pi", tainted=False)["spec"] == {}


def test_devices_that_are_away_stop_no_eviction_from_a_cluster_s_own_nodes() -> None:
    for tainted in (True, False):
        assert set(EXEMPT) < set(new_node("pi", tainted)["metadata"]["labels"])
    assert label_patch({"metadata": {"name": "pi", "labels": {HOSTNAME_LABEL: "pi"}}}) is None, (
        "who took them away keeps"
    )


def test_labels_follow_from_what_the_device_told_and_a_chosen_hostname_stays() -> None:
    info = {"architecture": "arm64", "operatingSystem": "linux"}
    node = {
        "metadata": {"name": "pi", "labels": {HOSTNAME_LABEL: "rock", ARCH_LABEL: "arm"}},
        "status": {"nodeInfo": info},
    }
    patch = label_patch(node)
    assert patch is not None
    done = patches.merge(node, patch)
    assert done["metadata"]["labels"] == {HOSTNAME_LABEL: "rock", ARCH_LABEL: "arm64", OS_LABEL: "linux"}
    assert label_patch(done) is None


def test_a_node_that_was_made_by_hand_gets_its_hostname_at_once() -> None:
    assert label_patch({"metadata": {"name": "pi"}}) == {"metadata": {"labels": {HOSTNAME_LABEL: "pi"}}}


def test_a_name_that_no_label_may_have_keeps_no_node_from_being_made_and_shown() -> None:
    long = "pi." + "a" * 63
    assert HOSTNAME_LABEL not in new_node(long, tainted=True)["metadata"]["labels"]
    assert label_patch({"metadata": {"name": long}}) is None


def test_the_api_server_finds_logs_at_the_hub_and_follows_when_the_device_moves() -> None:
    device = {"addresses": [{"type": "ExternalIP", "address": "192.168.1.9"}]}
    shown = status_after(device, endpoint_patch(("10.0.0.1", 10350), device))
    assert shown["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10350}}
    assert endpoint_patch(("10.0.0.1", 10350), shown) == {}
    moved = status_after(shown, endpoint_patch(("10.0.0.2", 10350), shown))
    assert sorted(a["address"] for a in moved["addresses"]) == ["10.0.0.2", "192.168.1.9"]


def test_the_conditions_of_every_node_are_there_while_the_device_is_and_come_back_with_it() -> None:
    shown = status_after({}, presence_patch(True, {}, AT))
    shown = status_after(shown, calm_patch(shown, AT))
    assert calm_patch(shown, AT + 9) is None
    # what a node lifecycle controller writes when the Lease has run out
    lost = [{**c, "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": timestamp(AT + 40)}
            for c in shown["conditions"]]  # fmt: skip
    back = status_after({"conditions": lost}, presence_patch(True, {"conditions": lost}, AT + 99))
    back = status_after(back, calm_patch(back, AT + 99))
    states = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in back["conditions"]}
    assert states == {"Ready": ("True", timestamp(AT + 99)), **dict.fromkeys(CALM, ("False", timestamp(AT + 99)))}


def test_a_pressure_that_somebody_shows_is_not_calmed() -> None:
    assert calm_patch({"conditions": [{"type": name, "status": "True"} for name in CALM]}, AT) is None
