"""`skerry get`: kubectl's words for what the journal says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry import cli
from skerry.by_hand.rows import span, word_of
from skerry.journal.local import objects_in
from skerry.journal.record import FileRead, LocalObject
from skerry.journal.recovery import recover
from skerry.model.desired import Kind, Object, object_of
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.wire.codec import decode, encode
from skerry.world.store import open_store
from unit.journal.memory_store import Counting, change


def hub_pod(name: str, uid: str, **more: Any) -> Object:
    meta = {"namespace": "default", "name": name, "uid": uid, **more.pop("meta", {})}
    spec = {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}], **more}
    return object_of(Kind.POD, uid, encode({"metadata": meta, "spec": spec}))


def said(*containers: ContainerStatus, phase: Phase = Phase.RUNNING, **more: Any) -> PodStatus:
    return PodStatus("u1", "default", "web", phase, containers, **more)


RUNS = ContainerStatus("a", Life.RUNNING, restarts=2, last_finished_at=100)
WAITS = ContainerStatus("b", Life.WAITING, reason="CrashLoopBackOff", message="back-off 10s")
DONE = ContainerStatus("b", Life.TERMINATED, reason="Completed")


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (None, "Pending"),
        (said(phase=Phase.PENDING), "Pending"),
        (said(RUNS), "Running"),
        (said(RUNS, WAITS), "CrashLoopBackOff"),
        (said(RUNS, DONE), "Running"),
        (said(DONE, phase=Phase.SUCCEEDED), "Completed"),
        (said(ContainerStatus("a", Life.TERMINATED, exit_code=3)), "ExitCode:3"),
        (said(phase=Phase.FAILED, reason="Unsupported"), "Unsupported"),
    ],
)
def test_the_status_is_kubectls(status: PodStatus | None, word: str) -> None:
    obj = hub_pod("web", "u1")
    assert word_of(read_pod(obj, decode(obj.body), False), status) == word


def test_a_pod_that_is_being_deleted_is_terminating_until_it_is_gone() -> None:
    obj = hub_pod("web", "u1", meta={"deletionTimestamp": "x"})
    pod = read_pod(obj, decode(obj.body), False)
    assert not isinstance(pod, RefusedPod)
    assert word_of(pod, said(RUNS)) == "Terminating"
    assert word_of(pod, said(DONE, phase=Phase.SUCCEEDED, gone=True)) == "Completed"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"), (0, "0s"), (119.9, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"),
        (10_799, "179m"), (10_800, "3h"), (12_000, "3h20m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
        (180_000, "2d2h"), (691_200, "8d"), (700 * 86_400, "700d"), (730 * 86_400, "2y"),
    ],
)  # fmt: skip
def test_an_age_is_written_as_kubectl_writes_it(seconds: float, text: str) -> None:
    assert span(seconds) == text


async def _fill(store: Any) -> None:
    journal = (await recover(store, Counting())).journal
    await journal.apply(change(1, hub_pod("web", "u1"), hub_pod("bad", "u2", hostPID=True)))
    await journal.tell(said(RUNS, WAITS, started_at=50))
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own"}, "spec": {"containers": [
        {"name": "main", "image": "i"}]}}  # fmt: skip
    (own,) = objects_in("pi", "own.yaml", (value,), False)
    files = {"own.yaml": FileRead(b"x"), "bad.yaml": FileRead(b"y", "is not YAML: no luck in line 3")}
    await journal.apply_local([LocalObject("own.yaml", own)], [], files)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "pi"\ndata_dir = "{tmp_path}"\n')
    store = open_store(tmp_path / "journal", map_bytes=16 << 20, ballast_bytes=4096).store
    asyncio.run(_fill(store))
    store.close()
    return path


def test_get_shows_pods_of_hub_and_folder_and_what_is_wrong_with_files(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["get", "pods", "--config", str(config)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert lines[1][:5] == ["default", "bad", "0/0", "Pending", "0"]
    assert lines[2] == ["default", "own-pi", "0/1", "Pending", "0", "<unknown>"]
    assert lines[3][:6] == ["default", "web", "1/2", "CrashLoopBackOff", "2", lines[3][5]]
    assert " ".join(lines[4]) == "manifest bad.yaml: is not YAML: no luck in line 3"


def test_get_as_json_has_the_same_for_programs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["get", "-o", "json", "--config", str(config)]) == 0
    shown = json.loads(capsys.readouterr().out)
    pods = {p["name"]: p for p in shown["pods"]}
    assert (pods["own-pi"]["manifest"], pods["web"]["manifest"]) == ("own.yaml", "")
    assert pods["bad"]["message"].startswith("spec.hostPID: ")
    assert pods["web"]["containers"][0]["state"] == "running"
    assert shown["manifests"] == [{"file": "bad.yaml", "problem": "is not YAML: no luck in line 3"}]


def test_status_and_explain_know_the_folders_pods_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", str(config)]) == 0
    assert "default/own-pi" in capsys.readouterr().out
    assert cli.main(["explain", "own-pi", "--config", str(config)]) == 0
    assert "not in the desired set" not in capsys.readouterr().out


def test_without_a_journal_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "pi"\ndata_dir = "{tmp_path}"\n')
    assert cli.main(["get", "--config", str(path)]) == 2
    assert capsys.readouterr().err == f"skerry: data_dir: {tmp_path} holds no journal yet\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("words", [["logs", "web"], ["exec", "web", "--", "true"], ["restart", "web"]])
def test_who_is_not_root_is_told_so_on_one_line(config: Path, words: list[str]) -> None:
    for path in (config.parent, *config.parent.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    code = (
        "import os, sys; from skerry import cli; os.geteuid = lambda: 1000; "
        f"sys.exit(cli.main({[words[0], '--config', str(config), *words[1:]]!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "skerry: this needs root: it speaks with the container runtime\n")
