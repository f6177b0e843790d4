"""Enrolment against a hub of the test's own: what works, what each wrong hub comes to, and what is left on the disk."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from contract.certificates import authority, digest, pem
from contract.enrolling import NODE, Hub, dripping, endless, mumbling, problem, secrets_of, serving, silent
from skerry import identity
from skerry.errors import EnrolmentFailed, EnrolmentRefused, SkerryError
from skerry.identity import IDENTITY, PENDING, TOKEN, Enrolled
from skerry.wire import token as tokens
from skerry.world import enrolment
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolment import child, enrol
from skerry_hub import pki

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
STEPS: list[tuple[Any, str]] = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]  # what writes, by who does it
pytestmark = openssl


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(folder: Path, hub: Hub, **more: str | bool) -> Enrolled:
    return enrol(folder, hub.token, KeysInFiles(), **more)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_token_becomes_an_identity(hub: Hub, folder: Path) -> None:
    enrolled = run(folder, hub)
    assert enrolled == identity.read(folder)
    assert (enrolled.issued.node, enrolled.issued.broker, enrolled.token) == (NODE, hub.broker, "abcdef")
    assert files(folder) == [IDENTITY]
    assert stat.S_IMODE((folder / IDENTITY).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(hub.asked) == 1


def test_a_name_is_verified_as_well_as_an_address(hub: Hub, folder: Path) -> None:
    token = replace(hub.token, url=hub.token.url.replace("127.0.0.1", "localhost"))
    assert enrol(folder, token, KeysInFiles()).issued.node == NODE


# --- wrong hubs -------------------------------------------------------------------------------------------------------


def fails(folder: Path, hub: Hub, kind: type[SkerryError], why: str, **more: str | bool) -> str:
    """Nothing of an identity is left, and nothing secret is said."""
    with pytest.raises(kind) as told:
        run(folder, hub, **more)
    said = str(told.value)
    assert why in said, said
    assert "\n" not in said
    assert not any(secret in said for secret in secrets_of(hub))
    assert "PRIVATE" not in said
    assert IDENTITY not in files(folder)
    return said


def test_another_authority_is_noticed_before_anything_is_told(hub: Hub, folder: Path) -> None:
    hub.ca_shown = pem(authority())
    said = fails(folder, hub, EnrolmentRefused, "has another authority than the token's")
    assert "skerry-hub token create" in said
    assert (hub.asked, files(folder)) == ([], [])


def test_a_hub_that_shows_the_right_authority_and_is_not_of_it_is_told_nothing(tmp_path: Path, folder: Path) -> None:
    with serving(tmp_path / "good") as good, serving(tmp_path / "bad") as bad:
        bad.ca_shown = good.ca_shown
        token = replace(good.token, url=bad.token.url)
        with pytest.raises(EnrolmentRefused, match="it is not the hub that made the token"):
            enrol(folder, token, KeysInFiles())
        assert bad.asked == []


def test_a_hub_of_another_name_is_refused(tmp_path: Path, folder: Path) -> None:
    with serving(tmp_path / "hub", names=("hub.example", "10.0.0.1")) as hub:
        fails(folder, hub, EnrolmentRefused, "its certificate lacks this name")
        assert hub.asked == []


@pytest.mark.parametrize("shown", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA", "-----BEGIN CERTIFICATE-----"])
def test_what_is_no_certificate_is_no_authority(hub: Hub, folder: Path, shown: str) -> None:
    hub.ca_shown = shown
    fails(folder, hub, EnrolmentRefused, "has another authority")


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (403, "TokenUsed", EnrolmentRefused),
        (410, "TokenExpired", EnrolmentRefused),
        (404, "TokenUnknown", EnrolmentRefused),
        (500, "InternalError", EnrolmentFailed),
        (503, "ApiAway", EnrolmentFailed),
        (429, "TooManyRequests", EnrolmentFailed),
    ],
)
def test_a_hub_that_says_why_not_is_quoted(
    hub: Hub, folder: Path, status: int, reason: str, kind: type[SkerryError]
) -> None:
    hub.answer = problem(status, reason, "ask for\na new\x1b[31m one")
    said = fails(folder, hub, kind, f"ask for a new [31m one ({reason})")
    assert said.isprintable()
    assert files(folder) == [PENDING]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, b"garbage"), "its answer cannot be read"),
        ((200, b"{}"), "its answer cannot be read: node"),
        ((502, b"<html>"), "answers 502, and not as a hub does"),
        ((403, b"<html>"), "answers 403, and not as a hub does"),
        ((302, b""), "answers 302"),
    ],
)
def test_what_answers_and_is_no_hub_is_asked_again(
    hub: Hub, folder: Path, answer: tuple[int, bytes], why: str
) -> None:
    hub.answer = lambda hub, request: answer
    fails(folder, hub, EnrolmentFailed, why)


def test_an_endless_body_ends_at_the_bound(hub: Hub, folder: Path) -> None:
    hub.script = endless
    fails(folder, hub, EnrolmentFailed, "is larger than 65536 bytes")


@pytest.mark.parametrize("script", [silent, dripping])
def test_a_hub_that_never_finishes_is_left(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, script: object
) -> None:
    monkeypatch.setattr(enrolment, "ENROL_TIMEOUT_S", 0.5)
    hub.script = script  # type: ignore[assignment]
    fails(folder, hub, EnrolmentFailed, "no answer within 0.5 s")


def test_what_speaks_no_http_is_told(hub: Hub, folder: Path) -> None:
    hub.script = mumbling
    fails(folder, hub, EnrolmentFailed, "its answer is not HTTP")
    hub.script = lambda tls: None
    fails(folder, hub, EnrolmentFailed, "127.0.0.1")


def test_tls_1_2_is_refused(hub: Hub, folder: Path) -> None:
    hub.context.maximum_version = ssl.TLSVersion.TLSv1_2
    fails(folder, hub, EnrolmentFailed, "no TLS 1.3 with it")


def test_a_hub_that_is_away_is_told(hub: Hub, folder: Path) -> None:
    hub.close()
    fails(folder, hub, EnrolmentFailed, "Connection refused")


# --- wrong answers of the right hub -----------------------------------------------------------------------------------


def test_certificates_for_another_name_are_refused(hub: Hub, folder: Path) -> None:
    hub.streams = "edge-2.streams"
    fails(folder, hub, EnrolmentRefused, "certificates for another than edge-1")
    hub.node, hub.streams = "edge-2", "edge-2.streams"
    fails(folder, hub, EnrolmentRefused, "certificates for another than edge-1")


def test_certificates_for_another_key_are_refused(hub: Hub, folder: Path) -> None:
    other = KeysInFiles().new().csr(NODE)
    hub.answer = lambda hub, request: (200, enrolment_of(hub, other))
    fails(folder, hub, SkerryError, "do not go together")


def enrolment_of(hub: Hub, csr: str) -> bytes:
    from skerry.wire.enrolment import Request, encode_issued

    return encode_issued(hub.issued(Request("abcdef", b"", csr, bytes(32), bytes(32))))


def test_certificates_of_another_authority_are_refused(hub: Hub, folder: Path) -> None:
    hub.answer = hub.changed(ca=pem(authority()))
    fails(folder, hub, EnrolmentRefused, "another authority than the token's")
    right, hub.authority = hub.token, authority()  # signs with another one than it shows
    hub.answer = hub.changed(ca=hub.ca_shown)
    with pytest.raises(EnrolmentRefused, match="no broker would take"):
        enrol(folder, right, KeysInFiles())


@pytest.mark.parametrize("days", [-400, 400])
def test_certificates_that_are_not_valid_by_this_boards_clock_are_taken(hub: Hub, folder: Path, days: int) -> None:
    """A board that starts in the past holds all of them for ones of the future; the broker's clock is what counts."""
    hub.begins = pki.utc_now() + timedelta(days=days)
    assert run(folder, hub).issued.node == NODE


