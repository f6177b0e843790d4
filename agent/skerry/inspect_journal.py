"""`skerry status` and `skerry explain`: read the journal beside a running agent, or without one. Writes nothing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skerry import identity
from skerry.boot import journal_folder
from skerry.config import Config
from skerry.errors import ConfigInvalid, IdentityBroken, Malformed, SkerryError
from skerry.journal.record import (
    BOOT_ID,
    DESIRED,
    FILE,
    HISTORY,
    JOURNAL_ID,
    LOCAL,
    OBJECT,
    OUTBOX,
    STATUS,
    Decision,
    FileRead,
    LocalObject,
    read_decision,
    read_desired,
    read_file,
    read_local,
    read_object,
)
from skerry.model.desired import Desired, Key, Kind, Object
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.report import PodStatus, ReportKind
from skerry.wire import x509
from skerry.wire.codec import decode
from skerry.wire.report import decode_report
from skerry.world.store import ENV, LmdbReader, open_reader

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal says now."""

    desired: Desired
    statuses: dict[str, PodStatus]
    local: dict[Key, LocalObject]
    files: dict[str, FileRead]

    def pods(self) -> Iterator[Object]:
        """Every pod that should run: those of the device's folder, then the hub's."""
        yield from (o.obj for (kind, _), o in sorted(self.local.items()) if kind is Kind.POD)
        yield from (o for (kind, _), o in sorted(self.desired.objects.items()) if kind is Kind.POD)

    def file_of(self, uid: str) -> str:
        """The manifest that asks for a pod; empty where the hub does."""
        local = self.local.get((Kind.POD, uid))
        return local.file if local is not None else ""

    @staticmethod
    def names_of(obj: Object) -> tuple[str, str]:
        """Namespace and name."""
        pod = read_pod(obj, _value(obj), secret_env=True)
        return pod.namespace, pod.name


def known(config: Config) -> Known:
    """Raises ConfigInvalid where skerry never ran, StoreBroken where its journal cannot be read."""
    reader = _reader(config)
    try:
        return _known(reader)
    finally:
        reader.close()


def status(config: Config, _args: argparse.Namespace) -> Report:
    """Identity, generation, outbox and one line per pod."""
    reader = _reader(config)
    try:
        journal = _known(reader)
        waiting = sum(1 for _ in reader.scan(OUTBOX))
        boot_id = (reader.get(BOOT_ID) or b"").decode()
        journal_id = (reader.get(JOURNAL_ID) or b"").hex()
    finally:
        reader.close()
    desired = journal.desired
    names = _names(journal, config.secret_env)
    pods = [_pod_line(uid, name, journal.statuses.get(uid)) for uid, name in names.items()]
    data = {
        "node": config.node,
        "journalId": journal_id,
        "bootId": boot_id,
        "store": desired.store,
        "epoch": desired.epoch,
        "resourceVersion": desired.resource_version,
        "generation": desired.generation,
        "digest": desired.digest.hex(),
        "objects": len(desired.objects),
        "localObjects": len(journal.local),
        "outbox": waiting,
        "pods": pods,
    }
    enrolled = _enrolment(config)
    if enrolled is not None:
        data["enrolment"] = {"broker": enrolled[0], "certificateEnds": enrolled[1]}
    head = f"{config.node}: generation {desired.generation}, {len(desired.objects)} objects, {waiting} reports to send"
    rows: list[tuple[str, ...]] = [("POD", "PHASE", "RESTARTS", "REASON")]
    rows += [(p["name"], p["phase"], str(p["restarts"]), p["reason"]) for p in pods]
    more = [f"enrolled at {enrolled[0]}, certificate valid until {enrolled[1]}"] if enrolled is not None else []
    return {"data": data, "lines": [head, *more, *table(rows)]}


def _enrolment(config: Config) -> tuple[str, str] | None:
    """Broker and the end of the certificate, of a device that is enrolled as far as can be told; doctor says more."""
    try:
        enrolled = identity.read(config.data_dir)
        if enrolled is None:
            return None
        ends = x509.read(x509.pem_blocks(enrolled.issued.certificate)[0]).ends
    except (IdentityBroken, Malformed, OSError):
        return None
    return enrolled.issued.broker, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))


