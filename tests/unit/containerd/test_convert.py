"""Values to CRI and back, and what is done with answers that cannot be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.containerd import convert
from skerry.containerd.stubs import cri
from skerry.limits import NAME_CHARS_MAX, STATUS_MESSAGE_CHARS_MAX
from skerry.model.observed import ContainerState
from skerry.model.pod import Container, Pod, Port, Resources
from skerry.ports import ContainerSpec, MountSpec

LOGS = Path("/var/log/pods")


def pod(**changed: object) -> Pod:
    ports = (Port(80), Port(53, "UDP", 5353, "127.0.0.1"))
    values: dict[str, object] = {"uid": "u-1", "namespace": "shop", "name": "web", "labels": (("app", "web"),)}
    values["containers"] = (
        Container("main", "hello:1", ports=ports),
        Container("side", "x", ports=(Port(9, "SCTP", 9),)),
    )
    return Pod(**(values | changed))  # type: ignore[arg-type]


def spec(**changed: object) -> ContainerSpec:
    values: dict[str, object] = {
        "name": "main", "attempt": 2, "image": "hello:1", "fingerprint": "f" * 32, "command": ("/bin/a",),
        "args": ("b", "c"), "working_dir": "/w", "env": (("A", "1"), ("B", "")),
        "mounts": (MountSpec("/host", "/in", True),), "resources": Resources(),
    }  # fmt: skip
    return ContainerSpec(**(values | changed))  # type: ignore[arg-type]


def listed(**changed: object) -> cri.Container:
    values: dict[str, object] = {
        "id": "c1", "pod_sandbox_id": "s1", "metadata": cri.ContainerMetadata(name="main", attempt=2),
        "labels": {convert.POD_UID: "u-1"}, "annotations": {convert.FINGERPRINT: "mark"},
    }  # fmt: skip
    return cri.Container(**(values | changed))  # type: ignore[arg-type]


# --- to CRI -----------------------------------------------------------------------------------------------------------


def test_a_sandbox_has_kubernetes_labels_and_only_host_ports() -> None:
    made = convert.sandbox_config(pod(), 3, "/skerry", LOGS)
    assert (made.metadata.name, made.metadata.uid, made.metadata.namespace) == ("web", "u-1", "shop")
    assert made.metadata.attempt == 3
    assert dict(made.labels) == {
        "app": "web",
        "io.skerry.managed": "true",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "u-1",
    }
    assert made.log_directory == "/var/log/pods/shop_web_u-1"
    assert made.linux.cgroup_parent == "/skerry"
    assert [(p.protocol, p.container_port, p.host_port, p.host_ip) for p in made.port_mappings] == [
        (cri.UDP, 53, 5353, "127.0.0.1"),
        (cri.SCTP, 9, 9, ""),
    ]


def test_a_pods_own_labels_cannot_pass_for_ours() -> None:
    made = convert.sandbox_config(pod(labels=((convert.POD_UID, "forged"), (convert.MANAGED, "no"))), 0, "/x", LOGS)
    assert (made.labels[convert.POD_UID], made.labels[convert.MANAGED]) == ("u-1", "true")


@pytest.mark.parametrize(
    ("hostname", "name", "made"),
    [
        ("tide", "web", "tide"),
        ("", "web", "web"),
        ("", "a" * 62 + ".b" * 40, "a" * 62),
        ("", "n" * NAME_CHARS_MAX, "n" * 63),
    ],
)
def test_a_hostname_is_at_most_a_label(hostname: str, name: str, made: str) -> None:
    assert convert.sandbox_config(pod(hostname=hostname, name=name), 0, "/x", LOGS).hostname == made


def test_a_container() -> None:
    made = convert.container_config(pod(), spec())
    assert (made.metadata.name, made.metadata.attempt, made.image.image) == ("main", 2, "hello:1")
    assert (list(made.command), list(made.args), made.working_dir) == (["/bin/a"], ["b", "c"], "/w")
    assert [(e.key, e.value) for e in made.envs] == [("A", "1"), ("B", "")]
    assert [(m.host_path, m.container_path, m.readonly) for m in made.mounts] == [("/host", "/in", True)]
    assert dict(made.annotations) == {"io.skerry.fingerprint": "f" * 32, "io.skerry.attempt": "2"}
    assert made.labels["io.kubernetes.container.name"] == "main"
    assert made.log_path == "main/2.log"
    assert made.linux.security_context.namespace_options.pid == cri.CONTAINER
    assert "/proc/kcore" in made.linux.security_context.masked_paths
    assert (made.stdin, made.stdin_once, made.tty) == (False, False, False)
    asked = convert.container_config(pod(), replace(spec(), stdin=True, tty=True))
    assert (asked.stdin, asked.stdin_once, asked.tty) == (True, False, True)


@pytest.mark.parametrize(
    ("wanted", "quota", "shares", "memory"),
    [
        (Resources(), 0, 2, 0),
        (Resources(cpu_limit_millis=500), 50_000, 512, 0),
        (Resources(cpu_limit_millis=1), 1_000, 2, 0),
        (Resources(cpu_limit_millis=2_000, cpu_request_millis=250), 200_000, 256, 0),
        (Resources(cpu_request_millis=1_000_000), 0, 262_144, 0),
        (Resources(memory_limit_bytes=64 << 20, memory_request_bytes=1), 0, 2, 64 << 20),
    ],
)
def test_resources_as_kubelet_computes_them(wanted: Resources, quota: int, shares: int, memory: int) -> None:
    made = convert.resources(wanted)
    assert (made.cpu_period, made.cpu_quota, made.cpu_shares) == (100_000, quota, shares)
    assert made.memory_limit_in_bytes == memory


@pytest.mark.parametrize("update", [False, True])
def test_where_the_kernel_cannot_limit_memory_nothing_is_said_of_it(update: bool) -> None:
    made = convert.resources(Resources(memory_limit_bytes=64 << 20, cpu_limit_millis=500), update, memory=False)
    assert (made.memory_limit_in_bytes, made.cpu_quota) == (0, 50_000)


def test_an_update_lifts_absent_limits() -> None:
    made = convert.resources(Resources(), update=True)
    assert made.cpu_quota == 10_000 * 100_000
    assert made.memory_limit_in_bytes == -1


# --- from CRI ---------------------------------------------------------------------------------------------------------


def test_a_state_of_a_later_release_is_unknown() -> None:
    assert convert.container_seen(listed(), cri.ContainerStatus(id="c1", state=7)).state is ContainerState.UNKNOWN  # type: ignore[arg-type]


def test_texts_are_cut_and_times_make_sense() -> None:
    status = cri.ContainerStatus(
        id="c1", state=cri.CONTAINER_EXITED, message="a\nb " * 5_000, created_at=-5, started_at=9, finished_at=7
    )
    seen = convert.container_seen(listed(), status)
    assert len(seen.message) == STATUS_MESSAGE_CHARS_MAX
    assert "\n" not in seen.message
    assert (seen.created_ns, seen.started_ns, seen.finished_ns) == (0, 9, 9)


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (listed(id=""), cri.ContainerStatus()),
        (listed(labels={}), cri.ContainerStatus(id="c1")),
        (listed(metadata=cri.ContainerMetadata()), cri.ContainerStatus(id="c1")),
        (listed(), cri.ContainerStatus(id="another")),
        (listed(), cri.ContainerStatus()),
    ],
)
def test_a_container_that_cannot_be(item: cri.Container, status: cri.ContainerStatus) -> None:
    with pytest.raises(convert.Nonsense):
        convert.container_seen(item, status)


@pytest.mark.parametrize(
    "box",
    [
        cri.PodSandbox(id="s1"),
        cri.PodSandbox(labels={convert.POD_UID: "u-1"}, metadata=cri.PodSandboxMetadata(uid="u-1")),
        cri.PodSandbox(id="s1", labels={convert.POD_UID: "u-1"}, metadata=cri.PodSandboxMetadata(uid="u-2")),
    ],
)
def test_a_sandbox_that_cannot_be(box: cri.PodSandbox) -> None:
    with pytest.raises(convert.Nonsense):
        convert.sandbox_seen(box)
