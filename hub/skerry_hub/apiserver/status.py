"""Failures as the API tells them: a Status object with the right code, reason and causes. Knows no HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


class ApiError(Exception):
    """A request that failed; `body` is the Status object, `code` its HTTP status, `headers` go with the reply."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Obj | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details, self.headers = code, reason, message, details, headers

    @property
    def body(self) -> Obj:
        out: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            out["reason"] = self.reason
        if self.details is not None:
            out["details"] = self.details
        out["code"] = self.code
        return out


@dataclass(frozen=True)
class Cause:
    """One field that is wrong: `kind` is Required, Invalid, Duplicate, NotSupported, Forbidden, NotFound, TooLong."""

    kind: str
    field: str
    message: str


def quote(value: Any) -> str:
    """A value as Go prints it in messages: strings quoted, the rest as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def required(field: str, why: str = "") -> Cause:
    return Cause("Required", field, "Required value" + (f": {why}" if why else ""))


def invalid_value(field: str, value: Any, why: str) -> Cause:
    return Cause("Invalid", field, f"Invalid value: {quote(value)}: {why}")


def duplicate(field: str, value: Any) -> Cause:
    return Cause("Duplicate", field, f"Duplicate value: {quote(value)}")


def unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    known = ", ".join(quote(v) for v in allowed)
    return Cause("NotSupported", field, f"Unsupported value: {quote(value)}: supported values: {known}")


def forbidden_value(field: str, why: str) -> Cause:
    return Cause("Forbidden", field, f"Forbidden: {why}")


def missing(field: str, value: Any) -> Cause:
    return Cause("NotFound", field, f"Not found: {quote(value)}")


def qualified(name: str, group: str) -> str:
    return f"{name}.{group}" if group else name


def _details(name: str, kind: str, group: str) -> Obj:
    return {k: v for k, v in (("name", name), ("group", group), ("kind", kind)) if v}


def invalid(kind: str, group: str, name: str, causes: list[Cause]) -> ApiError:
    lines = list(dict.fromkeys(f"{c.field}: {c.message}" for c in causes))
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    details = _details(name, kind, group)
    details["causes"] = [{"reason": "FieldValue" + c.kind, "message": c.message, "field": c.field} for c in causes]
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def not_found(plural: str, group: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(name, plural, group))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str, deleting: bool = False) -> ApiError:
    lead = "object is being deleted: " if deleting else ""
    text = f'{lead}{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, _details(name, plural, group))


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    text = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", text, _details(name, plural, group))


def forbidden(plural: str, group: str, name: str, why: str, causes: list[Obj] | None = None) -> ApiError:
    details = _details(name, plural, group)
    if causes:
        details["causes"] = causes
    return ApiError(403, "Forbidden", f'{qualified(plural, group)} "{name}" is forbidden: {why}', details)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized", headers=(("WWW-Authenticate", "Bearer"),))


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media(accepted: tuple[str, ...]) -> ApiError:
    text = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", text)


def not_acceptable(accepted: tuple[str, ...]) -> ApiError:
    text = "only the following media types are accepted: " + ", ".join(accepted)
    return ApiError(406, "NotAcceptable", text)


def too_large(limit_bytes: int) -> ApiError:
    text = f"Request entity too large: limit is {limit_bytes}"
    return ApiError(413, "RequestEntityTooLarge", text)


def internal(message: str) -> ApiError:
    details = {"causes": [{"message": message}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", details)


def success(code: int | None = None, details: Obj | None = None) -> Obj:
    out: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        out["details"] = details
    if code:
        out["code"] = code
    return out
