"""A real mosquitto on a free loopback port, with its own folder and default limits; a TLS listener when asked."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

START_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    def __init__(self, folder: Path, tls: bool = False, extra: str = "", whole: str = "") -> None:
        """`extra` is more of mosquitto.conf; `whole` is all of it, and whoever gives it knows the port."""
        assert MOSQUITTO, "mosquitto is not installed"
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = whole or f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n{extra}\n"
        config = ("user root\n" if os.getuid() == 0 else "") + config
        self.tls: ssl.SSLContext | None = None
        if tls:
            self_signed(folder)
            config += f"certfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
            self.tls = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        (folder / "mosquitto.conf").write_text(config)
        self.start()

    def start(self) -> None:
        assert MOSQUITTO
        log = (self._folder / "mosquitto.log").open("ab")
        begun = self.log().count(" running")
        self._process = subprocess.Popen(
            [MOSQUITTO, "-v", "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
        )
        log.close()
        # Its own word, not a connection: another process may have taken the port meanwhile.
        end = time.monotonic() + START_S
        while self.log().count(" running") == begun:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return int(self._process.pid)

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def self_signed(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
