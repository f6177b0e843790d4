"""Read the objects of the desired set. Decides what this device supports: everything else is refused with its path.

A field is in one of three tables: read, without meaning on a device (IGNORED, with the reason), or refused. So a
field that a later Kubernetes adds is refused, never ignored in silence. Source: Kubernetes API reference, core/v1.
"""

from __future__ import annotations

import posixpath
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TypeVar

from skerry.errors import Refused
from skerry.limits import CONTAINERS_MAX, ENV_MAX, GRACE_S_DEFAULT, GRACE_S_MAX, PULL_SECRETS_MAX, VOLUMES_MAX
from skerry.model.desired import Kind, Object
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
    Volume,
)
from skerry.model.quantity import quantity
from skerry.model.reader import Field

_E = TypeVar("_E", RestartPolicy, PullPolicy)

ITEMS_MAX = 1_000  # entries of any list that has no bound of its own

# Fields of a pod's spec that change nothing on a device, each with the reason (docs/pods.md shows this table).
_SCHEDULED = "the pod has been scheduled"
_PREEMPTED = "nothing is preempted on a device"
_ACCOUNT = "a service account's tokens are the hub's to ask for"
IGNORED = {
    "nodeName": "the pod is here",
    "nodeSelector": _SCHEDULED,
    "affinity": _SCHEDULED,
    "topologySpreadConstraints": _SCHEDULED,
    "tolerations": _SCHEDULED,
    "schedulerName": _SCHEDULED,
    "priority": _PREEMPTED,
    "priorityClassName": _PREEMPTED,
    "preemptionPolicy": _PREEMPTED,
    "serviceAccount": _ACCOUNT,
    "serviceAccountName": _ACCOUNT,
    "automountServiceAccountToken": _ACCOUNT,
    "enableServiceLinks": "the device knows no Service, so there is nothing to link",
}
POD_READ = frozenset(
    {
        "containers", "volumes", "restartPolicy", "terminationGracePeriodSeconds", "hostname", "imagePullSecrets",
        "dnsPolicy", "os", "hostUsers",  # only what needs nothing
    }
)  # fmt: skip
CONTAINER_READ = frozenset(
    {
        "name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "envFrom", "ports", "volumeMounts",
        "resources", "stdin", "stdinOnce", "tty",
        "terminationMessagePath", "terminationMessagePolicy",  # only their defaults, which need nothing
    }
)  # fmt: skip
VOLUME_READ = frozenset({"name", "configMap", "secret", "emptyDir", "hostPath"})
ACCOUNT_VOLUME = "kube-api-access-"  # how the API server's admission names the volume it adds for the token
ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class RefusedPod:
    """A pod that this device will not run, and why."""

    uid: str
    namespace: str
    name: str
    refused: Refused
    deleting: bool


@dataclass(frozen=True, slots=True)
class ConfigData:
    """A ConfigMap's or Secret's keys. Those in `binary` make files, never variables, as in Kubernetes."""

    namespace: str
    name: str
    secret: bool
    data: tuple[tuple[str, bytes], ...] = field(repr=False)
    binary: frozenset[str] = frozenset()
    type: str = ""  # a Secret's, as in kubernetes.io/dockerconfigjson


def read_pod(obj: Object, value: object, secret_env: bool) -> Pod | RefusedPod:
    """The pod in a decoded body. `secret_env` allows Secrets as variables (config.secret_env). Raises nothing."""
    root = Field(value if isinstance(value, dict) else {}, "")
    meta = root["metadata"]
    names = {k: meta.value.get(k) if isinstance(meta.value, dict) else None for k in ("namespace", "name")}
    try:
        return _pod(obj.uid, root, secret_env)
    except Refused as why:
        said = {k: v if isinstance(v, str) else "" for k, v in names.items()}
        deleting = isinstance(meta.value, dict) and bool(meta.value.get("deletionTimestamp"))
        return RefusedPod(obj.uid, said["namespace"], said["name"], why, deleting)


def read_config(obj: Object, value: object) -> ConfigData:
    """The ConfigMap or Secret in a decoded body. Raises Refused."""
    root, secret = Field(value, ""), obj.kind is Kind.SECRET
    pairs = {key: _bytes(root["data"][key], encoded=secret) for key in root["data"].names()}
    binary = {key: _bytes(root["binaryData"][key], encoded=True) for key in root["binaryData"].names()}
    meta = root["metadata"]
    data = tuple(sorted((pairs | binary).items()))
    kind = root["type"].text("") if secret else ""
    return ConfigData(meta["namespace"].text(), meta["name"].text(), secret, data, frozenset(binary), kind)


def _bytes(field: Field, encoded: bool) -> bytes:
    """Bytes stand for themselves; text is text, or base64 where the API's JSON form encodes bytes."""
    said = field.value
    if isinstance(said, bytes):
        return said
    if not isinstance(said, str):
        field.refuse("text or bytes are expected")
    try:
        return b64decode(said, validate=True) if encoded else said.encode()
    except ValueError:
        field.refuse("is not base64" if encoded else "is not Unicode")


