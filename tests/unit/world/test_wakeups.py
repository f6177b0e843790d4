"""The two directions between a loop and a thread: nothing is lost, order is kept, idle sleeps."""

from __future__ import annotations

import asyncio
import signal
import threading
from functools import partial

from skerry.world.wakeups import Callbacks, Inbox


def test_an_inbox_gives_everything_in_order() -> None:
    inbox: Inbox[int | None] = Inbox()
    got: list[int] = []

    def take() -> None:
        while (item := inbox.get()) is not None:
            got.append(item)

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(5_000):
        inbox.put(number)
    inbox.put(None)
    thread.join()
    assert (got, len(inbox)) == (list(range(5_000)), 0)
    inbox.close()


def test_an_inbox_that_nobody_took_from_says_how_many_wait() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put("a")
    inbox.put("b")
    assert (len(inbox), inbox.get(), inbox.get(), len(inbox)) == (2, "a", "b", 0)
    inbox.close()


def test_a_signal_does_not_end_the_wait() -> None:
    inbox: Inbox[str] = Inbox()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        for delay_s in (0.01, 0.02):
            threading.Timer(delay_s, signal.raise_signal, [signal.SIGUSR1]).start()
        threading.Timer(0.05, inbox.put, ["at last"]).start()
        assert inbox.get() == "at last"
    finally:
        signal.signal(signal.SIGUSR1, before)
    inbox.close()


async def test_callbacks_are_made_on_the_loop_in_order_and_several_for_one_ring() -> None:
    calls: list[tuple[int, int]] = []
    done = asyncio.Event()
    callbacks = Callbacks(asyncio.get_running_loop())

    def call(number: int) -> None:
        calls.append((number, threading.get_ident()))
        if number == 99:
            done.set()

    def ring() -> None:
        for number in range(100):
            callbacks.add(partial(call, number))
            if number % 7 == 0 or number == 99:
                callbacks.ring()

    await asyncio.to_thread(ring)
    await done.wait()
    assert calls == [(number, threading.get_ident()) for number in range(100)]
    callbacks.close()


async def test_closing_makes_the_calls_that_wait() -> None:
    calls: list[str] = []
    callbacks = Callbacks(asyncio.get_running_loop())
    callbacks.add(partial(calls.append, "late"))
    callbacks.close()
    assert calls == ["late"]


def test_of_a_closed_loop_nothing_is_called() -> None:
    calls: list[str] = []
    loop = asyncio.new_event_loop()
    callbacks = Callbacks(loop)
    loop.close()
    callbacks.add(partial(calls.append, "nobody waits"))
    callbacks.ring()
    callbacks.close()
    assert calls == []
