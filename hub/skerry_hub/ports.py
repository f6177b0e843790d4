"""The hub's three seams: Broker (MQTT), Cluster (a Kubernetes API), Streams (to devices). Each has a real and a
simulated adapter.

Clock and Entropy are the agent's (`skerry.ports`). Nothing behind a seam decides anything; nothing in front of one
touches the world: no socket, no thread, no time and no randomness but through these five. (The kubelet endpoint is
itself an adapter, towards its clients.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from skerry.errors import LinkLost, SkerryError
from skerry.model.streams import StreamRequest
from skerry.ports import Duplex

Obj = dict[str, Any]  # a Kubernetes object as the API's JSON


class Broker(Protocol):
    """The hub's MQTT connection: one after the other. May lose, repeat and reorder messages, drop what it acknowledged,
    hang, or vanish."""

    async def connect(self, deliver: Callable[[str, bytes], None]) -> None:
        """Connect with an empty session (no subscription, nothing queued); done within CONNECT_TIMEOUT_S, or LinkLost.

        From then on `deliver(topic, payload)` is called on the loop for every message as it arrives; it is acknowledged
        to the broker whatever `deliver` does with it, which neither blocks nor raises. A broker may spell a topic with
        `/` where `.` was subscribed (RabbitMQ).
        """

    async def lost(self) -> LinkLost:
        """Return why the connection is gone, once it is."""

    async def subscribe(self, topics: Sequence[str]) -> None:
        """QoS 1, nothing retained. Returns once the broker has granted all. Raises LinkLost."""

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Raises LinkLost. Messages under way may still be delivered."""

    async def publish(self, topic: str, payload: bytes, *, bulk: bool = False, expiry_s: int = 0) -> None:
        """QoS 1, or 0 for `bulk`; with `expiry_s` the broker forgets it after that long. Waits for room among the
        publishes under way, in call order, never for a subscriber. Its arrival is not promised. Raises LinkLost, or
        LimitExceeded when the broker takes no packet of this size."""

    async def close(self) -> None:
        """Disconnect; idempotent, raises nothing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of the API: `root` is its path up to the version, such as `api/v1`."""

    root: str
    plural: str
    namespaced: bool = True


PODS = Resource("api/v1", "pods")
CONFIG_MAPS = Resource("api/v1", "configmaps")
SECRETS = Resource("api/v1", "secrets")
EVENTS = Resource("api/v1", "events")
NODES = Resource("api/v1", "nodes", namespaced=False)
LEASES = Resource("apis/coordination.k8s.io/v1", "leases")
SERVICE_ACCOUNTS = Resource("api/v1", "serviceaccounts")
NAMESPACES = Resource("api/v1", "namespaces", namespaced=False)


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Obj, ...]
    resource_version: int  # of the whole listing


class WatchType(str, Enum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`obj` of a BOOKMARK holds only metadata.resourceVersion."""

    type: WatchType
    obj: Obj


class PatchForm(str, Enum):
    """Content types of a PATCH."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


class ClusterError(SkerryError):
    """A request to the Kubernetes API failed."""


class ClusterAway(ClusterError):
    """The API cannot be reached, did not answer in time, or broke off; nothing is known about the request's effect."""


class ClusterBusy(ClusterError):
    """429 or 5xx: ask again, not before `retry_after_s` if that is not 0."""

    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class Forbidden(ClusterError):
    """401 or 403: credentials or RBAC are wrong; a person must change something, so it is asked again with back-off."""


class NotFound(ClusterError):
    """404: no such object, namespace or collection."""


class Conflict(ClusterError):
    """409: it exists already, or a precondition (uid, resourceVersion) does not hold."""


class Expired(ClusterError):
    """410, or a resourceVersion above the server's own: list again."""


class Invalid(ClusterError):
    """Any other 4xx: this request will never succeed."""


class Cluster(Protocol):
    """A Kubernetes API, in the semantics of the API conventions. Every method raises ClusterError's kinds and no other
    error; each may hang for API_TIMEOUT_S. Objects that are given out belong to the caller."""

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        """Everything in one namespace, or in all, at one consistent version; `labels` and `fields` are selectors."""

    def watch(
        self, resource: Resource, version: int, *, timeout_s: float, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `version`, with bookmarks where the server sends them. Ends after `timeout_s` or whenever the
        server likes; may also stay open and silent for ever. An object that stops to match is DELETED. Raises Expired
        when the changes since `version` are gone, at the beginning or later."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj: ...

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        """Raises Conflict when it exists. `name` and `subresource` for what is made of an object that is there."""

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        form: PatchForm = PatchForm.MERGE,
        subresource: str = "",
    ) -> Obj:
        """metadata.uid and metadata.resourceVersion in the patch are preconditions (Conflict)."""

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_s: int | None = None
    ) -> None:
        """With `uid` only that very object (Conflict otherwise). `grace_s` 0 removes a pod at once."""


class Streams(Protocol):
    """Logs, exec, attach and port-forward of devices."""

    async def open(self, node: str, request: StreamRequest) -> Duplex:
        """A stream that the device has accepted. Raises StreamBroken within a few STREAM_OPEN_S: the device's refusal
        (NOT_FOUND, INVALID, UNAVAILABLE, FORBIDDEN, BUSY), or LOST or UNAVAILABLE when it is away or does not answer.
        The caller closes what it got."""
