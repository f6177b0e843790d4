"""A changed ConfigMap or Secret reaches the files of running containers: whole, soon, and without a restart."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fleet import Fleet, identities, pod, status, truth
from rig import Device, until

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]
WAIT_S = 60.0  # a deadline on a loaded machine; what it took is printed
SIZE = 20_000
# Reads all keys in the folder that ..data leads to, and says which generations it saw at one time. Where the folder
# went while it read, it has not read them all, and says nothing.
READER = """
while sleep 0.02; do
  cd /conf/..data 2>/dev/null || continue
  all=$(cat a b c 2>/dev/null) && echo "$(echo "$all" | tr -d '\\n' | tr -s 0-9) ${#all}" >> /out/seen
  cd /
done
"""


def config(generation: int) -> dict[str, Any]:
    data = {key: str(generation) * SIZE + "\n" for key in "abc"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "live", "namespace": "default"}, "data": data}


def secret(value: str) -> dict[str, Any]:
    meta = {"name": "live", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"word": value}}


def reader(board: Device) -> dict[str, Any]:
    """A pod that reads all the time and one variable that must stay."""
    volumes = [
        {"name": "conf", "configMap": {"name": "live"}},
        {"name": "word", "secret": {"secretName": "live"}},
        {"name": "out", "emptyDir": {}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    main = {
        "name": "main", "image": "rig.local/hello:1", "command": ["/bin/sh", "-c", READER], "volumeMounts": mounts,
        "env": [{"name": "FIRST", "valueFrom": {"configMapKeyRef": {"name": "live", "key": "a"}}}],
    }  # fmt: skip
    return pod("reader", board.name, containers=[main], volumes=volumes)


def shell(board: Device, command: str) -> str:
    ident = truth(board)["default/reader/main"]
    return board.ctr("tasks", "exec", "--exec-id", f"x{time.monotonic_ns()}", ident, "/bin/sh", "-c", command)


def wait_read(board: Device, generation: str) -> None:
    """Until the pod reads the files of this generation."""
    until(lambda: shell(board, "head -c 1 /conf/a") == generation, f"generation {generation} in the files", WAIT_S)


def test_a_change_reaches_the_files_at_one_blow_and_restarts_nothing(fleet: Fleet, board: Device) -> None:
    fleet.apply(config(1), secret("tide"), reader(board))
    fleet.wait_phase("reader")
    until(lambda: "1 " in shell(board, "tail -n 1 /out/seen"), "the first files")
    before = identities(board)
    for generation in (2, 3, 4):
        began = time.monotonic()
        fleet.apply(config(generation))
        applied = time.monotonic()
        wait_read(board, str(generation))
        print(f"seen {time.monotonic() - applied:.1f} s after kubectl apply, which took {applied - began:.1f} s")
    fleet.apply(secret("rock"))
    until(lambda: shell(board, "cat /word/word") == "rock", "the changed Secret", WAIT_S)
    seen = set(shell(board, "sort -u /out/seen").splitlines())
    assert seen == {f"{generation} {3 * (SIZE + 1) - 1}" for generation in (1, 2, 3, 4)}, "a mixture was read"
    assert identities(board) == before, "the container was restarted"
    assert "FIRST=1" in shell(board, "tr '\\0' '\\n' < /proc/1/environ"), "a variable stays what it was"


def test_a_config_map_that_is_deleted_leaves_its_files_and_comes_back_into_them(fleet: Fleet, board: Device) -> None:
    fleet.apply(config(5), secret("tide"), reader(board))
    fleet.wait_phase("reader")
    before, generation = identities(board), status(board)["generation"]
    fleet.kubectl("delete", "configmap", "live")
    until(lambda: status(board)["generation"] > generation, "the deletion to be journaled", WAIT_S)
    fleet.apply(secret("rock"))
    until(lambda: shell(board, "cat /word/word") == "rock", "the other volume to be refreshed all the same", WAIT_S)
    assert shell(board, "head -c 1 /conf/a") == "5"
    fleet.apply(config(6))
    wait_read(board, "6")
    assert identities(board) == before


def test_what_changed_while_the_agent_was_down_is_written_when_it_is_back(fleet: Fleet, board: Device) -> None:
    fleet.apply(config(7), secret("tide"), reader(board))
    fleet.wait_phase("reader")
    before = identities(board)
    board.kill_agent()
    fleet.apply(config(8))
    board.start_agent()
    wait_read(board, "8")
    assert identities(board) == before
