"""A pod as this device understands it: plain frozen values, defaults filled in, references not yet resolved.

Source: Kubernetes API reference, Pod v1 core. A field that is absent and one that holds the API's default give equal
values here, because whether a container restarts is decided by comparing them (`fingerprint`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Any

from skerry.limits import GRACE_S_DEFAULT


class RestartPolicy(str, Enum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class PullPolicy(str, Enum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


@dataclass(frozen=True, slots=True)
class KeyRef:
    """One key of a ConfigMap or Secret in the pod's namespace."""

    name: str
    key: str
    secret: bool
    optional: bool = False


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One variable: a literal with `$(NAME)` references, or a key of an object."""

    name: str
    value: str = ""
    source: KeyRef | None = None


@dataclass(frozen=True, slots=True)
class EnvFrom:
    """All keys of a ConfigMap or Secret as variables."""

    name: str
    secret: bool
    prefix: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    container_port: int
    protocol: str = "TCP"  # TCP, UDP or SCTP
    host_port: int = 0
    host_ip: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    volume: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits and requests; 0 stands for none."""

    cpu_limit_millis: int = 0
    cpu_request_millis: int = 0
    memory_limit_bytes: int = 0
    memory_request_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    stdin: bool = False  # kept open for whoever attaches; without it reading gives the end at once
    stdin_once: bool = False  # the first who attaches and leaves closes it
    tty: bool = False


@dataclass(frozen=True, slots=True)
class KeyPath:
    """One projected key; `mode` is None where the volume's default holds."""

    key: str
    path: str
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectVolume:
    """A ConfigMap or Secret as files."""

    name: str
    object_name: str
    secret: bool
    items: tuple[KeyPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


@dataclass(frozen=True, slots=True)
class EmptyDir:
    name: str
    memory: bool = False  # medium: Memory
    size_limit_bytes: int = 0  # 0: none


@dataclass(frozen=True, slots=True)
class HostPath:
    name: str
    path: str
    type: str = ""  # "", Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice, BlockDevice


Volume = ObjectVolume | EmptyDir | HostPath


@dataclass(frozen=True, slots=True)
class Pod:
    uid: str
    namespace: str
    name: str
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    grace_s: int = GRACE_S_DEFAULT
    hostname: str = ""
    pull_secrets: tuple[str, ...] = ()  # names of Secrets in its namespace, for the registries of its images
    deleting_grace_s: int | None = None  # set once the API has a deletionTimestamp

    @property
    def deleting(self) -> bool:
        return self.deleting_grace_s is not None

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


# What CRI cannot change in place, per container. Everything else of a pod may change under a running container.
IN_PLACE = frozenset({"pull_policy", "resources"})


def fingerprint(container: Container, volumes: tuple[Volume, ...]) -> str:
    """32 hex digits that differ exactly when the container must be replaced.

    Only values that differ from their default take part, so a later release with more fields gives equal
    fingerprints for old pods (promise 3). Volumes take part as far as the container mounts them.
    """
    mounted = {m.volume for m in container.mounts}
    told = [_told(container, skip=IN_PLACE), [_told(v) for v in volumes if v.name in mounted]]
    return sha256(ascii(told).encode()).hexdigest()[:32]


def _told(value: Any, skip: frozenset[str] = frozenset()) -> Any:
    """A value as nested lists of its non-default fields, in the order of their names."""
    shape = _shape(type(value))  # type: ignore[arg-type]  # mypy: a type is not Hashable
    if shape is not None:
        pairs = []
        for name, default in shape:
            inner = getattr(value, name)
            if inner != default and name not in skip:
                pairs.append([name, _told(inner)])
        return [type(value).__name__, pairs]
    if isinstance(value, tuple):
        return [_told(v) for v in value]
    return value.value if isinstance(value, Enum) else value


@cache
def _shape(kind: type) -> tuple[tuple[str, Any], ...] | None:
    """Names and defaults of a dataclass's fields in the order of the names; None for any other type."""
    if not is_dataclass(kind):
        return None
    return tuple(sorted(((f.name, f.default) for f in fields(kind)), key=lambda pair: pair[0]))
