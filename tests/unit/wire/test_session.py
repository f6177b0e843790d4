"""The device's end alone: what it answers in each state, and how long it waits. Both ends together: unit/cloudhub."""

from __future__ import annotations

from random import Random

import pytest

from skerry.limits import (
    ACK_TIMEOUT_S,
    CREDIT_FRAMES,
    FRAME_BYTES_MAX,
    HELLO_TIMEOUT_S,
    REPORT_ITEMS_MAX,
    SESSION_BACKOFF_S,
)
from skerry.model.report import OutboxItem, Phase, ReportKind
from skerry.wire import frame, message
from skerry.wire.codec import decode
from skerry.wire.message import Ack, Credit, Hello, Inventory, Message, Reject, RejectCode, Report, Welcome
from skerry.wire.session import Commit, DeviceSession, Effect, Identity, Note, Retell, Send, State, Trim
from unit.wire.pair import NODE, Board, desired, pod

N = b"n" * 8
WELCOME = Welcome(N, inventory=False, reports=False, credit=CREDIT_FRAMES)


def greeted(board: Board | None = None) -> tuple[DeviceSession, Board]:
    session, board = DeviceSession(Identity(NODE, "boot", "0.1.0")), board or Board(desired(pod("a")))
    session.opened(board, 0.0, 1.0, N)
    return session, board


def live(board: Board | None = None) -> tuple[DeviceSession, Board]:
    session, board = greeted(board)
    hear(session, board, WELCOME)
    assert session.state is State.LIVE
    return session, board


def hear(session: DeviceSession, board: Board, what: Message, now: float = 1.0, jitter: float = 0.5) -> list[Effect]:
    return session.received(message.encode(what), board, now, jitter)


def sent(effects: list[Effect]) -> list[Message]:
    return [e.message for e in effects if isinstance(e, Send)]


def test_hello_tells_what_the_journal_holds() -> None:
    board = Board(desired(pod("a"), version=9, generation=4))
    board.tell("a", Phase.RUNNING)
    session = DeviceSession(Identity(NODE, "boot", "0.1.0"))
    (hello,) = sent(session.opened(board, 0.0, 1.9, N))
    assert isinstance(hello, Hello)
    assert (hello.node, hello.nonce, hello.generation, hello.resource_version) == (NODE, N, 4, 9)
    assert (hello.digest, hello.outbox_first, hello.outbox_next, hello.wall_s) == (board.desired.digest, 1, 2, 1)
    assert session.deadline == HELLO_TIMEOUT_S


def test_a_welcome_is_answered_with_all_that_it_asks_and_retell_is_durable_first() -> None:
    session, board = greeted()
    effects = hear(session, board, Welcome(N, inventory=True, reports=True, credit=4))
    assert isinstance(effects[0], Retell)
    assert [type(m) for m in sent(effects)] == [Inventory]


def test_without_an_answer_it_says_hello_again_after_growing_pauses() -> None:
    session, board = greeted()
    now, waits = 0.0, []
    for _ in range(14):
        assert session.deadline is not None
        waits.append(session.deadline - now)
        now = session.deadline
        session.tick(board, now, 1.0, N, 0.5)
    pauses = waits[1::2]
    assert waits[0] == HELLO_TIMEOUT_S
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert pauses[-1] <= SESSION_BACKOFF_S[0] / 2 + SESSION_BACKOFF_S[1]


@pytest.mark.parametrize("jitter", [0.0, 0.999])
@pytest.mark.parametrize("retry_ms", [0, 1, 30_000, 1 << 62])
def test_no_reject_makes_it_hurry_or_wait_for_ever(retry_ms: int, jitter: float) -> None:
    session, board = live()
    hear(session, board, Reject(N, RejectCode.BUSY, retry_ms=retry_ms), jitter=jitter)
    assert session.state is State.PAUSED
    assert session.deadline is not None
    assert 0.5 <= session.deadline - 1.0 <= SESSION_BACKOFF_S[1]


def test_a_session_that_lasted_long_forgives_earlier_failures() -> None:
    session, board = greeted()
    for _ in range(20):
        assert session.deadline is not None
        session.tick(board, session.deadline, 1.0, N, 0.0)
    if session.state is State.PAUSED:
        assert session.deadline is not None
        session.tick(board, session.deadline, 1.0, N, 0.0)
    hear(session, board, WELCOME, now=1_000.0)
    hear(session, board, Reject(b"", RejectCode.NO_SESSION), now=1_000.0 + SESSION_BACKOFF_S[1], jitter=1.0)
    assert session.deadline == 1_000.0 + SESSION_BACKOFF_S[1] + 1.5


def test_frames_of_another_session_do_nothing() -> None:
    session, board = live()
    other = b"o" * 8
    busy = Reject(other, RejectCode.BUSY)
    for stale in (Ack(other, journal_id=b"j" * 16, seq=9), Credit(other, 0), busy):
        assert all(isinstance(e, Note) for e in hear(session, board, stale))
    assert session.state is State.LIVE


@pytest.mark.parametrize("answer", [Welcome(b"o" * 8, True, True, 1), Ack(b"o" * 8, 9, b"d" * 16)])
def test_an_answer_to_an_earlier_hello_makes_it_say_hello_again(answer: Message) -> None:
    session, board = live()
    assert all(isinstance(e, Note) for e in hear(session, board, answer))
    assert session.state is State.PAUSED
    assert session.deadline is not None


HELLO = Hello(NODE, N, b"j" * 16, "", "", "", 0, 0, b"d" * 16, 1, 1, 0, "")


