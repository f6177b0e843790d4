"""Label and field selectors: their grammar and whether they match. Knows no object, only its labels and fields.

Source: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .status import ApiError, bad_request

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|>|<|[^\s=!(),<>]+)")
_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Requirement:
    """`op` is one of = != in notin exists absent > <."""

    key: str
    op: str
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        have = labels.get(self.key)
        if self.op in ("=", "in"):
            return have is not None and have in self.values
        if self.op in ("!=", "notin"):
            return have is None or have not in self.values
        if self.op == "exists":
            return have is not None
        if self.op == "absent":
            return have is None
        try:
            left, right = int(have or ""), int(self.values[0])
        except ValueError:
            return False
        return left > right if self.op == ">" else left < right


@dataclass(frozen=True)
class Selector:
    """Labels and fields that an object must have; empty selects everything."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, bool, str], ...] = ()  # path, equal, value

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, labels: dict[str, str], fields: dict[str, str]) -> bool:
        return all(r.matches(labels) for r in self.labels) and all(
            (fields.get(path, "") == value) is equal for path, equal, value in self.fields
        )


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector. Raises ApiError 400."""
    tokens = _tokens(text)
    out = []
    at = 0
    while at < len(tokens):
        requirement, at = _requirement(tokens, at, text)
        _check(requirement, text)
        out.append(requirement)
        if at < len(tokens):
            if tokens[at] != "," or at + 1 == len(tokens):
                raise _unparsable(text, f"found '{tokens[at]}', expected: ',' or 'end of string'")
            at += 1
    return tuple(out)


def _tokens(text: str) -> list[str]:
    out, at = [], 0
    text = text.rstrip()
    while at < len(text):
        hit = _TOKEN.match(text, at)
        if hit is None:
            raise _unparsable(text, f"found '{text[at:]}'")
        out.append(hit[1])
        at = hit.end()
    return out


def _requirement(tokens: list[str], at: int, text: str) -> tuple[Requirement, int]:
    def token(i: int) -> str:
        return tokens[i] if i < len(tokens) else ""

    if token(at) == "!":
        return Requirement(token(at + 1), "absent"), at + 2
    key, op = token(at), token(at + 1)
    if op in ("", ","):
        return Requirement(key, "exists"), at + 1
    if op in ("=", "==", "!="):
        value = token(at + 2)
        if value in ("", ","):
            return Requirement(key, op[:1] if op != "!=" else op, ("",)), at + 2
        return Requirement(key, "=" if op != "!=" else op, (value,)), at + 3
    if op in (">", "<"):
        return Requirement(key, op, (token(at + 2),)), at + 3
    if op in ("in", "notin") and token(at + 2) == "(":
        end = at + 3
        values, want = [], True
        while token(end) not in (")", ""):
            if token(end) == ",":
                values += [""] if want else []
                want = True
            else:
                values.append(token(end))
                want = False
            end += 1
        if token(end) != ")":
            raise _unparsable(text, "found '', expected: ',' or ')'")
        return Requirement(key, op, tuple(values + ([""] if want else []))), end + 1
    raise _unparsable(text, f"found '{op}', expected: in, notin, =, ==, !=, gt, lt")


def _check(requirement: Requirement, text: str) -> None:
    prefix, _, name = requirement.key.rpartition("/")
    if not _NAME.fullmatch(name) or (prefix and not _PREFIX.fullmatch(prefix)) or requirement.key.startswith("/"):
        raise _unparsable(text, f'found "{requirement.key}", expected: identifier')
    for value in requirement.values:
        if value and not _NAME.fullmatch(value):
            raise _unparsable(text, f'"{value}" is no label value')


def _unparsable(text: str, why: str) -> ApiError:
    return bad_request(f"unable to parse requirement: {why} in {text!r}")


def parse_fields(text: str, known: frozenset[str]) -> tuple[tuple[str, bool, str], ...]:
    """The terms of a field selector over the paths `known`. Raises ApiError 400."""
    out = []
    for term in _split(text):
        if not term:
            continue
        hit = re.fullmatch(r"([^=!]*)(!=|==|=)(.*)", term, re.S)
        if hit is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        path, op, value = hit.groups()
        if path not in known:
            raise bad_request(f"field label not supported: {path}")
        out.append((path, op != "!=", re.sub(r"\\([\\,=])", r"\1", value)))
    return tuple(out)


def _split(text: str) -> list[str]:
    return [term.strip() for term in re.split(r"(?<!\\),", text)]