def test_a_certificate_that_is_a_servers_is_refused(hub: Hub, folder: Path) -> None:
    hub.role = ExtendedKeyUsageOID.SERVER_AUTH
    fails(folder, hub, EnrolmentRefused, "no broker would take: unsuitable certificate purpose")


def test_a_broker_that_is_none_is_refused(hub: Hub, folder: Path) -> None:
    hub.broker = "http://127.0.0.1"
    fails(folder, hub, EnrolmentRefused, "cannot be read: must be mqtt")


# --- who may --------------------------------------------------------------------------------------------------------


def test_a_token_for_another_node_than_the_configuration_says_asks_nobody(hub: Hub, folder: Path) -> None:
    why = "the token is for edge-1, and this device's configuration says other"
    said = fails(folder, hub, EnrolmentRefused, why, node="other")
    assert "token for other" in said
    assert hub.connections == 0



def test_a_used_token_of_this_device_asks_nobody(hub: Hub, folder: Path) -> None:
    first = run(folder, hub)
    hub.close()
    assert run(folder, hub) == first


def test_a_new_token_replaces_the_identity_and_only_after_success(hub: Hub, folder: Path) -> None:
    first = run(folder, hub)
    new = replace(hub.token, ident="second")
    hub.answer = problem(403, "TokenUsed", "used")
    with pytest.raises(EnrolmentRefused):
        enrol(folder, new, KeysInFiles())
    assert identity.read(folder) == first
    hub.answer = lambda hub, request: (200, enrolment_of(hub, request.csr))
    second = enrol(folder, new, KeysInFiles())
    assert identity.read(folder) == second
    assert second.token == "second"
    assert second.keys.key != first.keys.key
    assert second.keys.sealing != first.keys.sealing
    assert second.sealing_before == first.keys.sealing, "what lies in the journal is sealed to that one"


