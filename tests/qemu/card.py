"""A test's own copy of the image: a file that is a card. What a person would write on it is written here too.

The token goes onto the boot partition as on any laptop. The one thing that the product does not have is a root
shell on the serial console, which is put into this copy's root file system.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from image.layout import Layout, layout
from image.manifest import Board
from image.read import Tree

AUTOLOGIN = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I linux
"""
GETTY = "/etc/systemd/system/serial-getty@{}.service.d"


class Card:
    """`path` is the raw file; `image` is left alone. `tty`: the board's serial console."""

    def __init__(self, image: Path, path: Path, ident: str, size_mb: int | None = None, tty: str = "ttyAMA0") -> None:
        self.board: Board = Tree().board(ident)
        self.plan: Layout = layout(self.board)
        self.path = path
        subprocess.run(["cp", "--sparse=always", str(image), str(path)], check=True)
        if size_mb is not None:
            with path.open("r+b") as file:
                file.truncate(size_mb << 20)
        self._root_shell(GETTY.format(tty))

    def put_boot(self, name: str, content: str) -> None:
        """A file on the boot partition, as a laptop writes it."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(content)
            file.flush()
            subprocess.run(["mcopy", "-o", "-i", self._boot, file.name, f"::{name}"], check=True)

    def get_boot(self, name: str) -> str:
        return subprocess.run(
            ["mtype", "-i", self._boot, f"::{name}"], check=True, capture_output=True, text=True
        ).stdout

    def kernel_line(self, *more: str) -> None:
        """Add words to the kernel's command line."""
        name = "extlinux/extlinux.conf"
        lines = self.get_boot(name).splitlines()
        self.put_boot(name, "".join(f"{x} {' '.join(more)}\n" if "append" in x else f"{x}\n" for x in lines))

    def put_root(self, source: Path, target: str) -> None:
        """A file into root A."""
        self._debugfs(self.plan.root_a.start, [f"write {source} {target}"])

    def put_data(self, source: Path, name: str) -> None:
        """A file into the top of the data partition."""
        self._debugfs(self.plan.data.start, [f"write {source} {name}"])

    def put_data_folder(self, source: Path, name: str) -> None:
        """A folder of files into the top of the data partition."""
        files = sorted(source.iterdir())
        self._debugfs(self.plan.data.start, [f"mkdir {name}", *(f"write {path} {name}/{path.name}" for path in files)])

    def take_root(self, source: str, target: Path) -> None:
        """A file out of root A."""
        self._debugfs(self.plan.root_a.start, [f"dump {source} {target}"])

    def read_root(self) -> bytes:
        """Root A as it lies on the card."""
        with self.path.open("rb") as file:
            file.seek(self.plan.root_a.start)
            return file.read(self.plan.root_a.length)

    def root_b(self, offset: int, length: int) -> bytes:
        """Bytes of the empty root B as they lie on the card."""
        with self.path.open("rb") as file:
            file.seek(self.plan.root_b.start + offset)
            return file.read(length)

    def fsck_data(self, copy: Path) -> tuple[int, str]:
        """e2fsck of a copy of the data partition: replay of its journal, then a full check that must find nothing."""
        start = self.plan.data.start >> 20
        subprocess.run(
            ["dd", f"if={self.path}", f"of={copy}", "bs=1M", f"skip={start}", "conv=sparse", "status=none"], check=True
        )
        subprocess.run(["e2fsck", "-p", str(copy)], check=False, capture_output=True)
        done = subprocess.run(["e2fsck", "-fn", str(copy)], check=False, capture_output=True, text=True)
        copy.unlink()
        return done.returncode, done.stdout

    @property
    def _boot(self) -> str:
        return f"{self.path}@@{self.plan.boot.start}"

    def _root_shell(self, folder: str) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(AUTOLOGIN)
            file.flush()
            Path(file.name).chmod(0o644)
            self._debugfs(self.plan.root_a.start, [f"mkdir {folder}", f"write {file.name} {folder}/test.conf"])

    def _debugfs(self, start: int, commands: list[str]) -> None:
        done = subprocess.run(
            ["debugfs", "-w", "-f", "/dev/stdin", f"{self.path}?offset={start}"],
            input="".join(f"{c}\n" for c in commands), capture_output=True, text=True, check=True,
        )  # fmt: skip
        bad = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
        assert not bad, bad
