"""Every field of a Pod is read, ignored for a stated reason, or refused with its path; nothing raises anything else."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.errors import Refused
from skerry.limits import PULL_SECRETS_MAX
from skerry.model.desired import Kind, object_of
from skerry.model.manifest import IGNORED, RefusedPod, read_config, read_pod
from skerry.model.pod import (
    Container,
    EmptyDir,
    EnvFrom,
    EnvVar,
    HostPath,
    KeyPath,
    KeyRef,
    Mount,
    ObjectVolume,
    Pod,
    Port,
    PullPolicy,
    Resources,
    RestartPolicy,
    fingerprint,
)
from unit.model.manifests import full, pod_object, small

VECTORS = Path(__file__).parents[2] / "vectors" / "kubernetes"


def read(manifest: Any, secret_env: bool = True) -> Pod | RefusedPod:
    return read_pod(pod_object(), manifest, secret_env)


def accepted(manifest: Any, secret_env: bool = True) -> Pod:
    pod = read(manifest, secret_env)
    assert isinstance(pod, Pod), pod
    return pod


def refused(manifest: Any, secret_env: bool = True) -> Refused:
    pod = read(manifest, secret_env)
    assert isinstance(pod, RefusedPod), pod
    return pod.refused


def with_spec(**fields: Any) -> dict[str, Any]:
    manifest = small()
    manifest["spec"] |= fields
    return manifest


def with_container(**fields: Any) -> dict[str, Any]:
    manifest = small()
    manifest["spec"]["containers"][0] |= fields
    return manifest


def with_volume(**source: Any) -> dict[str, Any]:
    return with_spec(volumes=[{"name": "v", **source}])


# --- read -------------------------------------------------------------------------------------------------------------


def test_every_field_that_is_read_arrives() -> None:
    assert accepted(full()) == Pod(
        uid="u1",
        namespace="default",
        name="web",
        containers=(
            Container(
                name="app",
                image="example.com/app:1",
                pull_policy=PullPolicy.ALWAYS,
                command=("/bin/app", "$(A)"),
                args=("--port", "80"),
                working_dir="/srv",
                env=(
                    EnvVar("A", "1"),
                    EnvVar("B", "", KeyRef("m", "k", secret=False, optional=True)),
                    EnvVar("C", "", KeyRef("s", "k", secret=True)),
                ),
                env_from=(EnvFrom("m", False, "P_"), EnvFrom("s", True)),
                ports=(Port(80, "TCP", 8080, "", "http"),),
                mounts=(Mount("cm", "/etc/app", True), Mount("data", "/data"), Mount("secret", "/secret"),
                        Mount("host", "/host")),
                resources=Resources(500, 100, 64 << 20, 64 << 20),
            ),
            Container("side", "example.com/side", PullPolicy.ALWAYS),
        ),
        volumes=(
            ObjectVolume("cm", "m", False, (KeyPath("k", "a/b", 0o400),)),
            EmptyDir("data", True, 8 << 20),
            ObjectVolume("secret", "s", True, (), 0o400, True),
            HostPath("host", "/srv", "Directory"),
            HostPath("unused", "/unused"),
        ),
        labels=(("app", "web"),),
        annotations=(("example.com/a", "1"),),
        restart_policy=RestartPolicy.ON_FAILURE,
        grace_s=10,
        hostname="web-0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", PullPolicy.ALWAYS),
        ("example.com/a:latest", PullPolicy.ALWAYS),
        ("localhost:5000/a", PullPolicy.ALWAYS),
        ("localhost:5000/a:1", PullPolicy.IF_NOT_PRESENT),
        ("a:v2", PullPolicy.IF_NOT_PRESENT),
        ("a@sha256:" + "0" * 64, PullPolicy.IF_NOT_PRESENT),
        ("a:latest@sha256:" + "0" * 64, PullPolicy.IF_NOT_PRESENT),
    ],
)
def test_the_tag_decides_the_pull_policy_as_at_the_api_server(image: str, policy: PullPolicy) -> None:
    assert accepted(with_container(image=image)).containers[0].pull_policy is policy


@pytest.mark.parametrize(
    ("resources", "means"),
    [
        ({}, Resources()),
        ({"limits": {"cpu": "1"}}, Resources(1000, 1000)),
        ({"limits": {"cpu": "1"}, "requests": {"cpu": "0"}}, Resources(1000, 0)),
        ({"requests": {"memory": "1Mi"}}, Resources(0, 0, 0, 1 << 20)),
    ],
)
def test_a_request_is_the_limit_where_it_is_not_said(resources: Any, means: Resources) -> None:
    assert accepted(with_container(resources=resources)).containers[0].resources == means


def test_who_may_attach_is_read() -> None:
    def of(**fields: bool) -> tuple[bool, bool, bool]:
        container = accepted(with_container(**fields)).containers[0]
        return container.stdin, container.stdin_once, container.tty

    assert of() == (False, False, False)
    assert of(stdin=True, stdinOnce=True, tty=True) == (True, True, True)
    assert of(tty=True, stdin=False) == (False, False, True)


def test_deletion_is_read_from_the_metadata() -> None:
    manifest = small()
    assert not accepted(manifest).deleting
    manifest["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3}
    assert accepted(manifest).deleting_grace_s == 3
    del manifest["metadata"]["deletionGracePeriodSeconds"]
    assert accepted(manifest).deleting_grace_s == 30


def test_an_overlong_grace_of_a_deletion_is_cut_not_refused() -> None:
    """A refusal would take the running pod down at once: the opposite of what was asked."""
    manifest = small()
    manifest["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 86_400}
    assert accepted(manifest).deleting_grace_s == 3600


# --- what the API server adds -----------------------------------------------------------------------------------------


def recorded_pods() -> list[Any]:
    """Every pod that a real API server gave back in the scenarios about defaulting."""
    if not (VECTORS / "defaulting.json").exists():
        return []
    found = []
    for scenario in json.loads((VECTORS / "defaulting.json").read_text())["scenarios"]:
        for step in scenario["steps"]:
            body = step.get("response", {}).get("body")
            if isinstance(body, dict) and body.get("kind") == "Pod":
                found.append(pytest.param(body, id=f"{scenario['name']}-{step['request']['method']}"))
    return found


PLAIN = ("a pod that declines", "the image's tag decides")


@pytest.mark.parametrize("body", [p for p in recorded_pods() if str(p.id).startswith(PLAIN)])
def test_a_pod_with_the_servers_defaults_equals_the_one_without(body: Any) -> None:
    bare = {
        "metadata": {k: body["metadata"][k] for k in ("namespace", "name")},
        "spec": {"containers": [{k: c[k] for k in ("name", "image")} for c in body["spec"]["containers"]]},
    }
    assert accepted(body) == accepted(bare)


@pytest.mark.parametrize("body", recorded_pods())
def test_every_recorded_pod_is_understood_or_refused_with_a_path(body: Any) -> None:
    pod = read(body)
    assert isinstance(pod, Pod) or pod.refused.path.startswith(("spec.", "metadata."))


def test_the_token_volume_that_admission_adds_is_left_out_with_its_mounts() -> None:
    manifest = small()
    name, path = "kube-api-access-x7k2p", "/var/run/secrets/kubernetes.io/serviceaccount"
    manifest["spec"]["volumes"] = [{"name": name, "projected": {"sources": [{"serviceAccountToken": {}}]}}]
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": name, "mountPath": path, "readOnly": True}]
    assert accepted(manifest) == accepted(small())


def test_a_persons_own_projected_volume_is_refused_whatever_its_name() -> None:
    assert refused(with_volume(projected={"sources": [{}]})).path == "spec.volumes[0].projected"
    own = {"name": "kube-api-access-mine", "emptyDir": {}}
    assert len(accepted(with_spec(volumes=[own])).volumes) == 1


@pytest.mark.parametrize("field", sorted(IGNORED))
def test_ignored_fields_change_nothing_and_have_a_reason(field: str) -> None:
    assert IGNORED[field]
    assert accepted(with_spec(**{field: {"any": "thing"}})) == accepted(small())


def test_pull_secrets_are_read_in_their_order_and_restart_nothing() -> None:
    """Empty names, which the API takes, are passed over, as by the kubelet."""
    said = [{"name": "b"}, {"name": "a"}, {"name": ""}, {}, {"name": "b"}]
    pod = accepted(with_spec(imagePullSecrets=said))
    assert pod.pull_secrets == ("b", "a")
    before = accepted(small())
    assert pod != before, "a new wish is tried at once"
    assert fingerprint(pod.containers[0], ()) == fingerprint(before.containers[0], ())


# --- refused ----------------------------------------------------------------------------------------------------------

# Fields of PodSpec and Container (Kubernetes 1.33) that are neither read nor ignored, each with a value that asks.
POD_REFUSED: dict[str, Any] = {
    "activeDeadlineSeconds": 60, "dnsConfig": {"nameservers": ["1.1.1.1"]}, "ephemeralContainers": [{"name": "d"}],
    "hostAliases": [{"ip": "1.1.1.1"}], "hostIPC": True, "hostNetwork": True, "hostPID": True, "hostUsers": False,
    "hostnameOverride": "x", "initContainers": [{"name": "i", "image": "x"}],
    "overhead": {"cpu": "1"}, "readinessGates": [{"conditionType": "x"}], "resourceClaims": [{"name": "x"}],
    "resources": {"limits": {"cpu": "1"}}, "runtimeClassName": "kata", "schedulingGates": [{"name": "x"}],
    "securityContext": {"runAsUser": 0}, "setHostnameAsFQDN": True, "shareProcessNamespace": True, "subdomain": "x",
}  # fmt: skip
CONTAINER_REFUSED: dict[str, Any] = {
    "lifecycle": {"preStop": {}}, "livenessProbe": {"exec": {}}, "readinessProbe": {"exec": {}},
    "startupProbe": {"exec": {}}, "resizePolicy": [{"resourceName": "cpu"}], "restartPolicy": "Always",
    "securityContext": {"privileged": True}, "volumeDevices": [{"name": "x"}],
}  # fmt: skip
VOLUME_REFUSED = (
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "downwardAPI", "ephemeral", "fc",
    "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "image", "iscsi", "nfs",
    "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume", "projected", "quobyte", "rbd", "scaleIO",
    "storageos", "vsphereVolume",
)  # fmt: skip
REFUSED = [
    *((f"spec.{k}", with_spec(**{k: v})) for k, v in POD_REFUSED.items()),
    *((f"spec.containers[0].{k}", with_container(**{k: v})) for k, v in CONTAINER_REFUSED.items()),
    *((f"spec.volumes[0].{k}", with_volume(**{k: {"x": "y"}})) for k in VOLUME_REFUSED),
    ("spec.brandNew", with_spec(brandNew=1)),
    ("spec.imagePullSecrets[0].brandNew", with_spec(imagePullSecrets=[{"name": "x", "brandNew": 1}])),
    ("spec.dnsPolicy", with_spec(dnsPolicy="None")),
    ("spec.os.name", with_spec(os={"name": "windows"})),
    ("spec.containers[0].terminationMessagePolicy", with_container(terminationMessagePolicy="FallbackToLogsOnError")),
    ("spec.containers[0].terminationMessagePath", with_container(terminationMessagePath="/elsewhere")),
    ("spec.containers[0].resources.limits.nvidia.com/gpu", with_container(resources={"limits": {"nvidia.com/gpu": 1}})),
    ("spec.containers[0].resources.claims", with_container(resources={"claims": [{"name": "x"}]})),
    ("spec.containers[0].env[0].valueFrom.fieldRef",
     with_container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])),
    ("spec.containers[0].env[0].valueFrom.configMapKeyRef.brandNew",
     with_container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "brandNew": 1}}}])),
    ("spec.containers[0].envFrom[0].configMapRef.brandNew",
     with_container(envFrom=[{"configMapRef": {"name": "m", "brandNew": 1}}])),
    ("spec.volumes[0].configMap.items[0].brandNew",
     with_volume(configMap={"name": "m", "items": [{"key": "k", "path": "p", "brandNew": 1}]})),
]  # fmt: skip


@pytest.mark.parametrize(("path", "manifest"), [pytest.param(*r, id=r[0]) for r in REFUSED])
def test_what_is_not_supported_is_refused_with_its_path(path: str, manifest: Any) -> None:
    why = refused(manifest)
    assert (why.path, why.reason) == (path, "Unsupported")


@pytest.mark.parametrize("field", [*POD_REFUSED, *CONTAINER_REFUSED])
def test_a_refused_field_that_asks_for_nothing_is_accepted(field: str) -> None:
    nothing: list[Any] = [None, {}, [], ""] if field != "hostUsers" else [None, True]
    make = with_spec if field in POD_REFUSED else with_container
    for value in nothing:
        assert accepted(make(**{field: value})) == accepted(small())


WRONG = [
    ("spec.imagePullSecrets", with_spec(imagePullSecrets="x")),
    ("spec.imagePullSecrets", with_spec(imagePullSecrets=[{"name": "x"}] * (PULL_SECRETS_MAX + 1))),
    ("spec.imagePullSecrets[1]", with_spec(imagePullSecrets=[{"name": "x"}, "y"])),
    ("spec.imagePullSecrets[0].name", with_spec(imagePullSecrets=[{"name": 7}])),
    ("spec.containers", with_spec(containers=[])),
    ("spec.containers", with_spec(containers=[{"name": "a", "image": "x"}] * 2)),
    ("spec.containers[0].name", with_spec(containers=[{"image": "x"}])),
    ("spec.containers[0].image", with_spec(containers=[{"name": "x"}])),
    ("spec.containers[0].image", with_container(image="")),
    ("spec.containers[0].image", with_container(image=["x"])),
    ("spec.containers[0].command[1]", with_container(command=["a", 1])),
    ("spec.containers[0].command[0]", with_container(command=["a\0b"])),
    ("spec.containers[0].env[0].name", with_container(env=[{"name": "A=B"}])),
    ("spec.containers[0].env[0].valueFrom.configMapKeyRef.key",
     with_container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m"}}}])),
    ("spec.containers[0].envFrom[0].configMapRef.name", with_container(envFrom=[{}])),
    ("spec.containers[0].ports[0].containerPort", with_container(ports=[{}])),
    ("spec.containers[0].ports[0].containerPort", with_container(ports=[{"containerPort": 65536}])),
    ("spec.containers[0].ports[0].containerPort", with_container(ports=[{"containerPort": True}])),
    ("spec.containers[0].ports[1].hostPort",
     with_container(ports=[{"containerPort": n, "hostPort": 80} for n in (8080, 8081)])),
    ("spec.containers[0].volumeMounts[0].name", with_container(volumeMounts=[{"name": "v", "mountPath": "/v"}])),
    ("spec.containers[0].resources.limits.cpu", with_container(resources={"limits": {"cpu": "lots"}})),
    ("spec.containers[0].resources.requests.memory", with_container(resources={"requests": {"memory": "9" * 99_999}})),
    ("spec.volumes", with_spec(volumes=[{"name": "v"}, {"name": "v"}])),
    ("spec.volumes[0]", with_volume(emptyDir={}, hostPath={"path": "/"})),
    ("spec.volumes[0].name", with_spec(volumes=[{"name": "../v"}])),
    ("spec.volumes[0].hostPath.path", with_volume(hostPath={"path": "srv"})),
    ("spec.volumes[0].hostPath.path", with_volume(hostPath={"path": "/srv/../etc"})),
    ("spec.volumes[0].configMap.items[0].path",
     with_volume(configMap={"name": "m", "items": [{"key": "k", "path": "../../etc/passwd"}]})),
    ("spec.volumes[0].configMap.items[0].path",
     with_volume(configMap={"name": "m", "items": [{"key": "k", "path": "/etc/passwd"}]})),
    ("spec.volumes[0].configMap.defaultMode", with_volume(configMap={"name": "m", "defaultMode": 0o7777})),
    ("spec.volumes[0].secret.secretName", with_volume(secret={"items": []})),
    ("spec.terminationGracePeriodSeconds", with_spec(terminationGracePeriodSeconds=-1)),
    ("metadata.name", {"metadata": {"namespace": "d"}, "spec": small()["spec"]}),
    ("metadata.labels.a", {"metadata": {"namespace": "d", "name": "n", "labels": {"a": 1}}, "spec": small()["spec"]}),
    ("spec.containers", {}),
    ("spec", {"metadata": {"namespace": "d", "name": "n"}, "spec": "text"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "manifest"), [pytest.param(*w, id=f"{i}-{w[0]}") for i, w in enumerate(WRONG)])
def test_what_is_wrong_is_refused_with_its_path(path: str, manifest: Any) -> None:
    why = refused(manifest)
    assert why.path == path
    assert len(str(why)) < 300


def test_a_secret_as_variable_needs_the_devices_consent() -> None:
    for field in (
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"envFrom": [{"secretRef": {"name": "s"}}]},
    ):
        assert refused(with_container(**field), secret_env=False).path.endswith(("secretKeyRef", "secretRef"))
        accepted(with_container(**field), secret_env=True)


def test_a_refused_pod_still_has_its_names_and_its_deletion() -> None:
    manifest = with_spec(hostPID=True)
    pod = read(manifest)
    assert isinstance(pod, RefusedPod)
    assert (pod.namespace, pod.name, pod.deleting) == ("default", "p", False)
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pod = read(manifest)
    assert isinstance(pod, RefusedPod)
    assert pod.deleting


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a manifest."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for k, inner in pairs for p in paths(inner, (*at, k)))]


@given(JSON)
def test_any_value_at_all_gives_a_pod_or_a_refusal(value: Any) -> None:
    assert isinstance(read(value), RefusedPod)
    assert isinstance(read({"metadata": value, "spec": value}), RefusedPod)


@settings(max_examples=examples(400))
@given(st.sampled_from(paths(full())[1:]), JSON)
def test_any_value_at_any_place_of_a_good_pod_gives_a_pod_or_a_refusal(way: tuple[Any, ...], value: Any) -> None:
    manifest = full()
    at: Any = manifest
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = value
    read(manifest)


# --- ConfigMap and Secret ---------------------------------------------------------------------------------------------

META = {"namespace": "default", "name": "m"}
CONFIG, SECRET = object_of(Kind.CONFIG_MAP, "m1", b""), object_of(Kind.SECRET, "s1", b"")


def test_a_config_map_has_text_and_bytes() -> None:
    raw = b"\xff\0"
    for said in (raw, b64encode(raw).decode()):
        got = read_config(CONFIG, {"metadata": META, "data": {"t": "grüße"}, "binaryData": {"b": said}})
        assert got.data == (("b", raw), ("t", "grüße".encode()))
        assert (got.namespace, got.name, got.secret, got.binary) == ("default", "m", False, frozenset("b"))


def test_a_secrets_text_is_base64_as_the_api_gives_it_and_bytes_are_bytes() -> None:
    got = read_config(SECRET, {"metadata": META, "data": {"a": b64encode(b"x").decode(), "b": b"raw"}})
    assert got.data == (("a", b"x"), ("b", b"raw"))
    assert got.secret


@pytest.mark.parametrize(
    ("path", "obj", "value"),
    [
        ("metadata.namespace", CONFIG, {}),
        ("metadata.namespace", CONFIG, None),
        ("data", CONFIG, {"metadata": META, "data": []}),
        ("data.a", CONFIG, {"metadata": META, "data": {"a": 1}}),
        ("data.a", SECRET, {"metadata": META, "data": {"a": "not base64!"}}),
        ("binaryData.a", CONFIG, {"metadata": META, "binaryData": {"a": None}}),
    ],
)
def test_a_wrong_config_is_refused_with_its_path(path: str, obj: Any, value: Any) -> None:
    with pytest.raises(Refused) as why:
        read_config(obj, value)
    assert why.value.path == path


@given(JSON, st.sampled_from([CONFIG, SECRET]))
def test_any_config_is_read_or_refused(value: Any, obj: Any) -> None:
    for form in (value, {"metadata": META, "data": value, "binaryData": value}):
        with contextlib.suppress(Refused):
            read_config(obj, form)
