"""Make the real adapters, run a part of the hub until a signal, end cleanly. The one place here that names uvloop.

`api` and `run` share no state but the API: either may be killed and started again at any time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skerry.errors import ConfigInvalid, SkerryError
from skerry.ports import Clock, Entropy
from skerry_hub.ports import Cluster

if TYPE_CHECKING:
    from skerry_hub.broker_options import BrokerOptions
    from skerry_hub.cloudhub.mqtt import MqttBroker
    from skerry_hub.enrolment.authority import Authority
    from skerry_hub.enrolment.options import EnrolmentOptions
    from skerry_hub.enrolment.part import EnrolmentPart
    from skerry_hub.hub import Hub, Protection
    from skerry_hub.kube.client import KubeClient
    from skerry_hub.kubelet.options import EndpointOptions
    from skerry_hub.kubelet.serve import KubeletEndpoints
    from skerry_hub.listener import Listener

T = TypeVar("T")
CLIENT_ID_BYTES = 6
TOKEN_BYTES = 16
SNAPSHOT_TIMEOUT_S = 5.0
SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024


def log(line: str) -> None:
    """One line to standard error, where journald adds the time."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run one command's coroutine to its end."""
    import uvloop

    runner: Callable[[Coroutine[Any, Any, T]], T] = uvloop.run
    return runner(main)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def serve_api(data: Path, listen: str, insecure: bool) -> int:
    """`skerry-hub api`."""
    from skerry.world.private_memory import keep_private
    from skerry_hub.apiserver.serve import ServedAt, serve

    keep_private(log)

    def ready(at: ServedAt) -> None:
        log(f"skerry-hub api: ready, serving {at.url}, administrator: {at.kubeconfig}")

    await serve(data, listen, ready=ready, stop=stop_event(), insecure=insecure)
    log("skerry-hub api: stopped")
    return 0


async def serve_hub(
    kubeconfig: Path | None,
    broker: BrokerOptions,
    insecure: bool,
    status_socket: Path | None,
    replica: str,
    lease_s: int,
    metrics_listen: str = "",
    kubelet: EndpointOptions | None = None,
    enrolment: EnrolmentOptions | None = None,
    protection: Protection | None = None,
    revoked_file: Path | None = None,
) -> int:
    """`skerry-hub run`; without `kubelet` no logs and no exec, without `enrolment` no device is enrolled here."""
    from skerry.world.clock import SystemClock
    from skerry.world.entropy import SystemEntropy
    from skerry.world.private_memory import keep_private
    from skerry_hub.hub import Hub

    keep_private(log)  # signing keys and Secrets
    stop, clock, entropy = stop_event(), SystemClock(), SystemEntropy()
    async with kube_client(kubeconfig) as cluster:
        mqtt, bulk = _brokers(broker, insecure)
        found: list[KubeletEndpoints] = []  # made of the hub's parts, and asked by one of them
        hub = Hub(
            cluster, mqtt, bulk, clock, entropy, log, replica=replica, lease_s=lease_s,
            endpoint_of=lambda node: found[0].endpoint_of(node) if found else None,
            on_own=lambda nodes: found[0].retain(nodes) if found else None,
            protection=protection,
        )  # fmt: skip
        found += [_kubelet(hub, cluster, clock, kubelet)] if kubelet is not None else []
        enrolling = _enrolling(cluster, clock, entropy, enrolment) if enrolment is not None else None
        shown = lambda: _snapshot(hub, found, enrolling)  # noqa: E731
        figures = await _serve_metrics(shown, cluster, metrics_listen, insecure) if metrics_listen else None
        waits = [asyncio.ensure_future(hub.run()), asyncio.ensure_future(stop.wait())]
        if kubelet is not None:
            waits += _keys_kept(found[0], kubelet, cluster, clock, entropy, replica)
        waits += [asyncio.ensure_future(enrolling.run())] if enrolling is not None else []
        waits += [_revoked_kept(hub, revoked_file, clock, entropy)] if revoked_file is not None else []
        tasks = [*waits, asyncio.ensure_future(_announce(hub, broker.url))]
        server = await _serve_snapshots(shown, status_socket) if status_socket is not None else None
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            if server is not None and status_socket is not None:
                server.close()
                _forget_socket(status_socket)
            for part in (figures, enrolling, *found):
                if part is not None:
                    await part.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await mqtt.close()
            await hub.leave()
    log("skerry-hub run: stopped")
    return 0


