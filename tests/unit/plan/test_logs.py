"""When a log is rotated and looked at: tables, and that any state of the files and any rate keeps it bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.limits import (
    CONTAINER_LOG_FILES_MAX,
    KIB,
    LOG_CHECK_S,
    LOG_EXCESS_BYTES,
    LOG_GROWTH_CHECK_S,
    LOG_RATE_BYTES_S,
    LOG_RENAMED_PARTS_MAX,
    LOG_RETRY_S,
    MIB,
)
from skerry.model.logs import Delete, LogStep, Look, Rename, Reopen, file_name
from skerry.plan.logs import due, first_look, next_look, put_off, rotation, wake_at, written

FULL = 100


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        ({}, ()),  # created and not started
        ({0: 99}, ()),
        ({0: 99, 1: 200, 2: 200}, ()),
        ({0: 99, 1: 201, 2: 200}, (Delete(2),)),  # they grew while the agent was away
        ({0: 401}, (Rename(0, 1), Reopen(), Delete(1))),
        ({0: 100}, (Rename(0, 1), Reopen())),
        ({0: 100, 1: 100}, (Rename(1, 2), Rename(0, 1), Reopen())),
        ({0: 100, 1: 100, 2: 100}, (Rename(1, 2), Rename(0, 1), Reopen())),
        ({0: 100, 2: 100}, (Rename(0, 1), Reopen())),  # a crash between the two
        ({1: 100}, (Reopen(),)),  # a crash before it, or it failed
        ({0: 1, 3: 7}, (Delete(3),)),  # an earlier release kept more
    ],
)
def test_steps(files: dict[int, int], steps: tuple[LogStep, ...]) -> None:
    assert rotation(files, FULL) == steps


@given(st.dictionaries(st.integers(0, 6), st.integers(0, 1_000)), st.integers(0, 5))
def test_from_any_state_and_any_crash_it_comes_to_rest_within_its_bound(files: dict[int, int], crash: int) -> None:
    newest = files.get(0)
    for done in (crash, 99, 99):
        for step in rotation(files, FULL)[:done]:
            match step:
                case Rename(number=number, to=to):
                    files[to] = files.pop(number)
                case Delete(number=number):
                    del files[number]
                case Reopen():
                    files[0] = 0
    assert rotation(files, FULL) == ()
    assert files == {} or (files[0] < FULL and set(files) <= set(range(CONTAINER_LOG_FILES_MAX)))
    assert sum(size for number, size in files.items() if number) <= LOG_RENAMED_PARTS_MAX * FULL
    small = newest is not None and newest <= LOG_RENAMED_PARTS_MAX * FULL
    assert not small or newest in files.values()  # what was written last goes only where it is too much by itself


MAX = 4 * MIB
UNSEEN_S = LOG_EXCESS_BYTES / LOG_RATE_BYTES_S  # of a log without room


def seen(at: float, size: int | None, pause: float = 0.0) -> Look:
    return Look(at, size, at + pause / 2, at + pause)


@pytest.mark.parametrize(
    ("before", "size", "seconds", "pause"),
    [
        (None, 0, 2, UNSEEN_S + MAX / LOG_RATE_BYTES_S),  # the first look
        (None, MAX - 1, 2, UNSEEN_S),
        (0, 0, 2, LOG_CHECK_S),  # idle is idle
        (MAX - 1, MAX - 1, 2, LOG_CHECK_S),
        (0, 100, 2, UNSEEN_S + MAX / LOG_RATE_BYTES_S),  # a line is no reason to look sooner
        (0, MIB, 1, 1.5),  # full in 3 s, looked at in the middle
        (MIB, 3 * MIB, 0.5, 0.125),  # sooner than it is ever looked at
        (0, 3 * MIB, 300, UNSEEN_S + MIB / LOG_RATE_BYTES_S),  # it may have been written within the last moment
    ],
)
def test_the_next_look(before: int | None, size: int, seconds: float, pause: float) -> None:
    look = next_look(seen(1_000, before), 1_000 + seconds, size, size, MAX)
    assert (look.at, look.size, look.quiet) == (1_000 + seconds, size, pause == LOG_CHECK_S)
    assert look.latest - look.at == pytest.approx(max(pause, LOG_GROWTH_CHECK_S), rel=0.01)


def test_after_a_rotation_the_rate_is_still_known() -> None:
    look = next_look(seen(1_000, MIB), 1_001, 5 * MIB, 0, MAX)
    assert (look.size, look.quiet, look.latest) == (0, False, 1_001.5)


def test_a_quiet_log_that_is_written_is_looked_at_before_it_can_be_too_large() -> None:
    quiet = next_look(seen(1_000, MIB), 1_002, MIB, MIB, MAX)
    assert quiet.quiet
    look = written(quiet, 1_100, MAX)
    assert (look.latest, look.quiet) == (1_100 + UNSEEN_S + 3 * MIB / LOG_RATE_BYTES_S, False)
    late = quiet.latest - 0.5
    assert written(quiet, late, MAX).latest == quiet.latest


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(64 * KIB, 64 * MIB), st.integers(0, 64 * MIB))
def test_whatever_it_writes_it_is_never_far_beyond_its_bound(rates: list[float], bytes_max: int, size: int) -> None:
    """`rates`: of LOG_RATE_BYTES_S, each from one look to the next. A quiet one is woken by its first byte."""
    look, now, largest = next_look(first_look(0.0), 0.0, size, min(size, bytes_max), bytes_max), 0.0, 0
    assert look.size is not None
    for rate in rates:
        if look.quiet and rate:
            now += LOG_CHECK_S / 3
            look = written(look, now, bytes_max)
        assert look.size is not None
        grown = look.size + int(rate * LOG_RATE_BYTES_S * (look.latest - now))
        largest = max(largest, grown)
        now = look.latest
        look = next_look(look, now, grown, 0 if grown >= bytes_max else grown, bytes_max)
    assert largest <= bytes_max + LOG_EXCESS_BYTES


def test_several_are_looked_at_together() -> None:
    looks = {"a": seen(0, 0, 4.0), "b": seen(1, 0, 4.0), "c": seen(3.5, 0, 4.0), "quiet": seen(0, 0, LOG_CHECK_S)}
    assert due(looks, 3.9) == []
    assert due(looks, wake_at(looks)) == ["a", "b"]
    assert due({}, 1e9) == []


def test_what_failed_is_tried_again_within_its_time() -> None:
    assert [put_off(seen(0, 7), 10, u).latest - 10 for u in (0.0, 0.5)] == [LOG_RETRY_S[0], sum(LOG_RETRY_S) / 2]


def test_names() -> None:
    assert [file_name("/logs/0.log", n) for n in range(3)] == ["/logs/0.log", "/logs/0.log.1", "/logs/0.log.2"]
