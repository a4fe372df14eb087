"""The store alone: order, visibility, history, compaction, a full disk."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clarion.apiserver.status import ApiError
from clarion.apiserver.store import Change, ChangeType, Key, Staged, Store
from clarion.apiserver.watchcache import WatchCache
from clarion.apiserver.wire import decode, encode
from clarion.base import limits
from clarion.base.errors import ClarionError


class FixedClock:
    def monotonic(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC)


def key(name: str, namespace: str = "ns") -> Key:
    return Key("things", namespace, name)


def stage(store: Store, name: str, value: int, namespace: str = "ns") -> Staged:
    where = key(name, namespace)
    kind = ChangeType.MODIFIED if store.latest(where) else ChangeType.ADDED
    meta = {"name": name, "resourceVersion": str(store.next_revision)}
    return store.stage(kind, where, encode({"metadata": meta, "value": value}))


def remove(store: Store, name: str) -> Staged:
    entry = store.latest(key(name))
    assert entry is not None
    body = decode(entry.body)
    body["metadata"]["resourceVersion"] = str(store.next_revision)
    return store.stage(ChangeType.DELETED, key(name), encode(body))


def values(store: Store, revision: int | None = None, **options: Any) -> dict[str, int]:
    page = store.page("things", revision=revision, **options)
    return {entry.key.name: decode(entry.body)["value"] for entry in page.entries}


Scenario = Callable[[Store], Coroutine[Any, Any, None]]


def run(directory: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = Store(directory, FixedClock())
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_staged_writes_are_seen_by_writers_and_committed_ones_by_readers(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        batches: list[list[int]] = []
        store.on_commit(lambda changes: batches.append([c.entry.revision for c in changes]))
        first = stage(store, "a", 1)
        second = stage(store, "a", 2)
        assert store.get(key("a")) is None
        latest = store.latest(key("a"))
        assert latest is not None
        assert decode(latest.body)["value"] == 2
        await first.durable()
        await second.durable()
        assert values(store) == {"a": 2}
        assert batches == [[1, 2]]
        assert store.revision == 2
        # While one batch is on its way, the next one gathers and stands on top of it.
        third = stage(store, "a", 3)
        await asyncio.sleep(0)
        fourth = stage(store, "a", 4)
        await third.durable()
        latest = store.latest(key("a"))
        assert latest is not None
        assert decode(latest.body)["value"] == 4
        await fourth.durable()
        assert values(store) == {"a": 4}

    run(tmp_path, scenario)


def test_reopened_store_is_the_same(tmp_path: Path) -> None:
    async def fill(store: Store) -> None:
        for number in range(5):
            await stage(store, f"n{number}", number).durable()
        await remove(store, "n4").durable()

    async def check(store: Store) -> None:
        assert values(store) == {f"n{number}": number for number in range(4)}
        assert store.revision == 6
        assert store.next_revision == 7

    run(tmp_path, fill)
    run(tmp_path, check)


def test_pages_at_one_revision(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        for number in range(10):
            await stage(store, f"n{number}", number).durable()
        await stage(store, "other", 99, namespace="zz").durable()
        at = store.revision
        first = store.page("things", limit=4)
        assert [entry.key.name for entry in first.entries] == ["n0", "n1", "n2", "n3"]
        assert (first.more, first.remaining) == (True, 7)
        await remove(store, "n5").durable()
        await stage(store, "n6", 66).durable()
        await stage(store, "n45", 45).durable()
        then = values(store, at, after=("ns", "n3"), limit=4)
        assert then == {"n4": 4, "n5": 5, "n6": 6, "n7": 7}
        assert values(store, at, after=("ns", "n7"), namespace="ns") == {"n8": 8, "n9": 9}
        assert values(store, at, namespace="zz") == {"other": 99}
        now = values(store, namespace="ns")
        assert "n5" not in now
        assert now["n6"] == 66

    run(tmp_path, scenario)


def test_history_and_its_end(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await stage(store, "a", 1).durable()
        await stage(store, "b", 1).durable()
        await stage(store, "a", 2).durable()
        await remove(store, "b").durable()
        changes = store.history("things", 1, store.revision, with_previous=True)
        assert [(c.type.name, c.entry.key.name) for c in changes] == [
            ("ADDED", "b"),
            ("MODIFIED", "a"),
            ("DELETED", "b"),
        ]
        assert changes[1].previous is not None
        assert decode(changes[1].previous.body)["value"] == 1
        assert changes[0].previous is None
        await store.compact(3)
        with pytest.raises(ApiError) as refused:
            store.history("things", 2, store.revision, with_previous=False)
        assert refused.value.code == 410
        with pytest.raises(ApiError):
            store.page("things", revision=2)
        assert values(store, 3) == {"a": 2, "b": 1}
        assert [c.entry.revision for c in store.history("things", 3, 4, with_previous=False)] == [4]

    run(tmp_path, scenario)


def rows(directory: Path) -> list[tuple[int, str, int]]:
    database = sqlite3.connect(directory / "clarion.db")
    try:
        return database.execute("SELECT rev, name, type FROM log ORDER BY rev").fetchall()
    finally:
        database.close()


def test_compaction_keeps_the_state_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "API_COMPACT_ROWS", 3)

    async def scenario(store: Store) -> None:
        for number in range(30):
            await stage(store, f"n{number % 4}", number).durable()
        await remove(store, "n1").durable()
        await stage(store, "n2", 100).durable()
        await remove(store, "n2").durable()
        await stage(store, "n2", 200).durable()
        await store.compact(31)
        assert values(store) == {"n0": 28, "n2": 200, "n3": 27}
        assert values(store, 31) == {"n0": 28, "n2": 26, "n3": 27}

    run(tmp_path, scenario)
    # n2 before its later changes, the two others, and what is not compacted.
    assert [(rev, name) for rev, name, _ in rows(tmp_path)] == [
        (27, "n2"),
        (28, "n3"),
        (29, "n0"),
        (32, "n2"),
        (33, "n2"),
        (34, "n2"),
    ]

    async def again(store: Store) -> None:
        assert store.compacted == 31
        await store.compact(store.revision)
        assert values(store) == {"n0": 28, "n2": 200, "n3": 27}

    run(tmp_path, again)
    assert [name for _, name, _ in rows(tmp_path)] == ["n3", "n0", "n2"]


def test_no_sweep_interrupted_brings_a_deleted_object_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step of the sweep, a restart shows the same objects."""
    monkeypatch.setattr(limits, "API_COMPACT_ROWS", 1)

    async def fill(store: Store) -> None:
        for name in "abc":
            await stage(store, name, 1).durable()
            await stage(store, name, 2).durable()
        for name in "ab":
            await remove(store, name).durable()
        await stage(store, "b", 3).durable()

    run(tmp_path, fill)
    sweep = Store._sweep
    for steps in range(1, 10):

        def limited(store: Store, low: int, high: int, most: int = steps) -> None:
            if high <= most:
                sweep(store, low, high)

        monkeypatch.setattr(Store, "_sweep", limited)

        async def compact(store: Store) -> None:
            assert values(store) == {"b": 3, "c": 2}
            store.compacted = 0
            await store.compact(store.revision)

        run(tmp_path, compact)

    async def check(store: Store) -> None:
        assert values(store) == {"b": 3, "c": 2}

    run(tmp_path, check)