def client_id() -> str:
    """Who this process is to a broker that does not care."""
    from skerry.world.entropy import SystemEntropy

    return f"skerry-hub-{SystemEntropy().token(CLIENT_ID_BYTES).hex()}"


def protection(authority: Authority | None, replica: str, broker: BrokerOptions) -> Protection | None:
    """What the sessions' frames are protected with; None where the broker is one in clear. Raises ConfigInvalid."""
    if broker.tls is None:
        return None
    if authority is None:
        raise ConfigInvalid("--device-ca-cert", "is needed with mqtts://: by it devices know whom to obey")
    from skerry_hub import mosquitto
    from skerry_hub.crypto import OpenSsl
    from skerry_hub.enrolment.signer import DeviceIdentities, SigningKeys
    from skerry_hub.hub import Protection

    keys = SigningKeys(authority, mosquitto.hub_names(replica)[0])
    return Protection(OpenSsl(), keys.current, keys.seal_key, partial(DeviceIdentities, authority), authority.trust)


def _brokers(options: BrokerOptions, insecure: bool) -> tuple[MqttBroker, MqttBroker]:
    """The connections for state and for streams. Raises ConfigInvalid."""
    from skerry.world.mqtt_values import MqttOptions
    from skerry_hub.cloudhub.mqtt import MqttBroker

    tls = options.tls or (None, None)
    state, streams = (
        MqttBroker(MqttOptions(options.host, options.port, name, insecure=insecure), context)
        for name, context in zip(options.client_ids, tls, strict=True)
    )
    return state, streams


def _enrolling(cluster: KubeClient, clock: Clock, entropy: Entropy, options: EnrolmentOptions) -> EnrolmentPart:
    """Raises ConfigInvalid, ListenError."""
    from skerry_hub.enrolment.part import EnrolmentPart
    from skerry_hub.join import join

    part = EnrolmentPart(cluster, clock, entropy, options, join, log)
    log(f"skerry-hub run: devices enrol at {part.url}")
    return part


def _revoked_kept(hub: Hub, file: Path, clock: Clock, entropy: Entropy) -> asyncio.Task[None]:
    """Raises ConfigInvalid."""
    from skerry_hub.ports import SECRETS
    from skerry_hub.revoked_file import RevokedFile

    kept = RevokedFile(file, lambda: hub.controller.informers[SECRETS].objects, clock, entropy, log)
    hub.on_identity = kept.look
    return asyncio.ensure_future(kept.run(hub.controller.ready))


def _kubelet(hub: Hub, cluster: KubeClient, clock: Clock, options: EndpointOptions) -> KubeletEndpoints:
    """Raises ConfigInvalid."""
    from skerry_hub.kubelet.access import Reviews
    from skerry_hub.kubelet.app import Parts
    from skerry_hub.kubelet.serve import KubeletEndpoints
    from skerry_hub.ports import PODS, Obj

    def shown(node: str) -> int | None:
        status = (hub.controller.node(node) or {}).get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        return port if isinstance(port, int) else None

    def pods_of(node: str) -> list[Obj]:
        every = hub.controller.informers[PODS].objects.values()
        return [pod for pod in every if (pod.get("spec") or {}).get("nodeName") == node]

    parts = Parts(hub.streams, Reviews(cluster, clock), pods_of)
    return KubeletEndpoints(
        parts, options.keys, listen=options.listen, advertise=options.address, ports=options.ports, shown=shown, log=log
    )


def _keys_kept(
    endpoints: KubeletEndpoints,
    options: EndpointOptions,
    cluster: KubeClient,
    clock: Clock,
    entropy: Entropy,
    replica: str,
) -> list[asyncio.Task[None]]:
    """What keeps the endpoint's certificate and client authorities up to date; only a bug ends one."""
    from skerry_hub.kubelet.key_files import follow
    from skerry_hub.kubelet.serving_certificate import ServingCertificate

    def use(certificate: str, key: str) -> None:
        endpoints.renew(replace(endpoints.keys, certificate=certificate, key=key))

    kept = [asyncio.ensure_future(follow(options.files, endpoints, clock, entropy, log))]
    if options.tls_bootstrap:
        asked = ServingCertificate(cluster, clock, entropy, log, replica=replica, address=options.address, use=use)
        kept.append(asyncio.ensure_future(asked.run()))
    return kept


