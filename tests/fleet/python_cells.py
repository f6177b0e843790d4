"""The cells of kubectl_cells.py as the Python client of Kubernetes does them: `python -m fleet.python_cells CELL ...`.

In one process, because the library takes its time to be imported.

A library lacks what only kubectl does by itself: such a cell is not here. What kubectl makes of several requests (cp,
wait, describe, top) is made of them here too. The pods are those of kubectl_cells.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import re
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes import client, config, stream, watch

from fleet.kubectl_cells import BULK_BYTES, GREETING, NODE, WAIT_S

SPACE = "default"
CHUNK_BYTES = 64 * 1024
DIGESTS_50_MB, GIVES_50_MB = 9003, 9002  # servers of `web`: the first answers after 50 MB, for nobody half-closes here
STDIN, ERROR, RESIZE = 0, 3, 4
Core = Any  # client.CoreV1Api, whose models may lack every field
CELLS: dict[str, Callable[[Core], None]] = {}


def cell(name: str) -> Callable[[Callable[[Core], None]], Callable[[Core], None]]:
    def register(function: Callable[[Core], None]) -> Callable[[Core], None]:
        CELLS[name] = function
        return function

    return register


# --- logs -------------------------------------------------------------------------------------------------------------


@cell("logs")
def _logs(core: Core) -> None:
    assert core.read_namespaced_pod_log("web", SPACE).encode().startswith(GREETING)
    assert core.read_namespaced_pod_log("pair", SPACE, container="two") == "hello from pair\n"
    with refused(400, "container none is not valid for pod pair"):
        core.read_namespaced_pod_log("pair", SPACE, container="none")


@cell("logs -f")
def _logs_follow(core: Core) -> None:
    lines = watched(core.read_namespaced_pod_log, "web", SPACE, follow=True, _request_timeout=WAIT_S)
    assert next(lines) == GREETING.decode().strip()
    mark = f"mark {random.random()}"
    execute(core, "web", "sh", "-c", f"echo {mark} > /proc/1/fd/1")
    assert any(line == mark for line in lines)


@cell("logs --tail --since --timestamps --limit-bytes")
def _logs_flags(core: Core) -> None:
    def log(**flags: Any) -> str:
        said: str = core.read_namespaced_pod_log("pair", SPACE, container="one", **flags)
        return said

    assert log(tail_lines=1) == "hello from pair\n"
    assert log(tail_lines=0) == ""
    assert log(since_seconds=3_600_000) == "hello from pair\n"
    stamped = log(timestamps=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) hello from pair\n", stamped), stamped
    assert log(limit_bytes=5) == "hello"


@cell("logs --previous")
def _logs_previous(core: Core) -> None:
    assert core.read_namespaced_pod_log("ends", SPACE, previous=True) == "first life\n"
    with refused(400, 'previous terminated container \\"main\\" in pod \\"web\\" not found'):
        core.read_namespaced_pod_log("web", SPACE, previous=True)


# --- exec, attach, cp -------------------------------------------------------------------------------------------------


@cell("exec")
def _exec(core: Core) -> None:
    running = started(core, "web", "sh", "-c", "echo out; echo err >&2")
    running.run_forever(timeout=WAIT_S)
    assert (running.read_stdout(), running.read_stderr(), running.returncode) == (b"out\n", b"err\n", 0)


@cell("exec: exit codes")
def _exec_codes(core: Core) -> None:
    for code in (0, 3, 255):
        running = started(core, "web", "sh", "-c", f"exit {code}")
        running.run_forever(timeout=WAIT_S)
        assert running.returncode == code, running.returncode
    running = started(core, "web", "/no/such/program")
    running.run_forever(timeout=WAIT_S)
    said = running.read_channel(ERROR)
    assert b"no such file or directory" in said.lower(), said


@cell("exec -i")
def _exec_stdin(core: Core) -> None:
    data = random.Random(1).randbytes(1_000_000)
    assert execute(core, "web", "cat", stdin=data) == data
    assert execute(core, "web", "head", "-c", "3", stdin=data) == data[:3]


@cell("exec -it")
def _exec_tty(core: Core) -> None:
    running = started(core, "web", "sh", stdin=True, tty=True)
    running.write_channel(RESIZE, json.dumps({"Width": 117, "Height": 33}).encode())
    running.write_stdin(b"stty size\r")
    said = until_said(running, b"33 117")
    running.write_stdin(b"echo $((6*7))\rexit 5\r")
    running.run_forever(timeout=WAIT_S)
    said += running.read_stdout()
    assert b"42" in said, said
    assert running.returncode == 5, running.returncode


@cell("attach")
def _attach(core: Core) -> None:
    attached = opened(core.connect_get_namespaced_pod_attach, "web", stdout=True, stderr=True)
    time.sleep(2.0)  # what was said before is not shown
    mark = f"mark {random.random()}"
    execute(core, "web", "sh", "-c", f"echo {mark} > /proc/1/fd/1")
    assert until_said(attached, b"\n") == f"{mark}\n".encode()
    attached.close()


@cell("attach -it")
def _attach_tty(core: Core) -> None:
    attached = opened(core.connect_get_namespaced_pod_attach, "typed", stdin=True, stdout=True, tty=True)
    attached.write_stdin(b"echo $((6*7))\r")
    until_said(attached, b"42")
    attached.close()
    assert core.read_namespaced_pod("typed", SPACE).status.phase == "Running"


@cell("cp, both ways")
def _cp(core: Core) -> None:
    """As kubectl does it: tar at both ends of an exec."""
    data, packed = random.Random(2).randbytes(5_000_000), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("copied-by-python")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    execute(core, "web", "tar", "xf", "-", "-C", "/tmp", stdin=packed.getvalue())
    assert digest(data) in execute(core, "web", "sha256sum", "/tmp/copied-by-python").decode()
    back = execute(core, "web", "tar", "cf", "-", "-C", "/tmp", "copied-by-python")
    with tarfile.open(fileobj=io.BytesIO(back)) as tar:
        file = tar.extractfile("copied-by-python")
        assert file is not None
        assert digest(file.read()) == digest(data)


@cell("exec into what is not there")
def _exec_nowhere(core: Core) -> None:
    began = time.monotonic()
    with refused(0, 'pods \\"no-such-pod\\" not found'):
        started(core, "no-such-pod", "true")
    with refused(0, "container none"):
        opened(core.connect_get_namespaced_pod_exec, "web", container="none", command=["true"], stdout=True)
    assert time.monotonic() - began < WAIT_S / 2


# --- port-forward -----------------------------------------------------------------------------------------------------


@cell("port-forward")
def _forward(core: Core) -> None:
    assert ask(forwarded(core, 8080)).endswith(GREETING)


@cell("port-forward: 8 connections at once")
def _forward_many(core: Core) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ask(forwarded(client.CoreV1Api(), 8080)), range(16)))
    assert all(reply.endswith(GREETING) for reply in replies)


@cell("port-forward: 50 MB both ways")
def _forward_bulk(core: Core) -> None:
    data = random.Random(3).randbytes(BULK_BYTES)
    assert digest(data) in talk(forwarded(core, DIGESTS_50_MB), data).decode()
    got = talk(forwarded(core, GIVES_50_MB), b"")
    assert len(got) == BULK_BYTES, len(got)
    assert got == bytes(BULK_BYTES)


@cell("port-forward to a closed port")
def _forward_closed(core: Core) -> None:
    forward = forwarded(core, 81)
    assert talk(forward, b"") == b""
    assert "refused" in forward.error(81), forward.error(81)


# --- the rest of the daily verbs --------------------------------------------------------------------------------------


@cell("get, describe")
def _get_describe(core: Core) -> None:
    (web,) = [pod for pod in core.list_namespaced_pod(SPACE).items if pod.metadata.name == "web"]
    assert (web.status.phase, web.spec.node_name) == ("Running", NODE)
    (listed,) = [node for node in core.list_node().items if node.metadata.name == NODE]
    ready = [c.status for c in listed.status.conditions if c.type == "Ready"]
    assert ready == ["True"], ready
    assert core.read_namespaced_pod("web", SPACE).metadata.uid == web.metadata.uid
    assert core.read_node(NODE).metadata.uid == listed.metadata.uid


@cell("apply, wait, delete")
def _apply_delete(core: Core) -> None:
    name = f"made-{os.getpid()}"
    container = {"name": "main", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}]}
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [container]}
    manifest: Any = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    core.create_namespaced_pod(SPACE, manifest)
    core.patch_namespaced_pod(name, SPACE, {"metadata": {"labels": {"made": "here"}}})
    only = {"field_selector": f"metadata.name={name}", "timeout_seconds": int(WAIT_S)}
    for event in watched(core.list_namespaced_pod, SPACE, **only):
        conditions = event["object"].status.conditions or ()
        if any(c.type == "Ready" and c.status == "True" for c in conditions):
            break
    else:
        raise AssertionError("the pod was not seen ready")
    assert event["object"].metadata.labels == {"made": "here"}
    core.delete_namespaced_pod(name, SPACE)
    assert any(event["type"] == "DELETED" for event in watched(core.list_namespaced_pod, SPACE, **only))
    with refused(404, f'pods \\"{name}\\" not found'):
        core.read_namespaced_pod(name, SPACE)


@cell("events")
def _events(core: Core) -> None:
    found = core.list_namespaced_event(SPACE, field_selector="involvedObject.name=web").items
    assert "Started" in {event.reason for event in found}


@cell("top")
def _top(core: Core) -> None:
    metrics: Any = client.CustomObjectsApi()
    (node,) = metrics.list_cluster_custom_object("metrics.k8s.io", "v1beta1", "nodes")["items"]
    assert node["metadata"]["name"] == NODE
    assert re.fullmatch(r"\d+(n|u|m)?", node["usage"]["cpu"]), node["usage"]
    pods = metrics.list_namespaced_custom_object("metrics.k8s.io", "v1beta1", SPACE, "pods")["items"]
    assert "web" in {pod["metadata"]["name"] for pod in pods}


@cell("cordon, uncordon")
def _cordon(core: Core) -> None:
    for wanted in (True, False):
        core.patch_node(NODE, {"spec": {"unschedulable": wanted}})
        assert bool(core.read_node(NODE).spec.unschedulable) == wanted


# --- private ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def refused(status: int, words: str) -> Iterator[None]:
    """A WebSocket's handshake that fails has no status of its own: 0."""
    why: client.ApiException | None = None
    try:
        yield
    except client.ApiException as refusal:
        why = refusal
    assert why is not None, f"not refused: {words}"
    assert why.status == status, why
    assert words in f"{why.reason} {why.body}", why


