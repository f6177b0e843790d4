"""What must be so once it is calm: API = card = engine = what the API shows; nothing left over; then nothing moves.

Each function returns problems as text, prefixed by the promise's key; none is convergence.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING, Any

from sim.checks import head_of
from sim.device import Device
from sim.engine import Made, behaviour
from sim.folder import Keeper
from sim.people import CANARY, LOST_IMAGE, NAMESPACE
from skerry.journal import record
from skerry.limits import (
    CONTAINER_LOG_BYTES_MAX,
    CONTAINER_LOG_FILES_MAX,
    LOG_EXCESS_BYTES,
    LOG_RENAMED_PARTS_MAX,
    RELIST_S,
    WATCHDOG_FEED_S,
)
from skerry.model.desired import Key, Kind, Object, set_digest
from skerry.model.observed import ContainerState
from skerry.model.report import PodStatus, ReportKind
from skerry.ports import FilesVolume
from skerry.wire.codec import decode
from skerry.wire.report import decode_report
from skerry_hub.edgecontroller.mirrors import MIRROR, is_mirror
from skerry_hub.edgecontroller.target import Refusal, config_object, pod_object, references
from skerry_hub.ports import CONFIG_MAPS, NODES, PODS, SECRETS, Obj

if TYPE_CHECKING:
    from sim.life import Life

DEAD_KEPT_MAX = 2  # of one container name
QUIET_S = 3_600.0
FINAL = ("Succeeded", "Failed")


def calm_problems(life: Life) -> list[str]:
    out: list[str] = []
    for device, watching in zip(life.devices, life.watching, strict=True):
        shown = [p for p in life.etcd.all(PODS).values() if p["spec"]["nodeName"] == device.node]
        pods = {p["metadata"]["uid"]: p for p in shown if not is_mirror(p)}
        if not device.running:
            out.append(f"[5] {device.node} does not run")
            continue
        out += _set(life, device, pods)
        out += _sealed(life, device)
        waiting = [record.seq_of(k) for k in device.disk.keys(record.OUTBOX)]
        waiting = [seq for seq in waiting if seq > watching.mine().acked]  # others go with the next commit
        out += [f"[6] {device.node} still has in its outbox {waiting}"] if waiting else []
        for uid, pod in pods.items():
            out += _pod(device, uid, pod)
            out += _files(life, device, uid, pod)
        local = {p["metadata"]["annotations"][MIRROR]: p for p in shown if is_mirror(p)}
        out += _local(life.keepers[life.devices.index(device)], device, local)
        for uid, pod in local.items():
            out += _pod(device, uid, pod)
        out += _leftovers(device, pods | local)
        out += _logs(device)
        out += _node(life, device)
    return out


def offline_problems(devices: list[Device]) -> list[str]:
    """Every pod on the card that can run offline runs: its image is here, what it names is here."""
    out = []
    for device in devices:
        objects = [decode(device.disk.records[k]) for k in device.disk.keys(record.OBJECT + b"\1")]
        objects += [decode(decode(device.disk.records[k])[1]) for k in device.disk.keys(record.LOCAL + b"\1")]
        configs = {
            decode(device.disk.records[k])["metadata"]["name"]
            for kind in (b"\2", b"\3")
            for k in device.disk.keys(record.OBJECT + kind)
        }
        for pod in objects:
            uid, spec = pod["metadata"]["uid"], pod["spec"]
            if pod["metadata"].get("deletionTimestamp") or spec.get("hostIPC") or spec["restartPolicy"] != "Always":
                continue
            names = {c["name"] for c in spec["containers"]}
            if not all(c["image"] in device.engine.images for c in spec["containers"]) or not _have(spec, configs):
                continue
            running = device.engine.running(uid)
            lasting = {c["name"] for c in spec["containers"] if c["args"][0] in ("run", "stubborn")}
            if lasting - set(running):
                missing = sorted(lasting - set(running))
                out.append(f"{device.node}: {pod['metadata']['name']} {missing} of {sorted(names)} does not run")
    return out


def outage_problems(life: Life) -> list[str]:
    """The hub's Ready agrees with the runtimes."""
    return [problem for device in life.devices for problem in _node(life, device)]


