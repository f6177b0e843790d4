"""A command sees what it declared and nothing else: every planted undeclared read fails the build."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builds.build_places import NOBODY, NewPlace, edit, needs_sandbox

pytestmark = needs_sandbox

PROBE = """
[workspace]
name = "probe"

[unit.look]
inputs = ["seen.txt"]
tools = ["debian:dash", "debian:coreutils"]
command = ["sh", "-c", "COMMAND"]
outputs = ["out.txt"]
"""


def probe(root: Path, command: str) -> None:
    folder = root / "probe"
    folder.mkdir(exist_ok=True)
    (folder / "seen.txt").write_text("declared\n")
    (folder / "secret.txt").write_text("undeclared\n")
    (folder / "build.toml").write_text(PROBE.replace("COMMAND", command))


def test_a_declared_input_is_seen(at: NewPlace) -> None:
    here = at("here")
    probe(here.root, "cp seen.txt out.txt")
    assert here.build("probe", "probe:look").built == {"probe:look"}


@pytest.mark.parametrize(
    "command",
    [
        "cat secret.txt > out.txt",
        "cat ../probe/secret.txt > out.txt",
        "cat ROOT/probe/secret.txt > out.txt",
        "cat ROOT/toy/native/hot.c > out.txt",
        "cat /etc/machine-id > out.txt || cat /etc/debian_version > out.txt",
        "ls /home /root /var /tmp/* > out.txt",
        "gcc --version > out.txt",
        "python3 --version > out.txt",
        "echo > /usr/bin/planted; test -e /usr/bin/planted && touch out.txt",
        "test -n $SKERRY_SECRET$SSH_AUTH_SOCK && touch out.txt",
    ],
)
def test_an_undeclared_read_fails(at: NewPlace, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("SKERRY_SECRET", "1")
    here = at("here")
    probe(here.root, command.replace("ROOT", str(here.root)).replace("-n $", '-n \\"$').replace("SOCK", 'SOCK\\"'))
    failed = here.build("probe", "probe:look")
    assert failed.code == 1
    assert "probe/build.toml: unit.look.command: probe:look ended with code" in failed.said
    assert "It sees only its declared inputs, needs and tools" in failed.said
    assert not (here.cache / "ac").exists()


def test_a_header_that_nobody_declared_stops_the_compiler(at: NewPlace) -> None:
    """The usual case: the file lies beside the source, the compiler would find it, the declaration does not name it."""
    here = at("here")
    edit(here.root / "toy/native/build.toml", 'inputs = ["hot.c", "hot.h"]', 'inputs = ["hot.c"]')
    failed = here.build("toy/native", "native:hot@fast")
    assert failed.code == 1
    assert "hot.h: No such file" in failed.said


def test_there_is_no_network(at: NewPlace) -> None:
    """Not even this machine's own loopback: a server here is not reached from inside."""
    asked: list[str] = []

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Requests) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = at("here")
        probe(here.root, "COMMAND")
        file = here.root / "probe/build.toml"
        url = f"http://127.0.0.1:{server.server_address[1]}/leak"
        edit(file, '"debian:dash", "debian:coreutils"', '"debian:python3"')
        edit(file, '["sh", "-c", "COMMAND"]', f'["python3", "-c", "import urllib.request as r; r.urlopen(\'{url}\')"]')
        failed = here.build("probe", "probe:look")
        server.shutdown()
    assert failed.code == 1
    assert "Connection refused" in failed.said
    assert asked == []


def test_what_a_command_sees_of_the_machine_is_fixed(at: NewPlace) -> None:
    here = at("here", umask=0o077)
    probe(here.root, "(id -u; umask; uname -n; pwd; env | sort; stat -c %Y.%a.%u seen.txt; stat -c %a.%u .) > out.txt")
    edit(here.root / "probe/build.toml", "outputs", 'environment = { MINE = "1" }\noutputs')
    assert here.build("probe", "probe:look", "--out", "out").code == 0
    assert (here.root / "out/probe/out.txt").read_text().splitlines() == [
        "1000", "0022", "build", "/build", "HOME=/build", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "MINE=1",
        "PATH=/usr/bin:/usr/sbin", "PWD=/build", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0",
        "SOURCE_DATE_EPOCH=1700000000", "TMPDIR=/tmp", "TZ=UTC", "USER=build",
        "1700000000.644.1000", "755.1000",
    ]  # fmt: skip


