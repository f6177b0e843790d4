"""What the tests measured, kept in build/qemu-figures.json; `python -m qemu.figures` writes the tables of
docs/boards.md from it. Times are those of an emulated board on a shared machine, and say so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "qemu-figures.json"
PAGE = ROOT / "docs" / "boards.md"
IMAGES = ROOT / "build" / "images"

ROWS = {
    "kernel_to_target_s": "kernel's start to systemd's multi-user.target, s",
    "kernel_to_agent_s": "kernel's start to skerry ready, s",
    "power_to_shell_s": "power on (U-Boot included) to a shell, s of the host's clock",
    "offline_kernel_to_pod_s": "reboot without network: kernel's start to the pod's process, s",
    "agent_pss_kib": "PSS of the agent with one pod, KiB",
    "available_mib": "memory available with one pod, of 512 MiB",
    "cuts_tried": "power cuts at random moments under load, unflushed writes dropped",
    "cuts_survived": "of these survived: root unchanged, file system and journal sound, unchanged pods back",
    "cut_kernel_to_pods_s": "after a cut, kernel's start to all pods, s: median, worst",
    "watchdog_reset_s": "frozen guest to reset by the watchdog, s",
    "verify_us": "a set's signature verified, µs (least of 300)",
    "open_us": "a frame of 1 KiB opened, µs (least of 300)",
    "unseal_us": "a Secret of 1 KiB opened, the identity's file read anew, µs (least of 300)",
    "sha256_us": "beside them: SHA-256 of 16 KiB, µs (least of 300)",
}


def load() -> dict[str, Any]:
    value = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    assert isinstance(value, dict)
    return value


def record(board: str, **values: Any) -> None:
    """Keep these figures of a board; what other tests measured stays."""
    known = load()
    KEPT.parent.mkdir(exist_ok=True)
    known[board] = {**known.get(board, {}), **values}
    KEPT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def emulated() -> str:
    """One column for each board; an empty cell where nothing was measured."""
    known = load()
    boards = sorted(known)
    lines = [
        f"| {about} | {' | '.join(shown(known[board].get(key, '')) for board in boards)} |"
        for key, about in ROWS.items()
        if any(key in known[board] for board in boards)
    ]
    head = f"| measured in QEMU (TCG, 2 emulated cores, 512 MB, shared host) | {' | '.join(boards)} |"
    return "\n".join([head, "|---|" + "---|" * len(boards), *lines])


def images() -> str:
    lines = ["| image | flashed | blocks that are written | root used | Debian packages |", "|---|---|---|---|---|"]
    for path in sorted(IMAGES.glob("skerry-*.json")):
        if path.name.endswith(".cdx.json"):
            continue
        said = json.loads(path.read_text())
        lines.append(
            f"| {said['board']} | {said['bytes'] / 1e6:.0f} MB | {said['mapped_bytes'] / 1e6:.0f} MB "
            f"| {said['root_bytes'] / 1e6:.0f} MB | {said['packages']} |"
        )
    return "\n".join(lines)


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value)
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def replaced(page: str, name: str, body: str) -> str:
    """The page with what stands between the two marks of `name` replaced."""
    start, end = f"<!-- {name}: made by tests/qemu/figures.py -->\n", f"<!-- /{name} -->"
    head, found, rest = page.partition(start)
    _, closed, tail = rest.partition(end)
    assert found, f"docs/boards.md has no mark of {name}"
    assert closed, f"docs/boards.md does not close {name}"
    return f"{head}{start}{body}\n{end}{tail}"


def main() -> int:
    page = PAGE.read_text()
    for name, body in (("images", images()), ("emulated", emulated())):
        page = replaced(page, name, body)
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
