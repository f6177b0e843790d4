"""The store of outputs: `ac/<key>` says what came out of a key, `cas/<sha256>` holds the bytes. A folder, and read over
HTTP from whatever serves its files.

Everything read is verified: a blob by its name; an entry by the value its key is the digest of, by its outputs, and
by a seal. Without a seal's secret the seal only finds damage; with one (--seal FILE) nobody without it can plant an
entry. What fails is refused, named, removed where it can be, and counts as absent. Knows nothing of units.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import http.client
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from crossbuild.errors import EntryRefused
from crossbuild.keys import HEX, Made, Output, canonical, digest_of
from crossbuild.limits import BLOB_BYTES_MAX, CHUNK_BYTES, ENTRY_BYTES_MAX, REMOTE_TIMEOUT_S

KINDS = ("file", "program", "tree")


class Layer(Protocol):
    """Where entries and blobs lie, by kind ("ac" or "cas") and name; verifies nothing."""

    name: str

    def open(self, kind: str, name: str) -> AbstractContextManager[IO[bytes] | None]:
        """The bytes, from the start and seekable, or None when absent or out of reach."""

    def drop(self, kind: str, name: str) -> None:
        """Remove what was refused, where that is ours to do."""


class Folder:
    """A layer in a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, str(root)

    @contextmanager
    def open(self, kind: str, name: str) -> Iterator[IO[bytes] | None]:
        try:
            file = (self.root / kind / name).open("rb")
        except OSError:
            yield None
        else:
            with file:
                yield file

    def put(self, kind: str, name: str, file: Path) -> None:
        """Keep a copy of `file`; afterwards the whole of it is there, or nothing."""
        with file.open("rb") as source, new_file(self.root / kind / name) as to:
            shutil.copyfileobj(source, to, CHUNK_BYTES)

    def drop(self, kind: str, name: str) -> None:
        (self.root / kind / name).unlink(missing_ok=True)


class Remote:
    """A layer behind plain HTTP. One that does not answer is said once and left alone for the rest of the run.

    What it sends lies in a nameless file of folder `temporary` while it is looked at.
    """

    def __init__(self, url: str, temporary: Path, say: Callable[[str], None]) -> None:
        self.name, self.temporary, self.say, self.away = url.rstrip("/"), temporary, say, False

    @contextmanager
    def open(self, kind: str, name: str) -> Iterator[IO[bytes] | None]:
        with tempfile.TemporaryFile(dir=self.temporary) as spare:
            yield spare if self._get(f"{self.name}/{kind}/{name}", spare) else None

    def drop(self, kind: str, name: str) -> None:
        """Not ours."""

    def _get(self, url: str, into: IO[bytes]) -> bool:
        """Whether it answered well; the answer's body is then in `into`."""
        if self.away:
            return False
        try:
            with urllib.request.urlopen(url, timeout=REMOTE_TIMEOUT_S) as answer:  # noqa: S310
                left = BLOB_BYTES_MAX
                while left > 0 and (chunk := answer.read(CHUNK_BYTES)):
                    left -= into.write(chunk)
        except urllib.error.HTTPError as e:
            e.close()
            if e.code != 404:
                self.say(f"remote {self.name}: GET answered {e.code}")
            return False
        except (OSError, http.client.HTTPException) as e:
            self.away = True
            self.say(f"remote {self.name}: {e}; going on without it")
            return False
        into.seek(0)
        return True


@dataclass(frozen=True, slots=True)
class Entry:
    """What came out of a key."""

    key: str
    unit: str  # for people only
    made_from: Made
    outputs: tuple[Output, ...]
    seconds: float


class Store:
    """The cache of this machine; behind it may be more `layers` to read from, and one that is `pushed_to` as well."""

    def __init__(self, cache: Path, seal: bytes, say: Callable[[str], None]) -> None:
        self.local, self.seal, self.say = Folder(cache), seal, say
        self.layers: list[Layer] = [self.local]
        self.pushed_to: Folder | None = None
        self.temporary = cache / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)

    def entry(self, key: str) -> Entry | None:
        """The verified entry of `key`, or None."""
        for layer in self.layers:
            with layer.open("ac", key) as file:
                said = None if file is None else file.read(ENTRY_BYTES_MAX + 1)
            if said is None:
                continue
            try:
                entry = read_entry(key, said, self.seal)
            except EntryRefused as e:
                self._refuse(layer, "ac", key, str(e))
                continue
            if layer is self.local:
                os.utime(self.local.root / "ac" / key)
            else:
                with new_file(self.local.root / "ac" / key) as to:
                    to.write(said)
            return entry
        return None

    def keep_entry(self, entry: Entry) -> None:
        with new_file(self.local.root / "ac" / entry.key) as file:
            file.write(write_entry(entry, self.seal))
        if self.pushed_to:
            self.pushed_to.put("ac", entry.key, self.local.root / "ac" / entry.key)

    def blob(self, sha256: str) -> Path:
        """The verified bytes of `sha256`, in the cache of this machine. Raises EntryRefused: nowhere to be had."""
        here = self.local.root / "cas" / sha256
        for layer in self.layers:
            with layer.open("cas", sha256) as file:
                if file is None:
                    continue
                digest = hashlib.sha256()
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                if digest.hexdigest() == sha256:
                    if layer is not self.local:
                        file.seek(0)
                        with new_file(here) as to:
                            shutil.copyfileobj(file, to, CHUNK_BYTES)
                    return here
            self._refuse(layer, "cas", sha256, "its bytes have another digest")
        raise EntryRefused(f"cas/{sha256} is nowhere")

    def keep_blob(self, file: Path, sha256: str) -> None:
        self.local.put("cas", sha256, file)
        if self.pushed_to:
            self.pushed_to.put("cas", sha256, file)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """While held, no other process that uses this cache holds `name`. A process that dies lets go."""
        file = self.local.root / "locks" / name
        file.parent.mkdir(exist_ok=True)
        with file.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _refuse(self, layer: Layer, kind: str, name: str, why: str) -> None:
        layer.drop(kind, name)
        self.say(f"refused: {layer.name}/{kind}/{name}: {why}")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears at `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            yield file
            file.flush()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def write_entry(entry: Entry, seal: bytes) -> bytes:
    said = asdict(entry)
    return canonical(said | {"seal": _seal(said, seal)})


def read_entry(key: str, said: bytes, seal: bytes) -> Entry:
    """Raises EntryRefused: damaged, of another key, odd outputs, sealed otherwise."""
    try:
        value = json.loads(said)
        claimed = value.pop("seal")
        entry = Entry(**value | {"outputs": tuple(Output(**o) for o in value["outputs"])})
        declared = [str(PurePosixPath(path)) for path in entry.made_from["outputs"]]
        odd = [o.path for o in entry.outputs if not HEX.fullmatch(o.sha256) or o.kind not in KINDS]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise EntryRefused(f"it cannot be read ({e})") from e
    if entry.key != key or digest_of(entry.made_from) != key:
        raise EntryRefused("it belongs to another key")
    # Declared paths are in the key and were checked when declared: they stay inside the unit's folder.
    if odd or [o.path for o in entry.outputs] != declared:
        raise EntryRefused(f"its outputs are not those that its unit declares {odd or ''}")
    if not isinstance(claimed, str) or not hmac.compare_digest(claimed, _seal(value, seal)):
        raise EntryRefused("its seal is broken, or of another secret")
    return entry


def _seal(value: dict[str, Any], secret: bytes) -> str:
    return hmac.new(secret or b"damage only", canonical(value), hashlib.sha256).hexdigest()
