"""The guest's serial console: everything it says in a log file, and a root shell to type into. Every wait is bounded.

The guest echoes nothing of what is typed (stty -echo), and each command ends with a mark that carries its exit code.
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
from pathlib import Path

from rig import RigError, until

PROMPT_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 120.0


class Console:
    """Speaks over QEMU's serial socket; `log` holds what the guest printed in this boot."""

    def __init__(self, connection: socket.socket, log: Path) -> None:
        self._socket = connection
        self._text = bytearray()
        self._arrived = threading.Lock()
        self._log = log
        self._ended = False
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        self._socket.close()

    @property
    def text(self) -> str:
        with self._arrived:
            return self._text.decode(errors="replace")

    def wait(self, pattern: str, timeout_s: float, since: int = 0) -> re.Match[str]:
        """Until the guest has printed `pattern`; RigError with its last words, and at once when it cannot come up."""
        found = until(lambda: self._find(pattern, since), f"the guest to print {pattern!r}", timeout_s, self.tail)
        assert found is not None
        return found

    def login(self, timeout_s: float = PROMPT_TIMEOUT_S) -> None:
        """Until the root shell of the test's own getty is there, and make it quiet."""
        self.wait(r"root@\S+[#:]", timeout_s)
        self._send("stty -echo -onlcr cols 400; bind 'set enable-bracketed-paste off'; PS1=; export LC_ALL=C\n")
        self.run("true")

    def run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> str:
        """One line of shell in the guest; its output. RigError when it fails (unless `check` is False) or hangs."""
        number, since = next(self._numbers), len(self.text)
        self._send(f'echo "=BEGIN""={number}="; {{ {command} ; }} 2>&1; echo "=END""={number}=$?="\n')
        found = self.wait(rf"=BEGIN={number}=\r?\n([\s\S]*?)=END={number}=(\d+)=", timeout_s, since)
        output, code = found[1].replace("\r\n", "\n"), int(found[2])
        if check and code != 0:
            raise RigError(f"in the guest, {command!r} ended with {code}:\n{output[-2000:]}")
        return output

    def tail(self) -> str:
        return f"-- the guest's last words\n{self.text[-2500:]}"

    def _find(self, pattern: str, since: int) -> re.Match[str] | None:
        text = self.text
        dead = re.search(r"INITRD-FAILED.*|Kernel panic - .*|You are in emergency mode", text)
        if dead is not None:
            raise RigError(f"the guest does not come up: {dead[0]}\n{self.tail()}")
        found = re.compile(pattern).search(text, since)
        if found is None and self._ended:
            raise RigError(f"the board went off before it printed {pattern!r}\n{self.tail()}")
        return found

    def _send(self, line: str) -> None:
        self._socket.sendall(line.encode())

    def _read(self) -> None:
        with self._log.open("ab") as log:
            while True:
                try:
                    data = self._socket.recv(65536)
                except OSError:
                    self._ended = True
                    return
                if not data:
                    self._ended = True
                    return
                with self._arrived:
                    self._text += data
                log.write(data)
                log.flush()
