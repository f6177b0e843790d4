"""`skerry logs|exec|restart`: the runtime's own adapter, driven by a person's terminal instead of a hub.

Which container is meant is decided by the functions that also serve kubectl (plan.streams), so the words are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from skerry.config import Config
from skerry.containerd.adapter import Containerd
from skerry.errors import ConfigInvalid, SkerryError, StreamBroken
from skerry.inspect_journal import Known, known
from skerry.limits import GRACE_S_MAX
from skerry.model.desired import Object
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.observed import ContainerState, PodSeen
from skerry.model.pod import Pod, RestartPolicy
from skerry.model.streams import Channel, CloseCode, Exec, Logs
from skerry.plan.streams import log_source, process_target
from skerry.ports import Duplex
from skerry.wire.codec import decode

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


async def logs(config: Config, args: argparse.Namespace) -> int:
    """Copy a container's log to standard output."""
    since = None if args.since is None else time.time_ns() - int(seconds_in(args.since) * 1e9)
    journal, pod = _pod(config, args.pod)
    request = Logs(
        pod.namespace, pod.name, args.container, follow=args.follow, previous=args.previous,
        timestamps=args.timestamps, tail_lines=args.tail, since_unix_ns=since,
    )  # fmt: skip
    async with _runtime(config) as runtime:
        seen = await _seen(runtime, pod)
        source = await runtime.logs(log_source(pod, seen, journal.statuses.get(pod.uid), request), request)
        with _ended_by(signal.SIGTERM, signal.SIGHUP):
            try:
                while (piece := await source.read()) is not None:
                    sys.stdout.buffer.write(piece.data)
                    sys.stdout.buffer.flush()
            finally:
                await source.close(CloseCode.CANCELLED)
    return 0


async def execute(config: Config, args: argparse.Namespace) -> int:
    """A command in a running container; its exit code."""
    from skerry.by_hand.terminal import Terminal

    terminal = Terminal(args.stdin, args.tty)
    _, pod = _pod(config, args.pod)
    request = Exec(
        pod.namespace, pod.name, args.container, tuple(args.argv), args.stdin, True, not terminal.tty, terminal.tty
    )
    async with _runtime(config) as runtime:
        process = await runtime.exec(process_target(pod, await _seen(runtime, pod), request), request)
        with _ended_by(signal.SIGTERM, signal.SIGHUP):
            try:
                with terminal.joined(process):
                    return await _until_exit(process)
            finally:
                await process.close(CloseCode.CANCELLED)


async def restart(config: Config, args: argparse.Namespace) -> int:
    """Stop the containers of a pod; that the agent starts them again is its ordinary business."""
    _, pod = _pod(config, args.pod)
    if pod.restart_policy is not RestartPolicy.ALWAYS:
        never = pod.restart_policy is RestartPolicy.NEVER
        why = "nothing would start it again" if never else "an end may count as its success"
        raise SkerryError(f"pod {pod.full_name} has restartPolicy {pod.restart_policy.value}: {why}")
    async with _runtime(config) as runtime:
        seen = await _seen(runtime, pod)
        running = [c for c in (seen.containers if seen else ()) if c.state is ContainerState.RUNNING]
        if not running:
            raise SkerryError(f"nothing of pod {pod.full_name} runs")
        grace = min(pod.grace_s, GRACE_S_MAX)
        await asyncio.gather(*(runtime.stop_container(c.id, grace) for c in running))
    names = ", ".join(c.name for c in running)
    print(f"{pod.full_name}: stopped {names}; {_who_starts(config)}")  # noqa: T201
    return 0


def seconds_in(text: str) -> float:
    """A duration as Go and kubectl write it: 30s, 5m, 1h30m. Raises ConfigInvalid."""
    if not text or _DURATION.sub("", text):
        raise ConfigInvalid("--since", f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    return sum(float(number) * UNITS_S[unit] for number, unit in _DURATION.findall(text))


def find(journal: Known, node: str, word: str) -> Object:
    """The pod that a person means by NAME, NAMESPACE/NAME or uid; of a manifest here also by the name in it, to which
    the node's was added. Raises SkerryError."""
    pods = {"/".join(journal.names_of(obj)): obj for obj in reversed(list(journal.pods()))}
    found = {
        full: obj
        for full, obj in pods.items()
        if word in (obj.uid, full, full.partition("/")[2])
        or (journal.file_of(obj.uid) and f"{word}-{node}" in (full, full.partition("/")[2]))
    }
    if not found:
        raise SkerryError(f"there is no pod {word!r} on this device; skerry get lists them")
    if len(found) > 1:
        raise SkerryError(f"{word!r} may be any of {', '.join(sorted(found))}")
    return next(iter(found.values()))


# --- private ----------------------------------------------------------------------------------------------------------


def _pod(config: Config, word: str) -> tuple[Known, Pod]:
    journal = known(config)
    obj = find(journal, config.node, word)
    pod = read_pod(obj, decode(obj.body), secret_env=True)  # whether it may run is not the question here
    if isinstance(pod, RefusedPod):
        raise SkerryError(f"pod {pod.namespace}/{pod.name} is refused by this device: {pod.refused}")
    return journal, pod


@contextlib.asynccontextmanager
async def _runtime(config: Config) -> AsyncIterator[Containerd]:
    """Raises SkerryError for who may not use it."""
    from skerry.world.clock import SystemClock
    from skerry.world.logs import open_log

    async def opened(path: Path, request: Logs, runs: Callable[[], Awaitable[bool]]) -> Duplex:
        return await open_log(path, request, runs)

    if os.geteuid() != 0:
        raise SkerryError("this needs root: it speaks with the container runtime")
    runtime = Containerd(
        config.containerd_socket,
        cgroup_parent=config.cgroup_parent,
        log_dir=config.log_dir,
        clock=SystemClock(),
        exec_dir=config.run_dir / "exec",
        open_log=opened,
    )
    try:
        yield runtime
    finally:
        await runtime.close()


async def _seen(runtime: Containerd, pod: Pod) -> PodSeen | None:
    return (await runtime.look(pod.uid)).get(pod.uid)


async def _until_exit(process: Duplex) -> int:
    code = 1
    while (piece := await process.read()) is not None:
        if piece.channel is Channel.ERROR and piece.data:
            code = exit_code(piece.data)
        elif piece.channel in (Channel.STDOUT, Channel.STDERR):
            out = sys.stdout.buffer if piece.channel is Channel.STDOUT else sys.stderr.buffer
            out.write(piece.data)
            out.flush()
    return code


def exit_code(status: bytes) -> int:
    """The command's exit code in the metav1.Status that ends an exec. Raises StreamBroken with what went wrong else."""
    said = json.loads(status)
    if said.get("status") == "Success":
        return 0
    for cause in (said.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise StreamBroken(CloseCode.FAILED, str(said.get("message") or "the command did not run"))


@contextlib.contextmanager
def _ended_by(*signals: signal.Signals) -> Iterator[None]:
    """A hang-up of the terminal's line ends what was begun, too."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _who_starts(config: Config) -> str:
    runs = agent_runs(config)
    return "the agent starts them again" if runs else "the agent does not run: it starts them when it does"


def agent_runs(config: Config) -> bool:
    """Whether a process has the journal open for writing (flock(2) on its file `lock`)."""
    import fcntl

    from skerry.boot import journal_folder

    try:
        fd = os.open(journal_folder(config) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
