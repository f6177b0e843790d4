"""CRI's log lines to what a person sees, whatever pieces the file comes in."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.limits import LOG_LINE_BYTES_MAX
from skerry.model.streams import Logs
from skerry.world.log_lines import Lines, padded, tag, unix_ns

LOG = b"""2026-11-30T00:00:00.1Z stdout F one
2026-11-30T00:00:01.123456789Z stderr F two
2026-11-30T00:00:02Z stdout P thr
2026-11-30T00:00:02.5Z stdout F ee
2026-11-30T02:00:03.25+02:00 stdout F four
"""


def show(log: bytes, **asked: object) -> bytes:
    return Lines(Logs("default", "tide", **asked)).feed(log)  # type: ignore[arg-type]


def test_text_of_both_streams_in_order_with_partial_lines_joined() -> None:
    assert show(LOG) == b"one\ntwo\nthree\nfour\n"


def test_timestamps_have_nine_digits_and_stand_once_before_a_line() -> None:
    assert show(LOG, timestamps=True).splitlines() == [
        b"2026-11-30T00:00:00.100000000Z one",
        b"2026-11-30T00:00:01.123456789Z two",
        b"2026-11-30T00:00:02.000000000Z three",
        b"2026-11-30T02:00:03.250000000+02:00 four",
    ]


def test_since_looks_at_the_time_in_its_zone() -> None:
    at = unix_ns(b"2026-11-30T00:00:01Z")
    assert show(LOG, since_unix_ns=at) == b"two\nthree\nfour\n"
    assert show(LOG, since_unix_ns=unix_ns(b"2026-11-30T00:00:03.25Z")) == b"four\n"
    assert show(LOG, since_unix_ns=unix_ns(b"2026-11-30T00:00:03.250000001Z")) == b""


def test_limit_bytes_counts_what_is_shown() -> None:
    lines = Lines(Logs("default", "tide", limit_bytes=5))
    assert (lines.feed(LOG), lines.full) == (b"one\nt", True)
    assert lines.feed(LOG) == b""


@pytest.mark.parametrize(
    "bad",
    [
        b"\n", b"\0" * 300 + b"\n", b"no header at all\n", b"2026-11-30T00:00:00Z stdout\n",
        b"2026-11-30T00:00:00Z stdlog F text\n", b"2026-11-30T00:00:00Z stdout X text\n", b"\xff\xfe F\n",
        b"yesterday stdout F text\n", b"2026-11-30T00:00:00Z stdout F\n",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_left_out_and_the_next_one_is_shown(bad: bytes) -> None:
    assert show(bad + LOG) == show(LOG) == show(LOG + bad)


def test_a_time_that_cannot_be_is_older_than_any() -> None:
    assert show(b"9999-99-99T99:99:99Z stdout F text\n", since_unix_ns=1) == b""


def test_a_torn_end_is_not_shown_and_does_not_spoil_the_next_file() -> None:
    lines = Lines(Logs("default", "tide"))
    assert lines.feed(LOG + b"2026-11-30T00:00:04Z stdo") == b"one\ntwo\nthree\nfour\n"
    lines.torn()
    assert lines.feed(b"2026-11-30T00:00:05Z stdout F five\n") == b"five\n"


@pytest.mark.parametrize("kind", [b"F", b"P"])
def test_a_line_of_any_length_passes_and_is_not_kept(kind: bytes) -> None:
    text = random.Random(1).randbytes(3 * LOG_LINE_BYTES_MAX).replace(b"\n", b".")
    log = b"2026-11-30T00:00:00Z stdout " + kind + b" " + text + b"\n2026-11-30T00:00:01Z stdout F end\n"
    lines, out = Lines(Logs("default", "tide", timestamps=True)), b""
    for at in range(0, len(log), 1000):
        out += lines.feed(log[at : at + 1000])
        assert len(lines._rest) <= LOG_LINE_BYTES_MAX + 1000
    end = b"\n2026-11-30T00:00:01.000000000Z end\n" if kind == b"F" else b"end\n"
    assert out == b"2026-11-30T00:00:00.000000000Z " + text + end


def test_rubbish_of_any_length_is_dropped() -> None:
    lines = Lines(Logs("default", "tide"))
    for _ in range(10):
        assert lines.feed(b"x" * LOG_LINE_BYTES_MAX) == b""
    assert lines.feed(b"x\n" + LOG) == show(LOG)


@given(st.lists(st.integers(0, len(LOG)), max_size=8))
def test_any_split_of_the_file_shows_the_same(cuts: list[int]) -> None:
    lines, edges = Lines(Logs("default", "tide", timestamps=True)), [0, *sorted(cuts), len(LOG)]
    pieces = [lines.feed(LOG[a:b]) for a, b in pairwise(edges)]
    assert b"".join(pieces) == show(LOG, timestamps=True)


@given(st.binary(max_size=400))
def test_no_bytes_break_it(data: bytes) -> None:
    show(data + b"\n" + data, timestamps=True, since_unix_ns=5)
    tag(data)
    assert unix_ns(data) >= 0 or b"T" in data
    padded(data)