def test_another_node_needs_force(hub: Hub, folder: Path) -> None:
    run(folder, hub)
    other = replace(hub.token, node="edge-2", ident="second")
    with pytest.raises(EnrolmentRefused, match=r"this device is edge-1, .*--force"):
        enrol(folder, other, KeysInFiles())
    hub.node, hub.streams = "edge-2", "edge-2.streams"
    assert enrol(folder, other, KeysInFiles(), force=True).issued.node == "edge-2"


def test_a_name_that_no_certificate_can_have_is_told(hub: Hub, folder: Path) -> None:
    with pytest.raises(EnrolmentRefused, match="at most 56 characters"):
        enrol(folder, replace(hub.token, node="n" * 57), KeysInFiles())


def test_two_at_once_are_one(hub: Hub, folder: Path) -> None:
    with identity.locked(folder):
        fails(folder, hub, EnrolmentFailed, "another enrolment of this device is under way")


# --- power cuts and lost answers --------------------------------------------------------------------------------------


def test_a_lost_answer_is_asked_for_again_with_the_same_key(hub: Hub, folder: Path) -> None:
    good = hub.answer
    hub.answer = lambda hub, request: (200, b"")
    for _ in range(2):
        fails(folder, hub, EnrolmentFailed, "")
    assert files(folder) == [PENDING]
    assert stat.S_IMODE((folder / PENDING).stat().st_mode) == 0o600
    hub.answer = good
    run(folder, hub)
    assert len({asked.public_key for asked in hub.asked}) == 1
    assert len(hub.asked) == 3
    assert files(folder) == [IDENTITY]