def _snapshot(hub: Hub, endpoints: list[KubeletEndpoints], enrolling: EnrolmentPart | None) -> dict[str, Any]:
    more = {"kubelet": endpoints[0].snapshot()} if endpoints else {}
    if enrolling is not None:
        more["enrolment"] = enrolling.snapshot()
    return {**hub.snapshot(), **more}


async def _serve_metrics(
    snapshot: Callable[[], dict[str, Any]], cluster: KubeClient, where: str, insecure: bool
) -> Listener:
    """Raises SkerryError."""
    from skerry_hub import listener, metrics

    app = listener.metrics_app(lambda: metrics.text(snapshot(), cluster.requests), metrics.TYPE)
    found = await listener.listen("--metrics-listen", where, insecure, app)
    log(f"skerry-hub run: metrics at {found.url}/metrics")
    return found


async def _announce(hub: Any, broker: str) -> None:
    await hub.ready()
    log(f"skerry-hub run: ready, {len(hub.snapshot()['devices'])} devices, broker {broker}")


def kube_client(kubeconfig: Path | None) -> Any:
    """A KubeClient from a file, or from the pod that this runs in. Raises ConfigInvalid."""
    from skerry_hub.kube import config
    from skerry_hub.kube.client import KubeClient

    if kubeconfig is not None:
        return KubeClient(config.load(kubeconfig))
    environ = os.environ
    found = config.in_cluster(environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", ""))
    return KubeClient(found)


async def with_cluster(kubeconfig: Path | None, do: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
    """One short command against the API."""
    async with kube_client(kubeconfig) as cluster:
        return await do(cluster)


async def serve_ui(kubeconfig: Path | None, socket_path: Path | None, listen: str, insecure: bool) -> int:
    """`skerry-hub ui`."""
    from skerry.world.clock import SystemClock
    from skerry.world.entropy import SystemEntropy
    from skerry_hub import listener
    from skerry_hub.edgecontroller.registration import DEVICE_LABEL
    from skerry_hub.ui.app import FleetPage
    from skerry_hub.ui.fleet import Fleet

    listener.parse_listen("--listen", listen, insecure)
    stop, clock, entropy = stop_event(), SystemClock(), SystemEntropy()
    counters = partial(read_snapshot, socket_path) if socket_path is not None else None
    token = entropy.token(TOKEN_BYTES).hex()
    async with kube_client(kubeconfig) as cluster:
        fleet = Fleet(cluster, clock, entropy, log, labels=f"{DEVICE_LABEL}=true", counters=counters)
        served = await listener.listen("--listen", listen, insecure, FleetPage(fleet, token, clock))
        tasks = [asyncio.ensure_future(fleet.run()), asyncio.ensure_future(stop.wait())]
        print(f"{served.url}/?t={token}", flush=True)  # noqa: T201
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            await served.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return 0


# --- what a running hub says of itself --------------------------------------------------------------------------------


async def _serve_snapshots(snapshot: Callable[[], dict[str, Any]], path: Path) -> asyncio.AbstractServer:
    """Whoever connects gets one JSON object and the end of the stream. Raises ConfigInvalid."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps(snapshot()).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), SNAPSHOT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    try:
        _forget_socket(path)
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(answer, str(path))
        finally:
            os.umask(mask)
    except OSError as why:
        raise ConfigInvalid("--status-socket", f"{path}: {why.strerror or why}") from None


def _forget_socket(path: Path) -> None:
    """Remove what an earlier hub left, but nothing that is no socket."""
    if path.is_socket():
        path.unlink()


def read_snapshot(path: Path) -> dict[str, Any]:
    """What the hub behind this socket says. Raises SkerryError."""
    data = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SNAPSHOT_TIMEOUT_S)
            sock.connect(str(path))
            while part := sock.recv(1 << 16):
                data += part
                if len(data) > SNAPSHOT_BYTES_MAX:
                    raise SkerryError(f"{path}: the answer is larger than {SNAPSHOT_BYTES_MAX} bytes")
        value = json.loads(data)
    except (OSError, ValueError) as why:
        raise SkerryError(f"{path}: no hub answers: {getattr(why, 'strerror', None) or why}") from None
    if not isinstance(value, dict):
        raise SkerryError(f"{path}: no hub answers")
    return value