def _logs(device: Device) -> list[str]:
    """Of a container that runs, the file of its log that is written is noticed in time, and the renamed ones together
    are bounded."""
    out = []
    for own_id, made in device.engine.containers.items():
        bound = CONTAINER_LOG_BYTES_MAX + LOG_EXCESS_BYTES
        files = device.engine.log_files(own_id) if made.seen.state is ContainerState.RUNNING else {}
        renamed = sum(size for number, size in files.items() if number)
        large = files.get(0, 0) > bound or renamed > LOG_RENAMED_PARTS_MAX * CONTAINER_LOG_BYTES_MAX
        if len(files) > CONTAINER_LOG_FILES_MAX or large:
            out.append(f"[9] {device.node}: the log of {own_id} has {files} bytes")
    return out


def quiet_problems(life: Life, before: list[tuple[int, int, int]]) -> list[str]:
    out = []
    for device, (commits, steps, lives) in zip(life.devices, before, strict=True):
        if device.disk.commits != commits:
            out.append(f"{device.node}: {device.disk.commits - commits} commits in a quiet hour")
        if device.lives != lives:
            out.append(f"{device.node}: the agent was restarted")
        early = [t for t in device.process.timers or () if t[1] - t[0] < RELIST_S - 1]
        fed = [t for t in early if abs(t[1] - t[0] - WATCHDOG_FEED_S) < 1e-3]
        if len(fed) <= QUIET_S / WATCHDOG_FEED_S + 1:
            early = [t for t in early if t not in fed]
        if early:
            out.append(f"{device.node}: timers under {RELIST_S:.0f} s: {early[:3]}")
        pods = len(device.engine.look())
        woken = device.process.steps - steps
        if woken > 13 * (60 + 60 * pods):
            out.append(f"{device.node}: {woken} steps in a quiet hour with {pods} pods")
    return out


# --- private ----------------------------------------------------------------------------------------------------------


def _set(life: Life, device: Device, pods: dict[str, Obj]) -> list[str]:
    """The card holds what the API wants."""
    want: dict[Key, Object] = {}
    seal = device.trust.seals().begin(device.node) if device.trust is not None else None
    for pod in pods.values():
        parts = [pod_object(pod)]
        for ref in references(pod):
            resource = CONFIG_MAPS if ref.kind is Kind.CONFIG_MAP else SECRETS
            found = life.etcd.find(resource, NAMESPACE, ref.name)
            if found is not None:
                part = config_object(ref.kind, found)
                parts.append(seal(part) if seal is not None and ref.kind is Kind.SECRET else part)
        for part in parts:
            assert not isinstance(part, Refusal)
            want[part.key] = part
    have = {}
    for key in device.disk.keys(record.OBJECT):
        o = record.read_object(key, device.disk.records[key])
        have[o.key] = o
    out = [f"[5] {device.node} lacks {k[0].name} {k[1]}" for k in want if k not in have]
    out += [f"[5] {device.node} has {k[0].name} {k[1]}, which is not wanted" for k in have if k not in want]
    changed = [k for k in want if k in have and have[k].digest != want[k].digest]
    out += [f"[5] {device.node} has another {k[0].name} {k[1]}" for k in changed]
    head = head_of(device)
    if have and head.digest != set_digest((k, o.digest) for k, o in have.items()):
        out.append(f"[7] {device.node}: the card's digest is not its objects'")
    return out


def _sealed(life: Life, device: Device) -> list[str]:
    """Promise 14, of what no commit and no frame shows."""
    if device.trust is None:
        return []
    out = [f"[14] {device.node}: a Secret in clear in copy {i}" for i, c in enumerate(device.disk.copies)
           if CANARY.encode() in c]  # fmt: skip
    lines = [line for log in (device.log, life.hub.log) for line in log if CANARY in line]
    return out + [f"[14] {device.node}: a Secret in a log: {line}" for line in lines]


