"""`skerry status` and `skerry explain` on a real journal: text and JSON, beside a running writer, never a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from contract.certificates import authority, enrolled
from skerry import cli, identity
from skerry.journal.record import STATUS
from skerry.journal.recovery import recover
from skerry.model.desired import Kind, Object, object_of
from skerry.wire.codec import encode
from skerry.world.store import LmdbStore, open_store
from unit.journal.memory_store import Counting, change, status

GOOD: dict[str, Any] = {
    "metadata": {"namespace": "default", "name": "web", "uid": "u1"},
    "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
}


def pod(uid: str, name: str, **spec: Any) -> Object:
    value = {"metadata": {**GOOD["metadata"], "name": name, "uid": uid}, "spec": {**GOOD["spec"], **spec}}
    return object_of(Kind.POD, uid, encode(value))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "pi"\nbroker = "mqtt://127.0.0.1"\ndata_dir = "{tmp_path}"\n')
    return path


def opened(config: Path) -> LmdbStore:
    return open_store(config.parent / "journal", map_bytes=16 << 20, ballast_bytes=4096).store


async def live(store: LmdbStore) -> None:
    """A journal with a running pod, one that was refused, and one that is gone from the set but not forgotten."""
    journal = (await recover(store, Counting())).journal
    await journal.apply(change(1, pod("u1", "web"), pod("u2", "bad", hostPID=True), pod("u3", "old")))
    journal.note(1_700_000_000, "default/web", "u1", "RunPodSandbox attempt 0", "it has no running sandbox")
    journal.note(1_700_000_001, "default/web", "u1", "RunContainer app attempt 0", "it is not there", "no room")
    await journal.tell(replace(status("u1", restarts=2), name="web"))
    await journal.apply(change(2, deletes=frozenset({(Kind.POD, "u3")})))
    await journal.tell(status("u3"))


@pytest.fixture
def journal(config: Path) -> Path:
    store = opened(config)
    asyncio.run(live(store))
    store.close()
    return config


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


Capture = pytest.CaptureFixture[str]


def test_status_shows_the_set_and_a_line_for_each_pod(journal: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "status", "--config", str(journal))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "pi: generation 2, 2 objects, 2 reports to send",
        "POD                    PHASE    RESTARTS  REASON",
        "default/web            Running  2",
        "default/bad (refused)  Pending  0",
    ]


def test_status_as_json_is_whole(journal: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "status", "--config", str(journal), "--output", "json")
    data = json.loads(out)
    assert code == 0
    assert {k: data[k] for k in ("node", "store", "epoch", "resourceVersion", "generation", "objects", "outbox")} == {
        "node": "pi", "store": "store", "epoch": "epoch", "resourceVersion": 20, "generation": 2, "objects": 2,
        "outbox": 2,
    }  # fmt: skip
    assert len(data["journalId"]) == 32
    assert [(p["uid"], p["phase"], p["restarts"]) for p in data["pods"]] == [("u1", "Running", 2), ("u2", "Pending", 0)]


def test_a_standard_output_that_is_full_is_one_line_and_code_1(journal: Path) -> None:
    argv = [sys.executable, "-m", "skerry.cli", "status", "--config", str(journal)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"skerry: standard output: No space left on device\n")


def test_status_of_an_enrolled_device_shows_until_when(journal: Path, capsys: Capture) -> None:
    begins = datetime(2026, 1, 1, tzinfo=timezone.utc)
    identity.write(journal.parent, enrolled(authority(), "pi", "mqtts://hub:8883", begins, days=90))
    _, out, _ = run(capsys, "status", "--config", str(journal))
    assert out.splitlines()[1] == "enrolled at mqtts://hub:8883, certificate valid until 2026-04-01T00:00:00Z"
    _, out, _ = run(capsys, "status", "--config", str(journal), "--output", "json")
    told = json.loads(out)["enrolment"]
    assert told == {"broker": "mqtts://hub:8883", "certificateEnds": "2026-04-01T00:00:00Z"}


@pytest.mark.parametrize("name", ["web", "default/web", "u1"])
def test_explain_replays_a_pods_decisions(name: str, journal: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "explain", name, "--config", str(journal))
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0].endswith("(u1): Running")
    assert "generation 1  RunPodSandbox attempt 0: it has no running sandbox" in lines[1]
    assert lines[2].endswith("RunContainer app attempt 0: it is not there; failed: no room")
    code, out, _ = run(capsys, "explain", name, "--config", str(journal), "--output", "json")
    (data,) = json.loads(out)
    assert [d["what"] for d in data["decisions"]] == ["RunPodSandbox attempt 0", "RunContainer app attempt 0"]
    assert data["wanted"]


def test_explain_knows_a_pod_that_has_left_the_set(journal: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "explain", "pod-u3", "--config", str(journal))
    assert (code, out) == (0, "default/pod-u3 (u3): Running, not in the desired set\n")


def test_an_unknown_pod_is_one_line_and_code_1(journal: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "explain", "nobody", "--config", str(journal))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nobody" in err


def test_without_a_journal_it_says_so(config: Path, capsys: Capture) -> None:
    for command in (("status",), ("explain", "web")):
        code, out, err = run(capsys, *command, "--config", str(config))
        assert (code, out) == (2, "")
        assert err == f"skerry: data_dir: {config.parent} holds no journal yet\n"


def test_a_journal_that_is_not_one_is_one_line_and_code_1(config: Path, capsys: Capture) -> None:
    (config.parent / "journal" / "env").mkdir(parents=True)
    (config.parent / "journal" / "env" / "data.mdb").write_bytes(b"x" * 8192)
    code, _, err = run(capsys, "status", "--config", str(config))
    assert (code, err.count("\n")) == (1, 1)


def test_records_that_cannot_be_read_do_not_hide_the_rest(journal: Path, capsys: Capture) -> None:
    store = opened(journal)
    asyncio.run(store.commit({STATUS + b"u2": b"\xff"}, []))
    asyncio.run(_with_garbage(store))
    store.close()
    code, out, _ = run(capsys, "status", "--config", str(journal))
    assert code == 0
    assert "default/web" in out


async def _with_garbage(store: LmdbStore) -> None:
    journal = (await recover(store, Counting())).journal
    await journal.apply(change(3, object_of(Kind.POD, "u9", b"\xff")))


@pytest.fixture
def writer(journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the journal open for writing, as the agent has."""
    code = (
        "import sys, pathlib\nfrom skerry.world.store import open_store\n"
        f"open_store(pathlib.Path({str(journal.parent / 'journal')!r}), map_bytes=16 << 20, ballast_bytes=4096)\n"
        "print('open', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("writer")
def test_both_work_beside_a_running_agent(journal: Path, capsys: Capture) -> None:
    assert run(capsys, "status", "--config", str(journal))[0] == 0
    assert run(capsys, "explain", "web", "--config", str(journal))[0] == 0


def test_a_bad_config_is_one_line_and_code_2_for_every_command(tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "c"
    bad.write_text("broker = 7\n")
    for command in (("run",), ("status",), ("explain", "x")):
        code, out, err = run(capsys, *command, "--config", str(bad))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("skerry: ")


def test_a_wrong_command_line_is_code_2(capsys: Capture) -> None:
    for argv in ((), ("dance",), ("explain",), ("status", "--output", "xml")):
        with pytest.raises(SystemExit) as end:
            cli.main(argv)
        assert end.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_gets_no_traceback(journal: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "skerry.cli", "status", "--config", str(journal)]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