@pytest.mark.parametrize("wrong", [HELLO, Inventory(N, ())])
def test_a_message_of_the_wrong_direction_is_only_noted(wrong: Message) -> None:
    session, board = live()
    assert all(isinstance(e, Note) for e in hear(session, board, wrong))
    assert session.state is State.LIVE


@pytest.mark.parametrize("bad", [b"", b"\x10", b"\x20\x82\x02\xa0", b"\x10\x82\x18\x63\xa0", b"\xff" * 40])
def test_a_bad_frame_is_rejected_with_its_reason_and_costs_a_pause(bad: bytes) -> None:
    session, board = live()
    effects = session.received(bad, board, 1.0, 0.5)
    (reject,) = sent(effects)
    assert isinstance(reject, Reject)
    assert (reject.code, reject.nonce) == (RejectCode.MALFORMED, N)
    assert reject.detail
    assert session.state is State.PAUSED


def test_bad_frames_during_the_pause_neither_prolong_it_nor_are_answered() -> None:
    session, board = live()
    session.received(b"", board, 1.0, 0.5)
    due = session.deadline
    assert [session.received(b"\xff" * 40, board, 1.0 + n / 100, 0.9) for n in range(50)] == [[]] * 50
    assert session.deadline == due


def test_reports_stop_at_the_credit_and_go_on_with_it() -> None:
    session, board = live()
    hear(session, board, Credit(N, 2))
    told = []
    for i in range(5):
        board.tell(f"p{i}", Phase.RUNNING)
        told += sent(session.flush(board, 1.0))
    assert [type(m) for m in told] == [Report, Report]
    assert session.deadline == 1.0 + ACK_TIMEOUT_S
    more = sent(hear(session, board, Ack(N, journal_id=board.journal_id, seq=2)))
    assert [m.after for m in more if isinstance(m, Report)] == [2]
    assert sent(hear(session, board, Ack(N, journal_id=board.journal_id, seq=5))) == []
    assert session.deadline is None


def test_a_repeated_answer_leaves_the_deadline_of_a_report_alone() -> None:
    session, board = live()
    board.tell("a", Phase.RUNNING)
    session.flush(board, 1.0)
    own = board.desired
    for answer in (WELCOME, Ack(N, own.generation, own.digest)):
        hear(session, board, answer, now=2.0)
        assert session.deadline == 1.0 + ACK_TIMEOUT_S


def test_reports_fit_a_frame_however_large_their_items_are() -> None:
    session, board = live()
    for seq in range(1, REPORT_ITEMS_MAX + 1):
        body = Random(seq).randbytes(40_000)
        board.items[seq] = OutboxItem(seq, ReportKind.POD_STATUS, f"p{seq}", body)
    board.outbox_next = REPORT_ITEMS_MAX + 1
    first = sent(session.flush(board, 1.0))
    assert len(first) == CREDIT_FRAMES
    assert all(len(message.encode(m)) <= FRAME_BYTES_MAX for m in first)


def test_no_credit_stops_reports_and_credit_starts_them_again() -> None:
    session, board = live()
    hear(session, board, Credit(N, 0))
    board.tell("a", Phase.RUNNING)
    assert session.flush(board, 1.0) == []
    assert [type(m) for m in sent(hear(session, board, Credit(N, 1 << 40)))] == [Report]


def test_an_ack_of_what_was_never_sent_or_of_another_journal_trims_nothing() -> None:
    session, board = live()
    board.tell("a", Phase.RUNNING)
    session.flush(board, 1.0)
    for bad in (Ack(N, journal_id=board.journal_id, seq=2), Ack(N, journal_id=b"x" * 16, seq=1)):
        assert not any(isinstance(e, Trim) for e in hear(session, board, bad))
    assert session.deadline is not None


def test_an_ack_of_reports_alone_does_not_open_a_session() -> None:
    """The hub may have stored reports of the session before; whether it needs an Inventory is not said yet."""
    session, board = greeted()
    board.tell("a", Phase.RUNNING)
    effects = hear(session, board, Ack(N, journal_id=board.journal_id, seq=1))
    assert Trim(1) in effects
    assert session.state is State.GREETING
    assert session.deadline is not None


def test_a_commit_that_ends_after_its_session_says_nothing() -> None:
    session, board = live()
    digest = desired(pod("a")).digest
    effects = hear(session, board, message.Delta(N, board.desired.store, board.desired.epoch, 6, 4, digest, digest))
    assert [type(e) for e in effects] == [Commit]
    session.lost()
    assert session.committed(board, 2.0) == []
    assert session.not_committed("full", 2.0, 0.5) == []
    assert (session.state, session.deadline) == (State.DOWN, None)


def test_when_nothing_is_due_a_tick_does_nothing() -> None:
    session, board = live()
    assert session.tick(board, 1e9, 1.0, N, 0.5) == []


def test_a_report_says_how_long_its_first_item_has_waited_where_that_is_worth_a_byte() -> None:
    session, board = live()
    board.tell("a", Phase.RUNNING)
    (first,) = sent(session.flush(board, 2.0))
    board.waited_s = 61
    board.tell("b", Phase.RUNNING)
    (second,) = sent(session.flush(board, 3.0))
    assert isinstance(first, Report)
    assert isinstance(second, Report)
    assert (first.waited_s, second.waited_s) == (0, 61)
    assert 5 not in decode(frame.inner(message.encode(first)))[1]
    assert decode(frame.inner(message.encode(second)))[1][5] == 61
