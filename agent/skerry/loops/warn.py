"""What of a pod is told by an Event alone, beside its status: each thing once. Decides only the words."""

from __future__ import annotations

from contextlib import suppress

from skerry.errors import StoreFull
from skerry.journal.journal import Journal
from skerry.model.action import Action, RunContainer
from skerry.model.pod import Pod
from skerry.model.report import Event
from skerry.plan.memory import PodMemory
from skerry.ports import Clock, Entropy

NO_MEMORY_CGROUP = "the kernel's memory control group is off (boot with cgroup_enable=memory)"


class Warnings:
    def __init__(self, journal: Journal, clock: Clock, entropy: Entropy) -> None:
        self._journal, self._clock, self._entropy = journal, clock, entropy

    async def unlimited(self, pod: Pod, actions: tuple[Action, ...], memory: PodMemory) -> None:
        """Of a pod that asks for a memory limit: this kernel has none, it runs all the same."""
        limited = [c.name for c in pod.containers if c.resources.memory_limit_bytes]
        if memory.unlimited_told or not limited or not any(isinstance(a, RunContainer) for a in actions):
            return
        memory.unlimited_told = True
        message = f"{', '.join(limited)} without a memory limit: {NO_MEMORY_CGROUP}"
        await self._tell(pod, "MemoryLimitIgnored", message)

    async def lacking(self, pod: Pod, memory: PodMemory) -> None:
        """Of pull secrets that the last pull had to do without; again only when they are others."""
        if memory.lacking == memory.lacking_told:
            return
        memory.lacking_told = memory.lacking
        if memory.lacking:
            from skerry.plan.keyring import names

            await self._tell(pod, "FailedToRetrieveImagePullSecret", names(memory.lacking))

    async def _tell(self, pod: Pod, reason: str, message: str) -> None:
        """Lost where the journal has no room."""
        at, ident = max(0, int(self._clock.wall())), self._entropy.token(8).hex()
        self._journal.note(self._clock.wall(), pod.full_name, pod.uid, reason, message)
        with suppress(StoreFull):
            await self._journal.tell(None, [Event(pod.uid, pod.namespace, pod.name, reason, message, True, at, ident)])
