"""Container logs → bounded. Looks at their sizes now and then, and does what plan.logs says.

Nothing waits for it: who reads a log follows it through a rotation, who writes one does not notice.
"""

from __future__ import annotations

from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.journal.journal import Journal
from skerry.limits import LOG_CHECK_S
from skerry.loops.report import Counters, Log, Sparing
from skerry.model.logs import Delete, Rename, Reopen
from skerry.model.observed import ContainerState
from skerry.plan.logs import next_check, rotation
from skerry.ports import Clock, Entropy, Runtime


async def rotate_loop(
    runtime: Runtime, journal: Journal, clock: Clock, entropy: Entropy, log: Log, counters: Counters, bytes_max: int
) -> None:
    """Run for ever. `bytes_max`: the size at which a log is rotated."""
    log, sizes, looked_at = Sparing(log, clock), dict[str, int](), clock.now()
    pause = LOG_CHECK_S[0] * (1 + entropy.uniform())  # boards that were switched on together do not look in step
    while True:
        await clock.sleep_until(clock.now() + pause)
        before, sizes, since, looked_at = sizes, {}, looked_at, clock.now()
        try:
            for container_id in _running(journal):
                sizes[container_id] = await _bound(runtime, container_id, counters, bytes_max)
            pause = next_check(before, sizes, looked_at - since, bytes_max)
        except (RuntimeAway, RuntimeFailed) as why:
            counters["log_rotations_failed"] += 1
            log(f"logs: {why}")
            pause = LOG_CHECK_S[0] * (1 + entropy.uniform())


def _running(journal: Journal) -> list[str]:
    containers = (c for pod in journal.seen.values() for c in pod.containers)
    return [c.id for c in containers if c.state is ContainerState.RUNNING] if journal.runtime_up else []


async def _bound(runtime: Runtime, container_id: str, counters: Counters, bytes_max: int) -> int:
    """Rotate if that is due; the size of what is written now."""
    files = await runtime.log_files(container_id)
    size = files.get(0, 0)
    for step in rotation(files, bytes_max):
        match step:
            case Rename(number=number, to=to):
                await runtime.rename_log(container_id, number, to)
            case Delete(number=number):
                await runtime.delete_log(container_id, number)
            case Reopen():
                await runtime.reopen_container_log(container_id)
                counters["log_rotations"] += 1
                size = 0
    return size