def _local(keeper: Keeper, device: Device, mirrors: dict[str, Obj]) -> list[str]:
    """The card holds what the folder asks for, and the API shows a mirror of each pod and no other."""
    want = keeper.wanted()
    held = (record.read_local(k, device.disk.records[k]).obj for k in device.disk.keys(record.LOCAL))
    have = {o.key: o for o in held}
    out = [f"[5] {device.node} lacks {uid} of its folder" for _, uid in want if (Kind.POD, uid) not in have]
    out += [f"[5] {device.node} has another {uid}" for k, uid in have if have[k, uid] != want.get((k, uid))]
    uids = {uid for _, uid in want}
    out += [f"[5] the API shows no mirror of {uid}" for uid in sorted(uids - set(mirrors))]
    return out + [f"[5] the API shows a mirror of {uid}, which is not" for uid in sorted(set(mirrors) - uids)]


def _pod(device: Device, uid: str, pod: Obj) -> list[str]:
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    where = f"{device.node} {meta['name']}"
    if meta.get("deletionTimestamp"):
        return [f"[5] {where} is still being deleted"]
    said = _said(device, uid)
    if said is None:
        return [f"[5] {where}: no status on the card"]
    running = device.engine.running(uid)
    if status.get("phase") != said.phase.value:
        return [f"[5] {where}: the API says {status.get('phase')}, the device {said.phase.value}"]
    if spec.get("hostIPC"):
        good = status.get("phase") == "Failed" and "hostIPC" in str(status.get("message")) and not running
        return [] if good else [f"[5] {where}: not refused: {status.get('phase')} {status.get('message')}"]
    final = said.phase.value in FINAL
    if final and spec["restartPolicy"] == "Always":
        return [f"[5] {where}: has ended though its restartPolicy is Always"]
    out = [f"[5] {where}: {name} runs though the pod has ended" for name in running if final]
    shown = {c["name"]: c for c in status.get("containerStatuses") or ()}
    for c in spec["containers"]:
        ended = ((shown.get(c["name"]) or {}).get("state") or {}).get("terminated")
        done = ended is not None and (spec["restartPolicy"] == "Never" or ended["exitCode"] == 0)
        may_rest = final or (done and spec["restartPolicy"] != "Always")
        out += _container(device, uid, where, c, may_rest, shown.get(c["name"], {}))
    return out


def _container(device: Device, uid: str, where: str, want: Obj, final: bool, shown: Obj) -> list[str]:
    name = want["name"]
    mine = [m for m in device.engine.containers.values() if (m.seen.pod_uid, m.seen.name) == (uid, name)]
    alive = [m for m in mine if m.seen.state is ContainerState.RUNNING]
    out = []
    if len(alive) > 1:
        out.append(f"[8] {where}: {len(alive)} containers {name} run")
    lasting = want["args"][0] in ("run", "stubborn") and want["image"] != LOST_IMAGE
    if lasting and not alive and not final:
        out.append(f"[5] {where}: {name} does not run")
    for made in alive:
        if want["image"] != LOST_IMAGE:  # asked for by a restored API: the old container serves until it is there
            out += _made(where, want, made)
        if shown.get("containerID") != f"containerd://{made.seen.id}" or "running" not in shown.get("state", {}):
            said = f"{shown.get('containerID')} {shown.get('state')}"
            out.append(f"[5] {where}: {made.seen.id} runs, the API shows {said}")
    if not alive and "running" in (shown.get("state") or {}):
        out.append(f"[5] {where}: {name} does not run, the API says it does")
    return out


def _made(where: str, want: Obj, made: Made) -> list[str]:
    """A container that runs was made from what is wanted."""
    literal = {e["name"]: e["value"] for e in want.get("env", []) if "value" in e}
    env = {k: v for k, v in made.spec.env if k in literal or k == "N"}
    out = []
    if (made.spec.image, behaviour(made.spec), env) != (want["image"], want["args"][0], literal):
        out.append(f"[5] {where}: {want['name']} runs {made.spec.image} {env}, wanted {want['image']} {literal}")
    memory = ((want.get("resources") or {}).get("limits") or {}).get("memory")
    if memory is not None and made.resources.memory_limit_bytes != int(memory[:-2]) << 20:
        out.append(f"[5] {where}: {want['name']} has another memory limit than {memory}")
    return out


