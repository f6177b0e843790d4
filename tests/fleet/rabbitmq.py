"""A fleet whose broker is RabbitMQ, set up as docs/rabbitmq.md tells an operator to: its files and commands are taken
from that page, and nothing else is done."""

from __future__ import annotations

import re
import socket
import ssl

from fleet import MQTTS_PORT, ROOT, Fleet
from rig import Site
from rig.rabbitmq import ETC, RabbitMq
from skerry.errors import LinkLost
from skerry.world.dial import Dialer
from skerry_hub import pki_files
from skerry_hub.enrolment.authority import NAME, STEM

PAGE = ROOT / "docs" / "rabbitmq.md"
SCRIPT = "skerry-rabbitmq"


def on_page() -> dict[str, str]:
    """The files that the page shows, by the path that stands before each."""
    return dict(re.findall(r"^`/?([\w/.-]+)`[^\n]*\n```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


class RabbitFleet(Fleet):
    """As its parent; whoever gets a token may come to the broker, too."""

    def __init__(self) -> None:
        super().__init__(secure=True)
        self.rabbit: RabbitMq | None = None

    def start_broker(self) -> None:
        if self.rabbit is None:
            self.rabbit = RabbitMq(self.site, self._files(), MQTTS_PORT)
            self.broker = self.rabbit.start()
            self.rabbit.ctl("delete_user", "guest")
            self.operator("hub", "hub")
        else:
            self.broker = self.rabbit.start()

    def token(self, name: str, *more: str) -> str:
        made = super().token(name, *more)
        self.operator("device", name)
        return made

    def operator(self, *args: str) -> None:
        """The page's command, as its operator runs it."""
        assert self.rabbit is not None
        self.rabbit.run("sh", f"/usr/local/sbin/{SCRIPT}", *args)

    def _files(self) -> dict[str, bytes]:
        self.trust.mkdir()
        authority = pki_files.authority(self.trust, STEM, NAME)
        pki_files.pair(self.trust, "broker", authority, "rabbitmq", (), ("127.0.0.1", "localhost", self.address))
        shown = on_page()
        files = {path: text.encode() for path, text in shown.items() if path.startswith(ETC)}
        files[f"usr/local/sbin/{SCRIPT}"] = shown[SCRIPT].encode()
        for there, here in (
            ("device-ca.crt", f"{STEM}.crt"),
            ("broker.crt", "broker.crt"),
            ("broker.key", "broker.key"),
        ):
            files[f"{ETC}/{there}"] = (self.trust / here).read_bytes()
        return files


class Inside(Dialer):
    """Dials in the network of a site, from a process that is not in it."""

    def __init__(self, site: Site, host: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, tls)
        self._site = site

    def _open(self, deadline: float) -> socket.socket:
        try:
            return self._secured(self._site.dial(self._port, self._host), deadline)
        except OSError as failed:
            raise LinkLost(f"{self._host}:{self._port}: {failed}") from None
