"""Messages: every field is checked and named, keys of later versions survive, uids are fit for names of folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from golden.wirecheck import NotInContract, validate
from skerry.errors import Malformed
from skerry.limits import FULL_NAME_CHARS_MAX, NAME_CHARS_MAX, OBJECTS_MAX, REPORT_ITEMS_MAX, TEXT_CHARS_MAX
from skerry.model.desired import Kind, set_digest
from skerry.wire import frame, message
from skerry.wire.message import Ack, Hello, Inventory, Reject, Report, Welcome
from unit.wire.examples import MESSAGES, NONCE, UID

D16 = b"d" * 16
ROWS = [(n, key, field) for n, m in MESSAGES.items() for key, field, _ in message.TABLE[message.TYPE_OF[type(m)]][1]]
WRONG: tuple[Any, ...] = (1.5, {}, None, -1, [[]], 1 << 63)


def body_of(name: str) -> tuple[int, dict[int, Any]]:
    kind, body = frame.unpack(message.encode(MESSAGES[name]))
    return kind, body


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back_as_it_went_and_is_in_the_contract(name: str) -> None:
    assert message.decode(validate(message.encode(MESSAGES[name]))) == MESSAGES[name]


@pytest.mark.parametrize(("name", "key", "field"), ROWS)
def test_a_field_of_another_type_is_refused_by_name_and_by_the_contract(name: str, key: int, field: str) -> None:
    kind, body = body_of(name)
    for wrong in WRONG:
        bad = frame.pack(kind, body | {key: wrong})
        with pytest.raises(Malformed, match=rf"{type(MESSAGES[name]).__name__}\.{field}"):
            message.decode(bad)
        with pytest.raises(NotInContract):
            validate(bad)


@pytest.mark.parametrize(("name", "key", "field"), ROWS)
def test_a_missing_field_is_named_unless_it_may_be_absent(name: str, key: int, field: str) -> None:
    kind, body = body_of(name)
    cls = type(MESSAGES[name])
    body.pop(key, None)
    less = frame.pack(kind, body)
    if field in message.OPTIONAL.get(cls, {}):
        assert getattr(message.decode(validate(less)), field) == message.OPTIONAL[cls][field]
        return
    with pytest.raises(Malformed, match=rf"{cls.__name__}\.{field} is missing"):
        message.decode(less)
    with pytest.raises(NotInContract):
        validate(less)


def test_keys_of_a_later_version_are_kept_and_written_again() -> None:
    later = MESSAGES["welcome-later"]
    assert message.decode(message.encode(later)).extra == {99: "a key of a later version", 100: [1, {2: b"x"}]}


@pytest.mark.parametrize("body", [[], "text", {"text": 1}, {1: NONCE, "x": 2}])
def test_a_body_is_a_map_with_integer_keys(body: Any) -> None:
    with pytest.raises(Malformed, match=r"integer keys|missing"):
        message.decode(frame.pack(2, body))


def test_an_unknown_type_is_malformed() -> None:
    with pytest.raises(Malformed, match="unknown message type 10"):
        message.decode(frame.pack(10, {}))


def test_a_uuid_travels_as_16_bytes_and_only_in_its_usual_spelling() -> None:
    example = MESSAGES["hello"]
    assert isinstance(example, Hello)
    for uid, wire in ((UID, 16), (UID.upper(), 36), (UID.replace("-", ""), 32), ("static-1", 8), ("", 0)):
        hello = replace(example, boot_id=uid)
        assert len(frame.unpack(message.encode(hello))[1][4]) == wire
        assert message.decode(message.encode(hello)) == hello


@pytest.mark.parametrize("uid", ["", ".", "..", "a/b", "../etc", "a b", "ü", "a\0", "a\n", "u" * (NAME_CHARS_MAX + 1)])
def test_a_uid_that_is_no_name_of_a_folder_is_refused(uid: str) -> None:
    bad = message.encode(Inventory(NONCE, ((Kind.POD, uid, D16, "default/a"),)))
    with pytest.raises(Malformed, match=r"Inventory\.entries"):
        message.decode(bad)
    if uid not in (".", ".."):  # CDDL says these two in words
        with pytest.raises(NotInContract):
            validate(bad)


def test_the_longest_uid_has_a_set_digest() -> None:
    got = message.decode(message.encode(Inventory(NONCE, ((Kind.POD, "u" * NAME_CHARS_MAX, D16, ""),))))
    assert isinstance(got, Inventory)
    assert len(set_digest(((kind, uid), digest) for kind, uid, digest, _ in got.entries)) == 16


def test_lists_and_texts_end_at_their_bounds() -> None:
    entry = (Kind.POD, "u", D16, "n" * FULL_NAME_CHARS_MAX)
    item = MESSAGES["report"].items[0] if isinstance(MESSAGES["report"], Report) else None
    assert item is not None
    reject = MESSAGES["reject"]
    assert isinstance(reject, Reject)
    for most, more in (
        (Inventory(NONCE, (entry,) * OBJECTS_MAX), Inventory(NONCE, (entry,) * (OBJECTS_MAX + 1))),
        (Report(NONCE, D16, (item,) * REPORT_ITEMS_MAX, 0), Report(NONCE, D16, (item,) * (REPORT_ITEMS_MAX + 1), 0)),
        (replace(reject, detail="ü" * TEXT_CHARS_MAX), replace(reject, detail="x" * (TEXT_CHARS_MAX * 4 + 1))),
    ):
        assert message.decode(validate(message.encode(most))) == most
        with pytest.raises(Malformed):
            message.decode(message.encode(more))
        with pytest.raises(NotInContract):
            validate(message.encode(more))


@pytest.mark.parametrize("nonce", [b"x", b"x" * 7, b"x" * 9])
def test_a_nonce_is_8_bytes_and_only_a_reject_may_have_none(nonce: bytes) -> None:
    for bad in (Reject(nonce, message.RejectCode.BUSY), Ack(nonce), Welcome(b"", True, True, 1)):
        with pytest.raises(Malformed, match="nonce"):
            message.decode(message.encode(bad))
