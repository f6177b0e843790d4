"""An event loop whose time is virtual and whose order is the seed's.

When nothing is ready, time jumps to the next timer. What is ready at the same moment runs in an order drawn from the
seed. Threads, sockets and child processes are refused. A `Process` is what lives and dies together: a killed one never
runs another step, not even a `finally`; a stopped one goes on later (SIGKILL, SIGSTOP).

Overrides private parts of asyncio.BaseEventLoop (`_run_once`, `_ready`, `_scheduled`); test_loop.py pins them per
Python version.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from asyncio import base_events
from collections import Counter
from collections.abc import Callable, Coroutine
from enum import Enum
from random import Random
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
STEPS_PER_S_MAX = 20_000  # steps within one simulated second, all processes together: above it something spins


class State(str, Enum):
    RUNNING = "running"
    STOPPED = "stopped"  # SIGSTOP: what it would run is kept
    DEAD = "dead"


class Process:
    """A group of tasks with all that they start."""

    def __init__(self, name: str) -> None:
        self.name, self.state = name, State.RUNNING
        self.steps = 0
        self.held: list[asyncio.Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64
        self.die_at: tuple[int, Callable[[], None]] | None = None  # at this step, call that instead
        self.timers: list[tuple[float, float, str]] | None = None  # (set at, for, what) while somebody listens

    def keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [t for t in self._tasks if not t.done()]
            self._prune_at = 2 * len(self._tasks) + 64


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Asleep(Exception):
    """Everybody waits and nothing will ever wake them."""


class Starved(Exception):
    """Too many steps within one simulated second."""


class Forbidden(Exception):
    """Threads, sockets and processes have no place in a simulation."""


class VirtualLoop(base_events.BaseEventLoop):
    """Give it a seed, then `run_until_complete`."""

    _timer_cancelled_count: int

    def __init__(self, seed: int | str, start: float = 1_000.0) -> None:
        super().__init__()
        self._now = start
        self._random = Random(f"loop/{seed}")
        self._second, self._steps = int(start), 0
        self._who: Counter[str] = Counter()
        self._abort: BaseException | None = None
        self.steps = 0
        self.shuffled = True
        self.over = False  # the life has ended: whatever Python still collects may schedule what it likes
        self._dead: list[Process] = []
        self._world = contextvars.Context()
        self._owners: WeakKeyDictionary[Any, Process | None] = WeakKeyDictionary()

    # --- what asyncio asks for ----------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def _write_to_self(self) -> None:
        raise Forbidden("call_soon_threadsafe: there are no threads here")

    def _process_events(self, event_list: Any) -> None:
        raise Forbidden("selectors")

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.timers is not None:
            process.timers.append((self._now, when, repr(callback)))
        return handle

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        """Its process keeps it: what a kill left must not be collected, because that would run its `finally`."""
        task = super().create_task(coro, **kwargs)
        process = PROCESS.get()
        if process is not None:
            process.keep(task)
        return task

    def _check_closed(self) -> None:
        if not self.over:
            super()._check_closed()  # type: ignore[misc]

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        self._owners[agen] = PROCESS.get()
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that nobody finished is closed by its own process, if that lives."""
        owner = self._owners.get(agen)
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]
        if self.over or (owner is not None and owner.state is State.DEAD):
            return
        context = contextvars.Context()
        context.run(PROCESS.set, owner)
        self.call_soon(lambda: self.create_task(agen.aclose()), context=context)

    def _run_once(self) -> None:
        """One round: what is ready now, in the seed's order."""
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready: Any = self._ready  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not timers:
                raise Asleep("nothing will ever wake: " + "; ".join(self.waiting()))
            self._advance(timers[0]._when)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        batch = list(ready)
        ready.clear()
        if len(batch) > 1 and self.shuffled:
            self._random.shuffle(batch)
        for handle in batch:
            if not handle._cancelled:
                self._run(handle)
        self._count(batch)

    def _run(self, handle: Any) -> None:
        process: Process | None = handle._context.get(PROCESS)
        if process is not None:
            if process.state is not State.RUNNING:
                if process.state is State.STOPPED:
                    process.held.append(handle)
                return
            process.steps += 1
            if process.die_at is not None and process.steps >= process.die_at[0]:
                die, process.die_at = process.die_at[1], None
                process.held.append(handle)
                die()
                if process.state is State.RUNNING:
                    process.held.remove(handle)
                    handle._run()
                return
        handle._run()
        if self._abort is not None:
            abort, self._abort = self._abort, None
            raise abort

    def _advance(self, when: float) -> None:
        self._now = max(self._now, when)
        if int(self._now) != self._second:
            self._second, self._steps = int(self._now), 0
            self._who.clear()

    def _count(self, batch: list[Any]) -> None:
        self.steps += len(batch)
        self._steps += len(batch)
        if self._steps > STEPS_PER_S_MAX // 2:
            self._who.update(_name(handle) for handle in batch)
        if self._steps > STEPS_PER_S_MAX:
            raise Starved(f"{self._steps} steps in second {self._second}: {self._who.most_common(5)}")

    # --- what the simulator asks for ----------------------------------------------------------------------------------

    def abort(self, why: BaseException) -> None:
        """End the run with this error as soon as the present step is done, whoever would catch it."""
        if self._abort is None:
            self._abort = why

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task, and whatever it starts, as part of a process."""
        context = contextvars.Context()
        context.run(PROCESS.set, process)
        return context.run(self.create_task, coro)

    def outside(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that belongs to the world, whoever asks for it."""
        return self._world.copy().run(self.create_task, coro)

    def at(self, when: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call something of the world at a time, whoever asks for it."""
        return super().call_at(when, callback, *args, context=self._world)

    def kill(self, process: Process) -> None:
        """From now on it does nothing any more."""
        process.state = State.DEAD
        self._dead.append(process)
        process.held.clear()

    def stop_process(self, process: Process) -> None:
        if process.state is State.RUNNING:
            process.state = State.STOPPED

    def go_on(self, process: Process) -> None:
        if process.state is State.STOPPED:
            process.state = State.RUNNING
            self._ready.extend(process.held)  # type: ignore[attr-defined]
            process.held.clear()

    def waiting(self) -> list[str]:
        """Who waits for what, for a person."""
        tasks = sorted(asyncio.all_tasks(self), key=lambda t: t.get_name())
        return [" > ".join(_awaiting(task.get_coro())) for task in tasks]

    # --- refused ------------------------------------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise Forbidden(f"run_in_executor: {func!r}")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        raise Forbidden(f"call_soon_threadsafe: {callback!r}")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> Any:  # type: ignore[override]
        raise Forbidden("signals")


def _refuse(name: str) -> Any:
    def refused(self: VirtualLoop, *args: Any, **kwargs: Any) -> Any:
        raise Forbidden(name)

    return refused


for _sockets in (
    "add_reader", "add_writer", "sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept",
    "create_connection", "create_server", "create_unix_connection", "create_unix_server", "create_datagram_endpoint",
    "subprocess_exec", "subprocess_shell", "connect_read_pipe", "connect_write_pipe", "getaddrinfo", "getnameinfo",
    "sendfile", "start_tls",
):  # fmt: skip
    setattr(VirtualLoop, _sockets, _refuse(_sockets))


def bury(loop: VirtualLoop) -> None:
    """End of a life: close whatever is left, so that nothing of it runs when Python collects it."""
    loop.over = True
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            task.get_coro().close()
    loop._ready.clear()  # type: ignore[attr-defined]
    loop._scheduled.clear()  # type: ignore[attr-defined]
    loop.close()


def _awaiting(coro: Any) -> list[str]:
    """The chain of coroutines that a task waits in, outermost first."""
    out: list[str] = []
    while coro is not None and len(out) < 10:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            out.append(f"{coro.__qualname__}:{frame.f_lineno}")
        coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
    return out


def _name(handle: Any) -> str:
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(getattr(owner.get_coro(), "__qualname__", owner))
    return str(getattr(callback, "__qualname__", callback))
