"""The table of docs/kubectl.md: what people do with kubectl, by every version that is here and by the Python client,
through the whole chain: client, embedded API, kubelet endpoint, mosquitto, the agent, containerd.

SKERRY_WRITE_DOCS=1 writes what was found into the page, where cells that were not run stay as they are; without it,
every cell that the page calls green must be so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import BIN, Fleet, pod, python_cells
from fleet.kubectl_cells import CELLS, NODE
from rig import Device, until
from unit.kubelet.clients import FOUND

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "kubectl.md"
STATUS = [str(BIN / "skerry-hub"), "status", "--output", "json", "--socket"]
BEGIN, END = "<!-- cells: written by tests/e2e/test_kubectl.py -->\n", "<!-- /cells -->"
VERSIONS = {name: path for name, path in FOUND.items() if name[:1].isdigit()} or FOUND
PYTHON = "Python client"
CASES = [(name, version) for name in CELLS for version in VERSIONS] + [(name, PYTHON) for name in python_cells.CELLS]
FOUND_CELLS: dict[tuple[str, str], str] = {}
# `nc -e` runs a program for each connection: one that digests what it is given, one that gives 50 MB, one that digests
# as much and waits for no end.
SERVERS = (
    "nc -ll -p 9001 -e sha256sum & nc -ll -p 9002 -e head -c 50000000 /dev/zero & "
    "nc -ll -p 9003 -e sh -c 'head -c 50000000 | sha256sum' & exec /bin/hello"
)


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


@pytest.fixture(scope="module")
def by_python(request: pytest.FixtureRequest, fleet: Fleet, pods: None) -> dict[str, str]:
    """What the Python client found in each cell that is asked for; empty where it is green."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    names = [one.params["name"] for one in asked if one is not None and one.params.get("version") == PYTHON]
    if not names:
        return {}
    argv = [sys.executable, "-m", "fleet.python_cells", *names]
    done = fleet.site.run(argv, 1_800.0, {"PYTHONPATH": str(ROOT / "tests")}, check=False)
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    found = dict.fromkeys(names, f"not reached: {last}")
    for line in done.stdout.splitlines():
        found.update(json.loads(line))
    return found


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "version"), CASES)
def test_cell(fleet: Fleet, pods: None, by_python: dict[str, str], name: str, version: str) -> None:
    if version == PYTHON:
        said = by_python[name]
    else:
        argv = [sys.executable, "-m", "fleet.kubectl_cells", VERSIONS[version], name]
        done = fleet.site.run(argv, 600.0, {"PYTHONPATH": str(ROOT / "tests")}, check=False)
        said = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]
    FOUND_CELLS[name, version] = said.replace("|", "/") or "ok"
    assert said == ""


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
    shown = cells_of(text[start:end])
    if os.environ.get("SKERRY_WRITE_DOCS") and FOUND_CELLS:
        PAGE.write_text(text[:start] + table({**shown, **FOUND_CELLS}) + text[end:])
        return
    assert list(dict.fromkeys(name for name, _ in shown)) == list(CELLS), "run this file with SKERRY_WRITE_DOCS=1"
    lacking = {name for (name, version), said in shown.items() if version == PYTHON and said == "-"}
    assert lacking == CELLS.keys() - python_cells.CELLS.keys()


def test_a_cell_that_was_not_run_stays_as_the_page_has_it() -> None:
    name, other = list(CELLS)[:2]
    before = {(name, "1.20"): "ok", (other, "1.20"): "it broke"}
    after = cells_of(table({**before, (name, PYTHON): "ok"}))
    assert {key: after[key] for key in before} == before
    assert (after[name, PYTHON], after[other, PYTHON]) == ("ok", "not run")


def cells_of(table: str) -> dict[tuple[str, str], str]:
    """What a table says, by cell and version."""
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
    return {(row[0].strip("`"), version): said for row in rows for version, said in zip(head[1:], row[1:], strict=True)}


def table(found: dict[tuple[str, str], str]) -> str:
    versions = sorted({version for _, version in found})
    lines = ["| with kubectl | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    for name in CELLS:
        cells = (found.get((name, version), lack(name, version)) for version in versions)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def lack(name: str, version: str) -> str:
    return "-" if version == PYTHON and name not in python_cells.CELLS else "not run"
