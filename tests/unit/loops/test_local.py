"""The loop between folder and journal: what is parsed, what is told once, and what waits or is tried again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from skerry.errors import FolderFailed, Malformed, StreamBroken
from skerry.journal.journal import Journal
from skerry.journal.recovery import recover
from skerry.limits import LOCAL_RETRY_S
from skerry.loops.local import REASON, Local
from skerry.loops.report import Counters
from skerry.loops.streams import Targets
from skerry.model.desired import Kind
from skerry.model.report import Event, LocalPods, Phase, PodStatus, ReportKind
from skerry.model.streams import Logs
from skerry.ports import ManifestFile
from skerry.wire.codec import decode
from skerry.wire.report import decode_report
from unit.hub.fakes import Dice, ManualClock
from unit.journal.memory_store import Counting, MemoryStore, change, status


class Shelf:
    """ports.Manifests in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.parsed: list[str] = []
        self.failing = ""
        self.bell = asyncio.Event()

    async def read(self) -> tuple[ManifestFile, ...]:
        if self.failing:
            raise FolderFailed(self.failing)
        return tuple(ManifestFile(name, data) for name, data in sorted(self.files.items()))

    async def parse(self, file: ManifestFile) -> tuple[object, ...]:
        self.parsed.append(file.name)
        try:
            return (json.loads(file.data),)
        except ValueError:
            raise Malformed("is not JSON") from None

    async def changed(self) -> None:
        await self.bell.wait()
        self.bell.clear()

    def close(self) -> None:
        pass


