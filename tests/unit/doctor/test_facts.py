"""Boards that are not here, this machine, and a journal of each kind."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from contract.certificates import authority, enrolled
from skerry import cli, identity
from skerry.config import Config, parse
from skerry.doctor.decide import Answer, Facts, Verdict, checks
from skerry.doctor.facts import look
from skerry.doctor.kernel_needs import NEEDS, needs
from skerry.journal.recovery import recover
from skerry.world.store import open_store
from unit.journal.memory_store import Counting, change, pod_object
from unit.world.test_host import board

RELEASE = "6.1.21-v8+"
DEP = "".join(f"kernel/x/{module}.ko.xz:\n" for need in NEEDS for _, module in need.parts)
PI = {  # a Raspberry Pi as it comes, with Debian's packages
    "proc/sys/kernel/osrelease": RELEASE,
    "proc/cmdline": "coherent_pool=1M cgroup_disable=memory root=PARTUUID=1-02 rootwait",
    "boot/firmware/cmdline.txt": "root=PARTUUID=1-02 rootwait",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids",
    f"lib/modules/{RELEASE}/modules.dep": DEP,
    f"lib/modules/{RELEASE}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    "usr/bin/crun": "",
    "usr/lib/cni/bridge": "", "usr/lib/cni/portmap": "", "usr/lib/cni/host-local": "",
    "etc/cni/net.d/99-skerry.conflist": json.dumps(
        {"plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}
    ),
    "sys/class/watchdog/watchdog0/state": "inactive",
    "sys/class/watchdog/watchdog0/identity": "Broadcom BCM2835 Watchdog timer",
    "var/lib/skerry/x": "",
}  # fmt: skip
UNJOINED = parse({"node": "pi"})


def seen(root: Path, files: dict[str, str], config: Config = UNJOINED) -> Facts:
    return look(config, board(root, files))


def verdicts(facts: Facts) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in checks(facts)}


def test_a_pi_as_it_comes(tmp_path: Path) -> None:
    facts = seen(tmp_path, PI)
    assert facts.cgroups.version == "v2"
    assert facts.cgroups.disabled
    assert facts.cgroups.command_line == "/boot/firmware/cmdline.txt"
    assert facts.kernel.release == RELEASE
    assert set(facts.kernel.needs.values()) == {Answer.YES}
    assert facts.runtime.oci == "/usr/bin/crun"
    assert (facts.runtime.network, facts.runtime.plugins_missing) == ("99-skerry.conflist", ())
    assert facts.watchdog.identity == "Broadcom BCM2835 Watchdog timer"
    assert not facts.watchdog.active
    found = {check.name: check for check in checks(facts)}
    assert found["cgroups"].cure.startswith("take cgroup_disable=memory out of /boot/firmware/cmdline.txt")
    assert {name for name, check in found.items() if check.verdict is Verdict.FAIL} == {"runtime"}  # no socket there


def test_an_empty_board_has_a_verdict_in_everything(tmp_path: Path) -> None:
    found = verdicts(seen(tmp_path, {}))
    assert found["cgroups"] is found["runtime"] is found["network"] is Verdict.FAIL
    assert found["kernel"] is found["watchdog"] is found["journal"] is Verdict.WARN


@pytest.mark.parametrize(
    ("files", "version", "controllers"),
    [
        ({"memory/memory.limit_in_bytes": "", "cpu/cpu.shares": ""}, "v1", ("cpu", "memory")),
        ({"cpu/cpu.shares": "", "unified/cgroup.controllers": ""}, "hybrid", ("cpu",)),
        ({"cgroup.controllers": "memory"}, "v2", ("memory",)),
    ],
)
def test_control_groups_of_each_kind(
    tmp_path: Path, files: dict[str, str], version: str, controllers: tuple[str, ...]
) -> None:
    facts = seen(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert (facts.cgroups.version, facts.cgroups.controllers) == (version, controllers)


CONFIGS = {
    "y": "".join(f"CONFIG_{need.parts[0][0]}=y\n" for need in NEEDS),
    "m": "".join(f"CONFIG_{need.parts[0][0]}=m\n" for need in NEEDS),
    "n": "# CONFIG_VETH is not set\n" + "".join(f"CONFIG_{n.parts[0][0]}=y\n" for n in NEEDS if n.what != "veth pairs"),
}


@pytest.mark.parametrize(
    ("config", "dep", "veth", "overlay"),
    [
        ("y", None, Answer.YES, Answer.YES),
        ("m", DEP, Answer.YES, Answer.YES),
        ("m", "", Answer.NO, Answer.NO),  # modules that are not here, as after an upgrade of the kernel
        ("m", None, Answer.NO, Answer.NO),
        ("n", DEP, Answer.NO, Answer.YES),
        (None, DEP, Answer.YES, Answer.YES),
        (None, "", Answer.NO, Answer.NO),
        (None, None, Answer.UNKNOWN, Answer.UNKNOWN),
    ],
)
def test_what_a_kernel_has(tmp_path: Path, config: str | None, dep: str | None, veth: Answer, overlay: Answer) -> None:
    if config is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/config.gz").write_bytes(gzip.compress(CONFIGS[config].encode()))
    if dep is not None:
        board(tmp_path, {f"lib/modules/{RELEASE}/modules.dep": dep})
    found = needs(tmp_path, RELEASE)
    assert (found["veth pairs"], found["overlayfs"]) == (veth, overlay)


def test_what_runs_is_there_whatever_the_files_say(tmp_path: Path) -> None:
    board(tmp_path, {"proc/filesystems": "nodev\tproc\nnodev\toverlay\n", "sys/module/veth/refcnt": "1"})
    found = needs(tmp_path, RELEASE)
    assert (found["overlayfs"], found["veth pairs"], found["bridges"]) == (Answer.YES, Answer.YES, Answer.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "network", "missing"),
    [
        (json.dumps({"plugins": [{"type": "bridge"}, {"type": "odd"}]}), "10-x.conflist", ("bridge", "odd")),
        ("{", "10-x.conflist (cannot be read)", ()),
        ("[]", "10-x.conflist (cannot be read)", ()),
    ],
)
def test_the_network_that_sorts_first_counts(tmp_path: Path, text: str, network: str, missing: tuple[str, ...]) -> None:
    facts = seen(tmp_path, {"etc/cni/net.d/10-x.conflist": text, "etc/cni/net.d/20-y.conflist": "{}"})
    assert (facts.runtime.network, facts.runtime.plugins_missing) == (network, missing)


# --- the journal ------------------------------------------------------------------------------------------------------


def journaled(root: Path) -> Path:
    """A journal with a pod and a decision of the year 2100."""
    folder = root / "var/lib/skerry/journal"
    folder.parent.mkdir(parents=True)
    store = open_store(folder, map_bytes=16 << 20, ballast_bytes=4096).store

    async def write() -> None:
        journal = (await recover(store, Counting())).journal
        await journal.apply(change(1, pod_object("u1", "{}")))
        journal.note(4_102_444_800.0, "default/web", "u1", "Wanted", "as the set says")
        await journal.tell(None)
        await journal.apply(change(2, pod_object("u2", "{}")))

    asyncio.run(write())
    store.close()
    return folder


def test_a_journal_is_read_and_its_last_word_is_the_clocks_floor(tmp_path: Path) -> None:
    folder = journaled(tmp_path)
    before = {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.name != "lock.mdb"}
    facts = seen(tmp_path, {})
    assert (facts.journal.answer, facts.journal.generation) == (Answer.YES, 2)
    assert 0 < facts.journal.used < 0.1
    assert facts.disk.ballast is Answer.YES
    assert verdicts(facts)["clock"] is Verdict.WARN
    assert {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in before} == before


def _garbage(folder: Path) -> None:
    (folder / "env/data.mdb").write_bytes(b"x" * 8192)


def _cut(folder: Path) -> None:
    """Mapped and then not there: SIGBUS."""
    os.truncate(folder / "env/data.mdb", 8192)


def _empty(folder: Path) -> None:
    (folder / "env/data.mdb").write_bytes(b"")


@pytest.mark.parametrize("harm", [_garbage, _cut, _empty])
def test_a_damaged_journal_is_a_verdict_and_no_crash(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    harm(journaled(tmp_path))
    facts = seen(tmp_path, {})
    assert facts.journal.answer is Answer.UNKNOWN
    assert facts.journal.problem
    assert verdicts(facts)["journal"] is Verdict.FAIL


# --- who it is --------------------------------------------------------------------------------------------------------


def test_an_enrolled_board_shows_until_when_and_its_broker_is_the_one_that_enrolment_gave(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/skerry"
    folder.mkdir(parents=True, mode=0o700)
    begins = datetime(2026, 1, 1, tzinfo=timezone.utc)
    identity.write(folder, enrolled(authority(), "edge-1", "mqtts://127.0.0.1:1", begins, days=10))
    facts = seen(tmp_path, {}, parse({}, "pi"))
    assert (facts.identity.answer, facts.identity.node, facts.identity.mode) == (Answer.YES, "edge-1", 0o700)
    assert facts.identity.ends_s == (begins + timedelta(days=10)).timestamp()
    assert (facts.broker.address, facts.broker.problem) == ("127.0.0.1:1", "Connection refused")
    assert not facts.identity.token
    (folder / "token").write_text("x")
    assert seen(tmp_path, {}).identity.token


def test_a_board_that_is_not_enrolled_and_a_damaged_identity_are_verdicts(tmp_path: Path) -> None:
    assert seen(tmp_path, {}).identity.answer is Answer.NO
    folder = tmp_path / "var/lib/skerry"
    folder.mkdir(parents=True)
    assert seen(tmp_path, {}).identity.answer is Answer.NO
    for content in (b"{", b"\xff" * 100):
        (folder / "identity.json").write_bytes(content)
        facts = seen(tmp_path, {})
        assert facts.identity.answer is Answer.UNKNOWN
        assert verdicts(facts)["identity"] is Verdict.WARN
    good = enrolled(authority(), "edge-1")
    identity.write(folder, replace(good, issued=replace(good.issued, certificate="-----BEGIN CERTIFICATE-----")))
    assert "has no end" in seen(tmp_path, {}).identity.problem


# --- this machine -----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "pi"\ndata_dir = "{tmp_path}"\ncontainerd_socket = "{tmp_path}/nobody.sock"\n')
    return path


def ran(capsys: pytest.CaptureFixture[str], config: Path, *more: str) -> tuple[int, str]:
    code = cli.main(["doctor", "--config", str(config), *more])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out


def test_it_runs_on_this_machine_as_text_and_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ran(capsys, here)
    data = json.loads(ran(capsys, here, "--output", "json")[1])
    assert code == 1  # nobody answers at the socket
    assert not data["good"]
    rows = {check["name"]: check for check in data["checks"]}
    assert rows["runtime"]["verdict"] == "fail"
    assert rows["disk"]["verdict"] in ("ok", "warn")
    assert len(rows) == 10
    for row in rows.values():
        assert row["why"] in out
        assert row["cure"] in out
    assert os.uname().release in rows["kernel"]["why"]


def test_a_good_board_is_code_0(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unit.doctor.test_decide import GOOD

    monkeypatch.setattr("skerry.doctor.look", lambda config: GOOD)
    assert ran(capsys, here)[0] == 0
    monkeypatch.setattr("skerry.doctor.look", lambda config: replace(GOOD, broker=replace(GOOD.broker, problem="away")))
    assert ran(capsys, here)[0] == 0


def test_a_socket_that_says_nothing_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skerry.doctor import facts as looking

    monkeypatch.setattr(looking, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen()
        facts = look(replace(UNJOINED, containerd_socket=tmp_path / "deaf.sock"))
    assert facts.runtime.answer is Answer.NO
    assert "no answer within" in facts.runtime.said


def test_a_broker_answers_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert look(replace(UNJOINED, broker_host="127.0.0.1", broker_port=port)).broker.problem == ""
    assert look(replace(UNJOINED, broker_host="127.0.0.1", broker_port=port)).broker.problem == "Connection refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_root_it_says_what_only_root_may_see(tmp_path: Path) -> None:
    journaled(tmp_path)
    sock = tmp_path / "run/containerd/containerd.sock"
    sock.parent.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    (tmp_path / "var/lib/skerry/journal").chmod(0o700)
    look(UNJOINED, tmp_path)  # everything is imported
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(sock))
        sock.chmod(0o600)
        facts = _as_nobody(lambda: look(UNJOINED, tmp_path))
    assert facts.journal.answer is Answer.FORBIDDEN
    assert facts.runtime.answer is Answer.FORBIDDEN
    assert {verdicts(facts)[name] for name in ("journal", "runtime")} == {Verdict.WARN}


def _as_nobody(what: Callable[[], Any]) -> Any:
    import pickle

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, pickle.dumps(what()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(said)