def _leftovers(device: Device, pods: dict[str, Any]) -> list[str]:
    """Promise 8."""
    out = []
    for uid, seen in device.engine.look().items():
        if uid not in pods:
            count = f"{len(seen.sandboxes)} sandboxes, {len(seen.containers)} containers"
            out.append(f"[8] {device.node}: {count} of {uid}")
            continue
        said = _said(device, uid)
        final = said is not None and said.phase.value in FINAL
        ready = [s for s in seen.sandboxes if s.ready]
        if len(ready) > 1 or (len(seen.sandboxes) > len(ready) and not final):
            out.append(f"[8] {device.node}: {len(seen.sandboxes)} sandboxes of {uid}, {len(ready)} of them ready")
        counts = Counter(c.name for c in seen.containers)
        out += [f"[8] {device.node}: {n} containers {name} of {uid}" for name, n in counts.items() if n > DEAD_KEPT_MAX]
        boxes = {s.id for s in seen.sandboxes}
        if any(c.sandbox_id not in boxes for c in seen.containers):
            out.append(f"[8] {device.node}: a container of {uid} without a sandbox")
    volumes = set(device.board.in_memory) | set(device.board.on_disk)
    out += [f"[8] {device.node}: volumes of {uid}" for uid in sorted(volumes - set(pods))]
    ended = {uid for uid in volumes & set(pods) if (said := _said(device, uid)) and said.phase.value in FINAL}
    out += [f"[8] {device.node}: volumes of {uid}, which has ended" for uid in sorted(ended)]
    statuses = {k[len(record.STATUS) :].decode() for k in device.disk.keys(record.STATUS)}
    out += [f"[8] {device.node}: a status of {uid}" for uid in sorted(statuses - set(pods))]
    return out


def _node(life: Life, device: Device) -> list[str]:
    node = life.etcd.find(NODES, "", device.node) or {}
    status = node.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    (ready,) = [c for c in status.get("conditions") or () if c["type"] == "Ready"] or [{}]
    said, out = (ready.get("status"), ready.get("reason")), []
    if said != (("False", "KubeletNotReady") if device.weather.away else ("True", "SessionLive")):
        out.append(f"[5] {device.node}: the API says Ready {said}, the runtime's away is {device.weather.away}")
    if conditions.get("RestoredHub") == "True":
        out.append(f"[5] {device.node}: still held")
    if (status.get("nodeInfo") or {}).get("bootID") != device.board.boot_id:
        out.append(f"[5] {device.node}: the API shows another boot")
    return out


def _files(life: Life, device: Device, uid: str, pod: Obj) -> list[str]:
    """What running containers read in a volume is what the ConfigMap or Secret holds, however long ago they started."""
    out = []
    for volume in pod["spec"].get("volumes", []) if device.engine.running(uid) else []:
        secret = volume.get("secret") or {}
        name = secret.get("secretName") or (volume.get("configMap") or {}).get("name")
        found = life.etcd.find(SECRETS if secret else CONFIG_MAPS, NAMESPACE, name) if name else None
        written = device.board.in_memory.get(uid, {}).get(volume["name"])
        if found is None or not isinstance(written, FilesVolume):
            continue
        want = {k: base64.b64decode(v) if secret else v.encode() for k, v in found["data"].items()}
        if {f.path: f.data for f in written.files} != want:
            out.append(f"[5] {device.node} {pod['metadata']['name']}: the files of {volume['name']} are old")
    return out


def _said(device: Device, uid: str) -> PodStatus | None:
    body = device.disk.records.get(record.status_key(uid))
    if body is None:
        return None
    said = decode_report(ReportKind.POD_STATUS, body)
    assert isinstance(said, PodStatus)
    return said


def _have(spec: Obj, configs: set[str]) -> bool:
    for volume in spec.get("volumes", []):
        source = volume.get("configMap") or volume.get("secret") or {}
        name = source.get("name") or source.get("secretName")
        if name and name not in configs and not source.get("optional"):
            return False
    for c in spec["containers"]:
        for e in c.get("env", []):
            ref = (e.get("valueFrom") or {}).get("configMapKeyRef")
            if ref and ref["name"] not in configs:
                return False
    return True
