"""Every error that leaves a part of skerry, grouped by whose fault it is.

A user sees `str(error)` on one line and nothing else; code matches on types, never on text.
"""

from __future__ import annotations


class SkerryError(Exception):
    """Root of all errors that skerry raises on purpose; `str()` is one line fit for a user."""


# --- what someone gave us is wrong; trying again with the same input cannot help -------------------------------------


class ConfigInvalid(SkerryError):
    """A configuration file or command line is wrong. `field` names the key."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class Malformed(SkerryError):
    """Bytes from outside do not parse. `offset` is the byte where reading stopped, -1 when it has none."""

    def __init__(self, problem: str, offset: int = -1) -> None:
        super().__init__(problem if offset < 0 else f"{problem} at byte {offset}")
        self.offset = offset


class Refused(SkerryError):
    """A manifest asks for what this device does not do. `path` is the field's path, as in the Kubernetes API.

    `reason` is a CamelCase word fit for a pod's status (API conventions, "reason").
    """

    def __init__(self, path: str, problem: str, reason: str = "Unsupported") -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem, self.reason = path, problem, reason


class LimitExceeded(SkerryError):
    """Something from outside is larger than a bound of limits.py; `limit` is the bound's name."""

    def __init__(self, limit: str, bound: int, got: int) -> None:
        super().__init__(f"{limit} is {bound}, got {got}")
        self.limit, self.bound, self.got = limit, bound, got


class NotOpened(SkerryError):
    """A sealed Secret cannot be opened with a key that this device has now. `str()` goes on after the Secret's name and
    has nothing that is secret."""


class EnrolmentRefused(SkerryError):
    """This token does not enrol this device, and asking again with it cannot help: it was used or has expired, it is
    another node's, or who answers is not the hub that made it. Or the hub renews nothing for this device, which it does
    not know or has revoked. `str()` has the cure and nothing that is secret."""


# --- the world failed; every one of these is retried with jitter ------------------------------------------------------


class LinkLost(SkerryError):
    """The MQTT connection is gone, was refused or did not come up in time."""


class CertificateRefused(LinkLost):
    """The broker does not take this device's certificate: it has ended, or its authority is believed no more, or it was
    revoked."""


class EnrolmentFailed(SkerryError):
    """An enrolment came to nothing for now: the hub is away, has trouble of its own, or the disk is full."""


class KeyFailed(SkerryError):
    """The device's key cannot be made, read or used, or a certificate is not for it. Never has a part of the key."""


class StreamBroken(SkerryError):
    """A stream was refused or ended before its end. `code` is a model.streams.CloseCode; `str()` is the detail."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class RuntimeAway(SkerryError):
    """The container runtime cannot be reached or did not answer in time; nothing is known about the call's effect."""


class RuntimeFailed(SkerryError):
    """The container runtime answered with an error. `code` is the gRPC status name, such as `UNKNOWN`."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"{call}: {code}: {message}")
        self.call, self.code, self.message = call, code, message


class ImagePullFailed(RuntimeFailed):
    """An image could not be pulled (no network, no such image, no room)."""


class VolumeFailed(SkerryError):
    """A volume could not be prepared. `volume` is its name in the pod."""

    def __init__(self, volume: str, problem: str) -> None:
        super().__init__(f"volume {volume}: {problem}")
        self.volume = volume


class FolderFailed(SkerryError):
    """The folder of manifests cannot be read or watched; nothing is known about what is in it."""


class WatchesSpent(SkerryError):
    """No more files can be watched for being written: the kernel's bound, or LOG_WATCHES_MAX."""


# --- the journal ------------------------------------------------------------------------------------------------------


class StoreFull(SkerryError):
    """The journal has no room for this commit (map or disk full); nothing was written, the store stays usable."""


class JournalNewer(SkerryError):
    """A later release wrote this journal. It is left as it is, never started empty: run that release again."""


class StoreBroken(SkerryError):
    """The journal cannot be trusted any more (EIO, corruption): the process ends and starts again through recovery."""


class StoreBusy(SkerryError):
    """Another process has the journal open for writing. `pid` is its process id, 0 when it cannot be told."""

    def __init__(self, folder: str, pid: int) -> None:
        super().__init__(f"journal {folder}: in use by process {pid or 'unknown'}")
        self.folder, self.pid = folder, pid


# --- who the device is ------------------------------------------------------------------------------------------------


class IdentityBroken(SkerryError):
    """The file of an enrolled device cannot be read. Only a new token helps."""


class NodeChanged(SkerryError):
    """The device was enrolled under another name than it runs under: the process ends and starts again with it."""
