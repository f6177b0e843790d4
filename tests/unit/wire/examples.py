"""One message of each kind, with every field told: what golden files, the contract and truncation tests share."""

from __future__ import annotations

from skerry.model.desired import Kind
from skerry.model.report import (
    ContainerStatus,
    Event,
    Life,
    LocalPod,
    LocalPods,
    NodeFacts,
    OutboxItem,
    Phase,
    PodStatus,
    ReportKind,
)
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Logs, PortForward, Stats
from skerry.wire.message import (
    Ack,
    Credit,
    Delta,
    Dial,
    Hello,
    Inventory,
    Message,
    Put,
    Reject,
    RejectCode,
    Report,
    Welcome,
)
from skerry.wire.report import Reported, encode_report
from skerry.wire.streams import Close, Data, Ready, StreamMessage, Window, opening

NONCE, JOURNAL = bytes(range(8)), bytes(range(16, 32))
STORE, EPOCH = "6f1c3f0e-52a5-4d5b-9b0e-2f6a1a1d7c11", "0b8f6f3a-6a0e-4d2f-8f0e-1f6d5f1c2b3a"
UID = "d2719d52-5a52-4a3b-8d5f-0c7f0e3f9a10"
DIGESTS = [bytes([n]) * 16 for n in range(1, 5)]

STATUS = PodStatus(
    UID,
    "default",
    "web",
    Phase.RUNNING,
    (
        ContainerStatus("app", Life.RUNNING, "nginx:1.27", "sha256:abc", "f00d", 2, started_at=1_764_000_100),
        ContainerStatus(
            "log", Life.WAITING, reason="CrashLoopBackOff", message="back-off 20s", exit_code=-1, last_exit_code=137,
            last_reason="OOMKilled", last_container_id="beef", last_started_at=1_764_000_000,
            last_finished_at=1_764_000_050, finished_at=1_764_000_050, failures=3, mark="00ff",
        ),
    ),
    reason="Because",
    message="a message with ümlauts",
    pod_ip="10.88.0.7",
    started_at=1_764_000_000,
    gone=True,
)  # fmt: skip
EVENT = Event(UID, "default", "web", "Pulled", "image is here", False, 1_764_000_000, "journal/7")
FACTS = NodeFacts(
    4_000, 536_870_912, 110, "arm64", "linux", "Debian 12", "6.1.0", UID, "m" * 32, "containerd://1.7.2", "0.1.0",
    ("192.0.2.7", "2001:db8::7"), "container runtime is down: no answer in time",
)  # fmt: skip
LOCAL = LocalPods((LocalPod(UID, "default", "beacon-pi-7", "beacon.yaml", b"\xa1hmetadata\xa0"),))
BODIES: tuple[tuple[ReportKind, str, Reported], ...] = (
    (ReportKind.POD_STATUS, UID, STATUS),
    (ReportKind.EVENT, UID, EVENT),
    (ReportKind.NODE, "", FACTS),
    (ReportKind.LOCAL_PODS, "", LOCAL),
)
ITEMS = tuple(OutboxItem(7 + i, kind, uid, encode_report(value)) for i, (kind, uid, value) in enumerate(BODIES))

MESSAGES: dict[str, Message] = {
    "hello": Hello(
        "pi-7", NONCE, JOURNAL, UID, STORE, EPOCH, 4_711, 12, DIGESTS[0], 7, 10, 1_764_000_000, "0.1.0"
    ),
    "hello-first": Hello("pi-7", NONCE, JOURNAL, UID, "", "", 0, 0, DIGESTS[1], 1, 1, 0, "0.1.0"),
    "welcome": Welcome(NONCE, inventory=True, reports=False, credit=16),
    "inventory": Inventory(
        NONCE, ((Kind.POD, UID, DIGESTS[0], "default/web"), (Kind.CONFIG_MAP, "static-0a1b", DIGESTS[1], ""))
    ),
    "delta": Delta(
        NONCE, STORE, EPOCH, 4_712, 13, DIGESTS[0], DIGESTS[1],
        (Put(Kind.POD, UID, DIGESTS[2], True, b"patch"), Put(Kind.SECRET, "s-1", DIGESTS[3], False, b"\xa1\x61a\x01")),
        ((Kind.CONFIG_MAP, "c-1"),),
        adopt=True,
    ),
    "delta-empty": Delta(NONCE, STORE, EPOCH, 4_712, 13, DIGESTS[0], DIGESTS[0]),
    "delta-proven": Delta(NONCE, STORE, EPOCH, 4_712, 13, DIGESTS[0], DIGESTS[0], proof=b"COSE_Sign1"),
    "delta-continued": Delta(NONCE, "", "", 4_712, 13, DIGESTS[0], DIGESTS[0]),
    "ack-device": Ack(NONCE, generation=13, digest=DIGESTS[1]),
    "ack-hub": Ack(NONCE, 12, DIGESTS[0], JOURNAL, 9, 16),
    "reject": Reject(NONCE, RejectCode.FULL, "map full", 30_000),
    "reject-hail": Reject(b"", RejectCode.NO_SESSION),
    "report": Report(NONCE, JOURNAL, ITEMS, 6),
    "report-late": Report(NONCE, JOURNAL, ITEMS[:1], 6, waited_s=93_784),
    "credit": Credit(NONCE, 4),
    "dial": Dial(NONCE, NONCE[::-1]),
    "welcome-later": Welcome(NONCE, True, True, 16, extra={99: "a key of a later version", 100: [1, {2: b"x"}]}),
}  # fmt: skip

STREAMS: dict[str, StreamMessage] = {
    "ready": Ready(NONCE),
    "ready-open": Ready(NONCE, 9, ((4, 0), (9, 16_384))),
    "open-logs": opening(
        Logs("default", "web", "app", True, True, True, 10, 4_096, 1_764_000_000_000_000_000), NONCE, 1, 262_144
    ),
    "open-exec": opening(
        Exec("default", "web", "app", ("sh", "-c", "täglich"), True, True, False, True), NONCE, 2, 262_144
    ),
    "open-attach": opening(Attach("default", "web", "app", stdin=True), NONCE, 3, 262_144),
    "open-port-forward": opening(PortForward("default", "web", 8_080), NONCE, 4, 262_144),
    "open-stats": opening(Stats(), NONCE, 5, 262_144),
    "data": Data(NONCE, 2, Channel.STDOUT, 16_384, b"hello\n"),
    "data-end": Data(NONCE, 2, Channel.STDIN, 0, b"", True),
    "window": Window(NONCE, 2, 262_144),
    "close": Close(NONCE, 2, CloseCode.NOT_FOUND, 0, 'pod "web" does not exist on this device'),
    "close-done": Close(NONCE, 2, CloseCode.DONE, 22_528),
}
