"""What of an API object travels, in which bytes, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from skerry.limits import OBJECT_BYTES_MAX, OBJECTS_MAX, PODS_MAX
from skerry.model.desired import Kind, Object, object_of
from skerry.model.manifest import read_config, read_pod
from skerry.model.pod import Pod
from skerry.wire.codec import decode, encode
from skerry_hub.edgecontroller.target import (
    DROPPED,
    Reference,
    Refusal,
    Wanted,
    choose,
    config_object,
    pod_object,
    references,
)
from unit.hub.manifests import TOKEN, api_config, api_pod


def body(found: Object | Refusal) -> Any:
    assert isinstance(found, Object), found
    return decode(found.body)


def test_a_pod_travels_without_what_only_the_api_needs() -> None:
    got = body(pod_object(api_pod()))
    head = {"name": "web", "namespace": "default", "uid": "uid-web"}
    assert got["metadata"] == {**head, "labels": {"app": "web"}, "annotations": {"note": "kept"}}
    assert got.keys() == {"metadata", "spec"}
    assert not set(got["spec"]) & set(DROPPED)
    assert {"containers", "volumes", "restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy"} <= set(got["spec"])


def test_the_volume_of_the_api_token_and_its_mounts_stay_here() -> None:
    got = body(pod_object(api_pod()))
    assert [v["name"] for v in got["spec"]["volumes"]] == ["conf"]
    assert [m["name"] for m in got["spec"]["containers"][0]["volumeMounts"]] == ["conf"]
    only = api_pod(volumes=[v for v in api_pod()["spec"]["volumes"] if v["name"] == TOKEN])
    only["spec"]["containers"][0]["volumeMounts"] = only["spec"]["containers"][0]["volumeMounts"][1:]
    got = body(pod_object(only))
    assert "volumes" not in got["spec"]
    assert "volumeMounts" not in got["spec"]["containers"][0]


def test_a_projected_volume_of_the_users_own_travels_and_the_device_refuses_it() -> None:
    mine = {"name": "mine", "projected": {"sources": [{"configMap": {"name": "c"}}]}}
    assert body(pod_object(api_pod(volumes=[mine])))["spec"]["volumes"] == [mine]


def test_the_device_reads_what_the_hub_makes_of_a_defaulted_pod() -> None:
    """Both ends agree: nothing that a plain pod gets from the API's defaults and admission is refused there."""
    found = pod_object(api_pod())
    assert isinstance(found, Object)
    pod = read_pod(found, decode(found.body), secret_env=True)
    assert isinstance(pod, Pod), pod
    assert (pod.uid, pod.namespace, pod.name) == ("uid-web", "default", "web")


def test_an_unknown_field_travels_so_that_the_device_can_refuse_it_by_name() -> None:
    assert body(pod_object(api_pod(brandNewField={"a": 1})))["spec"]["brandNewField"] == {"a": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["metadata"].update(resourceVersion="99", generation=4),
        lambda p: p["metadata"].update(managedFields=[{"manager": "hub"}]),
        lambda p: p["metadata"]["annotations"].update({"kubectl.kubernetes.io/last-applied-configuration": '{"a":1}'}),
        lambda p: p.update(status={"phase": "Running"}),
        lambda p: p["spec"].update(tolerations=[]),
        lambda p: p["spec"].update(priority=7, nodeSelector={"a": "b"}),
        lambda p: p.update(json.loads(json.dumps(dict(reversed(p.items()))))),
    ],
)
def test_what_does_not_matter_leaves_the_bytes_alone(change: Any) -> None:
    one, two = api_pod(), copy.deepcopy(api_pod())
    change(two)
    assert pod_object(one) == pod_object(two)


def test_the_order_of_fields_leaves_the_bytes_alone() -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: turned(v) for k, v in reversed(value.items())}
        return [turned(v) for v in value] if isinstance(value, list) else value

    assert pod_object(api_pod()) == pod_object(turned(api_pod()))


def test_a_deletion_travels_with_its_grace() -> None:
    pod = api_pod()
    pod["metadata"].update(deletionTimestamp="2026-11-24T10:00:30Z", deletionGracePeriodSeconds=0)
    meta = body(pod_object(pod))["metadata"]
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) == ("2026-11-24T10:00:30Z", 0)


def test_a_secret_travels_as_bytes_and_the_device_reads_them() -> None:
    found = config_object(Kind.SECRET, api_config("s", True, type="Opaque", data={"p": "aHVudGVyMg==", "q": ""}))
    assert body(found)["data"] == {"p": b"hunter2", "q": b""}
    assert isinstance(found, Object)
    assert read_config(found, decode(found.body)).data == (("p", b"hunter2"), ("q", b""))


