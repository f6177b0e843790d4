"""Enrolment as one part of a running hub: its server, what it publishes, the sweep of old tokens, on one Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.ports import Clock, Entropy
from skerry_hub.enrolment import published, tokens
from skerry_hub.enrolment.app import EnrolmentPaths
from skerry_hub.enrolment.authority import digest_of
from skerry_hub.enrolment.enrol import Enrolment, MakeNode, Terms
from skerry_hub.enrolment.options import EnrolmentOptions
from skerry_hub.enrolment.renew import Renewals
from skerry_hub.enrolment.serve import EnrolmentServer
from skerry_hub.ports import Cluster


class EnrolmentPart:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        options: EnrolmentOptions,
        make_node: MakeNode,
        log: Callable[[str], None],
    ) -> None:
        """Listens from now on. Raises ConfigInvalid, ListenError."""
        self._cluster, self._clock, self._entropy, self._options, self._log = cluster, clock, entropy, options, log
        authority = options.authority
        self._server = EnrolmentServer(options.listen, options.names, authority, clock, entropy, log)
        self.url = options.url_at(self._server.port)
        terms = Terms(options.broker, self.url, options.days)
        enrolment = Enrolment(cluster, clock, entropy, authority, terms, make_node, log)
        renewals = Renewals(cluster, clock, entropy, authority, terms, log)
        self._paths = EnrolmentPaths(
            enrolment.enrol, renewals.renew, renewals.challenge, authority.certificate_pem, clock, log
        )

    async def run(self) -> None:
        """Never returns; only a bug ends it."""
        options, who = self._options, (self._clock, self._entropy, self._log)
        believed = frozenset(digest_of(one) for one in options.authority.believed)
        wanted = published.config_map(self.url, options.broker, options.authority.certificate_pem)
        tasks = [
            asyncio.ensure_future(self._server.run(self._paths)),
            asyncio.ensure_future(published.keep(self._cluster, wanted, *who, believed)),
            asyncio.ensure_future(tokens.sweep(self._cluster, *who)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Raises nothing."""
        await self._server.close()

    def snapshot(self) -> dict[str, int]:
        """Counters of this moment."""
        server = self._server
        return {**self._paths.snapshot(), "connections": server.open, "turned_away": server.turned_away}
