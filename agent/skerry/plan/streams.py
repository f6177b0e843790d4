"""Which container or sandbox a stream is for, or the words in which kubelet and the API server refuse it.

Pure; every function raises StreamBroken. The words are those that kubectl's users know (kubelet's
validateContainerLogStatus, findContainer; the API server's pod REST strategy).
"""

from __future__ import annotations

from skerry.errors import StreamBroken
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen
from skerry.model.pod import Container, Pod
from skerry.model.report import PodStatus
from skerry.model.streams import Attach, CloseCode, Exec, Logs

PULLS = {  # waiting for these, in kubelet's words
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def log_source(pod: Pod, seen: PodSeen | None, status: PodStatus | None, request: Logs) -> str:
    """The id of the container whose log is meant."""
    name = _named(pod, request.container).name
    said = next((c for c in status.containers if c.name == name), None) if status else None
    ran = [c for c in (seen.containers if seen else ()) if c.name == name and c.state is not ContainerState.CREATED]
    if request.previous:
        last = said.last_container_id if said else ""
        known = {c.id for c in ran if c.state is not ContainerState.RUNNING}
        if last not in known:
            raise StreamBroken(
                CloseCode.NOT_FOUND, f'previous terminated container "{name}" in pod "{pod.name}" not found'
            )
        return last
    if not ran:
        reason = said.reason if said and said.reason else "ContainerCreating"
        words = PULLS.get(reason, reason)
        raise StreamBroken(
            CloseCode.UNAVAILABLE, f'container "{name}" in pod "{pod.name}" is waiting to start: {words}'
        )
    return ran[0].id


def process_target(pod: Pod, seen: PodSeen | None, request: Exec | Attach) -> str:
    """The id of the running container to exec in or to attach to."""
    wanted = _named(pod, request.container)
    running = _running(seen, wanted.name)
    if running is None:
        raise StreamBroken(CloseCode.NOT_FOUND, f'container not found ("{wanted.name}")')
    if isinstance(request, Exec) and not request.command:
        raise StreamBroken(CloseCode.INVALID, "you must specify at least one command for the container")
    return running.id


def network_target(pod: Pod, seen: PodSeen | None) -> str:
    """The id of the sandbox whose network a port is in."""
    box = next((s for s in seen.sandboxes if s.ready), None) if seen else None
    if box is None:
        raise StreamBroken(CloseCode.UNAVAILABLE, f"pod {pod.name} is not running")
    return box.id


# --- private ----------------------------------------------------------------------------------------------------------


def _named(pod: Pod, name: str) -> Container:
    names = [c.name for c in pod.containers]
    if not name and len(names) > 1:
        choice = f"a container name must be specified for pod {pod.name}, choose one of: [{' '.join(names)}]"
        raise StreamBroken(CloseCode.INVALID, choice)
    found = next((c for c in pod.containers if c.name == name or not name), None)
    if found is None:
        raise StreamBroken(CloseCode.INVALID, f"container {name} is not valid for pod {pod.name}")
    return found


def _running(seen: PodSeen | None, name: str) -> ContainerSeen | None:
    alive = (c for c in (seen.containers if seen else ()) if c.state is ContainerState.RUNNING)
    return next((c for c in alive if c.name == name), None)
