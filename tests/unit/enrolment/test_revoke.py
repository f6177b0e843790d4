"""Taking a device's identity back: what the API keeps, what the hub signs no more, and whom a broker turns away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.errors import ConfigInvalid, EnrolmentRefused
from skerry.wire.enrolment import statement_of
from skerry_hub import revoked_file
from skerry_hub.enrolment import records, tokens
from skerry_hub.enrolment.records import Identity, identity_name, identity_secret
from skerry_hub.enrolment.revoke import Revocation, revoke, revoked_nodes
from skerry_hub.enrolment.signer import DeviceIdentities
from skerry_hub.ports import EVENTS, NODES, SECRETS, ClusterError, NotFound, Obj
from skerry_hub.revoked_file import RevokedFile
from unit.enrolment.site import Site
from unit.enrolment.test_renew import enrolled, kept, renewed
from unit.hub.fakes import Dice, ManualClock, settle

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


async def taken_back(hub: Site, node: str = "pi") -> Revocation:
    return await revoke(hub.admin, hub.clock, node)


def signing_key(hub: Site, found: dict[tuple[str, str], Obj]) -> bytes:
    return DeviceIdentities(hub.authority, lambda: found, lambda _node: None).signing_key("pi", b"")


async def secrets(hub: Site) -> dict[tuple[str, str], Obj]:
    return {("skerry", name): obj for name, obj in (await hub.objects(SECRETS, "skerry")).items()}


@openssl
async def test_a_revoked_device_renews_nothing_and_its_key_signs_nothing(hub: Site, tmp_path: Path) -> None:
    await enrolled(hub, tmp_path / "device")
    assert signing_key(hub, await secrets(hub))
    done = await taken_back(hub)
    assert done.new
    assert done.serials == (await kept(hub)).serials
    assert signing_key(hub, await secrets(hub)) == b""
    with pytest.raises(EnrolmentRefused, match=r"has revoked this device.*token create --node pi"):
        await renewed(tmp_path / "device")
    assert "enrolment: node pi: is revoked, and has asked for new certificates" in hub.lines
    (event,) = [e for e in (await hub.objects(EVENTS, "default")).values() if e["reason"] == "Revoked"]
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "pi")


@openssl
async def test_to_do_it_again_is_the_same(hub: Site, tmp_path: Path) -> None:
    await enrolled(hub, tmp_path / "device")
    await taken_back(hub)
    record = await kept(hub)
    again = await taken_back(hub)
    assert not again.new
    assert await kept(hub) == record


@openssl
async def test_its_tokens_go_with_it_so_that_none_brings_it_back(hub: Site, tmp_path: Path) -> None:
    await enrolled(hub, tmp_path / "device")
    other, unused = await hub.token("other"), await hub.token("pi")
    done = await taken_back(hub)
    assert unused.ident in done.tokens
    assert [record.ident for record in await tokens.every(hub.admin)] == [other.ident]


@openssl
async def test_a_new_token_makes_a_new_identity(hub: Site, tmp_path: Path) -> None:
    await enrolled(hub, tmp_path / "old")
    before = await kept(hub)
    await taken_back(hub)
    hub.clock.moved_s = 5
    await enrolled(hub, tmp_path / "new")
    record = await kept(hub)
    assert not record.revoked
    assert record.key_digest != before.key_digest
    assert set(before.serials) <= {serial for serial, _ in record.earlier}, "they have not ended"
    assert signing_key(hub, await secrets(hub))
    assert await renewed(tmp_path / "new")
    with pytest.raises(EnrolmentRefused, match="no such device"):
        await renewed(tmp_path / "old")


@openssl
async def test_the_authoritys_statement_brings_a_revoked_device_back_nowhere(hub: Site, tmp_path: Path) -> None:
    """It is for an API that knows nothing of the device, and this one knows better."""
    had = await enrolled(hub, tmp_path / "device")
    await taken_back(hub)
    found = await secrets(hub)
    identities = DeviceIdentities(hub.authority, lambda: found, lambda _node: None)
    assert identities.signing_key("pi", statement_of(had.issued)) == b""
    assert identities.sealing_key("pi") == b""


async def test_a_node_that_is_none_is_told_and_its_tokens_are_gone(hub: Site) -> None:
    await hub.token("pi")
    await hub.admin.delete(NODES, "", "pi")
    with pytest.raises(NotFound, match="there is no node pi"):
        await taken_back(hub)
    assert await tokens.every(hub.admin) == []
    assert not await hub.objects(SECRETS, "skerry")


@openssl
async def test_a_device_that_the_api_has_forgotten_is_revoked_all_the_same(hub: Site, tmp_path: Path) -> None:
    """It was stolen, and the API restored from before it was enrolled: what the authority stated of it would bring it
    back, and let it renew."""
    had = await enrolled(hub, tmp_path / "device")
    await hub.admin.delete(SECRETS, records.NAMESPACE, identity_name("pi"))
    assert (await taken_back(hub)).new
    assert not (await taken_back(hub)).new
    found = await secrets(hub)
    identities = DeviceIdentities(hub.authority, lambda: found, lambda _node: None)
    assert identities.signing_key("pi", statement_of(had.issued)) == b""
    with pytest.raises(EnrolmentRefused, match="no such device"):
        await renewed(tmp_path / "device")
    assert revoked_nodes(found) == {"pi"}
    hub.clock.moved_s = 5
    await enrolled(hub, tmp_path / "new")
    assert signing_key(hub, await secrets(hub))
    assert not revoked_nodes(await secrets(hub))


@openssl
async def test_a_renewal_at_the_same_time_does_not_undo_it(hub: Site, tmp_path: Path) -> None:
    for number in range(4):
        node = f"pi-{number}"
        await enrolled(hub, tmp_path / node, node)
        renewing = asyncio.ensure_future(renewed(tmp_path / node))
        revoking = asyncio.ensure_future(taken_back(hub, node))
        await asyncio.gather(renewing, revoking, return_exceptions=True)
        assert (await kept(hub, node)).revoked


# --- what a broker is told --------------------------------------------------------------------------------------------


def secret(node: str, revoked: float = 0.0) -> tuple[tuple[str, str], Obj]:
    identity = Identity(node, "00" * 32, ("1", "2"), 2e9, 1e9, "abcdef", "11" * 32, "22" * 32, revoked=revoked)
    obj = identity_secret(identity)
    obj["metadata"]["resourceVersion"] = "1"
    return (records.NAMESPACE, identity_name(node)), obj


def test_who_is_revoked() -> None:
    assert revoked_nodes(dict([secret("a"), secret("b", 1e9)])) == {"b"}


def test_what_is_no_identity_is_nobodys() -> None:
    broken = secret("a", 1e9)[1]
    del broken["data"]["serials"]
    assert revoked_nodes({("default", "skerry-device-b"): secret("b", 1e9)[1], ("skerry", "x"): broken}) == set()


class Kept:
    def __init__(self, path: Path) -> None:
        self.secrets = dict([secret("a"), secret("b")])
        self.clock, self.lines, self.ready = ManualClock(), list[str](), asyncio.Event()
        self.path = path
        self.file = RevokedFile(path, lambda: self.secrets, self.clock, Dice(), self.lines.append)

    async def looks(self) -> set[str]:
        self.file.look()
        await settle()
        return revoked_file.read(self.path)


@pytest.fixture
def running(tmp_path: Path) -> Callable[[], tuple[Kept, asyncio.Task[None]]]:
    def start() -> tuple[Kept, asyncio.Task[None]]:
        kept = Kept(tmp_path / "revoked")
        return kept, asyncio.ensure_future(kept.file.run(kept.ready))

    return start


async def test_the_file_follows_the_identities_and_outlives_the_hub(
    running: Callable[[], tuple[Kept, asyncio.Task[None]]],
) -> None:
    kept, task = running()
    assert not kept.path.exists(), "before every Secret is known nobody is turned away, or let in again"
    kept.ready.set()
    assert await kept.looks() == set()
    kept.secrets.update([secret("a", 1e9)])
    assert await kept.looks() == {"a"}
    task.cancel()
    assert revoked_file.read(kept.path) == {"a"}, "for a broker that starts before the hub"
    later, task = running()
    later.secrets = dict([secret("a"), secret("b", 1e9)])
    later.ready.set()
    assert await later.looks() == {"b"}
    task.cancel()


async def test_a_file_that_cannot_be_written_is_tried_again(
    running: Callable[[], tuple[Kept, asyncio.Task[None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, task = running()
    whole, kept.path = kept.path, kept.path / "no"
    kept.file._path = kept.path
    kept.ready.set()
    await settle()
    assert len(kept.lines) == 1
    kept.file._path = kept.path = whole
    await kept.clock.advance(60)
    assert await kept.looks() == set()
    assert whole.exists()
    task.cancel()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="--revoked-file"):
        RevokedFile(tmp_path, dict, ManualClock(), Dice(), print)


async def test_an_api_that_is_away_is_told(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_args: object, **_more: object) -> None:
        raise ClusterError("away")

    monkeypatch.setattr(hub.admin, "list", away)
    with pytest.raises(ClusterError, match="away"):
        await taken_back(hub)
