"""Who this device is, on disk: one file holds all that enrolment gave, so that there is no half of an identity.

    identity.json    key, certificates, authority, broker: whole or absent, replaced by rename
    enrolment.json   the key of an enrolment under way: a hub that was asked once answers this key again, and no other
    token            what the device enrols with by itself; put there by a person or an image, removed after success

All are in data_dir, mode 0600. Decides nothing about what they say, and asks nobody.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.errors import EnrolmentFailed, IdentityBroken, Malformed
from skerry.limits import EXCHANGE_KEY_BYTES, IDENTITY_BYTES_MAX, SIGNING_KEY_BYTES, TOKEN_CHARS_MAX

if TYPE_CHECKING:
    from skerry.wire.enrolment import Issued
    from skerry.wire.token import Token

IDENTITY, PENDING, TOKEN = "identity.json", "enrolment.json", "token"
NEW = ".{}.new"  # what a file is called until it is whole
MODE = 0o600


@dataclass(frozen=True, slots=True)
class Keys:
    """What a device makes for itself, and nobody else ever has: `key` is what `ports.DeviceKeys.again` takes, `seed` of
    the Ed25519 key that signs its Hello, `sealing` the X25519 secret that its Secrets are sealed to; the last two in
    hexadecimal digits."""

    key: str = field(repr=False)
    seed: str = field(repr=False)
    sealing: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`issued` is what the hub gave, `keys` the device's own, `token` the name of the token that brought it.
    `sealing_before` is the sealing secret of the identity before this one, or empty: Secrets in the journal are sealed
    to it until the hub has sent them anew."""

    issued: Issued
    keys: Keys
    token: str
    sealing_before: str = ""

    def __repr__(self) -> str:
        return f"Enrolled({self.issued.node} by {self.token})"


def read(folder: Path) -> Enrolled | None:
    """None if this device is not enrolled. Raises IdentityBroken, PermissionError (only root may read it)."""
    data = _read(folder / IDENTITY, IDENTITY_BYTES_MAX)
    if data is None:
        return None
    from skerry.wire.enrolment import decode_issued  # with CBOR: not where no device is enrolled

    try:
        *keys, name = _texts(data, "key", "seed", "sealing", "token")
        return Enrolled(decode_issued(data), _checked(Keys(*keys)), name, _before(data))
    except Malformed as why:
        raise IdentityBroken(f"{folder / IDENTITY}: {why}; enrol this device with a new token") from None


def write(folder: Path, enrolled: Enrolled) -> None:
    """Replace the identity; a power cut leaves the old one or this one. Raises EnrolmentFailed."""
    issued = enrolled.issued
    said = {name: getattr(issued, name) for name in issued.__slots__}
    said |= {**_said(enrolled.keys), "token": enrolled.token}
    said |= {"sealing_before": enrolled.sealing_before} if enrolled.sealing_before else {}
    _write(folder / IDENTITY, said)


def pending(folder: Path) -> Keys | None:
    """Of an enrolment under way; None if there is none, or none that is whole. Raises EnrolmentFailed."""
    try:
        data = _read(folder / PENDING, IDENTITY_BYTES_MAX)
        *found, digest = _texts(data or b"", "key", "seed", "sealing", "digest")
        keys = _checked(Keys(*found))
    except Malformed:
        return None
    except OSError as why:
        raise EnrolmentFailed(f"{folder / PENDING}: {why.strerror}") from None
    return keys if _digest("".join(found)) == digest else None


def keep_pending(folder: Path, keys: Keys) -> None:
    """Raises EnrolmentFailed."""
    said = _said(keys)
    _write(folder / PENDING, {**said, "digest": _digest("".join(said.values()))})


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
    """One enrolment at a time: a second one would make a second key. Raises EnrolmentFailed, also for a folder in which
    others may put their file in the place of ours."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        raise EnrolmentFailed(f"{folder}: {why.strerror}") from None
    try:
        found = os.fstat(lock)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            raise EnrolmentFailed(f"{folder}: others may write to it; keys are kept in a folder of root's alone")
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


def _said(keys: Keys) -> dict[str, str]:
    return {"key": keys.key, "seed": keys.seed, "sealing": keys.sealing}


def _before(data: bytes) -> str:
    """Nothing where it cannot be read: it helps, and nobody is lost without it."""
    with suppress(Malformed):
        (found,) = _texts(data, "sealing_before")
        return _digits("sealing_before", found, EXCHANGE_KEY_BYTES)
    return ""


def _checked(keys: Keys) -> Keys:
    """Raises Malformed."""
    _digits("seed", keys.seed, SIGNING_KEY_BYTES)
    _digits("sealing", keys.sealing, EXCHANGE_KEY_BYTES)
    return keys


def _digits(name: str, text: str, size: int) -> str:
    """Raises Malformed."""
    if len(text) != 2 * size or not set(text) <= set("0123456789abcdef"):
        raise Malformed(f"{name}: is no key of {size} bytes in hexadecimal digits")
    return text


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, said: dict[str, Any]) -> None:
    import json

    new = path.with_name(NEW.format(path.name))
    try:
        new.unlink(missing_ok=True)  # what a power cut left; or somebody's, who would read along
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
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
