"""The adapter against peers on its socket that are silent, broken or lie: a typed error each time, in time.

What a right containerd does is tested on a real one, tests/e2e/test_containerd.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from skerry.containerd import channel
from skerry.containerd.adapter import Containerd
from skerry.containerd.channel import IMAGES, RUNTIME, Connection
from skerry.containerd.convert import MANAGED, POD_UID
from skerry.containerd.stubs import cri
from skerry.errors import ImagePullFailed, RuntimeAway, RuntimeFailed
from skerry.limits import CONTAINERS_SEEN_MAX
from skerry.model.pod import Container, Pod, Resources
from skerry.ports import AuthConfig, ContainerSpec

POD = Pod("u-1", "default", "web", (Container("main", "hello:1"),))
Answer = Message | GRPCError | None
TOO_MANY = CONTAINERS_SEEN_MAX + 1


class Stopped:
    """A clock on which no time passes but when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 0.0

    async def sleep_until(self, when: float) -> None:
        self.time = max(self.time, when)
        await asyncio.sleep(0)


class Raw:
    """Bytes where a message should be."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self.data


class Fake:
    """A gRPC server that answers each method with what `answers` says: a message, an error, or (None) nothing."""

    def __init__(self, answers: dict[str, Answer | list[Answer]]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.requests: list[Any] = []

    def __mapping__(self) -> dict[str, Handler]:
        names = [n.removesuffix("Request") for n in vars(cri) if n.endswith("Request")]
        kind = Cardinality.UNARY_UNARY
        return {
            service + name: Handler(self._handle(name), kind, getattr(cri, f"{name}Request"), object)
            for name in names
            for service in (RUNTIME, IMAGES)
        }

    def _handle(self, name: str) -> Callable[[Any], Awaitable[None]]:
        async def handle(stream: Any) -> None:
            self.requests.append(await stream.recv_message())
            self.calls.append(name)
            answer = self.answers.get(name, getattr(cri, f"{name}Response")())
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, GRPCError):
                raise answer
            if answer is not None:
                await stream.send_message(answer)

        return handle


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "cri.sock"


@pytest.fixture
async def runtime(socket: Path, tmp_path: Path) -> AsyncIterator[Containerd]:
    made = Containerd(socket, cgroup_parent="/x", log_dir=tmp_path / "logs", clock=Stopped())
    yield made
    await made.close()


Serve = Callable[[dict[str, Any]], Awaitable[Fake]]


@pytest.fixture
async def serve(socket: Path) -> AsyncIterator[Serve]:
    servers: list[Server] = []

    async def start(answers: dict[str, Any]) -> Fake:
        fake = Fake(answers)
        server = Server([fake])
        await server.start(path=str(socket))
        servers.append(server)
        return fake

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


# --- peers that are no gRPC server ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, bytes(range(256)) * 10])
async def test_a_peer_that_speaks_something_else(socket: Path, runtime: Containerd, said: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(said)
        writer.close()

    async with await asyncio.start_unix_server(peer, socket):
        with pytest.raises(RuntimeAway):
            await runtime.version()
        with pytest.raises(RuntimeAway):
            await runtime.look()
        with pytest.raises(RuntimeAway):
            await runtime.events().__anext__()


async def test_a_peer_that_hangs_up_at_once(socket: Path, runtime: Containerd) -> None:
    """Before, while or after the request is sent: whichever it is, the runtime is away."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.transport.abort()

    async with await asyncio.start_unix_server(peer, socket):
        for _ in range(50):
            with pytest.raises(RuntimeAway):
                await runtime.version()


async def test_a_connection_lost_between_connecting_and_sending(socket: Path, serve: Serve) -> None:
    await serve({})
    connection = Connection(socket)
    await connection.cri("StopContainer", cri.StopContainerRequest(), cri.StopContainerResponse)
    assert connection._channel is not None
    protocol = connection._channel._protocol
    assert protocol is not None
    protocol.processor.close()  # as grpclib does when the loss is told, but the channel has not looked yet
    setattr(protocol.handler, "connection_lost", False)  # noqa: B010 - grpclib does not declare it
    with pytest.raises(RuntimeAway):
        await connection.cri("StopContainer", cri.StopContainerRequest(), cri.StopContainerResponse)
    connection.close()


