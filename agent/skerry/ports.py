"""The seams between skerry and the world. Each has a real and a simulated adapter and one contract suite.

Nothing behind a seam decides anything; nothing in front of one touches the world.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from skerry.model.observed import PodSeen
from skerry.model.pod import Container, EmptyDir, HostPath, Pod, Resources
from skerry.model.report import NodeFacts
from skerry.model.streams import Attach, CloseCode, Exec, Logs, Piece


class Clock(Protocol):
    """Time. `now` never goes back; `wall` may jump and is for people only."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Seconds since 1970 as the system believes."""

    async def sleep_until(self, when: float) -> None:
        """Return once now() >= when; at once if it is already so."""


class Entropy(Protocol):
    """Randomness for ids and jitter."""

    def token(self, size: int) -> bytes:
        """`size` random bytes."""

    def uniform(self) -> float:
        """A float in [0, 1)."""


class Crypto(Protocol):
    """The primitives that protect frames. Keys and nonces are as long as limits.py says; equal input gives equal
    output. Two real adapters, one for the device and one for the hub, are each other's check."""

    def public(self, seed: bytes) -> bytes:
        """The Ed25519 public key of a seed (RFC 8032)."""

    def sign(self, seed: bytes, data: bytes) -> bytes:
        """Ed25519."""

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        """Ed25519; False also for what is no key or no signature."""

    def exchange_public(self, secret: bytes) -> bytes:
        """The X25519 public key of a secret (RFC 7748)."""

    def exchange(self, secret: bytes, public: bytes) -> bytes:
        """X25519. Raises Malformed for a public key that gives no secret (RFC 7748 section 6.1)."""

    def seal(self, key: bytes, nonce: bytes, plain: bytes, about: bytes) -> bytes:
        """ChaCha20-Poly1305 (RFC 8439): the cipher text and its tag. `about` is authenticated only."""

    def open(self, key: bytes, nonce: bytes, sealed: bytes, about: bytes) -> bytes:
        """Raises Malformed where key, nonce, `about` or a bit is another."""


class Authority(Protocol):
    """Who certifies the signing keys of hubs: what the device was given when it was enrolled."""

    async def certified(self, chain: bytes) -> bytes:
        """The Ed25519 public key in `chain`, a certificate in DER from outside, which the authority issued for signing.
        Done within CERTIFY_TIMEOUT_S. Raises Malformed where it did not."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A received frame and the handle that acknowledges it."""

    frame: bytes
    handle: int


class Link(Protocol):
    """The MQTT connection of one device. May lose everything after the last ack, may hang, repeat, reorder."""

    async def connect(self) -> None:
        """Connect and subscribe; done within CONNECT_TIMEOUT_S, on a device that has a token to enrol with within
        ENROL_WHOLE_S more. Raises LinkLost. Never blocks the event loop."""

    async def recv(self) -> Inbound:
        """The next frame. Raises LinkLost once the connection is gone. What is over PAYLOAD_BYTES_MAX is
        acknowledged, counted and not delivered."""

    async def send(self, frame: bytes) -> None:
        """Hand a frame to the connection (QoS 1). Its arrival is not promised. Raises LinkLost."""

    def ack(self, handle: int) -> None:
        """PUBACK a received frame. Called only after what it asked for is durable. Ignored on a lost connection."""

    async def close(self) -> None:
        """Disconnect; idempotent, raises nothing."""


class Duplex(Protocol):
    """Bytes both ways on the channels of `model.streams`, with back-pressure: a process, a socket, a log, a client's
    connection, or the stream that joins two of them. One reader and one writer at a time."""

    async def read(self) -> Piece | None:
        """The next piece; None once it is over: nothing more comes, and nothing more is wanted (a process has ended; a
        socket was ended in both directions). Nothing is read ahead of the caller but a bounded buffer. Raises
        StreamBroken when it ended otherwise."""

    async def write(self, piece: Piece) -> None:
        """Return once there is room for more. `piece.end` half-closes its channel. What the other side no longer wants
        is dropped in silence (a process that closed its stdin). Raises StreamBroken."""

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        """End it: with DONE after all that was written has been handed over, else at once. Idempotent, raises nothing.
        A process that was started for it is gone afterwards."""


class StreamLink(Protocol):
    """The MQTT connection that carries streams, and nothing else. Open only while a stream is. May lose what was sent;
    keeps the order of what it does not lose."""

    async def connect(self, gone: bytes) -> None:
        """Connect and subscribe, within CONNECT_TIMEOUT_S. `gone` is the frame that reaches the hub when this
        connection ends, however it ends. Raises LinkLost."""

    async def recv(self) -> bytes:
        """The next frame. Raises LinkLost."""

    async def send(self, frame: bytes, bulk: bool) -> None:
        """Waits for room among the frames under way, in call order. `bulk` (Data) goes by QoS 0, the rest by QoS 1; all
        expire after STREAM_EXPIRY_S. Raises LinkLost."""

    async def close(self) -> None:
        """Disconnect; idempotent, raises nothing."""


