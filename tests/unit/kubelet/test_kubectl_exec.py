"""`kubectl exec`, `attach` and `cp` of every version that is here: SPDY up to 1.29, WebSocket from 1.30."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from skerry.model.streams import Attach, Exec
from unit.apiserver.serving import Client
from unit.kubelet.clients import DEADLINE_S, FOUND, Kubectl
from unit.kubelet.site import Site
from unit.kubelet.test_kubectl_logs import until

pytestmark = pytest.mark.skipif(not FOUND, reason="no kubectl here")
SH = ("--", "sh", "-c")


def has_ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
        return True


@pytest.fixture(params=list(FOUND.values()), ids=list(FOUND))
def kubectl(request: pytest.FixtureRequest, cluster: Client, home: Path, site: Site) -> Kubectl:
    return Kubectl(request.param, cluster.at.kubeconfig, home)


def test_output_errors_and_exit_codes(kubectl: Kubectl, site: Site) -> None:
    done = kubectl.run("exec", "web", *SH, "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr.startswith(b"err\n")
    assert kubectl("exec", "web", "--", "echo", "a b", "c") == b"a b c\n"
    assert site.streams.opened[-1] == Exec("default", "web", "a", ("echo", "a b", "c"), False, True, True, False)
    assert kubectl("exec", "pair", "-c", "a", "--", "true") == b""
    until(lambda: not site.streams.now)


def test_stdin_goes_in_and_its_end_is_told(kubectl: Kubectl) -> None:
    data = os.urandom(3_000_000)
    said = kubectl("exec", "-i", "web", "--", "sha256sum", stdin=data)
    assert said.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert kubectl("exec", "-i", "web", "--", "cat", stdin=b"") == b""


def test_fifty_megabytes_out_are_whole(kubectl: Kubectl) -> None:
    out = kubectl("exec", "web", *SH, "head -c 50000000 /dev/zero | tr '\\0' z; echo end >&2")
    assert len(out) == 50_000_000
    assert out.count(b"z") == 50_000_000


def test_a_process_that_does_not_read_its_stdin_ends_well(kubectl: Kubectl, site: Site) -> None:
    done = kubectl.run("exec", "-i", "web", *SH, "echo done; exit 4", stdin=b"x" * 2_000_000)
    assert (done.returncode, done.stdout) == (4, b"done\n")
    until(lambda: not site.streams.now)


def test_cp_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    there, source, back = tmp_path / "there", tmp_path / "source", tmp_path / "back"
    there.mkdir()
    source.write_bytes(os.urandom(5_000_000))
    kubectl("cp", str(source), f"web:{there}/file")
    assert (there / "file").read_bytes() == source.read_bytes()
    kubectl("cp", f"web:{there}/file", str(back))
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("gone", "--", "true"), "pod does not exist"),
        (("pair", "-c", "stopped", "--", "true"), 'unable to upgrade connection: container not found ("stopped")'),
        (("web", "-c", "b", "--", "true"), "container b is not valid for pod web"),
        (("none", "--", "true"), 'pods "none" not found'),
        (("nowhere", "--", "true"), "pod nowhere does not have a host assigned"),
        (("astray", "--", "true"), "error dialing backend: dial tcp 127.0.0.1:9: connect: connection refused"),
        (("web", "--", "no-such-program"), 'exec: "no-such-program": executable file not found'),
    ],
)
def test_what_cannot_be_run_is_told(kubectl: Kubectl, args: tuple[str, ...], said: str) -> None:
    done = kubectl.run("exec", *args)
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_a_device_that_leaves_ends_the_exec_with_the_reason(kubectl: Kubectl, site: Site) -> None:
    with kubectl.start("exec", "web", *SH, "echo begun; sleep 600") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"begun\n"
        site.call(site.streams.lose)
        assert running.wait(DEADLINE_S) == 1
        assert b"error executing command in container: device dev1 left" in running.stderr.read()
    until(lambda: not site.streams.now)


def test_a_client_that_goes_ends_the_process(kubectl: Kubectl, site: Site, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with kubectl.start("exec", "web", *SH, f"echo $$ > {mark}; sleep 600") as running:
        until(lambda: mark.exists() and bool(mark.read_text().strip()))
        running.kill()
    until(lambda: not site.streams.now)
    pid = int(mark.read_text())
    until(lambda: has_ended(pid))


def test_a_client_that_goes_while_the_process_reads_nothing_is_noticed(kubectl: Kubectl, site: Site) -> None:
    with kubectl.start("exec", "-i", "web", *SH, "sleep 600", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        until(lambda: bool(site.streams.now))
        running.stdin.write(b"x" * 800_000)  # more than the endpoint takes, less than all buffers on the way
        running.stdin.flush()
        time.sleep(1.0)
        running.kill()
        running.stdin = None
    until(lambda: not site.streams.now)


def test_attach_shows_what_comes_from_now_on(kubectl: Kubectl, site: Site) -> None:
    with kubectl.start("attach", "-i", "web", stdin=subprocess.PIPE) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        assert attached.stdout.readline() == b"attached\n"
        attached.stdin.write(b"echoed\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"echoed\n"
        attached.stdin.close()
        attached.stdin = None
        assert attached.wait(DEADLINE_S) == 0
    assert isinstance(site.streams.opened[-1], Attach)
    until(lambda: not site.streams.now)


def test_a_terminal_its_size_and_its_exit_code(kubectl: Kubectl, site: Site) -> None:
    outer, inner = pty.openpty()

    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    command = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; tty; read word; echo got $word; exit 5"
    process = subprocess.Popen(
        [kubectl.binary, "exec", "-it", "web", *SH, command],
        stdin=inner,
        stdout=inner,
        stderr=subprocess.PIPE,
        env={**kubectl.env, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(inner)
    shown = b""
    try:
        end = time.monotonic() + DEADLINE_S
        while b"/dev/pts/" not in shown:
            assert time.monotonic() < end, shown
            if select.select([outer], [], [], 0.2)[0]:
                shown += os.read(outer, 4096)
        os.write(outer, b"word\r")
        while b"got word" not in shown:
            assert time.monotonic() < end, shown
            if select.select([outer], [], [], 0.2)[0]:
                shown += os.read(outer, 4096)
        assert process.wait(DEADLINE_S) == 5
    finally:
        process.kill()
        process.communicate()
        os.close(outer)
    until(lambda: not site.streams.now)