def opened(method: Any, pod: str, **options: Any) -> Any:
    """A WSClient, of bytes."""
    return stream.stream(method, pod, SPACE, _preload_content=False, binary=True, **options)


def started(core: Core, pod: str, *command: str, stdin: bool = False, tty: bool = False) -> Any:
    options = {"command": list(command), "stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
    return opened(core.connect_get_namespaced_pod_exec, pod, **options)


def execute(core: Core, pod: str, *command: str, stdin: bytes | None = None) -> bytes:
    """Its output, once it has ended with 0."""
    running = started(core, pod, *command, stdin=stdin is not None)
    out = b""
    for at in range(0, len(stdin or b""), CHUNK_BYTES):
        running.update()  # what it says meanwhile: else both sides wait for one another
        if not running.is_open():
            break
        running.write_stdin((stdin or b"")[at : at + CHUNK_BYTES])
    if stdin is not None and running.is_open():
        running.close_channel(STDIN)
    running.run_forever(timeout=WAIT_S)
    out, err = running.read_stdout(), running.read_stderr()
    assert running.returncode == 0, f"{command[0]}: {running.returncode} {err[-300:]!r}"
    assert isinstance(out, bytes)
    return out


def until_said(running: Any, words: bytes) -> bytes:
    said, end = b"", time.monotonic() + WAIT_S
    while words not in said:
        assert running.is_open(), said
        assert time.monotonic() < end, said
        said += running.read_stdout(timeout=1.0)
    return said


def watched(method: Any, *args: Any, **options: Any) -> Iterator[Any]:
    found: Iterator[Any] = watch.Watch().stream(method, *args, **options)  # type: ignore[no-untyped-call]
    return found


def forwarded(core: Core, port: int) -> Any:
    method = core.connect_get_namespaced_pod_portforward
    forward = stream.portforward(method, "web", SPACE, ports=str(port))
    forward.port = port
    return forward


def ask(forward: Any) -> bytes:
    return talk(forward, b"GET / HTTP/1.0\r\n\r\n")


def talk(forward: Any, data: bytes) -> bytes:
    """All that comes until the other side ends."""
    wire = forward.socket(forward.port)
    wire.settimeout(WAIT_S)
    sender = threading.Thread(target=wire.sendall, args=(data,))
    sender.start()
    got = bytearray()
    while part := wire.recv(1 << 20):
        got += part
    sender.join()
    return bytes(got)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(names: list[str]) -> int:
    """One JSON object a line and cell, as they end: why it is not green, or nothing."""
    config.load_kube_config()  # type: ignore[no-untyped-call]
    for name in names:
        said = ""
        try:
            CELLS[name](client.CoreV1Api())
        except Exception as why:  # whatever the library raises: that cell is not green
            where = traceback.extract_tb(why.__traceback__)[1]
            said = f"{name}: {where.line}: {' '.join(str(why).split())[-400:]}"
        print(json.dumps({name: said}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