def explain(config: Config, args: argparse.Namespace) -> Report:
    """The history of one pod. Raises SkerryError if nothing is known of it."""
    reader = _reader(config)
    try:
        history = [read_decision(k, v) for k, v in reader.scan(HISTORY)]
        journal = _known(reader)
    finally:
        reader.close()
    statuses = journal.statuses
    names = _names(journal, config.secret_env) | {d.uid: d.pod for d in history if "/" in d.pod}
    names |= {s.uid: f"{s.namespace}/{s.name}" for s in statuses.values()}
    uids = [u for u, n in names.items() if args.pod in (u, n, n.partition("/")[2])]
    if not uids:
        raise SkerryError(f"nothing is known of a pod {args.pod!r}; skerry status lists them")
    lines: list[str] = []
    data = []
    for uid in uids:
        mine = [d for d in history if d.uid == uid]
        now = _pod_line(uid, names[uid], statuses.get(uid))
        wanted = (Kind.POD, uid) in journal.desired.objects or (Kind.POD, uid) in journal.local
        lines.append(f"{names[uid]} ({uid}): {now['phase']}" + ("" if wanted else ", not in the desired set"))
        if now["message"]:
            lines.append(f"  {now['reason']}: {now['message']}")
        lines += [_decision_line(d) for d in mine]
        data.append({**now, "wanted": wanted, "decisions": [_decision_data(d) for d in mine]})
    return {"data": data, "lines": lines}


COMMANDS: dict[str, Callable[[Config, argparse.Namespace], Report]] = {"status": status, "explain": explain}


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _reader(config: Config) -> LmdbReader:
    """Raises ConfigInvalid where skerry never ran, StoreBroken where its journal cannot be read."""
    folder = journal_folder(config)
    try:
        (folder / ENV / "data.mdb").stat()
    except OSError as why:
        if isinstance(why, PermissionError):
            raise SkerryError(f"journal {folder}: {why.strerror}; only root may read it") from None
        raise ConfigInvalid("data_dir", f"{config.data_dir} holds no journal yet") from None
    return open_reader(folder)


def _known(reader: LmdbReader) -> Known:
    local: dict[Key, LocalObject] = {}
    for key, value in reader.scan(LOCAL):
        with suppress(Malformed, ValueError, IndexError):
            one = read_local(key, value)
            local[one.obj.key] = one
    files = {}
    for _, value in reader.scan(FILE):
        with suppress(Malformed):
            name, read = read_file(value)
            files[name] = read
    return Known(_desired(reader), _statuses(reader), local, files)


def _desired(reader: LmdbReader) -> Desired:
    head = reader.get(DESIRED)
    if head is None:
        raise SkerryError("the journal was made and nothing is in it yet")
    return read_desired(head, [read_object(k, v) for k, v in reader.scan(OBJECT)])


def _statuses(reader: LmdbReader) -> dict[str, PodStatus]:
    out = {}
    for _, value in reader.scan(STATUS):
        with suppress(Malformed):  # of another skerry, say: the agent passes over it too (journal.recovery)
            status = decode_report(ReportKind.POD_STATUS, value)
            assert isinstance(status, PodStatus)
            out[status.uid] = status
    return out


def _value(obj: Object) -> object:
    """The body's value; nothing where it cannot be read, which then shows as a refused pod."""
    try:
        return decode(obj.body)
    except Malformed:
        return None


def _names(journal: Known, secret_env: bool) -> dict[str, str]:
    """Pod uid → namespace/name."""
    out = {}
    for obj in journal.pods():
        pod = read_pod(obj, _value(obj), secret_env)
        out[obj.uid] = f"{pod.namespace}/{pod.name}" + (" (refused)" if isinstance(pod, RefusedPod) else "")
    return out


def _pod_line(uid: str, name: str, status: PodStatus | None) -> Report:
    if status is None:
        return {"uid": uid, "name": name, "phase": "Pending", "restarts": 0, "reason": "", "message": "", "ip": ""}
    waiting = next((c.reason for c in status.containers if c.reason), "")
    return {
        "uid": uid,
        "name": name,
        "phase": status.phase.value,
        "restarts": sum(c.restarts for c in status.containers),
        "reason": status.reason or waiting,
        "message": status.message or next((c.message for c in status.containers if c.message), ""),
        "ip": status.pod_ip,
        "containers": [{"name": c.name, "id": c.container_id, "state": c.life.value} for c in status.containers],
    }


def _decision_line(d: Decision) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(d.at_ms // 1000))
    return f"  {at}  generation {d.generation}  {d.what}: {d.why}" + (f"; failed: {d.outcome}" if d.outcome else "")


def _decision_data(d: Decision) -> Report:
    names = ("generation", "what", "why", "outcome")
    return {"sequence": d.seq, "at": d.at_ms / 1000, **{name: getattr(d, name) for name in names}}
