"""skerry's values to CRI messages and back. Pure; decides labels, annotations and names, touches no socket.

What comes back is input from outside: a part that cannot be right raises Nonsense, text is cut to its bound. Sources:
CRI v1 api.proto; kubelet's kuberuntime_manager and helpers_linux for labels, CPU shares and masked paths.
"""

from __future__ import annotations

from pathlib import Path

from skerry.containerd.channel import cut
from skerry.containerd.stubs import cri
from skerry.limits import STATUS_MESSAGE_CHARS_MAX
from skerry.model.observed import ContainerSeen, ContainerState, SandboxSeen
from skerry.model.pod import Pod, Resources
from skerry.ports import AuthConfig, ContainerSpec

MANAGED = "io.skerry.managed"  # on all that skerry made; nothing else is listed
POD_NAME, POD_NAMESPACE, POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
FINGERPRINT, ATTEMPT = "io.skerry.fingerprint", "io.skerry.attempt"

HOSTNAME_CHARS_MAX = 63  # RFC 1123 label; the kernel's own bound is 64
CPU_PERIOD_US = 100_000  # the kernel's default, and kubelet's
CPU_QUOTA_US_MIN = 1_000
CPU_SHARES = (2, 262_144)  # the kernel's bounds
CPU_QUOTA_US_UNLIMITED = 10_000 * CPU_PERIOD_US  # for an update; -1 is right, but crun 1.8 writes it as 2^64 - 1
MEMORY_UNLIMITED = -1

# containerd masks nothing unless it is told to; these are Kubernetes' default procMount.
MASKED_PATHS = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *(f"/proc/{name}" for name in ("scsi", "timer_list", "timer_stats")),
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY_PATHS = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))

STATES = {
    cri.CONTAINER_CREATED: ContainerState.CREATED,
    cri.CONTAINER_RUNNING: ContainerState.RUNNING,
    cri.CONTAINER_EXITED: ContainerState.EXITED,
}
PROTOCOLS = {"TCP": cri.TCP, "UDP": cri.UDP, "SCTP": cri.SCTP}


class Nonsense(ValueError):
    """An answer that cannot be right; the adapter turns it into RuntimeFailed."""


# --- to CRI -----------------------------------------------------------------------------------------------------------


def sandbox_config(pod: Pod, attempt: int, cgroup_parent: str, log_dir: Path) -> cri.PodSandboxConfig:
    """The same for the same arguments: CreateContainer must be given what RunPodSandbox was. No dns_config: containerd
    then takes the host's resolv.conf."""
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=pod.name, uid=pod.uid, namespace=pod.namespace, attempt=attempt),
        hostname=(pod.hostname or pod.name)[:HOSTNAME_CHARS_MAX].rstrip("-."),
        log_directory=str(pod_log_dir(log_dir, pod)),
        port_mappings=[
            cri.PortMapping(
                protocol=PROTOCOLS[port.protocol],
                container_port=port.container_port,
                host_port=port.host_port,
                host_ip=port.host_ip,
            )
            for container in pod.containers
            for port in container.ports
            if port.host_port
        ],
        labels={**dict(pod.labels), **pod_labels(pod)},
        annotations={ATTEMPT: str(attempt)},
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent,
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=_namespaces()),
        ),
    )


def container_config(pod: Pod, spec: ContainerSpec, memory: bool = True) -> cri.ContainerConfig:
    """As `resources`."""
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        image=cri.ImageSpec(image=spec.image),
        command=spec.command,
        args=spec.args,
        working_dir=spec.working_dir,
        envs=[cri.KeyValue(key=key, value=value) for key, value in spec.env],
        mounts=[
            cri.Mount(container_path=mount.container_path, host_path=mount.host_path, readonly=mount.read_only)
            for mount in spec.mounts
        ],
        labels={**pod_labels(pod), CONTAINER_NAME: spec.name},
        annotations={FINGERPRINT: spec.fingerprint, ATTEMPT: str(spec.attempt)},
        log_path=f"{spec.name}/{spec.attempt}.log",
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
        tty=spec.tty,
        linux=cri.LinuxContainerConfig(
            resources=resources(spec.resources, memory=memory),
            security_context=cri.LinuxContainerSecurityContext(
                namespace_options=_namespaces(), masked_paths=MASKED_PATHS, readonly_paths=READ_ONLY_PATHS
            ),
        ),
    )


