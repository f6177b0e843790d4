"""Hold real frames against docs/wire-protocol.cddl: `validate(frame)`. Other suites call it on every frame they see.

pycddl (cddl-rs) does maps, ranges and sizes well, but lets wrong choices and counts inside arrays pass, takes a number
of eight bytes for `bstr .size 8`, and does not anchor regular expressions. So arrays, types and expressions are checked
here, by the same CDDL text, and pycddl gets what is in them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pycddl  # type: ignore[import-untyped, unused-ignore]

from skerry.errors import Malformed
from skerry.wire import frame as frames
from skerry.wire.codec import decode, encode
from skerry.wire.guard import DEVICE, FRAME, GREETING, SEALED, SIGNED

CDDL = Path(__file__).parents[2] / "docs" / "wire-protocol.cddl"


TYPES = {"bstr": bytes, "tstr": str, "bool": bool, "null": type(None)}  # any other rule of one value is a number


class NotInContract(AssertionError):
    """A frame that the CDDL does not describe; the text says where."""


def validate(frame: bytes) -> bytes:
    """The frame itself, if it is what the contract says. Raises NotInContract."""
    try:
        kind, body = frames.unpack(frame)
    except Malformed as why:
        raise NotInContract(f"not a frame: {why}") from None
    check("frame", [kind, body], "frame")
    return frame


def validate_payload(payload: bytes) -> str:
    """What kind of protected payload it is, if it is what the contract says; the frame in a signed one too. Raises
    NotInContract."""
    try:
        whole = decode(payload[1:])
        signed = decode(whole[2]) if payload[:1] == SIGNED else {}
    except (Malformed, TypeError, IndexError) as why:
        raise NotInContract(f"not a protected payload: {why}") from None
    if payload[:1] == SEALED:
        rule = "sealed"
    elif payload[:1] == SIGNED and isinstance(signed, dict):
        rule = "signed-word" if DEVICE in signed else "signed-answer" if GREETING in signed else "signed-hello"
    else:
        raise NotInContract(f"head byte {payload[:1].hex()}")
    check(rule, whole, rule)
    if payload[:1] == SIGNED:
        validate(signed[FRAME])
    return rule


def check(rule: str, value: Any, where: str) -> None:
    """Whether a decoded value is what a rule of the CDDL says. Raises NotInContract."""
    alternatives = _resolved(rule).split(" / ")
    if alternatives[0].startswith("["):
        _array([a.strip()[1:-1] for a in alternatives], value, where)
    elif alternatives[0].startswith("bstr .cbor "):
        _embedded(alternatives[0].removeprefix("bstr .cbor "), value, where)
    elif alternatives[0].startswith("{"):
        _map(rule, value, where)
    else:
        _single(rule, value, where)


@lru_cache
def rules() -> dict[str, str]:
    """The rules of the CDDL by name, without comments, on one line each."""
    text = re.sub(r";.*$", "", CDDL.read_text(), flags=re.MULTILINE)  # no text in it holds a semicolon
    found = re.findall(r"^([a-z][a-z0-9-]*) = (.*?)(?=^\S+ = |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return {name: " ".join(body.split()) for name, body in found}


def members(rule: str) -> dict[int, tuple[str, bool]]:
    """The keys of a map rule: key → (rule of the value, whether it may be absent)."""
    return {int(key): (of, bool(may)) for may, key, of in re.findall(r"(\? )?(\d+): ([a-z0-9-]+)", rules()[rule])}


# --- private ----------------------------------------------------------------------------------------------------------


def _resolved(rule: str) -> str:
    return rules().get(rule, rule)


def _array(alternatives: list[str], value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise NotInContract(f"{where}: an array expected")
    many = re.fullmatch(r"(\d+)\*(\d+) ([a-z0-9-]+)", alternatives[0])
    if many is not None:
        if not int(many[1]) <= len(value) <= int(many[2]):
            raise NotInContract(f"{where}: {many[1]} to {many[2]} items expected, got {len(value)}")
        for i, item in enumerate(value):
            check(many[3], item, f"{where}[{i}]")
        return
    chosen = [parts for parts in (a.split(", ") for a in alternatives) if _literals_match(parts, value)]
    if len(chosen) != 1 or len(chosen[0]) != len(value):
        raise NotInContract(f"{where}: none of {alternatives} fits {len(value)} parts that begin {str(value)[:20]}")
    for i, part in enumerate(chosen[0]):
        if not part.isdigit():
            check(part, value[i], f"{where}[{i}]")


def _literals_match(parts: list[str], value: list[Any]) -> bool:
    return all(type(v) is int and v == int(p) for p, v in zip(parts, value, strict=False) if p.isdigit())


def _embedded(rule: str, value: Any, where: str) -> None:
    if not isinstance(value, bytes):
        raise NotInContract(f"{where}: bytes expected")
    try:
        inside = decode(value)
    except Malformed as why:
        raise NotInContract(f"{where}: {why}") from None
    check(rule, inside, f"{where}<{rule}>")


def _map(rule: str, value: Any, where: str) -> None:
    if not isinstance(value, dict) or not all(type(k) is int for k in value):
        raise NotInContract(f"{where}: a map with integer keys expected")
    known = {k: of for k, (of, _) in members(rule).items() if k in value}
    if known.keys() != value.keys() and "=> any" not in _resolved(rule):  # pycddl lets them pass in an empty map
        raise NotInContract(f"{where}: keys {sorted(value.keys() - known.keys())} are not in {rule}")
    for key, of in known.items():
        check(of, value[key], f"{where}.{key}")
    lists = {k for k, of in known.items() if _resolved(of).startswith("[")}
    _pycddl(rule, encode({k: [] if k in lists else v for k, v in value.items()}), where)


def _single(rule: str, value: Any, where: str) -> None:
    said = [_resolved(a) for a in _resolved(rule).split(" / ")]
    types = {TYPES.get(s.split(" ")[0], int) for s in said}
    if type(value) not in types:
        raise NotInContract(f"{where}: {type(value).__name__} is not {rule}")
    if isinstance(value, str):
        forms = [m[1] for m in (re.search(r'\.regexp "(.*)"', s) for s in said) if m is not None]
        if forms and not any(re.fullmatch(form, value) for form in forms):
            raise NotInContract(f"{where}: {value[:40]!r} is not {rule}")
    _pycddl(rule, encode(value), where)


@lru_cache
def _schema(rule: str) -> pycddl.Schema:
    return pycddl.Schema("\n".join([f"root-rule = {rule}", *(f"{n} = {body}" for n, body in rules().items())]))


@lru_cache(4_096)
def _pycddl(rule: str, data: bytes, where: str) -> None:
    try:
        _schema(rule).validate_cbor(data)
    except pycddl.ValidationError as why:
        raise NotInContract(f"{where}: {' '.join(str(why).split())[:300]}") from None
