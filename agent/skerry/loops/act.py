"""Do one action. One flat match from `model.action` to the Runtime and Host seams; decides nothing."""

from __future__ import annotations

from collections.abc import Callable

from skerry.errors import ImagePullFailed, NotOpened, Refused, RuntimeAway
from skerry.model.action import (
    Action,
    MountVolumes,
    PullImage,
    RefreshVolumes,
    RemoveContainer,
    RemovePodSandbox,
    RemoveVolumes,
    RunContainer,
    RunPodSandbox,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
)
from skerry.model.manifest import ConfigData
from skerry.model.pod import ObjectVolume, Pod, PullPolicy
from skerry.plan.memory import PodMemory
from skerry.plan.reconcile import resources_mark
from skerry.plan.resolve import environment, expand, files
from skerry.ports import AuthConfig, ContainerSpec, Host, MountSpec, ResolvedVolume, Runtime

Lookup = Callable[[str, str, bool], ConfigData | None]  # (namespace, name, is a Secret); raises NotOpened


class Hands:
    """Holds the two seams that acting needs."""

    def __init__(self, runtime: Runtime, host: Host, lookup: Lookup) -> None:
        self._runtime, self._host, self._lookup = runtime, host, lookup

    async def do(self, action: Action, memory: PodMemory) -> None:
        """Raises what the seams raise, and Refused for a reference to what is not here."""
        runtime = self._runtime
        match action:
            case PullImage():
                await self._pull(action, memory)
            case MountVolumes(pod=pod):
                await self._mount(pod, memory)
            case RefreshVolumes(pod=pod):
                await self._refresh(pod, memory)
            case RunPodSandbox(pod=pod, attempt=attempt):
                await runtime.run_pod_sandbox(pod, attempt)
            case RunContainer():
                spec = self._spec(action, memory)
                container_id = await runtime.create_container(
                    action.pod, action.sandbox_id, action.sandbox_attempt, spec
                )
                await runtime.start_container(container_id)
            case StartContainer(container_id=container_id):
                await runtime.start_container(container_id)
            case UpdateContainerResources(container_id=container_id, container=container):
                await runtime.update_container_resources(container_id, container.resources)
                memory.resources[container_id] = resources_mark(container.resources)
            case StopContainer(container_id=container_id, grace_s=grace_s):
                await runtime.stop_container(container_id, grace_s)
            case RemoveContainer(container_id=container_id):
                await runtime.remove_container(container_id)
                memory.exit_seen.pop(container_id, None)
                memory.resources.pop(container_id, None)
            case StopPodSandbox(sandbox_id=sandbox_id):
                await runtime.stop_pod_sandbox(sandbox_id)
            case RemovePodSandbox(sandbox_id=sandbox_id):
                await runtime.remove_pod_sandbox(sandbox_id)
            case RemoveVolumes(pod_uid=pod_uid):
                await self._host.remove_volumes(pod_uid)
                memory.volumes = memory.files = None

    async def _pull(self, action: PullImage, memory: PodMemory) -> None:
        present = await self._runtime.image_present(action.image)
        if action.policy is PullPolicy.NEVER and not present:
            raise ImagePullFailed("PullImage", "ErrImageNeverPull", f"{action.image} is not here and may not be pulled")
        if action.policy is PullPolicy.ALWAYS or not present:
            try:
                await self._fetch(action, memory)
            except (ImagePullFailed, Refused, RuntimeAway):
                if not present:
                    raise
        memory.images.add(action.image)

    async def _fetch(self, action: PullImage, memory: PodMemory) -> None:
        """With each of the credentials that are for its registry until one is taken, or without any. They are read anew
        for each pull, and nothing of them stays."""
        auths: tuple[AuthConfig | None, ...] = (None,)
        if action.secrets:
            from skerry.plan import keyring

            found, memory.lacking = self._pull_secrets(action)
            auths = keyring.matching(action.image, found) or auths
            del found
        known = [auth for auth in auths if auth is not None]
        refusals: dict[str, ImagePullFailed] = {}
        for auth in auths:
            try:
                return await self._runtime.pull_image(action.image, auth)
            except ImagePullFailed as why:
                said = keyring.shown(why.message, known) if known else why.message
                refusals.setdefault(said, ImagePullFailed(why.call, why.code, said))
            except RuntimeAway as why:
                raise RuntimeAway(keyring.shown(str(why), known) if known else str(why)) from None
        first = next(iter(refusals.values()))
        raise ImagePullFailed(first.call, first.code, "; ".join(refusals))

    def _pull_secrets(self, action: PullImage) -> tuple[list[ConfigData], tuple[str, ...]]:
        """Those that are here and open, and what to say of the others: the pull is tried without them, as the kubelet
        does."""
        found, lacking = [], []
        for name in action.secrets:
            try:
                secret = self._lookup(action.namespace, name, True)
            except NotOpened as why:
                lacking.append(f"{name} {why}")
            else:
                lacking += [name] if secret is None else []
                found += [secret] if secret is not None else []
        return found, tuple(lacking)

    async def _mount(self, pod: Pod, memory: PodMemory) -> None:
        paths, stamp = {}, memory.files_due
        for volume in pod.volumes:
            ready: ResolvedVolume
            if isinstance(volume, ObjectVolume):
                ready = files(volume, lambda name, secret: self._lookup(pod.namespace, name, secret))
            else:
                ready = volume
            paths[volume.name] = await self._host.mount_volume(pod.uid, ready)
        memory.volumes, memory.files = paths, stamp

    async def _refresh(self, pod: Pod, memory: PodMemory) -> None:
        """Each volume by itself: one whose object is gone keeps its files, as kubelet's do, and is no reason for the
        others to wait. Raises what the Host raises, and then Refused for what is not here."""
        stamp, missing = memory.files_due, None
        for volume in pod.volumes:
            if isinstance(volume, ObjectVolume):
                try:
                    ready = files(volume, lambda name, secret: self._lookup(pod.namespace, name, secret))
                except Refused as why:
                    missing = missing or why
                else:
                    await self._host.mount_volume(pod.uid, ready)
        memory.files = stamp
        if missing is not None:
            raise missing

    def _spec(self, action: RunContainer, memory: PodMemory) -> ContainerSpec:
        pod, c = action.pod, action.container
        env = environment(c, lambda name, secret: self._lookup(pod.namespace, name, secret))
        known = dict(env)
        paths = memory.volumes or {}
        # As Kubernetes does: files of a ConfigMap or Secret are never writable from inside.
        fixed = {v.name for v in pod.volumes if isinstance(v, ObjectVolume)}
        return ContainerSpec(
            name=c.name,
            attempt=action.attempt,
            image=c.image,
            fingerprint=action.mark,
            command=tuple(expand(word, known) for word in c.command),
            args=tuple(expand(word, known) for word in c.args),
            working_dir=c.working_dir,
            env=env,
            mounts=tuple(MountSpec(paths[m.volume], m.path, m.read_only or m.volume in fixed) for m in c.mounts),
            resources=c.resources,
            stdin=c.stdin,
            stdin_once=c.stdin_once,
            tty=c.tty,
        )
