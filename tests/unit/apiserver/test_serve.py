"""A whole server: how it starts, what it refuses in one line, what survives, and who may ask."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry.errors import ConfigInvalid, SkerryError
from skerry_hub import pki
from skerry_hub.apiserver import database, store
from skerry_hub.apiserver.errors import DatabaseError, DataError, DataInUse
from skerry_hub.apiserver.serve import DATABASE, ServedAt, serve
from skerry_hub.listener import ListenError, parse_listen
from unit.apiserver.serving import Client, running

MAPS = "/api/v1/namespaces/default/configmaps"
PROGRAM = """
import asyncio, sys
from pathlib import Path
from skerry_hub.apiserver.serve import serve
stop = asyncio.Event
async def main():
    await serve(Path(sys.argv[1]), "127.0.0.1:0", ready=lambda at: print(at.port, flush=True), stop=asyncio.Event())
asyncio.run(main())
"""


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"a": "b"}}


def refusal(data: Path, listen: str = "127.0.0.1:0", **more: bool) -> SkerryError:
    with pytest.raises(SkerryError) as why, running(data, listen, **more):
        pass
    assert "\n" not in str(why.value)
    return why.value


def test_a_folder_is_made_and_speaks_only_to_its_owner(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    with running(data) as client:
        config = yaml.safe_load((data / "admin.kubeconfig").read_text())
        assert config["clusters"][0]["cluster"]["server"] == client.at.url
        assert client.at.kubeconfig == data / "admin.kubeconfig"
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        for name in ("admin.kubeconfig", "admin.token", "admin.key", "ca.key", "server.key", DATABASE):
            assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
        status, found = client.call("GET", "/api/v1/namespaces")
        assert status == 200
        names = [item["metadata"]["name"] for item in found["items"]]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system", "skerry"]
    assert not (data / f"{DATABASE}-wal").exists(), "a server that ended well leaves one plain file"


def test_it_comes_back_with_what_it_had(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        assert client.call("POST", MAPS, config_map("c"))[0] == 201
        before = client.call("GET", f"{MAPS}/c")[1]
        system = client.call("GET", "/api/v1/namespaces/kube-system")[1]
        token = client.token
    with running(tmp_path) as client:
        assert client.call("GET", f"{MAPS}/c")[1] == before
        assert client.call("GET", "/api/v1/namespaces/kube-system")[1] == system
        assert client.token == token


def test_a_watch_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        version = client.call("GET", MAPS)[1]["metadata"]["resourceVersion"]
        client.call("POST", MAPS, config_map("c"))
        client.call("DELETE", f"{MAPS}/c")
    with running(tmp_path) as client:
        connection, reply = client.open("GET", f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}")
        events = [json.loads(line) for line in reply]
        connection.close()
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


def test_an_older_copy_of_the_database_is_served(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup.db"
    with running(data) as client:
        client.call("POST", MAPS, config_map("old"))
        with sqlite3.connect(data / DATABASE) as live, sqlite3.connect(backup) as copy:
            live.backup(copy)
        copy.close()
        live.close()
        newest = client.call("POST", MAPS, config_map("new"))[1]["metadata"]["resourceVersion"]
    shutil.copy(backup, data / DATABASE)
    with running(data) as client:
        names = [item["metadata"]["name"] for item in client.call("GET", MAPS)[1]["items"]]
        assert names == ["old"]
        assert client.call("POST", MAPS, config_map("again"))[0] == 201
        connection, reply = client.open("GET", f"{MAPS}?watch=1&resourceVersion={int(newest) + 50}")
        event = json.loads(reply.readline())
        connection.close()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410), "a client from the future starts over"
        assert client.call("GET", f"{MAPS}?resourceVersion={int(newest) + 50}")[0] == 504


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            client = Client(ServedAt("", "127.0.0.1", port, tmp_path / "admin.kubeconfig"), tmp_path)
            names = {item["metadata"]["name"] for item in client.call("GET", MAPS)[1]["items"]}
            assert names == set(made)
            for i in range(20):
                name = f"c{len(made)}"
                assert client.call("POST", MAPS, config_map(name))[0] == 201, i
                made.append(name)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    with running(tmp_path) as client:
        assert len(client.call("GET", MAPS)[1]["items"]) == 40


def test_a_folder_is_served_once(tmp_path: Path) -> None:
    with running(tmp_path):
        assert isinstance(refusal(tmp_path), DataInUse)


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address_is_wrong_input(tmp_path: Path, listen: str) -> None:
    assert isinstance(refusal(tmp_path, listen), ConfigInvalid)


def test_a_name_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path, "nohost.invalid:1"), ListenError)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        why = refusal(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(why, ListenError)
    assert not (tmp_path / "admin.kubeconfig").exists()


def test_only_loopback_is_listened_on_unless_insecure() -> None:
    with pytest.raises(ConfigInvalid, match="loopback"):
        parse_listen("--listen", "0.0.0.0:0", insecure=False)
    assert parse_listen("--listen", "0.0.0.0:6443", insecure=True) == ("0.0.0.0", 6443)
    assert parse_listen("--listen", "[::1]:6443", insecure=False) == ("::1", 6443)
    assert parse_listen("--listen", "localhost:0", insecure=False) == ("localhost", 0)


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_corrupt_database_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    with running(tmp_path):
        pass
    (tmp_path / DATABASE).write_bytes(damage)
    assert isinstance(refusal(tmp_path), DatabaseError)
    assert (tmp_path / DATABASE).read_bytes() == damage


def test_a_torn_page_is_found(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        for i in range(20):
            client.call("POST", MAPS, {"metadata": {"name": f"c{i}"}, "data": {"a": "x" * 3000}})
    raw = bytearray((tmp_path / DATABASE).read_bytes())
    raw[4096 * 5 : 4096 * 9] = os.urandom(4096 * 4)
    (tmp_path / DATABASE).write_bytes(raw)
    assert isinstance(refusal(tmp_path), DatabaseError)


def test_a_damaged_object_is_found(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("UPDATE objects SET data=? WHERE resource='namespaces'", (b'{"metadata":',))
    db.close()
    assert isinstance(refusal(tmp_path), DatabaseError)


def test_a_foreign_or_newer_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    assert "not a database of skerry" in str(refusal(tmp_path))
    other = tmp_path / "other"
    with running(other):
        pass
    with sqlite3.connect(other / DATABASE) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    assert "format 99" in str(refusal(other))


def test_a_folder_that_is_a_file_and_a_broken_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(refusal(tmp_path / "file"), DataError)
    with running(tmp_path / "data"):
        pass
    (tmp_path / "data" / "ca.key").write_text("nonsense")
    assert isinstance(refusal(tmp_path / "data"), pki.PkiError)
    (tmp_path / "data" / "ca.key").unlink()
    assert "missing" in str(refusal(tmp_path / "data"))


def test_stop_ends_open_watches_and_idle_connections_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        idle = client.connect()
        idle.request("GET", "/version", headers={"Authorization": f"Bearer {client.token}"})
        idle.getresponse().read()
        connection, reply = client.open("GET", f"{MAPS}?watch=1")
        began = time.monotonic()
    assert reply.read() == b"", "the stream ended well: no half chunk"
    assert time.monotonic() - began < 20
    connection.close()
    idle.close()


def with_certificate(client: Client, stem: str) -> int:
    tls = ssl.create_default_context(cafile=str(client.data / "ca.crt"))
    tls.load_cert_chain(client.data / f"{stem}.crt", client.data / f"{stem}.key")
    client.tls = tls
    connection = client.connect()
    connection.request("GET", "/api/v1/namespaces")
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_the_administrator_is_let_in(api: Client) -> None:
    for header in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}, {"Authorization": ""}):
        status, body = api.call("GET", "/api/v1/namespaces", headers=header)
        assert (status, body["reason"], body["kind"]) == (401, "Unauthorized", "Status")
    other = Client(api.at, api.data)
    assert with_certificate(other, "admin") == 200
    authority = pki.load(api.data / "ca.crt", api.data / "ca.key")
    assert authority is not None
    pki.save(pki.issue(authority, "bob", ("users",), (), 1, pki.utc_now()), api.data / "bob.crt", api.data / "bob.key")
    assert with_certificate(other, "bob") == 403


def test_a_certificate_of_another_authority_gets_nowhere(api: Client, tmp_path: Path) -> None:
    foreign = pki.new_authority("x", 1, pki.utc_now())
    pair = pki.issue(foreign, "admin", ("system:masters",), (), 1, pki.utc_now())
    pki.save(pair, api.data / "eve.crt", api.data / "eve.key")
    with pytest.raises((ssl.SSLError, OSError)):
        assert with_certificate(Client(api.at, api.data), "eve") == 401


def test_who_comes_second_reads_what_the_first_one_wrote(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """409 says that it is there, so it is, however slow the disk."""
    write = database.write

    def slow(*args: Any) -> None:
        time.sleep(0.2)
        write(*args)

    monkeypatch.setattr(store, "write", slow)

    def both(value: str) -> tuple[int, int, str]:
        body = {"metadata": {"name": "one"}, "data": {"by": value}}
        code, _ = api.call("POST", MAPS, body)
        found, said = api.call("GET", f"{MAPS}/one")
        return code, found, said.get("data", {}).get("by", "")

    with ThreadPoolExecutor(2) as threads:
        first, second = sorted(threads.map(both, ("a", "b")))
    assert (first[:2], second[:2]) == ((201, 200), (409, 200))
    assert first[2] == second[2]


def test_an_older_tls_is_refused(api: Client) -> None:
    client = Client(api.at, api.data)
    assert client.call("GET", "/healthz")[0] == 200
    client.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client.call("GET", "/healthz")


async def test_serve_can_be_used_from_a_loop_of_ones_own(tmp_path: Path) -> None:
    stop = asyncio.Event()
    seen: list[ServedAt] = []

    def ready(at: ServedAt) -> None:
        assert at.kubeconfig.exists()
        seen.append(at)
        stop.set()

    await serve(tmp_path, "localhost:0", ready=ready, stop=stop)
    assert seen[0].port > 0