async def test_a_silent_peer_costs_the_deadline(socket: Path) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    connection = Connection(socket)
    async with await asyncio.start_unix_server(peer, socket):
        with pytest.raises(RuntimeAway, match="Version"):
            await connection.call(RUNTIME, "Version", cri.VersionRequest(), cri.VersionResponse, 0.05)
        connection.close()
        connection.close()


async def test_no_socket_and_a_socket_nobody_listens_on(socket: Path, runtime: Containerd) -> None:
    with pytest.raises(RuntimeAway):
        await runtime.version()
    server = await asyncio.start_unix_server(lambda reader, writer: None, socket)
    server.close()
    await server.wait_closed()
    socket.touch()
    with pytest.raises(RuntimeAway):
        await runtime.look()


# --- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(Status))
async def test_every_status_has_its_error(serve: Serve, runtime: Containerd, status: Status) -> None:
    if status is Status.OK:
        return
    await serve({"Version": GRPCError(status, "because\nof this")})
    with pytest.raises((RuntimeAway, RuntimeFailed)) as caught:
        await runtime.version()
    away = status in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED)
    assert isinstance(caught.value, RuntimeAway) == away
    assert "because of this" in str(caught.value)
    if isinstance(caught.value, RuntimeFailed):
        assert (caught.value.call, caught.value.code) == ("Version", status.name)


async def test_what_is_not_there_is_stopped_and_removed(serve: Serve, runtime: Containerd) -> None:
    gone = GRPCError(Status.NOT_FOUND, "no such thing")
    names = ("StopContainer", "RemoveContainer", "ContainerStatus", "StopPodSandbox", "RemovePodSandbox")
    await serve(dict.fromkeys(names, gone))
    await runtime.stop_container("x", 1)
    await runtime.remove_container("x")
    await runtime.stop_pod_sandbox("x")
    await runtime.remove_pod_sandbox("x")


async def test_a_failed_pull_says_so(serve: Serve, runtime: Containerd) -> None:
    await serve({"PullImage": GRPCError(Status.UNKNOWN, "no network")})
    with pytest.raises(ImagePullFailed, match="PullImage: UNKNOWN: no network"):
        await runtime.pull_image("x")


async def test_credentials_go_with_the_pull_that_they_are_for_and_with_no_other(
    serve: Serve, runtime: Containerd
) -> None:
    fake = await serve({})
    await runtime.pull_image("x", AuthConfig("tide", "ebb"))
    await runtime.pull_image("x")
    first, second = fake.requests
    assert (first.image.image, first.auth.username, first.auth.password) == ("x", "tide", "ebb")
    assert not second.HasField("auth"), "so that containerd looks into its own configuration"


# --- answers that make no sense ---------------------------------------------------------------------------------------


def box(**changed: Any) -> cri.PodSandbox:
    metadata = cri.PodSandboxMetadata(name="web", namespace="default", uid="u-1")
    labels = {POD_UID: "u-1", MANAGED: "true"}
    values: dict[str, Any] = {"id": "s1", "metadata": metadata, "labels": labels}
    return cri.PodSandbox(**(values | changed))


@pytest.mark.parametrize(
    "answers",
    [
        {"Version": cri.VersionResponse()},
        {"Version": None},
    ],
)
async def test_a_version_that_is_none(serve: Serve, runtime: Containerd, answers: dict[str, Any]) -> None:
    await serve(answers)
    with pytest.raises(RuntimeFailed):
        await runtime.version()


@pytest.mark.parametrize(
    "answers",
    [
        {"ListPodSandbox": cri.ListPodSandboxResponse(items=[cri.PodSandbox()])},
        {"ListPodSandbox": cri.ListPodSandboxResponse(items=[box(labels={})])},
        {
            "ListPodSandbox": cri.ListPodSandboxResponse(
                items=[box(state=cri.SANDBOX_NOTREADY)] * (CONTAINERS_SEEN_MAX + 1)
            )
        },
        {"ListContainers": cri.ListContainersResponse(containers=[cri.Container(id="c")])},
        {"ListContainers": None},
    ],
    ids=["an empty sandbox", "a sandbox without labels", "too many", "a container without a name", "nothing"],
)
async def test_a_listing_that_cannot_be(serve: Serve, runtime: Containerd, answers: dict[str, Any]) -> None:
    await serve(answers)
    with pytest.raises(RuntimeFailed):
        await runtime.look()


