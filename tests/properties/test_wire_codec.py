"""Any bytes decode or raise Malformed or LimitExceeded, whatever goes out comes back, and the code, cbor2 and the CDDL
agree about what a frame is."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.wirecheck import NotInContract, validate
from properties.amount import examples
from skerry.errors import LimitExceeded, Malformed
from skerry.model.desired import Kind
from skerry.model.report import ContainerStatus, Event, Life, NodeFacts, OutboxItem, Phase, PodStatus, ReportKind
from skerry.wire import frame, message
from skerry.wire.codec import decode, encode
from skerry.wire.message import Ack, Credit, Delta, Hello, Inventory, Put, Reject, RejectCode, Report, Welcome
from skerry.wire.report import KIND_OF, Reported, decode_report, encode_report
from skerry.wire.wellformed import check
from unit.wire.examples import MESSAGES

QUICK = settings(max_examples=examples(300))

# --- values -----------------------------------------------------------------------------------------------------------

ints = st.integers(-(2**64), 2**64 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
floats = st.floats(allow_nan=False).filter(bool)  # -0.0 equals 0 and has other bytes
leaves = st.none() | st.booleans() | ints | floats | texts | st.binary(max_size=20)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=5) | st.dictionaries(ints | texts, v, max_size=5), max_leaves=25
)
# Bytes that begin like CBOR: heads of every kind, so that the search gets deep.
heads = st.sampled_from([bytes((n,)) for n in (*range(0x00, 0xC0, 7), 0x80, 0x81, 0xA1, 0x61, 0x41, 0xF4, 0xF6, 0xF9)])
rough = st.lists(heads | st.binary(max_size=3), max_size=12).map(b"".join) | st.binary(max_size=64)

nonces, digests = st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16)
uids = st.uuids().map(str) | st.from_regex(r"[a-z0-9][a-z0-9:_-]{0,20}", fullmatch=True)
names, counts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(0, 2**63 - 1)
ids = uids | st.just("")
kinds = st.sampled_from(Kind)
extras = st.dictionaries(st.integers(20, 99), leaves.filter(lambda v: not isinstance(v, float)), max_size=2)
puts = st.builds(Put, kinds, uids, digests, st.booleans(), st.binary(max_size=40))
items = st.builds(OutboxItem, counts, st.sampled_from(ReportKind), ids, st.binary(max_size=40))
maybe = st.none() | counts
hellos = st.builds(
    Hello, names, nonces, digests, ids, ids, ids, counts, counts, digests, counts, counts, counts, names, extras
)
messages: st.SearchStrategy[message.Message] = st.one_of(
    hellos,
    st.builds(Welcome, nonces, st.booleans(), st.booleans(), counts, extras),
    st.builds(Inventory, nonces, st.lists(st.tuples(kinds, uids, digests, names), max_size=5).map(tuple), extras),
    st.builds(
        Delta, nonces, ids, ids, counts, counts, digests, digests, st.lists(puts, max_size=4).map(tuple),
        st.lists(st.tuples(kinds, uids), max_size=4).map(tuple), st.booleans(), st.binary(max_size=90), extras,
    ),
    st.builds(Ack, nonces, maybe, st.none() | digests, st.none() | digests, maybe, maybe, extras),
    st.builds(Reject, nonces | st.just(b""), st.sampled_from(RejectCode), names, counts, extras),
    st.builds(Report, nonces, digests, st.lists(items, max_size=4).map(tuple), counts, counts, extras),
    st.builds(Credit, nonces, counts, extras),
)  # fmt: skip
int32s = st.integers(-(2**31), 2**31 - 1)
containers = st.builds(
    ContainerStatus, names, st.sampled_from(Life), names, names, names, counts, names, names, int32s, counts, counts,
    counts, names, names, int32s, names, counts, counts,
)  # fmt: skip
reports: st.SearchStrategy[Reported] = st.one_of(
    st.builds(
        PodStatus, ids, names, names, st.sampled_from(Phase), st.lists(containers, max_size=3).map(tuple), names, names,
        names, counts, st.booleans(),
    ),
    st.builds(Event, ids, names, names, names, names, st.booleans(), counts, names),
    st.builds(
        NodeFacts, counts, counts, counts, names, names, names, names, ids, names, names, names,
        st.lists(names, max_size=3).map(tuple), names,
    ),
)  # fmt: skip


# --- round trips ------------------------------------------------------------------------------------------------------


@QUICK
@given(values)
def test_a_value_comes_back_and_has_one_spelling(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data


@QUICK
@given(messages)
def test_a_message_comes_back_and_has_one_spelling(sent: message.Message) -> None:
    data = message.encode(sent)
    assert message.decode(data) == sent
    assert message.encode(message.decode(data)) == data


@QUICK
@given(reports)
def test_a_report_comes_back(value: Reported) -> None:
    assert decode_report(KIND_OF[type(value)], encode_report(value)) == value


@QUICK
@given(messages.filter(lambda m: not isinstance(m, Report)), reports)
def test_whatever_an_end_can_say_is_in_the_contract(sent: message.Message, value: Reported) -> None:
    validate(message.encode(sent))
    item = OutboxItem(1, KIND_OF[type(value)], "", encode_report(value))
    validate(message.encode(Report(b"n" * 8, b"j" * 16, (item,), 0)))


# --- any bytes --------------------------------------------------------------------------------------------------------


@QUICK
@given(rough)
def test_any_bytes_are_a_value_or_malformed_at_a_byte(data: bytes) -> None:
    try:
        decode(data)
    except Malformed as why:
        offset = why.offset
    else:
        return
    assert 0 <= offset <= len(data)


@QUICK
@given(rough)
def test_the_border_lets_through_what_cbor2_reads_and_nothing_else(data: bytes) -> None:
    """Accepted here: cbor2 reads it to the last byte. Refused here: cbor2 refuses it, or it is outside the subset."""
    try:
        check(data)
        accepted = True
    except Malformed:
        accepted = False
    theirs, whole = _theirs(data)
    if accepted:
        assert whole
        assert _in_subset(theirs)
    elif whole:
        assert not _in_subset(theirs) or _spelled_otherwise(data)


@QUICK
@given(rough, st.sampled_from([b"", b"\x10", b"\x11", b"\x10\x82\x04", b"\x10\x82\x01\xa1"]))
def test_any_bytes_are_a_message_or_an_error_of_ours(data: bytes, start: bytes) -> None:
    with suppress(Malformed, LimitExceeded):
        message.decode(start + data)


@QUICK
@given(rough, st.sampled_from(ReportKind))
def test_any_bytes_are_a_report_or_malformed(data: bytes, kind: ReportKind) -> None:
    with suppress(Malformed):
        decode_report(kind, data)


@QUICK
@given(messages, st.data())
def test_a_frame_cut_anywhere_or_followed_by_anything_is_malformed(sent: message.Message, data: st.DataObject) -> None:
    whole = message.encode(sent)
    cut = data.draw(st.integers(0, len(whole) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=8))
    for bad in (whole[:cut], whole + tail, whole + whole):
        try:
            message.decode(bad)
        except Malformed:
            continue
        raise AssertionError(f"read {bad.hex()}")


@QUICK
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_code_and_contract_agree_about_a_changed_message(name: str, data: st.DataObject) -> None:
    """One place of a real message is replaced: both ends of the argument read it, or neither does."""
    kind, body = frame.unpack(message.encode(MESSAGES[name]))
    changed = _replaced(body, data)
    packed = frame.pack(kind, changed)
    assert _read(packed) == _described(packed), changed


# --- private ----------------------------------------------------------------------------------------------------------


def _theirs(data: bytes) -> tuple[Any, bool]:
    """What cbor2 reads at the start of the bytes, and whether that is all of them."""
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream, str_errors="strict").decode()
    except Exception:
        return None, False
    return value, stream.tell() == len(data)


def _in_subset(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(k) in (int, str) and _in_subset(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_in_subset(v) for v in value)
    return value is None or type(value) in (bool, int, float, str, bytes)


def _spelled_otherwise(data: bytes) -> bool:
    """Indefinite lengths, tags that cbor2 turns into plain values, and keys that a later equal one hides."""
    return any(byte & 31 == 31 for byte in data) or any(byte >> 5 == 6 for byte in data) or _hidden_key(data)


def _hidden_key(data: bytes) -> bool:
    return any(byte >> 5 == 5 for byte in data)


def _replaced(value: Any, data: st.DataObject) -> Any:
    """A copy in which one place holds something else."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return value | {key: _replaced(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], _replaced(value[at], data), *value[at + 1 :]]
    printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9)
    short = printable.filter(lambda t: t not in (".", ".."))  # as uids, the contract refuses them only in words
    return data.draw(st.none() | st.booleans() | ints | short | st.binary(max_size=17) | st.just([]) | st.just({}))


def _read(packed: bytes) -> bool:
    """Whether the code takes it, bodies of reports included."""
    try:
        got = message.decode(packed)
        if isinstance(got, Report):
            for item in got.items:
                decode_report(item.kind, item.body)
    except Malformed:
        return False
    return True


def _described(packed: bytes) -> bool:
    try:
        validate(packed)
    except NotInContract:
        return False
    return True
