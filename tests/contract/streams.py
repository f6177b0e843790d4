"""What every Runtime promises about streams (ports.RuntimeStreams), beside contract.runtime, on whose sites it runs.

A simulated runtime has to understand these argvs: SPEAKING says `ahoy` and runs on, ECHOING echoes on ECHO_PORT; of
commands `exiting(n)`, CAT, and STUBBORN, which runs until its stream is closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from contract.runtime import STUBBORN, WAIT_S, RuntimeSite, exiting, make_pod, make_spec, run, until_state
from skerry.errors import RuntimeAway, RuntimeFailed, StreamBroken
from skerry.model.observed import ContainerState
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Logs, Piece
from skerry.ports import Duplex

SPEAKING = ("/bin/sh", "-c", "echo ahoy; exec sleep 100000")
ECHO_PORT = 7007
ECHOING = ("/bin/nc", "-ll", "-p", str(ECHO_PORT), "-e", "/bin/cat")
CAT = ("/bin/cat",)
UNKNOWN = "0123456789abcdef"


def command(*argv: str, **how: bool) -> Exec:
    return Exec("default", "pod", "main", argv, **how)


def attaching(**how: bool) -> Attach:
    return Attach("default", "pod", "main", **how)


def asking(**how: Any) -> Logs:
    return Logs("default", "pod", "main", **how)


async def told(stream: Duplex, wait_s: float = WAIT_S) -> dict[Channel, bytes]:
    """All that comes until the end, by channel."""
    out: dict[Channel, bytearray] = {}
    while (piece := await asyncio.wait_for(stream.read(), wait_s)) is not None:
        out.setdefault(piece.channel, bytearray()).extend(piece.data)
    return {channel: bytes(data) for channel, data in out.items()}


async def until_told(stream: Duplex, text: bytes) -> bytes:
    """What comes on STDOUT until `text` is in it."""
    out = b""
    while text not in out:
        piece = await asyncio.wait_for(stream.read(), WAIT_S)
        assert piece is not None, out
        out += piece.data if piece.channel is Channel.STDOUT else b""
    return out


async def listening(dial: Callable[[], Awaitable[Duplex]]) -> Duplex:
    """Once somebody listens."""
    for _ in range(100):
        try:
            return await dial()
        except RuntimeFailed as error:
            refused = error
            await asyncio.sleep(0.1)
    raise refused


async def feed(stream: Duplex, data: bytes, end: bool = True) -> None:
    for at in range(0, len(data), 16_384):
        await stream.write(Piece(Channel.STDIN, data[at : at + 16_384]))
    if end:
        await stream.write(Piece(Channel.STDIN, b"", end=True))


def exit_code(out: dict[Channel, bytes]) -> int:
    """As kubectl takes it out of the Status."""
    status = json.loads(out[Channel.ERROR])
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode", status
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "ExitCode"
    return int(cause["message"])


class StreamsContract:
    @pytest.mark.parametrize("code", [0, 3])
    async def test_a_command_ends_with_its_exit_code(self, site: RuntimeSite, code: int) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site))
        stream = await runtime.exec(container_id, command(*exiting(code)))
        assert exit_code(await told(stream)) == code
        assert await stream.read() is None
        await stream.close()

    async def test_a_command_hears_its_stdin_and_where_it_ends(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site))
        stream = await runtime.exec(container_id, command(*CAT, stdin=True))
        await feed(stream, b"ebb\n", end=False)
        assert await until_told(stream, b"ebb\n") == b"ebb\n"
        await feed(stream, b"flow\n")
        out = await told(stream)
        assert (out[Channel.STDOUT], exit_code(out)) == (b"flow\n", 0)
        await stream.write(Piece(Channel.STDIN, b"too late"))  # dropped in silence
        await stream.close()
        await stream.close()

    async def test_commands_run_beside_each_other(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site))
        streams = [await runtime.exec(container_id, command(*CAT, stdin=True)) for _ in range(4)]
        for number, stream in enumerate(streams):
            await feed(stream, b"%d" % number)
        for number, stream in enumerate(streams):
            assert (await told(stream))[Channel.STDOUT] == b"%d" % number
            await stream.close()

    async def test_closing_a_stream_ends_its_reader(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site))
        stream = await runtime.exec(container_id, command(*STUBBORN))
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0.1)
        assert not reading.done()
        await asyncio.wait_for(stream.close(CloseCode.LOST, "the hub is away"), WAIT_S)
        assert await asyncio.wait_for(reading, WAIT_S) is None

    async def test_an_attached_stream_ends_with_the_container_and_closing_it_does_not_end_it(
        self, site: RuntimeSite
    ) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, STUBBORN))
        first, second = [await runtime.attach(container_id, attaching()) for _ in range(2)]
        await first.close()
        assert await asyncio.wait_for(first.read(), WAIT_S) is None
        reading = asyncio.ensure_future(told(second))
        await asyncio.sleep(0.1)
        assert not reading.done()
        await site.kill(container_id)
        assert set(await asyncio.wait_for(reading, WAIT_S)) <= {Channel.STDOUT, Channel.STDERR, Channel.ERROR}
        await second.close()
        await until_state(runtime, pod, ContainerState.EXITED)

    async def test_a_port_of_the_pod_is_reached_and_half_closes(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, _ = await run(runtime, pod, make_spec(site, ECHOING))
        stream = await listening(lambda: runtime.port_forward(sandbox_id, ECHO_PORT))
        await feed(stream, b"ebb and flow")
        assert await told(stream) == {Channel.STDOUT: b"ebb and flow"}
        await stream.close()

    async def test_a_port_that_nobody_listens_on_is_unavailable(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, _ = await run(runtime, pod, make_spec(site))
        with pytest.raises(RuntimeFailed) as why:
            await runtime.port_forward(sandbox_id, 9)
        assert why.value.code == "UNAVAILABLE"

    async def test_a_log_is_read_and_followed_to_the_end_of_its_container(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, SPEAKING))
        following = await runtime.logs(container_id, asking(follow=True))
        assert await until_told(following, b"ahoy\n") == b"ahoy\n"
        stream = await runtime.logs(container_id, asking())
        assert await told(stream) == {Channel.STDOUT: b"ahoy\n"}
        await stream.close()
        await runtime.reopen_container_log(container_id)
        reading = asyncio.ensure_future(told(following))
        await asyncio.sleep(0.1)
        assert not reading.done()
        await site.kill(container_id)
        assert await asyncio.wait_for(reading, WAIT_S) == {}
        await following.close()
        await until_state(runtime, pod, ContainerState.EXITED)

    async def test_a_log_that_was_renamed_is_written_anew(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, SPEAKING))
        following = await runtime.logs(container_id, asking(follow=True))
        await until_told(following, b"ahoy\n")
        await following.close()
        assert set(await runtime.log_files(container_id)) == {0}
        await runtime.rename_log(container_id, 0, 1)
        assert set(await runtime.log_files(container_id)) == {1}
        await runtime.reopen_container_log(container_id)
        assert set(await runtime.log_files(container_id)) == {0, 1}
        await runtime.rename_log(container_id, 0, 1)
        await runtime.reopen_container_log(container_id)
        await runtime.delete_log(container_id, 1)
        assert set(await runtime.log_files(container_id)) == {0}
        with pytest.raises(RuntimeFailed):
            await runtime.rename_log(container_id, 5, 6)

    async def test_the_next_write_to_a_watched_log_is_told_once(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, replace(make_spec(site, CAT), stdin=True))
        stream = await runtime.attach(container_id, attaching(stdin=True))

        async def says(line: bytes) -> None:
            await feed(stream, line, end=False)
            await until_told(stream, line)
            await asyncio.sleep(0.2)  # until it stands in the log

        await says(b"before anybody listens\n")
        await runtime.watch_log(container_id)
        await runtime.watch_log(container_id)
        hearing = asyncio.ensure_future(runtime.logs_written())
        await asyncio.sleep(0.2)
        assert not hearing.done()
        await says(b"ebb\n")
        assert await asyncio.wait_for(hearing, WAIT_S) == {container_id}
        hearing = asyncio.ensure_future(runtime.logs_written())
        await says(b"flow\n")
        assert not hearing.done()
        await runtime.rename_log(container_id, 0, 1)
        await runtime.reopen_container_log(container_id)
        await runtime.watch_log(container_id)
        await asyncio.sleep(0.2)
        assert not hearing.done()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await says(b"and ebb\n")
        assert await asyncio.wait_for(runtime.logs_written(), WAIT_S) == {container_id}
        await stream.close()

    async def test_what_does_not_exist_is_refused(self, site: RuntimeSite) -> None:
        runtime = site.runtime()
        for call in self.calls(site, UNKNOWN, UNKNOWN):
            with pytest.raises(RuntimeFailed):
                await call()
        with pytest.raises(StreamBroken) as why:
            await runtime.logs(UNKNOWN, asking())
        assert why.value.code == CloseCode.NOT_FOUND
        assert await runtime.log_files(UNKNOWN) == {}
        await runtime.watch_log(UNKNOWN)
        with pytest.raises(RuntimeFailed):
            await runtime.rename_log(UNKNOWN, 0, 1)

    async def test_what_has_ended_takes_no_command(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, exiting(0)))
        await until_state(runtime, pod, ContainerState.EXITED)
        with pytest.raises(RuntimeFailed):
            await runtime.exec(container_id, command(*CAT))

    async def test_while_the_runtime_is_away_that_is_said(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, container_id = await run(runtime, pod, make_spec(site))
        await site.away()
        for call in self.calls(site, sandbox_id, container_id):
            with pytest.raises(RuntimeAway):
                await call()
        with pytest.raises(RuntimeAway):
            await runtime.logs(container_id, asking())
        await site.back()

    def calls(self, site: RuntimeSite, sandbox_id: str, container_id: str) -> tuple[Callable[[], Awaitable[Any]], ...]:
        runtime = site.runtime()
        return (
            lambda: runtime.exec(container_id, command(*CAT)),
            lambda: runtime.attach(container_id, attaching()),
            lambda: runtime.port_forward(sandbox_id, ECHO_PORT),
            lambda: runtime.reopen_container_log(container_id),
        )
