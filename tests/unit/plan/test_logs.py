"""When a log is rotated: a table, and that any state of the files leads to a bounded one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.limits import CONTAINER_LOG_FILES_MAX, LOG_CHECK_S, LOG_RENAMED_PARTS_MAX
from skerry.model.logs import Delete, LogStep, Rename, Reopen, file_name
from skerry.plan.logs import next_check, rotation

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


@pytest.mark.parametrize(
    ("before", "now", "seconds", "pause"),
    [
        ({}, {}, 10, 20),
        ({}, {}, 200, LOG_CHECK_S[1]),  # idle is idle
        ({"a": 50}, {"a": 50}, 40, 80),
        ({"a": 0}, {"a": 20}, 40, 80),  # full in 160 s, looked at in the middle
        ({"a": 0}, {"a": 60}, 100, 100 / 3),
        ({"a": 0, "b": 0}, {"a": 60, "b": 1}, 100, 100 / 3),
        ({"a": 0}, {"a": 99}, 10, LOG_CHECK_S[0]),
        ({"a": 0}, {"a": 1_000}, 10, LOG_CHECK_S[0]),
        ({"a": 90}, {"a": 0}, 50, 100),  # it was rotated
    ],
)
def test_the_next_look(before: dict[str, int], now: dict[str, int], seconds: float, pause: float) -> None:
    assert next_check(before, now, seconds, FULL) == pytest.approx(pause)


def test_names() -> None:
    assert [file_name("/logs/0.log", n) for n in range(3)] == ["/logs/0.log", "/logs/0.log.1", "/logs/0.log.2"]
