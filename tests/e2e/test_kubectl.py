"""The table of docs/kubectl.md: what people do with kubectl, by every version that is here, through the whole chain:
kubectl, embedded API, kubelet endpoint, mosquitto, the agent, containerd.

SKERRY_WRITE_DOCS=1 writes the page from what was found; without it, every cell that the page calls green must be so.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import BIN, Fleet, pod
from fleet.kubectl_cells import CELLS, NODE
from rig import Device, until
from unit.kubelet.clients import FOUND

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "kubectl.md"
STATUS = [str(BIN / "skerry-hub"), "status", "--output", "json", "--socket"]
BEGIN, END = "<!-- cells: written by tests/e2e/test_kubectl.py -->\n", "<!-- /cells -->"
VERSIONS = {name: path for name, path in FOUND.items() if name[:1].isdigit()} or FOUND
FOUND_CELLS: dict[tuple[str, str], str] = {}
# `nc -e` runs a program for each connection: one that digests what it is given, one that gives 50 MB.
SERVERS = "nc -ll -p 9001 -e sha256sum & nc -ll -p 9002 -e head -c 50000000 /dev/zero & exec /bin/hello"


@pytest.fixture(scope="module")
def pods(fleet: Fleet, board: Device) -> Iterator[None]:
    """What the cells look at."""
    main = {"name": "main", "image": "rig.local/hello:1"}
    web = {**main, "command": ["/bin/sh", "-c", SERVERS], "env": [{"name": "PORT", "value": "8080"}]}
    typed = {**main, "command": ["/bin/sh"], "stdin": True, "tty": True}
    twice = "[ -e /kept/x ] && exec sleep 100000; touch /kept/x; echo first life"
    kept = [{"name": "kept", "mountPath": "/kept"}]
    ends = {**main, "command": ["/bin/sh", "-c", twice], "volumeMounts": kept}
    ports = {"one": "8081", "two": "8082"}
    pair = [{**main, "name": name, "env": [{"name": "PORT", "value": port}]} for name, port in ports.items()]
    with_label = pod("pair", NODE, containers=pair)
    with_label["metadata"]["labels"] = {"app": "pair"}
    fleet.apply(
        pod("web", NODE, containers=[web]),
        pod("typed", NODE, containers=[typed]),
        pod("ends", NODE, containers=[ends], volumes=[{"name": "kept", "emptyDir": {}}]),
        with_label,
    )
    for name in ("web", "typed", "pair"):
        fleet.wait_phase(name)

    def again() -> bool:
        status = fleet.get("pod", "ends")["status"].get("containerStatuses") or [{}]
        return bool(status[0].get("restartCount", 0) >= 1 and "running" in status[0].get("state", {}))

    until(again, "the second life of a container", 120.0)
    yield
    fleet.clear()


@pytest.mark.e2e
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CELLS)
def test_cell(fleet: Fleet, pods: None, name: str, version: str) -> None:
    argv = [sys.executable, "-m", "fleet.kubectl_cells", VERSIONS[version], name]
    done = fleet.site.run(argv, 600.0, {"PYTHONPATH": str(ROOT / "tests")}, check=False)
    said = done.stderr.strip().splitlines()[-1:] or [""]
    FOUND_CELLS[name, version] = "" if done.returncode == 0 else said[0]
    assert done.returncode == 0, said[0]


@pytest.mark.e2e
def test_nothing_is_left_behind(fleet: Fleet, pods: None, board: Device) -> None:
    """No process of an exec, no stream, no connection for them."""

    def at_rest() -> bool:
        shown = json.loads(fleet.site.run([*STATUS, str(fleet.status_socket)]).stdout)["streams"]
        return shown["open"] == 0 and shown["lanes"] == 0 and not list(board.run_dir.glob("exec/*/*"))

    until(at_rest, "streams to end", 60.0)


def test_the_page_has_every_cell() -> None:
    text = PAGE.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if os.environ.get("SKERRY_WRITE_DOCS") and FOUND_CELLS:
        PAGE.write_text(text[:start] + table() + text[end:])
        return
    rows = re.findall(r"^\| `([^`]+)`", text[start:end], re.MULTILINE)
    assert rows == list(CELLS), "run this file with SKERRY_WRITE_DOCS=1"


def table() -> str:
    versions = list(VERSIONS)
    lines = ["| with kubectl | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    for name in CELLS:
        cells = (FOUND_CELLS.get((name, version), "not run") or "ok" for version in versions)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
