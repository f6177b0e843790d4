"""What a real API server refuses of a pod's status."""

from __future__ import annotations

from typing import Any

import pytest

from skerry_hub.apiserver.pod_status import change
from skerry_hub.apiserver.verbs import now
from unit.apiserver.serving import Client

Obj = dict[str, Any]
RUNNING: Obj = {"running": {}}
WAITING: Obj = {"waiting": {"reason": "CrashLoopBackOff"}}


def ended(code: int) -> Obj:
    return {"terminated": {"exitCode": code}}


def pod(policy: str, state: Obj | None) -> Obj:
    statuses = [{"name": "main", "state": state}] if state is not None else []
    return {"spec": {"restartPolicy": policy}, "status": {"containerStatuses": statuses}}


@pytest.mark.parametrize(
    ("policy", "before", "after", "good"),
    [
        ("Always", ended(0), RUNNING, True),
        ("OnFailure", ended(1), WAITING, True),
        ("OnFailure", ended(0), WAITING, False),
        ("Never", ended(1), RUNNING, False),
        ("Never", ended(1), {}, False),
        ("Never", ended(1), ended(1), True),
        ("Never", ended(1), None, True),
        ("Never", RUNNING, ended(0), True),
        ("Never", WAITING, RUNNING, True),
    ],
)
def test_a_container_that_has_ended_for_good_stays_so(policy: str, before: Obj, after: Obj | None, good: bool) -> None:
    said = change("status", pod(policy, after), pod(policy, before), now())
    assert [c.field for c in said] == ([] if good else ["status.containerStatuses[0].state"])
    assert change("", pod(policy, after), pod(policy, before), now()) == []


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (
            {
                "podIP": "10.1.2.3",
                "podIPs": [{"ip": "10.1.2.3"}],
                "hostIP": "10.0.0.1",
                "hostIPs": [{"ip": "10.0.0.1"}],
            },
            [],
        ),
        ({"podIPs": [{"ip": "10.1.2.3"}, {"ip": "2001:db8::1"}]}, []),
        ({"podIPs": [{"ip": "10.1.2.3"}, {"ip": "10.1.2.4"}]}, ["status.podIPs"]),
        ({"podIPs": [{"ip": "fe80::1%eth0"}]}, ["status.podIPs[0]"]),
        ({"podIPs": [{"ip": "::ffff:10.1.2.3"}]}, ["status.podIPs[0]"]),
        ({"podIPs": [{"ip": "10.01.2.3"}]}, ["status.podIPs[0]"]),
        ({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}, ["status.hostIPs[0].ip"]),
        ({"qosClass": "Guaranteed"}, ["status.qosClass"]),
    ],
)
def test_addresses_are_addresses_and_the_class_stays(status: Obj, fields: list[str]) -> None:
    old: Obj = {"spec": {}, "status": {}}
    assert [c.field for c in change("status", {"spec": {}, "status": status}, old, now())] == fields
    same = {"spec": {}, "status": {"podIPs": status.get("podIPs", [])}}
    if fields == ["status.podIPs[0]"]:
        assert change("status", same, same, now()) == [], "what was there before may stay"


def test_the_server_keeps_these_rules(api: Client) -> None:
    path = "/api/v1/namespaces/default/pods"
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1"}]}
    assert api.call("POST", path, {"metadata": {"name": "once"}, "spec": spec})[0] == 201
    status: Obj = {"name": "main", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    for state, code in ((ended(0), 200), (RUNNING, 422), (ended(0), 200)):
        said = api.call("PATCH", f"{path}/once/status", {"status": {"containerStatuses": [{**status, "state": state}]}})
        assert said[0] == code, said
    assert api.call("DELETE", f"{path}/once")[0] == 200