def _pod(uid: str, root: Field, secret_env: bool) -> Pod:
    meta, spec = root["metadata"], root["spec"].only(POD_READ | IGNORED.keys())
    spec["dnsPolicy"].one_of("ClusterFirst", "Default", default="ClusterFirst")
    spec["os"].only(("name",))["name"].one_of("linux", default="linux")
    if not spec["hostUsers"].flag(True):
        spec["hostUsers"].refuse("user namespaces are not supported by this device", "Unsupported")
    volumes = tuple(_volume(f) for f in spec["volumes"].each(VOLUMES_MAX) if not _for_token(f))
    names = {v.name for v in volumes}
    if len(names) < len(volumes):
        spec["volumes"].refuse("two volumes have the same name")
    containers = tuple(_container(f, names, secret_env) for f in spec["containers"].each(CONTAINERS_MAX))
    if not containers:
        spec["containers"].refuse("at least one container is required")
    if len({c.name for c in containers}) < len(containers):
        spec["containers"].refuse("two containers have the same name")
    _distinct_host_ports(spec["containers"], containers)
    deleting = None
    if not meta["deletionTimestamp"].absent:
        said = meta["deletionGracePeriodSeconds"].number(0, (1 << 63) - 1, GRACE_S_DEFAULT)
        deleting = min(said, GRACE_S_MAX)  # refusing here would cut short the grace of a pod that runs
    return Pod(
        uid=uid,
        namespace=meta["namespace"].text(),
        name=meta["name"].text(),
        containers=containers,
        volumes=volumes,
        labels=meta["labels"].text_map(),
        annotations=meta["annotations"].text_map(),
        restart_policy=_choice(spec["restartPolicy"], RestartPolicy, RestartPolicy.ALWAYS),
        grace_s=spec["terminationGracePeriodSeconds"].number(0, GRACE_S_MAX, GRACE_S_DEFAULT),
        hostname=spec["hostname"].text(""),
        pull_secrets=_pull_secrets(spec["imagePullSecrets"]),
        deleting_grace_s=deleting,
    )


def _pull_secrets(field: Field) -> tuple[str, ...]:
    """Names in their order. The API takes empty ones, and the kubelet passes them over."""
    names = (one.only(frozenset({"name"}))["name"].text("") for one in field.each(PULL_SECRETS_MAX))
    return tuple(dict.fromkeys(name for name in names if name))


def _choice(field: Field, of: type[_E], default: _E) -> _E:
    return of(field.one_of(*(member.value for member in of), default=default.value))


def _container(field: Field, volumes: set[str], secret_env: bool) -> Container:
    field.only(CONTAINER_READ)
    mounts = [m for m in field["volumeMounts"].each(VOLUMES_MAX) if not _for_token(m)]
    field["terminationMessagePath"].one_of("/dev/termination-log", default="/dev/termination-log")
    field["terminationMessagePolicy"].one_of("File", default="File")
    image = field["image"].text()
    latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
    default = PullPolicy.ALWAYS if latest and "@" not in image else PullPolicy.IF_NOT_PRESENT
    return Container(
        name=field["name"].text(),
        image=image or field["image"].refuse("is required"),
        pull_policy=_choice(field["imagePullPolicy"], PullPolicy, default),
        command=field["command"].texts(ITEMS_MAX),
        args=field["args"].texts(ITEMS_MAX),
        working_dir=field["workingDir"].text(""),
        env=tuple(_env(f, secret_env) for f in field["env"].each(ENV_MAX)),
        env_from=tuple(_env_from(f, secret_env) for f in field["envFrom"].each(ENV_MAX)),
        ports=tuple(_port(f) for f in field["ports"].each(ITEMS_MAX)),
        mounts=tuple(_mount(f, volumes) for f in mounts),
        resources=_resources(field["resources"]),
        stdin=field["stdin"].flag(),
        stdin_once=field["stdinOnce"].flag(),
        tty=field["tty"].flag(),
    )


def _secret_env(field: Field, allowed: bool) -> None:
    if not allowed:
        field.refuse(
            "a Secret in the environment would lie in clear on this device's disk; mount it as a volume, "
            "or set secret_env = true in the device's configuration",
            "Unsupported",
        )


def _env(field: Field, secret_env: bool) -> EnvVar:
    field.only(frozenset({"name", "value", "valueFrom"}))
    name = field["name"].text()
    if not name or "=" in name:
        field["name"].refuse("must not be empty or contain '='")
    source = field["valueFrom"]
    if source.absent:
        return EnvVar(name, field["value"].text(""))
    source.only(frozenset({"configMapKeyRef", "secretKeyRef"}))
    secret = not source["secretKeyRef"].absent
    if secret:
        _secret_env(source["secretKeyRef"], secret_env)
    ref = source["secretKeyRef" if secret else "configMapKeyRef"].only(("name", "key", "optional"))
    return EnvVar(name, "", KeyRef(ref["name"].text(), ref["key"].text(), secret, ref["optional"].flag()))