def test_a_config_map_travels_with_text_and_binary_data() -> None:
    found = config_object(Kind.CONFIG_MAP, api_config("c", data={"a": "ä"}, binaryData={"b": "AP8="}, immutable=True))
    assert body(found) == {
        "metadata": {"name": "c", "namespace": "default", "uid": "uid-c"},
        "data": {"a": "ä"}, "binaryData": {"b": b"\0\xff"}, "immutable": True,
    }  # fmt: skip


def test_references_are_those_of_all_containers_and_volumes_but_the_token() -> None:
    spec = {
        "initContainers": [{"name": "i", "image": "x", "envFrom": [{"secretRef": {"name": "s1"}, "prefix": "A"}]}],
        "containers": api_pod()["spec"]["containers"],
        "volumes": [
            *api_pod()["spec"]["volumes"],
            {"name": "v", "secret": {"secretName": "s2"}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "s3"}}, {"configMap": {"name": "c3"}}]}},
        ],
    }
    spec["imagePullSecrets"] = [{"name": "keys"}, {"name": ""}, {}]
    assert references(api_pod(**spec)) == tuple(
        [Reference(Kind.CONFIG_MAP, "default", n) for n in ("all", "c3", "conf")]
        + [Reference(Kind.SECRET, "default", n) for n in ("keys", "pass", "s1", "s2", "s3")]
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": "no list"}, {"volumes": [7, None]}, {"containers": [{"env": {"a": 1}, "envFrom": [3]}]},
        {"containers": None}, {"imagePullSecrets": [7, None, {"name": 7}]}, {"imagePullSecrets": "x"},
        {"volumes": [{"name": "x", "projected": {"sources": 7}}]},
    ],
)  # fmt: skip
def test_odd_shapes_name_nothing_and_break_nothing(spec: dict[str, Any]) -> None:
    references(api_pod(**spec))
    assert isinstance(pod_object(api_pod(**spec)), Object)


@pytest.mark.parametrize(
    ("pod", "problem"),
    [
        (api_pod(hostname="x" * OBJECT_BYTES_MAX), "OBJECT_BYTES_MAX"),
        (api_pod(hostname="\ud800"), "not Unicode"),
        (api_pod(priorityStuff=2**70), "a tag"),
        (api_pod(deep=json.loads("[" * 70 + "]" * 70)), "nested deeper"),
    ],
)
def test_what_fits_no_device_is_refused_with_a_reason(pod: Any, problem: str) -> None:
    found = pod_object(pod)
    assert isinstance(found, Refusal)
    assert problem in found.problem


def test_data_that_is_no_base64_is_refused() -> None:
    assert isinstance(config_object(Kind.SECRET, api_config("s", True, data={"p": "*"})), Refusal)


# --- the set of one device --------------------------------------------------------------------------------------------


def made(uid: str, kind: Kind = Kind.POD) -> Object:
    return object_of(kind, uid, encode({"uid": uid}))


def wanted(uid: str, created: str = "2026", *parts: Object | Refusal) -> Wanted:
    return Wanted(made(uid), uid, created, tuple((f"Secret default/{i}", p) for i, p in enumerate(parts)))


def test_a_set_holds_pods_and_what_they_name_once() -> None:
    shared = made("s", Kind.SECRET)
    got = choose([wanted("a", "1", shared), wanted("b", "2", shared)])
    assert set(got.objects) == {(Kind.POD, "a"), (Kind.POD, "b"), (Kind.SECRET, "s")}
    assert got.refused == {}


def test_over_the_bound_of_pods_the_oldest_stay() -> None:
    pods = [wanted(f"p{i:03}", f"{i:05}") for i in range(PODS_MAX + 2)]
    got = choose(reversed(pods))
    assert len(got.objects) == PODS_MAX
    assert set(got.refused) == {f"p{PODS_MAX:03}", f"p{PODS_MAX + 1:03}"}
    assert "PODS_MAX" in got.refused[f"p{PODS_MAX:03}"]


def test_over_the_bound_of_objects_a_pod_is_left_out_with_all_that_it_names() -> None:
    many = tuple(made(f"s{i}", Kind.SECRET) for i in range(OBJECTS_MAX - 2))
    got = choose([wanted("a", "1", *many), wanted("b", "2", made("x", Kind.SECRET)), wanted("c", "3")])
    assert set(got.refused) == {"b"}
    assert (Kind.SECRET, "x") not in got.objects
    assert (Kind.POD, "c") in got.objects


def test_a_refused_part_is_told_on_the_pod_and_left_out() -> None:
    got = choose([wanted("a", "1", Refusal("is larger"))])
    assert got.refused == {"a": "Secret default/0 is larger"}
    assert set(got.objects) == {(Kind.POD, "a")}


def test_what_outgrew_the_bounds_goes_on_as_it_was_and_is_told() -> None:
    got = choose([Wanted(Refusal("is larger", made("a")), "a", "1")])
    assert set(got.objects) == {(Kind.POD, "a")}
    assert got.refused == {"a": "is larger"}