class Looked:
    """A runtime in which nothing runs."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def look(self, uid: str) -> dict[str, object]:
        self.asked.append(uid)
        return {}


class Site:
    def __init__(self, store: MemoryStore, journal: Journal) -> None:
        self.store, self.journal, self.shelf, self.clock = store, journal, Shelf(), ManualClock()
        self.log: list[str] = []
        self.local = Local(self.shelf, journal, "pi", False, self.clock, Dice(), self.say, Counters())

    def say(self, line: str) -> None:
        self.log.append(line)

    def write(self, name: str = "web.json", data: bytes = b"", **spec: Any) -> None:
        meta, main = {"name": name.partition(".")[0]}, {"name": "main", "image": "rock:1"}
        value = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [main], **spec}}
        self.shelf.files[name] = data or json.dumps(value).encode()

    def told(self, kind: ReportKind) -> list[Any]:
        return [decode_report(i.kind, i.body) for i in self.journal.outbox(0, 99) if i.kind is kind]

    @property
    def uids(self) -> list[str]:
        return sorted(uid for _, uid in self.journal.local)

    async def again(self) -> Site:
        """The agent died and starts again on the same card."""
        site = Site(self.store, (await recover(self.store, Counting())).journal)
        site.shelf.files = dict(self.shelf.files)
        return site

    async def end(self, uid: str) -> None:
        """Steer says that a deletion is complete."""
        await self.journal.tell(PodStatus(uid, "default", "web-pi", Phase.SUCCEEDED, gone=True))


@pytest.fixture
async def site() -> Site:
    store = MemoryStore()
    return Site(store, (await recover(store, Counting())).journal)


async def test_a_manifest_becomes_durable_and_is_told_to_the_hub(site: Site) -> None:
    site.write()
    await site.local.look()
    (uid,) = site.uids
    (said,) = site.told(ReportKind.LOCAL_PODS)
    assert isinstance(said, LocalPods)
    assert [(p.uid, p.namespace, p.name, p.file) for p in said.pods] == [(uid, "default", "web-pi", "web.json")]
    assert (await site.again()).uids == [uid]
    assert site.journal.pod(uid) is not None


async def test_the_hubs_set_its_digest_and_generation_know_nothing_of_it(site: Site) -> None:
    await site.journal.apply(change(1))
    before = site.journal.desired
    site.write()
    await site.local.look()
    assert site.journal.desired is before
    again = (await site.again()).journal.desired
    assert (again.digest, again.generation, dict(again.objects)) == (before.digest, 1, dict(before.objects))


async def test_a_file_that_did_not_change_is_not_parsed_after_a_restart_and_nothing_is_written(site: Site) -> None:
    site.write()
    site.write("bad.json", b"{")
    await site.local.look()
    again = await site.again()
    commits = site.store.commits
    await again.local.look()
    assert (again.shelf.parsed, site.store.commits, again.uids) == ([], commits, site.uids)


async def test_a_lost_journal_gets_the_same_pod_back(site: Site) -> None:
    site.write()
    await site.local.look()
    fresh = Site(MemoryStore(), (await recover(MemoryStore(), Counting())).journal)
    fresh.shelf.files = site.shelf.files
    await fresh.local.look()
    assert fresh.uids == site.uids


async def test_a_mistake_is_told_once_and_the_last_good_version_goes_on(site: Site) -> None:
    site.write()
    await site.local.look()
    uids = site.uids
    site.shelf.files["web.json"] = b"{half"
    for _ in range(3):
        await site.local.look()
    await (await site.again()).local.look()
    assert site.uids == uids
    assert site.log == ["manifests: web.json: is not JSON; its last good version goes on"]
    (event,) = site.told(ReportKind.EVENT)
    assert isinstance(event, Event)
    assert (event.reason, event.message, event.pod_uid) == (REASON, "manifest web.json: is not JSON", "")
    assert site.journal.files["web.json"].problem == "is not JSON"
    site.write()
    await site.local.look()
    assert (site.log[-1], site.uids) == ("manifests: web.json: good again", uids)


async def test_a_field_that_is_not_supported_is_told_with_its_path(site: Site) -> None:
    site.write(hostPID=True)
    await site.local.look()
    assert site.log == ["manifests: web.json: spec.hostPID: is not supported by this device"]
    assert site.uids == []


async def test_a_removed_file_is_a_graceful_deletion_that_leaves_the_journal_with_its_last_status(site: Site) -> None:
    site.write()
    await site.local.look()
    (uid,) = site.uids
    site.shelf.files.clear()
    await site.local.look()
    obj = site.journal.pod(uid)
    assert obj is not None
    assert decode(obj.body)["metadata"]["deletionGracePeriodSeconds"] == 30
    assert site.journal.files == {}
    await site.end(uid)
    assert (site.journal.pod(uid), (await site.again()).uids) == (None, [])
    assert [p.pods for p in site.told(ReportKind.LOCAL_PODS)] == [()]


async def test_an_edited_pod_begins_when_the_one_before_is_gone_also_after_a_restart(site: Site) -> None:
    site.write()
    await site.local.look()
    (old,) = site.uids
    site.write(restartPolicy="Never")
    await site.local.look()
    assert site.uids == [old]
    again = await site.again()
    await again.local.look()
    assert again.uids == [old]
    running = asyncio.ensure_future(again.local.run())
    await again.end(old)
    await again.clock.advance(1)
    (new,) = again.uids
    assert new != old
    running.cancel()


async def test_a_folder_that_cannot_be_read_costs_no_pod_and_is_tried_again(site: Site) -> None:
    site.write()
    await site.local.look()
    uids = site.uids
    site.shelf.failing = "no luck"
    running = asyncio.ensure_future(site.local.run())
    site.shelf.bell.set()
    await site.clock.advance(1)
    await site.clock.advance(3 * LOCAL_RETRY_S[1])
    assert (site.uids, site.log) == (uids, ["manifests: no luck; what ran from there runs on"])
    site.shelf.failing = ""
    site.write("more.json")
    await site.clock.advance(LOCAL_RETRY_S[1])
    assert len(site.uids) == 2
    running.cancel()


async def test_a_full_journal_is_tried_again(site: Site) -> None:
    site.write()
    site.store.full = True
    running = asyncio.ensure_future(site.local.run())
    site.shelf.bell.set()
    await site.clock.advance(1)
    assert site.uids == []
    site.store.full = False
    await site.clock.advance(LOCAL_RETRY_S[1])
    assert len(site.uids) == 1
    running.cancel()


async def test_what_is_retold_while_the_folder_changes_is_the_newer_set(site: Site) -> None:
    site.write()
    site.store.held = []
    look = asyncio.ensure_future(site.local.look())
    await site.clock.advance(0)
    retell = asyncio.ensure_future(site.journal.retell())
    await site.clock.advance(0)
    while site.store.held:
        site.store.held.pop(0).set_result(None)
        await site.clock.advance(0)
    await asyncio.gather(look, retell)
    assert len(site.told(ReportKind.LOCAL_PODS)[-1].pods) == 1


async def test_a_stream_finds_the_folders_pod_by_its_name(site: Site) -> None:
    site.write()
    await site.local.look()
    runtime = Looked()
    targets = Targets(site.journal, runtime, None, open_to_people=False)  # type: ignore[arg-type]
    with pytest.raises(StreamBroken, match='container "main" in pod "web-pi" is waiting to start'):
        await targets.open(Logs("default", "web-pi"))
    assert runtime.asked == site.uids


async def test_the_pods_of_both_are_those_that_should_run(site: Site) -> None:
    site.write()
    await site.local.look()
    await site.journal.tell(status("other"))
    assert [o.uid for o in site.journal.pods()] == site.uids
    assert {kind for kind, _ in site.journal.local} == {Kind.POD}