class Store(Protocol):
    """The journal's ordered map on disk, with a small second copy beside it."""

    def get(self, key: bytes) -> bytes | None:
        """The committed value. Raises StoreBroken."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Committed pairs whose key starts with prefix, in key order. One snapshot: go through it without awaiting."""

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None = None) -> None:
        """Apply all or nothing; durable on return. With `copy`, the older of the two copy files is replaced by it
        (fsync, rename) first. Commits take effect in call order; a key both put and deleted ends up deleted.
        Raises StoreFull (nothing written, store usable) or StoreBroken (end the process)."""

    def copies(self) -> list[bytes]:
        """The contents of the copy files that can be read, newest first."""

    def usage(self) -> float:
        """Used part of the map, 0 to 1."""

    def written_bytes(self) -> int:
        """Bytes written since the process started, map pages and copies together."""

    def close(self) -> None:
        """Idempotent. Waits for commits under way."""


class TakesCertificate(Protocol):
    """The part of ssl.SSLContext that a key needs."""

    def load_cert_chain(self, certfile: str) -> None:
        """Key and certificates in one file in PEM. Raises ssl.SSLError."""


class DeviceKey(Protocol):
    """This device's private key: ECDSA P-256. It blocks, a board that has just booted for seconds: not on the event
    loop."""

    @property
    def kept(self) -> str:
        """What `DeviceKeys.again` makes it of, to be kept in a file of mode 0600: the key itself, or where a TPM has
        it. A secret, and text."""

    def csr(self, common_name: str) -> str:
        """A certificate request in PEM (RFC 2986), signed with it. Raises KeyFailed."""

    def load_into(self, context: TakesCertificate, chain: str) -> None:
        """Let `context` prove with it that it is whom the first certificate of `chain` (PEM) names. Raises KeyFailed,
        also where the certificate is for another key."""


class DeviceKeys(Protocol):
    """Where this device's keys come from: a file, later a TPM."""

    def new(self) -> DeviceKey:
        """A key that nobody has had. Raises KeyFailed."""

    def again(self, kept: str) -> DeviceKey:
        """The key of which `kept` was kept. Whether it can be used shows when it is."""


@dataclass(frozen=True, slots=True)
class MountSpec:
    """A bind mount into a container."""

    host_path: str
    container_path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container with every reference resolved."""

    name: str
    attempt: int
    image: str
    fingerprint: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    working_dir: str
    env: tuple[tuple[str, str], ...] = field(repr=False)  # a Secret's, where the configuration allows it
    mounts: tuple[MountSpec, ...]
    resources: Resources
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Who pulls an image, by CRI's name for it."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a pod; `pod_uid` is empty when the runtime does not say to which."""

    pod_uid: str


class RuntimeStreams(Protocol):
    """The part of a Runtime that people use from afar. Which container is meant was decided before (plan.streams). A
    Duplex is made once it works: what refuses it raises here."""

    async def logs(self, container_id: str, request: Logs) -> Duplex:
        """The container's log on STDOUT, of this very container: `request.previous` is not looked at. With `follow`, on
        until the container has ended and all is read, or its log was removed. Nothing can be written to it.
        Raises StreamBroken (NOT_FOUND: it or its log is gone), RuntimeFailed or RuntimeAway."""

    async def exec(self, container_id: str, request: Exec) -> Duplex:
        """Start the command in a running container. Its end is a Status on Channel.ERROR, then the end of the Duplex.
        Raises RuntimeFailed or RuntimeAway."""

    async def attach(self, container_id: str, request: Attach) -> Duplex:
        """The container's own stdin, stdout and stderr from now on. Closing it leaves the container alone.
        Raises RuntimeFailed or RuntimeAway."""

    async def port_forward(self, sandbox_id: str, port: int) -> Duplex:
        """Connect to 127.0.0.1:port (else [::1]) in the sandbox's network namespace; STDIN goes there, STDOUT comes.
        Raises RuntimeFailed (UNAVAILABLE when nothing listens) or RuntimeAway."""

    async def log_files(self, container_id: str) -> Mapping[int, int]:
        """Sizes in bytes of the files of its log, by their numbers (model.logs); none if there is none.
        Raises RuntimeAway."""

    async def watch_log(self, container_id: str) -> None:
        """From now on the next write to number 0 of its log makes `logs_written` tell it, once: a log that is written
        all the time costs one event. Idempotent; to be asked again after a rotation. Of one that has no log nothing is
        told. Raises WatchesSpent, RuntimeFailed or RuntimeAway."""

    async def logs_written(self) -> frozenset[str]:
        """Wait until watched logs have been written; the ids of their containers, which are not watched any more. One
        caller at a time. Nothing is lost where it is cancelled."""

    async def rename_log(self, container_id: str, number: int, to: int) -> None:
        """Replaces what has that number. Raises RuntimeFailed or RuntimeAway."""

    async def delete_log(self, container_id: str, number: int) -> None:
        """Raises RuntimeFailed or RuntimeAway."""

    async def reopen_container_log(self, container_id: str) -> None:
        """After its log was renamed: write into a new file. Raises RuntimeFailed or RuntimeAway."""


