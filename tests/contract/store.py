"""What every Store promises (ports.Store). An adapter's test subclasses StoreContract and gives `stores`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from skerry.errors import StoreBroken, StoreFull
from skerry.ports import Store


class StoreSite(Protocol):
    """One journal's place on a disk."""

    def open(self) -> Store:
        """Open it; the one before is closed or its process dead."""

    def small(self) -> Store:
        """A new, empty store with room for a few hundred KiB."""


async def fill(store: Store) -> int:
    """Records of 1,000 bytes until the store is full; how many fitted."""
    for count in range(10_000):
        try:
            await store.commit({b"%05d" % count: b"x" * 1000}, [], copy=b"copy %d" % count)
        except StoreFull:
            return count
    raise AssertionError("it never gets full")


class StoreContract:
    async def test_what_was_committed_is_read(self, site: StoreSite) -> None:
        store = site.open()
        assert store.get(b"a") is None
        await store.commit({b"a": b"1", b"b": b""}, [])
        assert (store.get(b"a"), store.get(b"b")) == (b"1", b"")
        await store.commit({b"c": b"3"}, [b"a", b"never there"])
        assert list(store.scan(b"")) == [(b"b", b""), (b"c", b"3")]
        store.close()

    async def test_a_key_both_put_and_deleted_is_deleted(self, site: StoreSite) -> None:
        store = site.open()
        await store.commit({b"a": b"1"}, [b"a"])
        assert store.get(b"a") is None
        store.close()

    async def test_scan_gives_a_prefix_in_key_order(self, site: StoreSite) -> None:
        store = site.open()
        keys = [b"b\x00", b"a", b"b", b"b\xff", b"c", b"b\x00\x01"]
        await store.commit({key: key for key in keys}, [])
        assert [key for key, _ in store.scan(b"b")] == [b"b", b"b\x00", b"b\x00\x01", b"b\xff"]
        assert list(store.scan(b"d")) == []
        assert [key for key, _ in store.scan(b"")] == sorted(keys)
        store.close()

    async def test_a_scan_is_one_snapshot(self, site: StoreSite) -> None:
        store = site.open()
        await store.commit({b"a": b"1", b"b": b"1"}, [])
        scan = store.scan(b"")
        assert next(scan) == (b"a", b"1")
        await store.commit({b"b": b"2", b"c": b"2"}, [])
        assert list(scan) == [(b"b", b"1")]
        assert store.get(b"b") == b"2"
        store.close()

    async def test_it_survives_closing_and_opening(self, site: StoreSite) -> None:
        store = site.open()
        await store.commit({b"a": b"1"}, [], copy=b"copy 1")
        store.close()
        store.close()
        store = site.open()
        assert store.get(b"a") == b"1"
        assert store.copies() == [b"copy 1"]
        store.close()

    async def test_commits_take_effect_in_call_order(self, site: StoreSite) -> None:
        store = site.open()
        await asyncio.gather(
            *(store.commit({b"last": b"%d" % number, b"%03d" % number: b""}, []) for number in range(200))
        )
        assert store.get(b"last") == b"199"
        assert len(list(store.scan(b""))) == 201
        store.close()

    async def test_close_waits_for_commits_under_way(self, site: StoreSite) -> None:
        store = site.open()
        waiting = [asyncio.ensure_future(store.commit({b"%d" % number: b""}, [])) for number in range(20)]
        await asyncio.sleep(0)
        store.close()
        await asyncio.gather(*waiting)
        store = site.open()
        assert len(list(store.scan(b""))) == 20
        store.close()

    async def test_after_close_a_commit_is_refused(self, site: StoreSite) -> None:
        store = site.open()
        store.close()
        with pytest.raises(StoreBroken):
            await store.commit({b"a": b"1"}, [])

    async def test_the_copies_are_the_last_two_newest_first(self, site: StoreSite) -> None:
        store = site.open()
        assert store.copies() == []
        for number in range(1, 6):
            await store.commit({b"n": b"%d" % number}, [], copy=b"copy %d" % number)
            expected = [b"copy %d" % number, b"copy %d" % (number - 1)][: min(number, 2)]
            assert store.copies() == expected
        await store.commit({b"n": b"no copy"}, [])
        assert store.copies() == [b"copy 5", b"copy 4"]
        store.close()
        store = site.open()
        await store.commit({}, [], copy=b"copy 6")
        assert store.copies() == [b"copy 6", b"copy 5"]
        store.close()

    async def test_full_is_nothing_written_and_deletions_go_on(self, site: StoreSite) -> None:
        store = site.small()
        count = await fill(store)
        assert store.get(b"%05d" % count) is None
        assert store.copies()[0] == b"copy %d" % (count - 1)
        assert 0.8 < store.usage() <= 1.05
        for _ in range(20):
            with pytest.raises(StoreFull):
                await store.commit({b"big": b"x" * 50_000}, [])
        await store.commit({b"00000": b"y" * 1000}, [])  # replacing does not grow
        for number in range(1, count):
            await store.commit({b"state": b"%d" % number}, [b"%05d" % number], copy=b"deleted %d" % number)
        assert store.usage() < 0.3
        await store.commit({b"big": b"x" * 50_000}, [])
        assert store.get(b"00000") == b"y" * 1000
        assert len(list(store.scan(b""))) == 3
        store.close()

    async def test_a_full_commit_does_not_fail_its_neighbours(self, site: StoreSite) -> None:
        store = site.small()
        await store.commit({b"a": b"1"}, [])
        results = await asyncio.gather(
            store.commit({b"b": b"1"}, []),
            store.commit({b"huge": b"x" * 8_000_000}, [b"a"]),
            store.commit({b"c": b"1"}, []),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), StoreFull, type(None)]
        assert list(store.scan(b"")) == [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]
        store.close()

    async def test_written_bytes_grow_with_commits_only(self, site: StoreSite) -> None:
        store = site.open()
        await store.commit({b"a": b"1"}, [])
        before = store.written_bytes()
        assert before > 0
        list(store.scan(b""))
        store.usage()
        assert store.written_bytes() == before
        await store.commit({b"a": b"x" * 100_000}, [])
        assert before + 100_000 < store.written_bytes() < before + 200_000
        store.close()