@pytest.mark.parametrize("said", [b"\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"], ids=["a tag", "text", "a length"])
async def test_an_answer_that_does_not_parse(serve: Serve, runtime: Containerd, said: bytes) -> None:
    await serve({"RunPodSandbox": Raw(said)})
    with pytest.raises(RuntimeFailed, match="RunPodSandbox: DATA_LOSS"):
        await runtime.run_pod_sandbox(POD, 0)
    assert await runtime.image_present("x") is False  # the connection is as good as before


async def test_an_id_that_is_empty(serve: Serve, runtime: Containerd) -> None:
    await serve({})
    with pytest.raises(RuntimeFailed, match="RunPodSandbox: DATA_LOSS"):
        await runtime.run_pod_sandbox(POD, 0)


# --- idempotency, decided by looking ----------------------------------------------------------------------------------


async def test_a_refused_sandbox_that_exists_is_the_one(serve: Serve, runtime: Containerd) -> None:
    """Made meanwhile, by a call whose answer was lost."""
    nothing, one = cri.ListPodSandboxResponse(), cri.ListPodSandboxResponse(items=[box()])
    refused = GRPCError(Status.UNKNOWN, "name is reserved")
    fake = await serve({"ListPodSandbox": [nothing, one], "RunPodSandbox": refused})
    assert await runtime.run_pod_sandbox(POD, 0) == "s1"
    assert fake.calls == ["ListPodSandbox", "RunPodSandbox", "ListPodSandbox"]


async def test_the_remains_of_a_failed_call_are_not_success(serve: Serve, runtime: Containerd) -> None:
    remains = cri.ListPodSandboxResponse(items=[box(state=cri.SANDBOX_NOTREADY)])
    refused = GRPCError(Status.UNKNOWN, "no address left")
    await serve({"ListPodSandbox": [cri.ListPodSandboxResponse(), remains], "RunPodSandbox": refused})
    with pytest.raises(RuntimeFailed, match="no address left"):
        await runtime.run_pod_sandbox(POD, 0)


async def test_what_vanishes_during_a_look_is_left_out(serve: Serve, runtime: Containerd) -> None:
    gone = GRPCError(Status.NOT_FOUND, "gone")
    await serve({"ListPodSandbox": cri.ListPodSandboxResponse(items=[box()]), "PodSandboxStatus": gone})
    assert await runtime.look() == {}


def test_the_text_of_an_error_is_one_bounded_line() -> None:
    assert channel.cut("a\n\tb  c\r\n") == "a b c"
    assert len(channel.cut("x" * 1_000_000)) == 2_048


async def test_where_the_kernel_cannot_limit_memory_containers_are_made_without_a_limit(
    socket: Path, tmp_path: Path, serve: Serve
) -> None:
    fake = await serve({"CreateContainer": cri.CreateContainerResponse(container_id="c1")})
    limited = Resources(memory_limit_bytes=1 << 20, cpu_limit_millis=500)
    wanted = ContainerSpec(
        name="main", attempt=0, image="hello:1", fingerprint="f", command=(), args=(), working_dir="", env=(),
        mounts=(), resources=limited,
    )  # fmt: skip
    for memory_cgroup, limit in ((True, 1 << 20), (False, 0)):
        runtime = Containerd(socket, cgroup_parent="/x", log_dir=tmp_path, clock=Stopped(), memory_cgroup=memory_cgroup)
        await runtime.create_container(POD, "box", 0, wanted)
        await runtime.update_container_resources("c1", limited)
        await runtime.close()
        made = next(r for r in fake.requests if isinstance(r, cri.CreateContainerRequest))
        updated = next(r for r in fake.requests if isinstance(r, cri.UpdateContainerResourcesRequest))
        assert made.config.linux.resources.memory_limit_in_bytes == limit
        assert updated.linux.memory_limit_in_bytes == limit
        assert made.config.linux.resources.cpu_quota == updated.linux.cpu_quota == 50_000
        fake.requests.clear()