class Index:
    """A stage listener that remembers which names it was told."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def staged(self, change: Change) -> None:
        self.names.append(change.entry.key.name)

    def rolled_back(self, entries: Any) -> None:
        self.names = sorted(entry.key.name for entry in entries)


def test_full_disk_refuses_and_forgets(tmp_path: Path) -> None:
    """SQLite itself says that the disk is full; the writes after it did not happen either."""

    async def scenario(store: Store) -> None:
        index = Index()
        store.on_stage(index)
        await stage(store, "a", 1).durable()
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count={pages}")
        big = {"metadata": {"name": "big"}, "value": "x" * 100_000}
        lost = store.stage(ChangeType.ADDED, key("big"), encode(big))
        await asyncio.sleep(0)
        later = stage(store, "a", 2)
        for write in (lost, later):
            with pytest.raises(ApiError) as refused:
                await write.durable()
            assert refused.value.code == 500
        assert values(store) == {"a": 1}
        assert store.latest(key("big")) is None
        assert index.names == ["a"]
        assert store.healthy
        store._writer.execute(f"PRAGMA max_page_count={pages + 1000}")
        await stage(store, "a", 3).durable()
        assert values(store) == {"a": 3}

    run(tmp_path, scenario)

    async def check(store: Store) -> None:
        assert values(store) == {"a": 3}

    run(tmp_path, check)


def test_directory_has_one_user(tmp_path: Path) -> None:
    async def scenario(_store: Store) -> None:
        other = Store(tmp_path, FixedClock())
        with pytest.raises(ClarionError, match="in use by another clarion process"):
            await other.open()
        await other.close()

    run(tmp_path, scenario)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clarion.db").write_text(
        "this is no database, but it is long enough to be read\n" * 99
    )

    async def main() -> None:
        store = Store(tmp_path, FixedClock())
        with pytest.raises(ClarionError, match="cannot be opened"):
            await store.open()
        await store.close()

    asyncio.run(main())


def test_slow_watcher_is_closed_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "API_WATCH_QUEUE_EVENTS", 3)

    async def scenario(store: Store) -> None:
        cache = WatchCache()
        store.on_commit(cache.publish)
        slow, quick = cache.subscribe("things"), cache.subscribe("things")
        elsewhere = cache.subscribe("things", "another")
        for number in range(5):
            await stage(store, "a", number).durable()
            assert len(quick.take()) == 1
        assert slow.closed
        assert not quick.closed
        assert elsewhere.take() == []
        for one in (slow, quick, elsewhere):
            cache.unsubscribe(one)
        assert cache.count == 0

    run(tmp_path, scenario)


def test_watchers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "API_WATCHERS", 1)
    cache = WatchCache()
    cache.subscribe("things")
    with pytest.raises(ApiError) as refused:
        cache.subscribe("things")
    assert refused.value.code == 429