def _env_from(field: Field, secret_env: bool) -> EnvFrom:
    field.only(frozenset({"prefix", "configMapRef", "secretRef"}))
    secret = not field["secretRef"].absent
    if secret:
        _secret_env(field["secretRef"], secret_env)
    ref = field["secretRef" if secret else "configMapRef"].only(("name", "optional"))
    return EnvFrom(ref["name"].text(), secret, field["prefix"].text(""), ref["optional"].flag())


def _distinct_host_ports(field: Field, containers: tuple[Container, ...]) -> None:
    """One port of the host goes to one port of the pod; the second would never be reached."""
    taken: set[tuple[str, int, str]] = set()
    for c, whose in zip(field.each(CONTAINERS_MAX), containers, strict=True):
        for where, port in zip(c["ports"].each(ITEMS_MAX), whose.ports, strict=True):
            key = (port.protocol, port.host_port, port.host_ip)
            if port.host_port and key in taken:
                where["hostPort"].refuse(f"{port.protocol} {port.host_port} is asked for twice")
            taken.add(key)


def _port(field: Field) -> Port:
    field.only(frozenset({"name", "containerPort", "hostPort", "hostIP", "protocol"}))
    return Port(
        container_port=field["containerPort"].number(1, 65535),
        protocol=field["protocol"].one_of("TCP", "UDP", "SCTP", default="TCP"),
        host_port=field["hostPort"].number(0, 65535, 0),
        host_ip=field["hostIP"].text(""),
        name=field["name"].text(""),
    )


def _for_token(field: Field) -> bool:
    """Whether the API server added this volume, or its mount, for the service account token (IGNORED)."""
    said = field.value if isinstance(field.value, dict) else {}
    mine = str(said.get("name", "")).startswith(ACCOUNT_VOLUME)
    return mine and (said.get("mountPath") == ACCOUNT_PATH or ("projected" in said and len(said) == 2))


def _mount(field: Field, volumes: set[str]) -> Mount:
    field.only(frozenset({"name", "mountPath", "readOnly", "recursiveReadOnly", "mountPropagation"}))
    field["mountPropagation"].one_of("None", default="None")
    field["recursiveReadOnly"].one_of("Disabled", default="Disabled")
    name, path = field["name"].text(), field["mountPath"].text()
    if name not in volumes:
        field["name"].refuse(f"the pod has no volume {name!r}")
    if not path.startswith("/"):
        field["mountPath"].refuse("must be absolute")
    return Mount(name, path, field["readOnly"].flag())


def _resources(field: Field) -> Resources:
    field.only(frozenset({"limits", "requests"}))
    for part in ("limits", "requests"):
        field[part].only(frozenset({"cpu", "memory"}))
    limits, requests = field["limits"], field["requests"]
    cpu, memory = quantity(limits["cpu"], 1000), quantity(limits["memory"])
    return Resources(
        cpu_limit_millis=cpu,
        cpu_request_millis=cpu if requests["cpu"].value is None else quantity(requests["cpu"], 1000),
        memory_limit_bytes=memory,
        memory_request_bytes=memory if requests["memory"].value is None else quantity(requests["memory"]),
    )


def _volume(field: Field) -> Volume:
    field.only(VOLUME_READ)
    name = field["name"].text()
    if not name or "/" in name or name.startswith("."):
        field["name"].refuse("is not a DNS label")
    kinds = [k for k in ("configMap", "secret", "emptyDir", "hostPath") if field[k].value is not None]
    if len(kinds) > 1:
        field.refuse(f"has {len(kinds)} sources")
    match kinds:
        case ["configMap"] | ["secret"]:
            return _object_volume(name, field[kinds[0]], kinds[0] == "secret")
        case ["hostPath"]:
            return _host_path(name, field["hostPath"])
        case _:
            source = field["emptyDir"].only(frozenset({"medium", "sizeLimit"}))
            medium = source["medium"].one_of("", "Memory", default="")
            return EmptyDir(name, medium == "Memory", quantity(source["sizeLimit"]))


def _object_volume(name: str, source: Field, secret: bool) -> ObjectVolume:
    key = "secretName" if secret else "name"
    source.only(frozenset({key, "items", "defaultMode", "optional"}))
    items = []
    for item in source["items"].each(ITEMS_MAX):
        item.only(("key", "path", "mode"))
        path = item["path"].text()
        if path.startswith("/") or ".." in path.split("/") or posixpath.normpath(path) in (".", ""):
            item["path"].refuse("must be relative and stay inside the volume")
        mode = item["mode"].number(0, 0o777) if item["mode"].value is not None else None
        items.append(KeyPath(item["key"].text(), path, mode))
    mode = source["defaultMode"].number(0, 0o777, 0o644)
    return ObjectVolume(name, source[key].text(), secret, tuple(items), mode, source["optional"].flag())


def _host_path(name: str, source: Field) -> HostPath:
    path = source.only(frozenset({"path", "type"}))["path"].text()
    if not path.startswith("/") or ".." in path.split("/"):
        source["path"].refuse("must be absolute and without '..'")
    types = ("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice")
    return HostPath(name, path, source["type"].one_of(*types, default=""))