def auth_config(auth: AuthConfig | None) -> cri.AuthConfig | None:
    """None: containerd's own configuration may have some for the registry."""
    return None if auth is None else cri.AuthConfig(username=auth.username, password=auth.password)


def resources(wanted: Resources, update: bool = False, memory: bool = True) -> cri.LinuxContainerResources:
    """As kubelet computes them. With `update`, an absent limit is lifted; else 0 leaves the kernel's default. Without
    `memory` the kernel cannot limit it, and an OCI runtime would refuse the whole container."""
    quota = wanted.cpu_limit_millis * CPU_PERIOD_US // 1000
    shares = (wanted.cpu_request_millis or wanted.cpu_limit_millis) * 1024 // 1000
    return cri.LinuxContainerResources(
        cpu_period=CPU_PERIOD_US,
        cpu_quota=max(quota, CPU_QUOTA_US_MIN) if quota else update * CPU_QUOTA_US_UNLIMITED,
        cpu_shares=min(max(shares, CPU_SHARES[0]), CPU_SHARES[1]),
        memory_limit_in_bytes=(wanted.memory_limit_bytes or update * MEMORY_UNLIMITED) if memory else 0,
    )


def pod_labels(pod: Pod) -> dict[str, str]:
    return {MANAGED: "true", POD_NAME: pod.name, POD_NAMESPACE: pod.namespace, POD_UID: pod.uid}


def pod_log_dir(log_dir: Path, pod: Pod) -> Path:
    """As kubelet names it, which log collectors know."""
    return log_dir / f"{pod.namespace}_{pod.name}_{pod.uid}"


def selector(pod_uid: str | None) -> dict[str, str]:
    """Labels that all of skerry's things have, or all of one pod's."""
    return {MANAGED: "true"} if pod_uid is None else {MANAGED: "true", POD_UID: pod_uid}


# --- from CRI ---------------------------------------------------------------------------------------------------------


def sandbox_seen(box: cri.PodSandbox, ip: str = "") -> SandboxSeen:
    uid = _identity("sandbox", box.id, box.labels.get(POD_UID, ""))
    if box.metadata.uid != uid:
        raise Nonsense(f"sandbox {cut(box.id)!r} has the uids {cut(box.metadata.uid)!r} and {uid!r}")
    return SandboxSeen(
        id=box.id,
        pod_uid=uid,
        namespace=cut(box.metadata.namespace),
        name=cut(box.metadata.name),
        attempt=box.metadata.attempt,
        ready=box.state == cri.SANDBOX_READY,
        created_ns=max(box.created_at, 0),
        ip=cut(ip),
    )


def container_seen(listed: cri.Container, status: cri.ContainerStatus) -> ContainerSeen:
    """`listed` says whose it is, `status` how it is. A state that this release does not know is UNKNOWN."""
    uid = _identity("container", listed.id, listed.labels.get(POD_UID, ""))
    if not listed.metadata.name:
        raise Nonsense(f"container {cut(listed.id)!r} has no name")
    if status.id != listed.id:
        raise Nonsense(f"asked for container {cut(listed.id)!r}, got {cut(status.id)!r}")
    return ContainerSeen(
        id=listed.id,
        sandbox_id=listed.pod_sandbox_id,
        pod_uid=uid,
        name=cut(listed.metadata.name),
        attempt=listed.metadata.attempt,
        fingerprint=cut(listed.annotations.get(FINGERPRINT, "")),
        state=STATES.get(status.state, ContainerState.UNKNOWN),
        image=cut(status.image.image),
        image_id=cut(status.image_ref),
        exit_code=status.exit_code,
        reason=cut(status.reason),
        message=cut(status.message)[:STATUS_MESSAGE_CHARS_MAX],
        created_ns=max(status.created_at, 0),
        started_ns=max(status.started_at, 0),
        # containerd notes the start once it has seen it, which for a short life is after the end.
        finished_ns=max(status.finished_at, status.started_at) if status.finished_at > 0 else 0,
    )


def _identity(what: str, own_id: str, uid: str) -> str:
    if not own_id or not uid:
        raise Nonsense(f"a {what} has the id {cut(own_id)!r} and the pod uid {cut(uid)!r}")
    return uid


def _namespaces() -> cri.NamespaceOption:
    """Each container its own processes, as Kubernetes has it; CRI's own default shares them in the pod."""
    return cri.NamespaceOption(network=cri.POD, pid=cri.CONTAINER, ipc=cri.POD)
