"""A real mosquitto on a free loopback port, with its own folder and default limits; when asked with a TLS listener, or
with one that lets in who has a certificate of its authority, under the name that is in it, as skerry's brokers do.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

from contract import certificates
from skerry import identity
from skerry_hub import pki

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

START_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    def __init__(
        self, folder: Path, tls: bool = False, extra: str = "", mutual: pki.Pair | None = None, whole: str = ""
    ) -> None:
        """`extra` is more of mosquitto.conf; `mutual`: the authority of a broker that demands certificates; `whole` is
        all of mosquitto.conf, and whoever gives it knows the port."""
        assert MOSQUITTO, "mosquitto is not installed"
        self.folder, self.port = folder, free_port()
        self.authority = mutual
        self._process: subprocess.Popen[bytes] | None = None
        config = whole or f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n{extra}\n"
        config = ("user root\n" if os.getuid() == 0 else "") + config
        self.tls: ssl.SSLContext | None = None
        if tls:
            self_signed(folder)
            config += f"certfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
            self.tls = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        if mutual is not None:
            config += self._demanding(mutual)
            self.tls = self.client("hub")
        (folder / "mosquitto.conf").write_text(config)
        self.start()

    def start(self) -> None:
        assert MOSQUITTO
        log = (self.folder / "mosquitto.log").open("ab")
        begun = self.log().count(" running")
        self._process = subprocess.Popen(
            [MOSQUITTO, "-v", "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
        )
        log.close()
        # Its own word, not a connection: another process may have taken the port meanwhile.
        end = time.monotonic() + START_S
        while self.log().count(" running") == begun:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def _demanding(self, authority: pki.Pair) -> str:
        server = pki.issue(authority, "broker", (), ("localhost",), 10, pki.utc_now())
        pki.save(server, self.folder / "cert.pem", self.folder / "key.pem")
        (self.folder / "ca.pem").write_bytes(authority.certificate_pem)
        files = "".join(f"{key} {self.folder}/{key[:-4]}.pem\n" for key in ("cafile", "certfile", "keyfile"))
        names = "use_identity_as_username true\nuse_username_as_clientid true\n"
        return f"{files}require_certificate true\ntls_version tlsv1.3\n{names}"

    def client(self, name: str) -> ssl.SSLContext:
        """For whoever is called `name`, at a broker that is `mutual`."""
        assert self.authority is not None
        pair = pki.issue(self.authority, name, (), (), 10, pki.utc_now())
        pki.save(pair, self.folder / f"{name}.crt", self.folder / f"{name}.key")
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def enrol(self, folder: Path, node: str) -> None:
        """As enrolment leaves a device: an identity in `folder`, at a broker that is `mutual`."""
        assert self.authority is not None
        identity.write(folder, certificates.enrolled(self.authority, node, f"mqtts://localhost:{self.port}"))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return int(self._process.pid)

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

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
