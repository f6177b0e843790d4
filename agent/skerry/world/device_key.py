"""ports.DeviceKeys by the `openssl` command, in children that live for milliseconds: a library that makes keys would
stay in the agent's memory for something that happens once a year.

The key is never in an argument, an environment or a file that has a name: it goes through pipes and memory files.
"""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from skerry.errors import KeyFailed
from skerry.limits import COMMON_NAME_CHARS_MAX, OPENSSL_TIMEOUT_S, PEM_BYTES_MAX
from skerry.ports import DeviceKey, TakesCertificate

OPENSSL = "openssl"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
GENERATE = ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
# In a file, because a subject on the command line has characters that mean something.
REQUEST = "[req]\ndistinguished_name = who\nprompt = no\nstring_mask = utf8only\n[who]\nCN = {name}\n"
_KEY, _REQUEST = "-----BEGIN PRIVATE KEY-----", "-----BEGIN CERTIFICATE REQUEST-----"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")  # of RFC 1123: nothing that openssl would expand


class KeysInFiles:
    """Whose `kept` is the key itself, in PEM."""

    def new(self) -> DeviceKey:
        return KeyInFile(openssl(GENERATE, _KEY))

    def again(self, kept: str) -> DeviceKey:
        return KeyInFile(kept)


class KeyInFile:
    """PKCS #8 in PEM (RFC 5958)."""

    def __init__(self, pem: str) -> None:
        self._pem = pem

    def __repr__(self) -> str:
        return "KeyInFile()"

    @property
    def kept(self) -> str:
        return self._pem

    def csr(self, common_name: str) -> str:
        if not 0 < len(common_name) <= COMMON_NAME_CHARS_MAX or not set(common_name) <= _NAME:
            problem = f"no certificate can have the name {common_name[:80]!r}"
            raise KeyFailed(f"{problem}: a node's has at most {COMMON_NAME_CHARS_MAX} characters of a-z, 0-9, - and .")
        said = REQUEST.format(name=common_name)
        with in_memory(self._pem) as key, in_memory(said) as config:
            argv = ("req", "-new", "-sha256", "-key", _path(key), "-config", _path(config))
            return openssl(argv, _REQUEST, (key, config))

    def load_into(self, context: TakesCertificate, chain: str) -> None:
        with in_memory(f"{self._pem.rstrip()}\n{chain}") as both:
            try:
                context.load_cert_chain(_path(both))
            except (ssl.SSLError, OSError, ValueError) as why:
                reason = getattr(why, "reason", None) or type(why).__name__
                raise KeyFailed(f"this device's key and its certificate do not go together: {reason}") from None


@contextmanager
def in_memory(text: str) -> Iterator[int]:
    """The descriptor of a file that has no name and is never on a disk: ssl and openssl read files only."""
    descriptor = os.memfd_create("skerry", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def openssl(argv: Sequence[str], begins: str, descriptors: Sequence[int] = ()) -> str:
    """What it prints, which has to begin with `begins`."""
    environment = {"PATH": os.environ.get("PATH") or PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [OPENSSL, *argv], env=environment, pass_fds=descriptors, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=OPENSSL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise KeyFailed(f"openssl {argv[0]}: no answer within {OPENSSL_TIMEOUT_S:g} s") from None
    except FileNotFoundError:
        raise KeyFailed("the command openssl is not installed: apt-get install openssl") from None
    except OSError as why:
        raise KeyFailed(f"openssl {argv[0]}: {why.strerror}") from None
    text = done.stdout[:PEM_BYTES_MAX].decode("ascii", "replace")
    at = text.find(begins)
    if done.returncode != 0 or at < 0:
        raise KeyFailed(f"openssl {argv[0]}: code {done.returncode}: {_last_line(done.stderr)}")
    return text[at:]


def _last_line(trouble: bytes) -> str:
    """openssl names files and functions here, never what is in a key."""
    lines = trouble[-2_000:].decode("ascii", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
