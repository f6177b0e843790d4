"""A token survives copying or is refused with the cure; nothing shows its secret."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.limits import TOKEN_CHARS_MAX, TOKEN_SECRET_BYTES
from skerry.wire import codec, token
from skerry.wire.token import Token

SECRET = bytes(range(TOKEN_SECRET_BYTES))
ONE = Token("https://hub.example:10443", bytes(32), "edge-1", "abc123", SECRET)


def test_a_token_comes_back_from_its_line() -> None:
    line = token.encode(ONE)
    assert token.decode(line) == ONE
    assert len(line) < 200
    assert line.replace(".", "").replace("-", "").replace("_", "").isalnum(), "fit for a shell without quotes"


def test_blanks_and_broken_lines_are_of_no_account() -> None:
    line = token.encode(ONE)
    assert token.decode(f"  {line[:30]}\r\n  {line[30:]}\n") == ONE


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_line_that_was_cut_short_says_so(cut: int) -> None:
    with pytest.raises(Malformed, match=r"cut short or mistyped: copy the whole line"):
        token.decode(token.encode(ONE)[:-cut])


def test_any_other_character_is_found_out() -> None:
    line = token.encode(ONE)
    for at in range(len(token.PREFIX), len(line)):
        other = line[:at] + ("A" if line[at] != "A" else "B") + line[at + 1 :]
        # The last character has bits that are not used.
        assert at == len(line) - 1 or "copy the whole line" in _problem(other)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (token.URL, "http://hub.example:10443"), (token.URL, "https://hub.example"), (token.URL, 7),
        (token.URL, "https://hub.example:10443/x"), (token.URL, "https://[hub:1"),
        (token.URL, "https://hub..example:10443"), (token.URL, "https://hub:0"), (token.CA, bytes(31)),
        (token.NODE, ""), (token.NODE, "e\n"), (token.NODE, "e" * 300), (token.NODE, "Edge-1"), (token.NODE, "../e"),
        (token.NODE, "e..f"), (token.NODE, "e-"), (token.NODE, "e.streams"), (token.NODE, "skerry-hub:hub"),
        (token.IDENT, "a/b"), (token.SECRET, b""), (token.SECRET, None),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_is_refused(part: int, value: object) -> None:
    whole = {token.URL: ONE.url, token.CA: ONE.ca_digest, token.NODE: ONE.node, token.IDENT: ONE.ident}
    forged = _line(codec.encode({**whole, token.SECRET: SECRET, part: value}))
    with pytest.raises(Malformed, match="copy the whole line"):
        token.decode(forged)


def test_what_a_later_hub_says_besides_is_of_no_account() -> None:
    whole = {token.URL: ONE.url, token.CA: ONE.ca_digest, token.NODE: ONE.node, token.IDENT: ONE.ident}
    assert token.decode(_line(codec.encode({**whole, token.SECRET: SECRET, 99: "new"}))) == ONE


def test_something_else_and_something_endless_are_refused() -> None:
    with pytest.raises(Malformed, match=r"begins with skerry1\."):
        token.decode("eyJhbGciOiJIUzI1NiJ9.e30.x")
    with pytest.raises(Malformed, match=f"more than {TOKEN_CHARS_MAX}"):
        token.decode(token.PREFIX + "A" * 100_000)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: _line(raw)))
def test_any_text_is_a_token_or_malformed(text: str) -> None:
    assert "\n" not in _problem(text)


def test_its_secret_is_never_shown() -> None:
    assert SECRET.hex() not in repr(ONE)
    assert repr(SECRET) not in repr(ONE)


def _problem(text: str) -> str:
    try:
        token.decode(text)
    except Malformed as why:
        return str(why)
    return ""


def _line(body: bytes) -> str:
    whole = body + zlib.crc32(body).to_bytes(4, "big")
    return token.PREFIX + base64.urlsafe_b64encode(whole).rstrip(b"=").decode()
