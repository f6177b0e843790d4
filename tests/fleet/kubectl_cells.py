"""What people do with kubectl on a device, one function each: `python -m fleet.kubectl_cells BINARY CELL`.

Runs beside the API (in the site's namespace), against the pods that tests/e2e/test_kubectl.py has made: `web` serves
its greeting on 8080 and runs on, `typed` has a terminal, `pair` has two containers, `ends` has ended once and runs
again. Exit code 0: the cell is green; else the last line says why not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WAIT_S = 120.0
BULK_BYTES = 50_000_000
NODE = "edge-1"
GREETING = b"hello from web\n"
CELLS: dict[str, Callable[[Kubectl], None]] = {}


class Kubectl:
    def __init__(self, binary: str) -> None:
        self.binary = binary

    def run(self, *args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self.binary, *args], input=stdin, capture_output=True, timeout=WAIT_S, check=False)

    def __call__(self, *args: str, stdin: bytes | None = None) -> bytes:
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, f"{args[0]}: {done.stderr.decode()[-300:]}"
        return done.stdout

    @contextlib.contextmanager
    def started(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        pipe = subprocess.PIPE
        with subprocess.Popen([self.binary, *args], stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                yield process
            finally:
                process.terminate()


def cell(name: str) -> Callable[[Callable[[Kubectl], None]], Callable[[Kubectl], None]]:
    def register(function: Callable[[Kubectl], None]) -> Callable[[Kubectl], None]:
        CELLS[name] = function
        return function

    return register


# --- logs -------------------------------------------------------------------------------------------------------------


@cell("logs")
def _logs(kubectl: Kubectl) -> None:
    said = kubectl("logs", "web")
    assert said.startswith(GREETING), said
    assert kubectl("logs", "pair", "-c", "two") == b"hello from pair\n"
    done = kubectl.run("logs", "pair", "-c", "none")
    assert done.returncode == 1, done
    assert b"container none is not valid for pod pair" in done.stderr, done.stderr


@cell("logs -f")
def _logs_follow(kubectl: Kubectl) -> None:
    with kubectl.started("logs", "-f", "web") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == GREETING
        mark = f"mark {random.random()}"
        kubectl("exec", "web", "--", "sh", "-c", f"echo {mark} > /proc/1/fd/1")
        while (line := following.stdout.readline()) and line.decode() != f"{mark}\n":
            assert line.startswith(b"mark"), line  # of an earlier cell
        assert line


@cell("logs --tail --since --timestamps --limit-bytes")
def _logs_flags(kubectl: Kubectl) -> None:
    assert kubectl("logs", "pair", "-c", "one", "--tail=1") == b"hello from pair\n"
    assert kubectl("logs", "pair", "-c", "one", "--tail=0") == b""
    assert kubectl("logs", "pair", "-c", "one", "--since=1000h") == b"hello from pair\n"
    stamped = kubectl("logs", "pair", "-c", "one", "--timestamps").decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) hello from pair\n", stamped), stamped
    assert kubectl("logs", "pair", "-c", "one", "--limit-bytes=5") == b"hello"


@cell("logs --previous")
def _logs_previous(kubectl: Kubectl) -> None:
    assert kubectl("logs", "ends", "--previous") == b"first life\n"
    done = kubectl.run("logs", "web", "--previous")
    assert done.returncode == 1, done
    assert b'previous terminated container "main" in pod "web" not found' in done.stderr, done.stderr


@cell("logs --all-containers -l")
def _logs_all(kubectl: Kubectl) -> None:
    assert kubectl("logs", "-l", "app=pair", "--all-containers").count(b"hello from pair\n") == 2


# --- exec, attach, cp -------------------------------------------------------------------------------------------------


@cell("exec")
def _exec(kubectl: Kubectl) -> None:
    done = kubectl.run("exec", "web", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout) == (0, b"out\n"), done
    assert done.stderr == b"err\n", done.stderr


@cell("exec: exit codes")
def _exec_codes(kubectl: Kubectl) -> None:
    for code in (0, 3, 255):
        assert kubectl.run("exec", "web", "--", "sh", "-c", f"exit {code}").returncode == code
    done = kubectl.run("exec", "web", "--", "/no/such/program")
    assert done.returncode in (1, 126, 127), done
    assert b"no such file or directory" in done.stderr.lower(), done.stderr


@cell("exec -i")
def _exec_stdin(kubectl: Kubectl) -> None:
    data = random.Random(1).randbytes(1_000_000)
    assert kubectl("exec", "-i", "web", "--", "cat", stdin=data) == data
    assert kubectl("exec", "-i", "web", "--", "head", "-c", "3", stdin=data) == data[:3]


@cell("exec -it")
def _exec_tty(kubectl: Kubectl) -> None:
    said = _typed([kubectl.binary, "exec", "-it", "web", "--", "sh"], ["stty size", "echo $((6*7))", "exit 5"])
    assert "33 117" in said.text, said.text
    assert "42" in said.text, said.text
    assert said.code == 5, said


@cell("attach")
def _attach(kubectl: Kubectl) -> None:
    with kubectl.started("attach", "web") as attached:
        assert attached.stdout is not None
        time.sleep(2.0)  # what was said before is not shown
        mark = f"mark {random.random()}"
        kubectl("exec", "web", "--", "sh", "-c", f"echo {mark} > /proc/1/fd/1")
        line = attached.stdout.readline()
        while line and not line.startswith(b"mark"):
            line = attached.stdout.readline()
        assert line.decode() == f"{mark}\n"


@cell("attach -it")
def _attach_tty(kubectl: Kubectl) -> None:
    said = _typed([kubectl.binary, "attach", "-it", "typed"], ["echo $((6*7))"], then=b"\x10\x11", ends=False)
    assert "42" in said.text, said.text
    assert kubectl("get", "pod", "typed", "-o", "jsonpath={.status.phase}") == b"Running"


@cell("cp, both ways")
def _cp(kubectl: Kubectl) -> None:
    data = random.Random(2).randbytes(5_000_000)
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder) / "there", Path(folder) / "back"
        there.write_bytes(data)
        kubectl("cp", str(there), "web:/tmp/copied")
        assert _digest(data) in kubectl("exec", "web", "--", "sha256sum", "/tmp/copied")
        kubectl("cp", "web:/tmp/copied", str(back))
        assert _digest(back.read_bytes()) == _digest(data)


@cell("exec into what is not there")
def _exec_nowhere(kubectl: Kubectl) -> None:
    began = time.monotonic()
    for args, words in (
        (("no-such-pod", "--", "true"), b'pods "no-such-pod" not found'),
        (("web", "-c", "none", "--", "true"), b"container none"),
    ):
        done = kubectl.run("exec", *args)
        assert done.returncode == 1, done
        assert words in done.stderr, done.stderr
    assert time.monotonic() - began < WAIT_S / 2


# --- port-forward -----------------------------------------------------------------------------------------------------


@cell("port-forward")
def _forward(kubectl: Kubectl) -> None:
    with _forwarded(kubectl, "web", 8080) as port:
        assert _get(port).endswith(GREETING)


@cell("port-forward: 8 connections at once")
def _forward_many(kubectl: Kubectl) -> None:
    with _forwarded(kubectl, "web", 8080) as port, ThreadPoolExecutor(8) as pool:
        assert all(reply.endswith(GREETING) for reply in pool.map(lambda _: _get(port), range(16)))


@cell("port-forward: 50 MB both ways")
def _forward_bulk(kubectl: Kubectl) -> None:
    """`web` has two more servers: 9001 takes all and answers with its digest, 9002 gives a file."""
    data = random.Random(3).randbytes(BULK_BYTES)
    with _forwarded(kubectl, "web", 9001) as port:
        assert _digest(data) in _talk(port, data)
    with _forwarded(kubectl, "web", 9002) as port:
        got = _talk(port, b"")
        assert len(got) == BULK_BYTES, len(got)
        assert got == bytes(BULK_BYTES)


@cell("port-forward to a closed port")
def _forward_closed(kubectl: Kubectl) -> None:
    with kubectl.started("port-forward", "web", ":81") as forwarding:
        port = _port_of(forwarding)
        assert _talk(port, b"x") == b""
        assert forwarding.stderr is not None
        said = forwarding.stderr.readline()
        while said and b"refused" not in said:
            said = forwarding.stderr.readline()
        assert b"refused" in said


# --- the rest of the daily verbs --------------------------------------------------------------------------------------


@cell("get, describe")
def _get_describe(kubectl: Kubectl) -> None:
    assert re.search(r"^web +1/1 +Running", kubectl("get", "pods").decode(), re.MULTILINE)
    assert NODE in kubectl("get", "pods", "-o", "wide").decode()
    assert re.search(rf"^{NODE} +Ready", kubectl("get", "nodes", "-o", "wide").decode(), re.MULTILINE)
    assert re.search(rf"^Node: +{NODE}", kubectl("describe", "pod", "web").decode(), re.MULTILINE)
    assert "Ready" in kubectl("describe", "node", NODE).decode()


@cell("apply, wait, delete")
def _apply_delete(kubectl: Kubectl) -> None:
    name = f"made-{os.getpid()}"
    container = {"name": "main", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}]}
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [container]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest).encode())
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
    kubectl("delete", "pod", name, "--timeout=90s")
    assert kubectl.run("get", "pod", name).returncode == 1


@cell("events")
def _events(kubectl: Kubectl) -> None:
    assert b"Started" in kubectl("get", "events", "--field-selector=involvedObject.name=web")


@cell("top")
def _top(kubectl: Kubectl) -> None:
    assert re.search(rf"^{NODE} +\d+m +\d+% +\d+Mi", kubectl("top", "node").decode(), re.MULTILINE)
    assert re.search(r"^web +\d+m +\d+Mi", kubectl("top", "pod").decode(), re.MULTILINE)


@cell("cordon, uncordon")
def _cordon(kubectl: Kubectl) -> None:
    kubectl("cordon", NODE)
    assert b"SchedulingDisabled" in kubectl("get", "node", NODE)
    kubectl("uncordon", NODE)
    assert b"SchedulingDisabled" not in kubectl("get", "node", NODE)


# --- private ----------------------------------------------------------------------------------------------------------


class Typed:
    def __init__(self, text: str, code: int) -> None:
        self.text, self.code = text, code


def _typed(argv: list[str], lines: list[str], then: bytes = b"", ends: bool = True) -> Typed:
    """Run it in a terminal of 117 by 33, type the lines once it is quiet, and read until it ends."""
    pid, fd = pty.fork()
    if pid == 0:
        subprocess.run(["stty", "cols", "117", "rows", "33"], check=False)
        os.execv(argv[0], argv)
    said, end = bytearray(), time.monotonic() + WAIT_S
    try:
        for line in lines:
            _quiet(fd, said, end)
            os.write(fd, f"{line}\r".encode())
        if not ends:
            _quiet(fd, said, end)
            os.write(fd, then)
            os.kill(pid, 15)
        while time.monotonic() < end:
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            said += data
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    return Typed(said.decode(errors="replace"), os.waitstatus_to_exitcode(status))


def _quiet(fd: int, said: bytearray, end: float) -> None:
    """Something was said, and then nothing for a moment."""
    begun = False
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], 1.0 if begun else 0.2)
        if ready:
            said += os.read(fd, 4096)
            begun = True
        elif begun:
            return


@contextlib.contextmanager
def _forwarded(kubectl: Kubectl, pod: str, port: int) -> Iterator[int]:
    with kubectl.started("port-forward", pod, f":{port}") as forwarding:
        yield _port_of(forwarding)


def _port_of(forwarding: subprocess.Popen[bytes]) -> int:
    assert forwarding.stdout is not None
    line = forwarding.stdout.readline().decode()
    assert line.startswith("Forwarding from 127.0.0.1:"), line
    return int(line.split("127.0.0.1:")[1].split()[0])


def _get(port: int) -> bytes:
    return _talk(port, b"GET / HTTP/1.0\r\n\r\n", half=False)


def _talk(port: int, data: bytes, half: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as wire:

        def send() -> None:
            wire.sendall(data)
            if half:
                wire.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while part := wire.recv(1 << 20):
                got += part
        sender.join()
        return bytes(got)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def main(argv: list[str]) -> int:
    binary, name = argv
    try:
        CELLS[name](Kubectl(binary))
    except (AssertionError, subprocess.TimeoutExpired, OSError) as why:
        where = traceback.extract_tb(why.__traceback__)[1]
        print(f"{name}: {where.line}: {' '.join(str(why).split())[-400:]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
