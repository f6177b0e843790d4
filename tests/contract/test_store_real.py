"""The Store contract on LMDB in a folder, and a hypothesis machine that compares it with a dict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contract.store import StoreContract
from skerry.world.store import LmdbStore, open_store

LOOPS = ("asyncio", "uvloop")


class Site:
    def __init__(self, folder: Path) -> None:
        self._folder, self._opened = folder, list[LmdbStore]()

    def open(self) -> LmdbStore:
        opened = open_store(self._folder / "journal")
        assert opened.problem == ""
        self._opened.append(opened.store)
        return opened.store

    def small(self) -> LmdbStore:
        store = open_store(self._folder / "small", map_bytes=400_000, reserve_bytes=400_000).store
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


class TestLmdbStore(StoreContract):
    pass


KEYS = st.binary(min_size=1, max_size=3) | st.binary(min_size=400, max_size=511)
VALUES = st.binary(max_size=20) | st.binary(min_size=5000, max_size=9000)


class StoreAgainstDict(RuleBasedStateMachine):
    """Commits, several at once, closing and opening: the store is the dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-store-"))
        self.loop = asyncio.new_event_loop()
        self.store = open_store(self.folder).store
        self.model: dict[bytes, bytes] = {}
        self.copies: list[bytes] = []

    @rule(
        commits=st.lists(
            st.tuples(st.dictionaries(KEYS, VALUES, max_size=4), st.lists(KEYS, max_size=3), st.none() | VALUES),
            min_size=1,
            max_size=4,
        )
    )
    def commit(self, commits: list[tuple[dict[bytes, bytes], list[bytes], bytes | None]]) -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*(self.store.commit(*commit) for commit in commits))

        self.loop.run_until_complete(all_at_once())
        for puts, deletes, copy in commits:
            self.model.update(puts)
            for key in deletes:
                self.model.pop(key, None)
            if copy is not None:
                self.copies.insert(0, copy)

    @rule(prefix=st.binary(max_size=2))
    def scan(self, prefix: bytes) -> None:
        assert list(self.store.scan(prefix)) == sorted(
            item for item in self.model.items() if item[0].startswith(prefix)
        )

    @rule()
    def reopen(self) -> None:
        self.store.close()
        opened = open_store(self.folder)
        assert opened.problem == ""
        self.store = opened.store

    @invariant()
    def equal(self) -> None:
        assert dict(self.store.scan(b"")) == self.model
        assert self.store.copies()[:1] == self.copies[:1]

    def teardown(self) -> None:
        self.store.close()
        self.loop.close()
        shutil.rmtree(self.folder)


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
