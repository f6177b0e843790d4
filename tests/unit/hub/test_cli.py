"""What an operator types and reads: wrong input is one line and changes nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.config import parse
from skerry.errors import ConfigInvalid
from skerry_hub import cli, join
from skerry_hub.cli import main
from skerry_hub.edgecontroller.identity import ADOPT, NAME, NAMESPACE
from skerry_hub.edgecontroller.registration import DEVICE_LABEL, TAINT
from skerry_hub.kube import config
from skerry_hub.ports import CONFIG_MAPS, NODES, ClusterError, Conflict, NotFound
from unit.hub.fakes import ScriptedCluster

KUBECONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG))  # JSON is YAML
    return path


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["join", "Not_A_Name", "--broker", "mqtt://h:1"], "NODE"),
        (["join", "a..b", "--broker", "mqtt://h:1"], "NODE"),
        (["join", "n" * 254, "--broker", "mqtt://h:1"], "NODE"),
        (["join", "n1", "--broker", "http://h:1"], "--broker"),
        (["run", "--broker", "mqtt://127.0.0.1:1", "--replica", "Not_A_Name"], "--replica"),
        (["run", "--broker", "mqtt://127.0.0.1:1", "--lease-seconds", "5"], "--lease-seconds"),
        (["join", "n1", "--broker", "mqtt://h:99999"], "--broker"),
        (["join", "n1", "--broker", "mqtt://h/topic"], "--broker"),
        (["run", "--broker", "mqtt://10.0.0.1:1883"], "loopback"),
        (["run", "--broker", "mqtt://broker.example:1883"], "loopback"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(
    argv: list[str], words: str, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--kubeconfig", str(kubeconfig)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:70000", ":6443", "0.0.0.0:6443"])
@pytest.mark.parametrize("command", ["api", "up"])
def test_a_wrong_listen_is_one_line_and_code_2_and_nothing_is_made(
    command: str, listen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--data", str(tmp_path / "d"), "--listen", listen]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--listen" in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_an_api_that_is_not_there_is_one_line_and_code_1(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join", "n1", "--broker", "mqtt://127.0.0.1:1", "--kubeconfig", str(kubeconfig)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_standard_output_that_is_full_is_one_line_and_code_1(tmp_path: Path) -> None:
    """Of a token, say, that nobody got."""
    said = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as hub, Path("/dev/full").open("w") as full:
        hub.bind(str(said))
        hub.listen()
        argv = [sys.executable, "-m", "skerry_hub.cli", "status", "--socket", str(said), "--output", "json"]
        asking = subprocess.Popen(argv, stdout=full, stderr=subprocess.PIPE)
        with hub.accept()[0] as peer:
            peer.sendall(b'{"devices": {}, "connected": true}')
        assert asking.communicate()[1] == b"skerry-hub: standard output: No space left on device\n"
    assert asking.returncode == 1


def test_a_hub_that_does_not_run_is_one_line_and_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--socket", str(tmp_path / "none")]) == 1
    assert "no hub answers" in capsys.readouterr().err


def test_a_data_folder_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["up", "--data", str(tmp_path / "file" / "x")]) == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["api", "up"])
def test_a_data_folder_without_a_name_is_not_the_current_one(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command, "--data", ""])
    assert ended.value.code == 2
    assert "argument --data: is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_up_refuses_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert main(["up", "--data", str(tmp_path / "d"), "--mqtt-port", str(sock.getsockname()[1])]) == 1
    assert "is taken" in capsys.readouterr().err


# --- what join prints is what the agent reads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("mqtt://127.0.0.1:1883", "127.0.0.1", 1883), ("mqtt://[::1]:7", "::1", 7), ("mqtt://hub", "hub", 1883)],
)
def test_the_agent_reads_what_join_prints(url: str, host: str, port: int) -> None:
    said = dict(line.split(" = ") for line in join.device_toml("pi-1.site", url).splitlines())
    read = parse({key: json.loads(value) for key, value in said.items()})
    assert (read.node, read.broker_host, read.broker_port) == ("pi-1.site", host, port)


async def test_join_makes_the_node_once() -> None:
    api = ScriptedCluster()
    assert await join.join(api, "n1")
    ((verb, plural, name, made),) = api.writes
    assert (verb, plural, name, made["metadata"]["labels"][DEVICE_LABEL]) == ("create", "nodes", "n1", "true")
    assert made["spec"]["taints"] == [TAINT]
    await join.join(api, "n2", tainted=False)
    assert "taints" not in api.writes[-1][3]["spec"]


@pytest.mark.parametrize(("labels", "patched"), [({DEVICE_LABEL: "true"}, False), ({}, True), (None, True)])
async def test_joining_again_only_adds_the_label(labels: dict[str, str] | None, patched: bool) -> None:
    api = ScriptedCluster()
    api.put(NODES, {"metadata": {"name": "n1", "labels": labels}})
    api.write_failures = [Conflict("exists")]
    assert not await join.join(api, "n1")
    assert bool(api.writes) is patched


async def test_adopt_writes_the_epoch_of_this_api() -> None:
    api = ScriptedCluster()
    with pytest.raises(ClusterError, match="no hub has run"):
        await join.adopt(api, None)
    api.put(CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"epoch": "e7"}})
    for name in ("n1", "n2"):
        api.put(NODES, {"metadata": {"name": name, "labels": {DEVICE_LABEL: "true"}}})
    assert await join.adopt(api, None) == ["n1", "n2"]
    assert [what["metadata"]["annotations"] for *_, what in api.writes] == [{ADOPT: "e7"}] * 2
    with pytest.raises(NotFound):
        await join.adopt(api, "n3")


async def test_a_node_of_somebody_else_is_not_adopted() -> None:
    api = ScriptedCluster()
    api.put(CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"epoch": "e7"}})
    api.put(NODES, {"metadata": {"name": "worker"}})
    with pytest.raises(NotFound, match="no device"):
        await join.adopt(api, "worker")


# --- kubeconfig -------------------------------------------------------------------------------------------------------


def changed(**more: Any) -> dict[str, Any]:
    return {**KUBECONFIG, **more}


@pytest.mark.parametrize(
    ("doc", "words"),
    [
        ("{", "is not YAML"),
        ("[]", "is no kubeconfig"),
        (json.dumps(changed(**{"current-context": "other"})), "other"),
        (json.dumps(changed(clusters=[])), "clusters"),
        (json.dumps(changed(clusters=[{"name": "k", "cluster": {"server": "ftp://x"}}])), "server"),
        (json.dumps(changed(clusters=[{"name": "k", "cluster": {"server": "https://x:0x"}}])), "server"),
        (json.dumps(changed(users=[{"name": "u", "user": {"exec": {"command": "aws"}}}])), "exec"),
        (json.dumps(changed(users=[{"name": "u", "user": {"client-key-data": "***"}}])), "base64"),
        (json.dumps(changed(users=[{"name": "u", "user": {"client-key": "nowhere.pem"}}])), "nowhere.pem"),
    ],
)
def test_a_kubeconfig_that_is_wrong_is_told_by_its_part(tmp_path: Path, doc: str, words: str) -> None:
    path = tmp_path / "k"
    path.write_text(doc)
    with pytest.raises(ConfigInvalid) as why:
        config.load(path)
    assert words in str(why.value)
    assert "\n" not in str(why.value)


def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no-such-file"):
        config.load(tmp_path / "no-such-file")


def test_inside_a_cluster_the_pods_own_files_count(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "ca.crt").write_text("pem")
    found = config.in_cluster("fd00::1", "443", tmp_path)
    assert (found.server, found.ca, found.token_file) == ("https://[fd00::1]:443", "pem", tmp_path / "token")
    with pytest.raises(ConfigInvalid, match="--kubeconfig"):
        config.in_cluster("", "", tmp_path)


def test_status_counts_the_devices_that_believe_the_hubs_authorities() -> None:
    device = dict.fromkeys(("state", "queue", "frames", "dropped_queue", "dropped_credit", "malformed", "floods"), 0)
    believed = {"a": "ab", "b": "cd", "c": ""}
    devices = {name: {**device, "generation": 1, "trust": trust} for name, trust in believed.items()}
    found = {"devices": devices, "connected": True, "trust": "ab"}
    assert cli._table(found).splitlines()[-1] == "authorities ab: believed by 1 of 3 devices; 1 have not said"
    assert cli._table({**found, "trust": ""}).splitlines()[-1] == "broker connected"
