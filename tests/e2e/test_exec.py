"""Commands in containers of a real containerd: their streams, their ends, and that a cut stream leaves none."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.runtime import STUBBORN, make_pod, make_spec, run
from contract.streams import (
    CAT,
    command,
    exit_code,
    feed,
    told,
    until_told,
)
from e2e.board import Board
from rig import until
from skerry.model.observed import ContainerState
from skerry.model.streams import Channel, CloseCode, Piece

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("containerd"), reason="needs root and tools/setup"),
]
BULK_BYTES = 20 << 20
WAIT_S = 60.0


async def lonely(site: Board) -> str:
    """The id of a container that does nothing."""
    return (await run(site.runtime(), make_pod(), make_spec(site, STUBBORN)))[1]


def processes(word: str) -> list[int]:
    """Processes of this machine whose command line has the word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def test_exec_tells_stdout_from_stderr(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sh", "-c", "echo out; echo err >&2; exit 7"))
    out = await told(stream)
    assert (out[Channel.STDOUT], out[Channel.STDERR], exit_code(out)) == (b"out\n", b"err\n", 7)
    await stream.close()


async def test_exec_has_the_containers_environment_and_folder(site: Board) -> None:
    runtime = site.runtime()
    spec = replace(make_spec(site, STUBBORN), env=(("TIDE", "ebb"),), working_dir="/etc")
    _, container_id = await run(runtime, make_pod(), spec)
    stream = await runtime.exec(container_id, command("/bin/sh", "-c", "echo $TIDE $(pwd) $TERM."))
    assert (await told(stream))[Channel.STDOUT] == b"ebb /etc .\n"
    await stream.close()


@pytest.mark.parametrize("argv", [("/no/such/command",), ("no-such-command", "x"), ("/etc",)])
async def test_a_command_that_cannot_be_run_is_told_on_the_stream(site: Board, argv: tuple[str, ...]) -> None:
    stream = await site.runtime().exec(await lonely(site), command(*argv))
    out = await told(stream)
    assert set(out) == {Channel.ERROR}
    assert b'"InternalError"' in out[Channel.ERROR]
    assert b"error executing command in container: " in out[Channel.ERROR]
    await stream.close()


async def test_bulk_goes_in_and_out_unchanged(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    data = random.Random(7).randbytes(BULK_BYTES)
    stream = await runtime.exec(container_id, command(*CAT, stdin=True))
    feeding = asyncio.ensure_future(feed(stream, data))
    out = await told(stream)
    await feeding
    assert hashlib.sha256(out[Channel.STDOUT]).digest() == hashlib.sha256(data).digest()
    assert exit_code(out) == 0
    await stream.close()


async def test_a_reader_that_does_not_read_stops_the_command(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sh", "-c", "yes | head -c 5000000; echo end >&2"))
    await asyncio.sleep(1)
    got = [await stream.read() for _ in range(3)]
    assert all(piece is not None and piece.channel is Channel.STDOUT for piece in got)  # it has not come to its end
    out = await told(stream)
    assert sum(len(p.data) for p in got if p) + len(out[Channel.STDOUT]) == 5_000_000
    assert out[Channel.STDERR] == b"end\n"
    await stream.close()


async def test_a_command_that_reads_no_more_is_not_waited_for(site: Board) -> None:
    stream = await site.runtime().exec(await lonely(site), command("/bin/sh", "-c", "exec 0<&-; exit 5", stdin=True))
    await asyncio.wait_for(feed(stream, b"x" * 1_000_000), WAIT_S)
    assert exit_code(await told(stream)) == 5
    await stream.close()


async def test_a_terminal_has_the_size_that_it_was_given(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sh", stdin=True, tty=True))
    await stream.write(Piece(Channel.RESIZE, b'{"Width":132,"Height":43}'))
    await feed(stream, b"stty size; tty; echo $TERM\n", end=False)
    shown = await until_told(stream, b"xterm\r\n")
    assert b"43 132\r\n" in shown
    assert b"/dev/pts/" in shown
    for nonsense in (b"", b"[]", b'{"Width":-1,"Height":1}', b'{"Width":"x"}', b"\xff"):
        await stream.write(Piece(Channel.RESIZE, nonsense))
    await stream.write(Piece(Channel.RESIZE, b'{"Width":80,"Height":24}'))
    await feed(stream, b"stty size; exit 4\n", end=False)
    out = await told(stream)
    assert b"24 80\r\n" in out[Channel.STDOUT]
    assert Channel.STDERR not in out
    assert exit_code(out) == 4
    await stream.close()


TREE = "trap '' HUP; sleep 424242 & (sleep 424242 & sleep 424242) & sh -c 'sleep 424242; true' & sleep 424242; true"


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("argv", [("/bin/sleep", "424242"), ("/bin/sh", "-c", TREE)])
@pytest.mark.parametrize("code", [CloseCode.DONE, CloseCode.LOST])
async def test_a_stream_that_is_cut_leaves_no_process(
    site: Board, argv: tuple[str, ...], tty: bool, code: CloseCode
) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    other = await runtime.exec(container_id, command(*CAT, stdin=True))
    stream = await runtime.exec(container_id, command(*argv, stdin=True, tty=tty))
    await asyncio.to_thread(until, lambda: processes("424242"), "the command to run")
    await asyncio.sleep(0.3)
    await asyncio.wait_for(stream.close(code, "cut"), WAIT_S)
    await asyncio.to_thread(until, lambda: not processes("424242"), "nothing to be left")
    await feed(other, b"untouched")
    assert (await told(other))[Channel.STDOUT] == b"untouched"
    await other.close()
    (pod,) = (await runtime.look()).values()
    assert pod.containers[0].state is ContainerState.RUNNING


async def test_what_a_command_left_running_when_it_ended_stays(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sh", "-c", "sleep 434343 >/dev/null 2>&1 &"))
    assert exit_code(await told(stream)) == 0
    await stream.close()
    assert processes("434343")


async def test_a_container_that_ends_ends_its_commands(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sleep", "424242"))
    await site.kill(container_id)
    assert exit_code(await told(stream)) == 137
    await stream.close()


async def test_a_command_outlives_a_restart_of_containerd(site: Board) -> None:
    runtime, container_id = site.runtime(), await lonely(site)
    stream = await runtime.exec(container_id, command("/bin/sh", "-c", "read x; echo $x; exit 6", stdin=True))
    await site.away()
    await feed(stream, b"still here\n", end=False)
    assert await until_told(stream, b"\n") == b"still here\n"
    await site.back()
    assert exit_code(await told(stream)) == 6
    await stream.close()


STORY = """
import asyncio, sys
from pathlib import Path
from skerry.containerd.adapter import Containerd
from skerry.model.streams import Exec
from skerry.world.clock import SystemClock
socket, execs, container_id = sys.argv[1:]
async def story():
    places = {"log_dir": Path("/x"), "exec_dir": Path(execs)}
    runtime = Containerd(Path(socket), cgroup_parent="/x", clock=SystemClock(), **places)
    asked = Exec("default", "pod", "main", ("/bin/sh", "-c", "sleep 424242; true"), stdin=True)
    await runtime.exec(container_id, asked)
    print("up", flush=True)
    await asyncio.sleep(1000)
asyncio.run(story())
"""


async def test_the_commands_of_an_agent_that_died_are_ended_by_the_next(site: Board) -> None:
    container_id = await lonely(site)
    argv = [sys.executable, "-c", STORY, str(site.socket), str(site.execs), container_id]
    agent = await asyncio.to_thread(subprocess.Popen, argv, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert await asyncio.to_thread(agent.stdout.readline) == b"up\n"
    await asyncio.to_thread(until, lambda: processes("424242"), "the command to run")
    await site.runtime().look()
    await asyncio.sleep(1)
    assert processes("424242")  # its agent lives
    agent.send_signal(signal.SIGKILL)
    await asyncio.to_thread(agent.wait)
    await site.runtime().look()
    await asyncio.to_thread(until, lambda: not processes("424242"), "the next agent to end it")
    await asyncio.to_thread(until, lambda: not list(site.execs.glob("*/*")), "its pipes to go")
