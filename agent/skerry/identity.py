"""Who this device is, on disk: one file holds all that enrolment gave, so that there is no half of an identity.

    identity.json    key, certificates, authority, broker: whole or absent, replaced by rename
    enrolment.json   the key of an enrolment under way: a hub that was asked once answers this key again, and no other
    token            what the device enrols with by itself; put there by a person or an image, removed after success

All are in data_dir, mode 0600. Decides nothing about what they say, and asks nobody.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.errors import EnrolmentFailed, IdentityBroken, Malformed
from skerry.limits import IDENTITY_BYTES_MAX, SIGNING_KEY_BYTES, TOKEN_CHARS_MAX

if TYPE_CHECKING:
    from skerry.wire.enrolment import Issued
    from skerry.wire.token import Token

IDENTITY, PENDING, TOKEN = "identity.json", "enrolment.json", "token"
NEW = ".{}.new"  # what a file is called until it is whole
MODE = 0o600


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`issued` is what the hub gave. `key` is what `ports.DeviceKeys.again` takes, `seed` of the Ed25519 key that signs
    this device's Hello, in hexadecimal digits: secrets. `token` is the name of the token that brought it."""

    issued: Issued
    key: str
    seed: str
    token: str

    def __repr__(self) -> str:
        return f"Enrolled({self.issued.node} by {self.token})"


def read(folder: Path) -> Enrolled | None:
    """None if this device is not enrolled. Raises IdentityBroken, PermissionError (only root may read it)."""
    from skerry.wire.enrolment import decode_issued

    data = _read(folder / IDENTITY, IDENTITY_BYTES_MAX)
    if data is None:
        return None
    try:
        found = Enrolled(decode_issued(data), *_texts(data, "key", "seed", "token"))
        _checked_seed(found.seed)
        return found
    except Malformed as why:
        raise IdentityBroken(f"{folder / IDENTITY}: {why}; enrol this device with a new token") from None


def write(folder: Path, enrolled: Enrolled) -> None:
    """Replace the identity; a power cut leaves the old one or this one. Raises EnrolmentFailed."""
    issued = enrolled.issued
    said = {name: getattr(issued, name) for name in issued.__slots__}
    _write(folder / IDENTITY, {**said, "key": enrolled.key, "seed": enrolled.seed, "token": enrolled.token})


def pending(folder: Path) -> tuple[str, str]:
    """Key and seed of an enrolment under way; empty if there is none, or none that is whole. Raises EnrolmentFailed."""
    try:
        data = _read(folder / PENDING, IDENTITY_BYTES_MAX)
        key, seed, digest = _texts(data or b"", "key", "seed", "digest")
        _checked_seed(seed)
    except Malformed:
        return "", ""
    except OSError as why:
        raise EnrolmentFailed(f"{folder / PENDING}: {why.strerror}") from None
    return (key, seed) if _digest(key + seed) == digest else ("", "")


def keep_pending(folder: Path, key: str, seed: str) -> None:
    """Raises EnrolmentFailed."""
    _write(folder / PENDING, {"key": key, "seed": seed, "digest": _digest(key + seed)})


def forget(folder: Path, name: str) -> None:
    """Remove PENDING or TOKEN; nothing if it is not there. Raises EnrolmentFailed."""
    try:
        (folder / name).unlink(missing_ok=True)
        _sync(folder)
    except OSError as why:
        raise EnrolmentFailed(f"{folder / name}: {why.strerror}") from None


def forget_used(folder: Path, used: Token) -> None:
    """Remove TOKEN, unless it holds another one by now. Raises EnrolmentFailed."""
    with suppress(Malformed, OSError):
        if token(folder / TOKEN).ident == used.ident:
            forget(folder, TOKEN)


def token(path: Path) -> Token:
    """The token in a file. Raises Malformed, OSError."""
    with path.open("rb") as file:
        data = file.read(4 * TOKEN_CHARS_MAX)
    from skerry.wire.token import decode  # not where there is no such file, which is nearly always

    return decode(data.decode("utf-8-sig", "replace"))  # an editor of Windows begins a file with a mark


def node_of(folder: Path) -> tuple[str, str]:
    """The node that this device is enrolled as, or is to be, and the file that says so; empty if none does."""
    with suppress(OSError, IdentityBroken):
        enrolled = read(folder)
        if enrolled is not None:
            return enrolled.issued.node, IDENTITY
    with suppress(OSError, Malformed):
        return token(folder / TOKEN).node, TOKEN
    return "", ""


def mark(folder: Path, name: str) -> tuple[int, ...]:
    """Of a file: another one once it was replaced or written; empty if there is none, or none that may be seen."""
    try:
        seen = (folder / name).stat()
    except OSError:
        return ()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One enrolment at a time: a second one would make a second key. Raises EnrolmentFailed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        raise EnrolmentFailed(f"{folder}: {why.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            busy = isinstance(why, BlockingIOError)
            said = "another enrolment of this device is under way" if busy else f"{folder}: {why.strerror}"
            raise EnrolmentFailed(said) from None
        yield
    finally:
        os.close(lock)


def _read(path: Path, bytes_max: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except FileNotFoundError:
        return None


def _texts(data: bytes, *names: str) -> list[str]:
    import json

    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("is not JSON") from None
    found = [said.get(name) if isinstance(said, dict) else None for name in names]
    texts = [value for value in found if isinstance(value, str) and value]
    if len(texts) < len(names):
        raise Malformed(f"lacks one of {', '.join(names)}")
    return texts


def _checked_seed(seed: str) -> None:
    """Raises Malformed."""
    if len(seed) != 2 * SIGNING_KEY_BYTES or not set(seed) <= set("0123456789abcdef"):
        raise Malformed("seed: is no Ed25519 seed in hexadecimal digits")


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, said: dict[str, Any]) -> None:
    import json

    new = path.with_name(NEW.format(path.name))
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(json.dumps(said, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        _sync(path.parent)
    except OSError as why:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise EnrolmentFailed(f"{path}: cannot be written: {why.strerror}") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
