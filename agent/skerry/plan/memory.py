"""What steer remembers of one pod between two looks. All of it may be lost: journal and runtime know the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.model.report import PodStatus

TAKEN = "NodePorts"  # kubelet's word for a host port that another pod has
ABSENT_CONFIRM_S = 2.0  # how long the runtime must hide what the journal says is running before it is believed


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is tried before `until`, after `failures` failed steps in a row."""

    until: float = 0.0
    failures: int = 0


FREE = Hold()
Stamp = tuple[tuple[str, bytes], ...]  # volume → digest of its ConfigMap or Secret, empty while there is none


@dataclass(slots=True)
class PodMemory:
    """Times are monotonic seconds."""

    volumes: dict[str, str] | None = None  # volume → path on the host, once prepared in this process
    files: Stamp | None = None  # what the files of its volumes hold, as far as this process knows
    files_due: Stamp = ()  # what they should hold
    refresh: Hold = FREE  # of their refresh, which holds up nothing else
    keys: Stamp = ()  # pull secret → digest, as they were when the last pull began
    lacking: tuple[str, ...] = ()  # pull secrets that the last pull could not have
    lacking_told: tuple[str, ...] = ()  # those that an Event was about
    images: set[str] = field(default_factory=set)  # images known to be present
    resources: dict[str, str] = field(default_factory=dict)  # container id → what it was updated to
    exit_seen: dict[str, float] = field(default_factory=dict)  # container id → when its exit was first seen
    untold: PodStatus | None = None  # the last verdict, while the journal has no room for it
    met: bool = False  # in this process the runtime once showed all that the journal says is running
    absent_since: float | None = None  # since when the runtime hides what the journal says is running
    trouble: dict[str, tuple[str, str]] = field(default_factory=dict)  # container, or "" for the pod → reason, message
    hold: Hold = FREE  # of the whole pod
    holds: dict[str, Hold] = field(default_factory=dict)  # of one container: its siblings go on
    unlimited_told: bool = False  # an Event said that the kernel cannot limit the pod's memory
    granted: bool = False  # no other pod has its host ports: it was let past
    wish: object = None  # the pod that the holds are about: a new wish is tried at once

    @property
    def stale(self) -> bool:
        """Whether a ConfigMap or Secret that is mounted holds something else than its files, or may."""
        return bool(self.files_due) and self.files != self.files_due

    @property
    def waits_for_port(self) -> bool:
        return self.trouble.get("", ("",))[0] == TAKEN

    def doubts(self, now: float) -> bool:
        """Whether the runtime is not believed yet that something is gone."""
        return self.absent_since is not None and now < self.absent_since + ABSENT_CONFIRM_S