def test_a_key_under_way_that_is_not_whole_is_made_anew(hub: Hub, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for content in ("", "{", '{"key": "x"}', '{"key": "x", "digest": "y"}', '{"key": 7}'):
        (folder / PENDING).write_text(content)
        assert identity.pending(folder) is None
    assert run(folder, hub).keys.key.startswith("-----BEGIN PRIVATE KEY-----")


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize("first_token", [True, False])
@pytest.mark.parametrize("number", range(12))
def test_a_power_cut_at_any_step_leaves_the_one_or_the_other(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, first_token: bool
) -> None:
    """Each call that changes the disk is a step; the power goes before the step `number`."""
    before = None if first_token else run(folder, hub)
    count = 0

    def cutting(real: object) -> object:
        def step(*args: object, **more: object) -> object:
            nonlocal count
            if count == number:
                raise Cut
            count += 1
            return real(*args, **more)  # type: ignore[operator]

        return step

    token = hub.token if first_token else replace(hub.token, ident="second")
    with monkeypatch.context() as patched:
        for owner, name in STEPS:
            patched.setattr(owner, name, cutting(getattr(owner, name)))
        try:
            enrol(folder, token, KeysInFiles())
        except Cut:
            pass
        else:
            assert number >= 5, "there are fewer steps than the test thinks"
    after = identity.read(folder)  # never broken
    assert after == before or (after is not None and after.token == token.ident)
    again = enrol(folder, token, KeysInFiles())
    assert again.token == token.ident
    assert len({asked.public_key for asked in hub.asked}) == (1 if first_token else 2)


@pytest.mark.parametrize(("owner", "broken"), STEPS[:2])
def test_a_full_disk_is_told_and_leaves_what_was(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, broken: str
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    before = run(folder, hub)
    with monkeypatch.context() as patched:
        patched.setattr(owner, broken, full)
        with pytest.raises(EnrolmentFailed, match="No space left"):
            enrol(folder, replace(hub.token, ident="second"), KeysInFiles())
    assert identity.read(folder) == before


# --- what others see ----------------------------------------------------------------------------------------------


def test_no_process_has_a_secret_in_its_arguments_or_environment(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for openssl that writes down what ps would show, and what its files are called."""
    tools, real = tmp_path / "tools", shutil.which("openssl")
    tools.mkdir()
    told = f'{{ tr "\\0" " " </proc/$$/cmdline; cat /proc/$$/environ; }} >>{tmp_path}/seen'
    (tools / "openssl").write_text(f'#!/bin/sh\n{told}\nexec {real} "$@"\n')
    (tools / "openssl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "x")
    enrolled = run(folder, hub)
    seen = (tmp_path / "seen").read_text()
    assert "genpkey" in seen
    assert "req -new" in seen
    assert "SECRET_OF_THE_PARENT" not in seen
    assert not any(secret in seen for secret in secrets_of(hub))
    assert not any(line in seen for line in enrolled.keys.key.splitlines()[1:-1])


def test_nothing_shows_a_secret_by_its_repr(hub: Hub, folder: Path) -> None:
    enrolled = run(folder, hub)
    shown = f"{enrolled!r} {hub.asked[0].request!r} {hub.token!r} {KeysInFiles().again(enrolled.keys.key)!r}"
    assert enrolled.keys.key.splitlines()[1] not in shown
    assert not any(secret in shown for secret in secrets_of(hub))
    assert not any(secret in f"{shown} {enrolled.keys!r}" for secret in (enrolled.keys.seed, enrolled.keys.sealing))


def test_a_board_without_openssl_says_what_to_install(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    fails(folder, hub, SkerryError, "apt-get install openssl")


# --- by a file, as the agent's child -------------------------------------------------------------------------------


def test_a_token_in_a_file_is_used_once_and_removed(hub: Hub, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    line = tokens.encode(hub.token)
    (folder / TOKEN).write_bytes(b"\xef\xbb\xbf" + line[:40].encode() + b"\r\n" + line[40:].encode() + b"\r\n")
    said: list[str] = []
    assert (child(str(folder), "", said.append), said) == (0, [])
    assert files(folder) == [IDENTITY]


@pytest.mark.parametrize(
    ("content", "answer", "code", "why"),
    [
        ("skerry1.AAAA", None, enrolment.REFUSED, "the token was cut short"),
        ("hello", None, enrolment.REFUSED, "this is no token of skerry"),
        (None, problem(403, "TokenUsed", "used"), enrolment.REFUSED, "used (TokenUsed)"),
        (None, problem(500, "Oops", "later"), 1, "later (Oops)"),
    ],
)
def test_a_token_that_does_not_do_stays_and_the_child_says_why(
    hub: Hub, folder: Path, content: str | None, answer: object, code: int, why: str
) -> None:
    folder.mkdir(mode=0o700)
    (folder / TOKEN).write_text(content or tokens.encode(hub.token))
    hub.answer = answer or hub.answer  # type: ignore[assignment]
    said: list[str] = []
    assert child(str(folder), "", said.append) == code
    assert why in said[0]
    assert (said[0].count("\n"), TOKEN in files(folder)) == (1, True)


def test_a_token_that_was_put_there_meanwhile_is_not_removed(hub: Hub, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / TOKEN).write_text(tokens.encode(hub.token))
    newer = tokens.encode(replace(hub.token, ident="newer1", ca_digest=digest(authority())))
    good = hub.answer

    def answer(hub: Hub, request: object) -> tuple[int, bytes]:
        (folder / TOKEN).write_text(newer)
        return good(hub, request)  # type: ignore[arg-type]

    hub.answer = answer
    assert child(str(folder), "") == 0
    assert (folder / TOKEN).read_text() == newer