class Runtime(RuntimeStreams, Protocol):
    """A CRI-shaped container runtime. Calls are idempotent: what is already so is success, stopping or removing what
    does not exist is success. It may be away (RuntimeAway), slow, refuse (RuntimeFailed), or lie by omission in a
    listing. Only pods that skerry made are shown. Names (pod uid, container name, attempt) are unique: making one
    that exists returns the existing id."""

    async def version(self) -> str:
        """Name and version as a node reports it, such as containerd://1.6.20."""

    async def look(self, pod_uid: str | None = None) -> dict[str, PodSeen]:
        """Everything, or everything of one pod, by pod uid."""

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Starts and exits as they happen, until RuntimeAway. The first one has no pod_uid and says that the stream
        is open: what happened before it is shown by a look. May miss some: a relist is the safety net."""

    async def image_present(self, image: str) -> bool: ...

    async def pull_image(self, image: str, auth: AuthConfig | None = None) -> None:
        """`auth` is for this call alone, and kept nowhere. Raises ImagePullFailed, whose text may hold whatever the
        registry said."""

    async def run_pod_sandbox(self, pod: Pod, attempt: int) -> str: ...

    async def create_container(self, pod: Pod, sandbox_id: str, attempt: int, spec: ContainerSpec) -> str:
        """`attempt` is the sandbox's. Returns the container's id."""

    async def start_container(self, container_id: str) -> None: ...

    async def update_container_resources(self, container_id: str, resources: Resources) -> None: ...

    async def stop_container(self, container_id: str, grace_s: int) -> None: ...

    async def remove_container(self, container_id: str) -> None: ...

    async def stop_pod_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_pod_sandbox(self, sandbox_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a ConfigMap or Secret volume; `path` is relative to the volume."""

    path: str
    data: bytes = field(repr=False)
    mode: int


@dataclass(frozen=True, slots=True)
class FilesVolume:
    """A ConfigMap or Secret volume with its keys resolved. It lies in a tmpfs."""

    name: str
    files: tuple[VolumeFile, ...]


ResolvedVolume = FilesVolume | EmptyDir | HostPath


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file of the folder of manifests. `problem`: why it could not be read; `data` is empty then."""

    name: str
    data: bytes
    problem: str = ""


class Manifests(Protocol):
    """The folder of manifests on the device. May be absent, come and go; a file in it may be half-written."""

    async def read(self) -> tuple[ManifestFile, ...]:
        """Its manifest files in order of their names, none if there is no folder. What changes from now on ends
        `changed`. Raises FolderFailed."""

    async def parse(self, file: ManifestFile) -> tuple[object, ...]:
        """The documents in it: what JSON can say, numbers with a point as text. Raises Malformed."""

    async def changed(self) -> None:
        """Return once something has changed since the last `read` and it is quiet again. Raises FolderFailed when that
        cannot be told."""

    def close(self) -> None:
        """Idempotent; raises nothing."""


class Host(Protocol):
    """The board: facts, folders, the service manager. Cheap; what may block runs off the event loop."""

    def facts(self) -> NodeFacts:
        """With `runtime` empty: the runtime says that itself."""

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str:
        """Make or refresh it and return the path on the host. Idempotent. Raises VolumeFailed."""

    async def remove_volumes(self, pod_uid: str) -> None:
        """Unmount and delete all of the pod's volumes; a HostPath's content stays. Idempotent. Raises VolumeFailed."""

    def volume_pods(self) -> set[str]:
        """Uids that have volumes here."""

    @property
    def memory_cgroup(self) -> bool:
        """Whether the kernel can limit a container's memory. It cannot change before the next boot."""

    @property
    def watchdog_s(self) -> float:
        """How long the service manager waits for WATCHDOG=1 until it starts the agent again; 0: for ever."""

    def notify(self, state: str) -> None:
        """sd_notify: READY=1, WATCHDOG=1, STATUS=…; nothing without a service manager."""


__all__ = [
    "AuthConfig",
    "Clock",
    "Container",
    "ContainerSpec",
    "DeviceKey",
    "DeviceKeys",
    "Duplex",
    "Entropy",
    "FilesVolume",
    "Host",
    "Inbound",
    "Link",
    "ManifestFile",
    "Manifests",
    "MountSpec",
    "ResolvedVolume",
    "Runtime",
    "RuntimeEvent",
    "RuntimeStreams",
    "Store",
    "StreamLink",
    "TakesCertificate",
    "VolumeFile",
]
