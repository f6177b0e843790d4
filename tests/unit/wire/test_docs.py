"""docs/wire-protocol.md and .cddl say what the code does: the table, the field names, the numbers.

`SKERRY_UPDATE_DOCS=1` rewrites the table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pycddl  # type: ignore[import-untyped, unused-ignore]
import pytest

from golden.wirecheck import CDDL, members, rules
from skerry import limits
from skerry.model.desired import Kind
from skerry.model.report import Life, Phase, ReportKind
from skerry.model.streams import Channel, CloseCode
from skerry.wire import cose, frame, guard, message, streams
from skerry.wire.message import RejectCode
from skerry.wire.report import ADDRESSES_MAX, CONTAINER, LOCAL_POD, TABLES

PAGE = Path(__file__).parents[3] / "docs" / "wire-protocol.md"
BEGIN, END = "<!-- messages -->\n", "<!-- /messages -->"
TEXT = PAGE.read_text()
MESSAGES = {**message.TABLE, **streams.TABLE}
OPTIONAL = {**message.OPTIONAL, **streams.OPTIONAL}
RULES = {"data": "stream-data"}  # the CDDL's own name where the class's is taken
CLASSES = {RULES.get(n, n): (k, c, rows) for k, (c, rows) in MESSAGES.items() for n in (c.__name__.lower(),)}
BODIES = {"pod-status": ReportKind.POD_STATUS, "event": ReportKind.EVENT, "node-facts": ReportKind.NODE}
BODIES |= {"local-pods": ReportKind.LOCAL_PODS}
PARTS = {"container": CONTAINER, "local-pod": LOCAL_POD}


def table() -> str:
    lines = ["| type | message | what it says | fields by key |", "|---|---|---|---|"]
    for kind, (cls, rows) in MESSAGES.items():
        optional = OPTIONAL.get(cls, {})
        fields = ", ".join(f"{key} {name}{'?' if name in optional else ''}" for key, name, _ in rows)
        says = " ".join((cls.__doc__ or "").split())
        lines.append(f"| {kind} | {cls.__name__} | {says} | {fields} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_messages_is_the_one_of_the_code() -> None:
    start, end = TEXT.index(BEGIN) + len(BEGIN), TEXT.index(END)
    if os.environ.get("SKERRY_UPDATE_DOCS"):
        PAGE.write_text(TEXT[:start] + table() + TEXT[end:])
        return
    assert TEXT[start:end] == table(), "run this test with SKERRY_UPDATE_DOCS=1"


def test_the_page_names_every_reject_code_with_its_number() -> None:
    listed = ", ".join(f"{code.value} {code.name}" for code in RejectCode)
    assert f"Reject codes: {listed}." in TEXT
    assert listed in CDDL.read_text()


def test_the_page_names_every_close_code_with_its_number() -> None:
    listed = ", ".join(f"{code.value} {code.name}" for code in CloseCode)
    assert f"Close codes: {listed}." in TEXT
    assert listed in CDDL.read_text()


def test_every_bound_on_the_page_is_the_one_in_the_code() -> None:
    rows = re.findall(r"([\d ]+)(?: bytes| objects| items| pods| characters)? \(([A-Z_]+)\)", TEXT)
    rows += re.findall(r"of these (\d+) pods \(([A-Z_]+)\)", TEXT)
    assert len(rows) >= 12
    for number, name in rows:
        assert int(number.replace(" ", "")) == getattr(limits, name), name


def test_the_cddl_is_a_schema() -> None:
    pycddl.Schema(CDDL.read_text())
    assert frame.VERSION == 1


@pytest.mark.parametrize("rule", CLASSES)
def test_the_cddl_has_every_field_of_a_message(rule: str) -> None:
    kind, cls, rows = CLASSES[rule]
    assert f"[{kind}, {rule}]" in rules()["frame"]
    assert named(rule) == {key: name for key, name, _ in rows}
    optional = OPTIONAL.get(cls, {})
    assert {k for k, (_, may) in members(rule).items() if may} == {key for key, name, _ in rows if name in optional}


@pytest.mark.parametrize("rule", [*BODIES, *PARTS])
def test_the_cddl_has_every_field_of_a_report(rule: str) -> None:
    rows = PARTS[rule].rows if rule in PARTS else TABLES[BODIES[rule]].rows
    assert named(rule) == {key: name for key, (name, _) in rows.items()}


def test_the_cddl_has_the_codes_bounds() -> None:
    said = rules()
    for rule, bound in (
        ("entries", limits.OBJECTS_MAX), ("puts", limits.OBJECTS_MAX), ("deletes", limits.OBJECTS_MAX),
        ("items", limits.REPORT_ITEMS_MAX), ("containers", limits.CONTAINERS_MAX), ("addresses", ADDRESSES_MAX),
        ("locals", limits.LOCAL_PODS_MAX),
    ):  # fmt: skip
        assert said[rule].startswith(f"[0*{bound} ")
    for rule, members_ in (("phase", Phase), ("life", Life)):
        assert said[rule] == f"0..{len(members_) - 1}"
    assert said["kind"] == f"1..{max(Kind)}"
    assert said["close-code"] == f"0..{max(CloseCode)}"
    assert said["channel"] == f"0..{max(Channel)}"
    assert said["stream-kind"] == f"1..{max(streams.StreamKind)}"
    assert said["open-list"].startswith(f"[0*{limits.STREAMS_TOLD_MAX} ")
    assert said["chunk"] == f"bstr .size (0..{limits.STREAM_CHUNK_TAKEN_BYTES_MAX})"
    assert said["command"] == f"[0*{limits.COMMAND_ARGS_MAX} argument]"
    assert said["argument"] == f"tstr .size (0..{limits.COMMAND_BYTES_MAX})"
    assert said["reject-code"] == f"1..{max(RejectCode)}"
    assert said["name"] == f"tstr .size (0..{limits.NAME_CHARS_MAX * 4})"
    assert said["detail"] == f"tstr .size (0..{limits.TEXT_CHARS_MAX * 4})"
    assert said["data"] == f"bstr .size (0..{limits.FRAME_BYTES_MAX})"
    assert said["nonce"] == f"bstr .size {limits.NONCE_BYTES}"
    assert said["digest"] == f"bstr .size {limits.DIGEST_WIRE_BYTES}"


def test_the_cddl_has_the_protected_forms_of_the_code() -> None:
    said = rules()
    greeting = {guard.FRAME, guard.EPHEMERAL, guard.SIGNER, guard.STATEMENT, guard.TRUST}
    keys = {"greeting": greeting, "word": {guard.FRAME, guard.DEVICE, guard.NUMBER}}
    keys |= {"answer": {guard.FRAME, guard.EPHEMERAL, guard.GREETING, guard.TRUST, guard.WALL}, "cipher": {cose.ALG}}
    keys |= {"signer": {cose.ALG, cose.KID, cose.X5CHAIN}, "counter": {cose.PARTIAL_IV}}
    assert {rule: set(members(rule)) for rule in keys} == keys
    assert (members("signer")[1][0], members("cipher")[1][0]) == (str(cose.EDDSA), str(cose.CHACHA20_POLY1305))
    for rule, size in (
        ("kid", limits.KEY_ID_BYTES), ("signature", limits.SIGNATURE_BYTES), ("hash", limits.DIGEST_BYTES),
        ("exchange-key", limits.EXCHANGE_KEY_BYTES), ("certificate", f"(1..{limits.CHAIN_BYTES_MAX})"),
        ("about-me", f"(1..{limits.STATEMENT_BYTES_MAX})"),
        ("frame-bytes", f"(0..{limits.FRAME_BYTES_MAX})"), ("ciphertext", f"(16..{limits.FRAME_BYTES_MAX + 16})"),
    ):  # fmt: skip
        assert said[rule] == f"bstr .size {size}"


def test_the_page_has_the_words_and_labels_of_the_code() -> None:
    for about in (guard.ABOUT_HELLO, guard.ABOUT_ANSWER, guard.ABOUT_WORD, guard.ABOUT_SET):
        assert f"`{about.decode()}`" in TEXT
    for label in (guard.UP, guard.DOWN, guard.stream_label(b"", guard.UP), guard.stream_label(b"", guard.DOWN)):
        assert f"`skerry {label}" in TEXT
    for head in (guard.SIGNED, guard.SEALED):
        assert f"`0x{head.hex()}`" in TEXT
        assert f"head byte 0x{head.hex()}" in CDDL.read_text()


def named(rule: str) -> dict[int, str]:
    """Key → the field's name in the comment beside it."""
    whole = re.search(rf"^{rule} = {{\n(.*?)^}}", CDDL.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert whole is not None
    return {int(key): name for key, name in re.findall(r"(\d+): [a-z0-9-]+, *; ([a-z_]+)", whole[1])}
