"""Folder of manifests → journal. Reads it at start and whenever it changes; knows neither link nor runtime.

A file whose content was read before is not parsed again. What is wrong with a file is said once: in the log, in the
journal (for `skerry get`) and as an Event on the node.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256

from skerry.errors import FolderFailed, Malformed, Refused, StoreFull
from skerry.journal.journal import Journal
from skerry.journal.local import Step, next_step, objects_in
from skerry.journal.record import FileRead
from skerry.limits import LOCAL_RETRY_S, STATUS_MESSAGE_CHARS_MAX
from skerry.loops.report import Counters, Log
from skerry.model.desired import Object
from skerry.model.report import Event
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy, ManifestFile, Manifests

REASON = "ManifestRefused"
UNFINISHED = b""  # the digest of a file that is to be parsed again at the next look


@dataclass(slots=True)
class Local:
    """All that the loop owns. `look` once before steer begins: a journal that was lost must not cost the pods that
    still run."""

    manifests: Manifests
    journal: Journal
    node: str
    secret_env: bool
    clock: Clock
    entropy: Entropy
    log: Log
    counters: Counters
    _failures: int = 0
    _told: str = ""  # the last trouble with the folder as a whole
    _parsed: dict[str, tuple[bytes, tuple[Object, ...]]] = field(default_factory=dict)  # of files not all of it is in

    async def run(self) -> None:
        """Never returns; StoreBroken ends the process."""
        try:
            while True:
                await self._wait()
                await self.look()
        finally:
            self.manifests.close()

    async def look(self) -> None:
        """Bring the journal to what the folder says, as far as that can be done now."""
        try:
            files = await self.manifests.read()
            await self._follow(files)
        except (FolderFailed, StoreFull) as why:
            self._failures += 1
            self.counters["local_failures"] += 1
            if str(why) != self._told:
                self.log(f"manifests: {why}; what ran from there runs on")
            self._told = str(why)
            return
        self._failures, self._told = 0, ""

    # --- private ------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until the folder has changed, a pod of it is gone, or a failure is worth another try."""
        waits = [asyncio.ensure_future(self.journal.for_local.wait())]
        if self._failures:
            delay = full_jitter(LOCAL_RETRY_S, self._failures, self.entropy.uniform())
            waits.append(asyncio.ensure_future(self.clock.sleep_until(self.clock.now() + delay)))
        else:
            waits.append(asyncio.ensure_future(self.manifests.changed()))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        except FolderFailed as why:
            self._failures += 1
            self.log(f"manifests: {why}")
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _follow(self, files: tuple[ManifestFile, ...]) -> None:
        read: dict[str, tuple[Object, ...] | None] = {}
        seen: dict[str, FileRead] = {}
        for file in files:
            read[file.name], seen[file.name] = await self._objects(file)
        step = next_step(self.journal.local, read)
        seen |= {name: FileRead(UNFINISHED, problem) for name, problem in step.problems.items()}
        seen |= {name: FileRead(UNFINISHED) for name in step.waits if name not in step.problems}
        unfinished = step.problems.keys() | step.waits
        self._parsed = {name: known for name, known in self._parsed.items() if name in unfinished}
        await self._commit(step, seen)

    async def _objects(self, file: ManifestFile) -> tuple[tuple[Object, ...] | None, FileRead]:
        """What a file holds; None where that is what the journal holds of it already, or it cannot be read."""
        digest, before = sha256(file.data).digest(), self.journal.files.get(file.name)
        if file.problem:
            return None, FileRead(UNFINISHED, file.problem)
        if before is not None and before.digest == digest:
            return None, before
        if self._parsed.get(file.name, (UNFINISHED,))[0] != digest:
            try:
                documents = await self.manifests.parse(file)
                self._parsed[file.name] = digest, objects_in(self.node, file.name, documents, self.secret_env)
            except (Malformed, Refused) as why:
                return None, FileRead(digest, str(why)[:STATUS_MESSAGE_CHARS_MAX])
        return self._parsed[file.name][1], FileRead(digest)

    async def _commit(self, step: Step, seen: dict[str, FileRead]) -> None:
        before = self.journal.files
        fresh = {
            n: r.problem for n, r in seen.items() if r.problem and before.get(n, FileRead(b"")).problem != r.problem
        }
        cured = [n for n, r in seen.items() if not r.problem and n in before and before[n].problem]
        if not step.puts and not step.deletes and seen == before:
            return
        at = max(0, int(self.clock.wall()))
        events = [
            Event("", "", "", REASON, f"manifest {n}: {problem}", True, at, self.entropy.token(8).hex())
            for n, problem in sorted(fresh.items())
        ]
        await self.journal.apply_local(step.puts, step.deletes, seen, events)
        self.counters["local_changes"] += len(step.puts) + len(step.deletes)
        for name, problem in sorted(fresh.items()):
            kept = any(o.file == name for o in self.journal.local.values())
            self.log(f"manifests: {name}: {problem}" + ("; its last good version goes on" if kept else ""))
        for name in cured:
            self.log(f"manifests: {name}: good again")