AS_ROOT = """(
id -u; id -un; uname -n; pwd
mkdir r r/usr r/dev && mount --bind /usr r/usr && ln -s usr/bin usr/lib usr/lib64 r && mknod r/dev/null c 1 3
chroot r sh -c 'echo gone > /dev/null && echo in the chroot'
mkdir r/mine && chown 33:44 r/mine && stat -c %u:%g r/mine
mkdir /tmp/t && mount -t tmpfs none /tmp/t && umount /tmp/t && rmdir /tmp/t && echo mounted
mknod /tmp/null c 1 3 && echo gone > /tmp/null && echo a device
(echo > /usr/bin/planted) 2>/dev/null || echo tools are read-only
test -e secret.txt -o -e ROOT || echo undeclared is not there
cat /proc/net/dev | grep -c :
) > out.txt"""
really_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes are for root")


@really_root
def test_a_unit_may_ask_for_root_and_sees_no_more(at: NewPlace) -> None:
    """What making a root file system needs: uid 0, chroot, mount, mknod, chown; still no network, and what is declared.

    Asking is in the key: the same unit without it is another."""
    here = at("here")
    probe(here.root, AS_ROOT.replace("ROOT", str(here.root)))
    file = here.root / "probe/build.toml"
    edit(file, 'command = ["sh", "-c", "', "command = ['sh', '-c', '''")
    edit(file, '> out.txt"]', "> out.txt''']")
    edit(file, '"debian:coreutils"', '"debian:coreutils", "debian:grep", "debian:mount"')
    assert here.build("probe", "probe:look", "--out", "out").code == 0
    assert "in the chroot" not in (here.root / "out/probe/out.txt").read_text()
    edit(file, "outputs", "root = true\noutputs")
    done = here.build("probe", "probe:look", "--out", "out")
    assert done.code == 0, done.said
    assert (here.root / "out/probe/out.txt").read_text().splitlines() == [
        "0", "root", "build", "/build", "in the chroot", "33:44", "mounted", "a device", "tools are read-only",
        "undeclared is not there", "1",
    ]  # fmt: skip
    said = here.run("explain", "probe:look", "--root", "probe").said
    assert '"root": true' in said


@really_root
def test_another_user_is_told_that_root_is_needed_and_may_use_what_root_built(at: NewPlace) -> None:
    theirs, ours = at("theirs", user=NOBODY), at("ours")
    for place in (theirs, ours):
        probe(place.root, "id -u > out.txt")
        edit(place.root / "probe/build.toml", "outputs", "root = true\noutputs")
    refused = theirs.build("probe", "probe:look")
    assert refused.code == 1
    assert "unit.look.root: this unit is in no store, and building it takes root (" in refused.said
    assert ours.build("probe", "probe:look").built == {"probe:look"}
    assert theirs.build("probe", "probe:look", "--remote", str(ours.cache)).units == {"probe:look": "cached"}


def test_root_is_yes_or_no(at: NewPlace) -> None:
    here = at("here")
    probe(here.root, "touch out.txt")
    edit(here.root / "probe/build.toml", "outputs", "root = 1\noutputs")
    assert "probe/build.toml: unit.look.root: has another type. Write a bool" in here.build("probe", "probe:look").said


def test_an_output_that_is_not_written_is_an_error_that_names_it(at: NewPlace) -> None:
    here = at("here")
    probe(here.root, "echo nothing to do")
    failed = here.build("probe", "probe:look")
    assert failed.code == 1
    assert "unit.look.outputs: the command did not write out.txt" in failed.said
    assert "nothing to do" in failed.said


def test_a_command_that_takes_too_long_is_ended(at: NewPlace) -> None:
    here = at("here")
    probe(here.root, "sleep 600")
    edit(here.root / "probe/build.toml", "outputs", "timeout_s = 1\noutputs")
    failed = here.build("probe", "probe:look")
    assert "took more than 1 s" in failed.said
