"""Durable objects with revisions: one SQLite log, one writer, and the current state in memory.

A write is staged (it gets its revision, and later writers see it), then committed by the writer
task together with every other write staged meanwhile: one `fsync` for all of them. It is
acknowledged, shown to readers and told to watchers only after that, so nothing that anybody was
shown can be lost by a killed process or a power cut (WAL with `synchronous=FULL`).

The log holds one row per revision with the object as it was then. The state at any revision that
is not compacted can be read from it, which is what continued lists and resumed watches do.
"""

import asyncio
import enum
import fcntl
import logging
import os
import sqlite3
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from clarion.apiserver.status import expired, internal, too_many_requests, unavailable
from clarion.apiserver.wire import StoredMeta, read_meta
from clarion.base import limits
from clarion.base.errors import ClarionError
from clarion.base.ports import Clock

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
  rev INTEGER PRIMARY KEY,
  type INTEGER NOT NULL,
  res TEXT NOT NULL,
  ns TEXT NOT NULL,
  name TEXT NOT NULL,
  at REAL NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS log_key ON log (res, ns, name, rev);
CREATE INDEX IF NOT EXISTS log_res ON log (res, rev);
"""

_INSERT = "INSERT INTO log (rev, type, res, ns, name, at, body) VALUES (?, ?, ?, ?, ?, ?, ?)"

# SQLite takes the other columns from the row that holds the maximum.
_LATEST = "SELECT MAX(rev), type, res, ns, name, at, body FROM log GROUP BY res, ns, name"

_AT_REVISION = """
SELECT rev, res, ns, name, at, body FROM log AS old
WHERE res = :res AND (ns, name) > (:after_ns, :after_name) AND rev <= :rev AND type != 2
  AND (:ns IS NULL OR ns = :ns)
  AND NOT EXISTS (
    SELECT 1 FROM log AS new WHERE new.res = old.res AND new.ns = old.ns
      AND new.name = old.name AND new.rev > old.rev AND new.rev <= :rev)
ORDER BY ns, name LIMIT :limit
"""

# Every row that the newest change of its key in (low, high] replaces, then deletions themselves.
# In this order: were a deletion removed before what it deleted, a crash would bring that back.
_SWEEP = (
    """
DELETE FROM log WHERE rev IN (
  SELECT old.rev FROM (
    SELECT res, ns, name, MAX(rev) AS top FROM log WHERE rev > :low AND rev <= :high
    GROUP BY res, ns, name) AS new
  JOIN log AS old ON old.res = new.res AND old.ns = new.ns AND old.name = new.name
    AND old.rev < new.top)
""",
    "DELETE FROM log WHERE rev > :low AND rev <= :high AND type = 2",
    "INSERT OR REPLACE INTO meta (name, value) VALUES ('swept', :high)",
)


class ChangeType(enum.IntEnum):
    """What happened to an object at a revision."""

    ADDED = 0
    MODIFIED = 1
    DELETED = 2


class Key(NamedTuple):
    """Where an object is kept. `namespace` is empty for cluster-scoped resources."""

    resource: str
    namespace: str
    name: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One object at one revision. `body` is its JSON, resourceVersion included."""

    key: Key
    revision: int
    written: float
    body: bytes
    meta: StoredMeta


class Change(msgspec.Struct, frozen=True, gc=False):
    """One revision: the object after it (for a deletion: its last state) and before it."""

    type: ChangeType
    entry: Entry
    previous: Entry | None


class Page(msgspec.Struct, frozen=True):
    """A part of a list, all of it at one revision. `after` continues it when `more` is true."""

    entries: list[Entry]
    revision: int
    more: bool
    remaining: int | None


class StageListener(Protocol):
    """Keeps an index that must include staged writes, such as allocated addresses."""

    def staged(self, change: Change) -> None:
        """A write got its revision."""

    def rolled_back(self, entries: Iterator[Entry]) -> None:
        """Staged writes failed; `entries` is all that is left."""


class Staged(NamedTuple):
    """A write on its way to the disk."""

    change: Change
    committed: "asyncio.Future[None]"

    async def durable(self) -> Entry:
        """Wait until the write cannot be lost any more.

        Raises:
            ApiError: 500 or 503, the disk refused; the write did not happen.
        """
        await asyncio.shield(self.committed)
        return self.change.entry


class _Table:
    """The committed objects of one resource, in key order."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.order: list[tuple[str, str]] = []
        self.changed = 0

    def apply(self, change: Change) -> None:
        entry = change.entry
        place = (entry.key.namespace, entry.key.name)
        self.changed = entry.revision
        if change.type is ChangeType.DELETED:
            if self.entries.pop(place, None) is not None:
                del self.order[bisect_left(self.order, place)]
            return
        if place not in self.entries:
            insort(self.order, place)
        self.entries[place] = entry


class Store:
    """All objects of the API. Everything but the disk work runs on the event loop."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._tables: dict[str, _Table] = {}
        self._overlay: dict[Key, Change] = {}
        self._pending: list[Change] = []
        self._batch: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._failed = ""
        self._next = 1
        self._objects = 0
        self.revision = 0
        self.compacted = 0
        self._stage_listeners: list[StageListener] = []
        self._commit_listeners: list[Callable[[Sequence[Change]], None]] = []
        self._thread = ThreadPoolExecutor(1, "clarion-store")
        self._lock_file = -1
        self._task: asyncio.Task[None] | None = None

    # Opening and closing.

    async def open(self) -> None:
        """Lock the directory, open or create the database, load the state.

        Raises:
            ClarionError: another process has it open, or it is not a database of ours.
        """
        path = self._directory / "clarion.db"
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock()
            path.touch(mode=0o600)
            self._writer = self._connect(path)
            self._prepare()
            self._reader = self._connect(path)
            self._load()
        except (sqlite3.Error, OSError) as error:
            raise ClarionError(
                f"{path} cannot be opened: {error}",
                "give another --data-dir, or restore the file from a copy",
            ) from error
        self._task = asyncio.create_task(self._commit_forever(), name="store-writer")
        self._task.add_done_callback(self._writer_ended)

    async def close(self) -> None:
        """Commit what is staged and close the database."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._reader.close()
            self._writer.close()
        self._thread.shutdown()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def _lock(self) -> None:
        self._lock_file = os.open(self._directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            self._lock_file = -1
            raise ClarionError(
                f"{self._directory} is in use by another clarion process",
                "stop it, or give another --data-dir",
            ) from None

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=5000")
        connection.execute(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")
        return connection

    def _prepare(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise ClarionError(
                f"the database in {self._directory} has format {version}, "
                f"this program knows {SCHEMA_VERSION}",
                "use the version of Clarion that wrote it",
            )
        self._writer.executescript(_SCHEMA)
        self._writer.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _load(self) -> None:
        row = self._reader.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
        self.compacted = row[0] if row else 0
        self.revision = self.compacted
        for rev, kind, res, ns, name, at, body in self._reader.execute(_LATEST):
            self.revision = max(self.revision, rev)
            table = self._tables.setdefault(res, _Table())
            if kind != ChangeType.DELETED:
                table.entries[(ns, name)] = Entry(
                    Key(res, ns, name), rev, at, body, read_meta(body)
                )
        for table in self._tables.values():
            table.order = sorted(table.entries)
            table.changed = self.revision
            self._objects += len(table.order)
        self._next = self.revision + 1

    # Reading.

    @property
    def healthy(self) -> bool:
        """False once the disk failed in a way that leaves its content in doubt."""
        return not self._failed and not self._closing

    def get(self, key: Key) -> Entry | None:
        """The object as last committed."""
        table = self._tables.get(key.resource)
        return table.entries.get((key.namespace, key.name)) if table else None

    def latest(self, key: Key) -> Entry | None:
        """The object as the next write must see it, staged writes included."""
        staged = self._overlay.get(key)
        if staged is not None:
            return None if staged.type is ChangeType.DELETED else staged.entry
        return self.get(key)

    def entries(self) -> Iterator[Entry]:
        """Every committed object."""
        for table in self._tables.values():
            yield from table.entries.values()

    def select(self, resource: str, namespace: str | None = None) -> list[Entry]:
        """The committed objects of a resource, in key order."""
        return self.page(resource, namespace).entries

    def latest_of(self, resource: str, namespace: str | None = None) -> list[Entry]:
        """The objects of a resource as the next write must see them."""
        found = {entry.key: entry for entry in self.select(resource, namespace)}
        for key, staged in self._overlay.items():
            if key.resource != resource or (namespace is not None and key.namespace != namespace):
                continue
            if staged.type is ChangeType.DELETED:
                found.pop(key, None)
            else:
                found[key] = staged.entry
        return list(found.values())

    def page(
        self,
        resource: str,
        namespace: str | None = None,
        after: tuple[str, str] | None = None,
        limit: int | None = None,
        revision: int | None = None,
    ) -> Page:
        """Up to `limit` objects after a place, as they were at `revision` (default: now).

        Raises:
            ApiError: 410, that revision is compacted.
        """
        table = self._tables.get(resource)
        at = self.revision if revision is None else revision
        if table is None:
            return Page([], at, more=False, remaining=None)
        if table.changed > at:
            return self._page_of_log(resource, namespace, after, limit, at)
        order = table.order
        start = bisect_left(order, after) if after is not None else 0
        if after is not None and start < len(order) and order[start] == after:
            start += 1
        stop = len(order)
        if namespace is not None:
            start = max(start, bisect_left(order, (namespace, "")))
            stop = bisect_left(order, (namespace + "\0", ""))
        end = stop if limit is None else min(stop, start + limit)
        entries = [table.entries[place] for place in order[start:end]]
        return Page(entries, at, more=end < stop, remaining=max(stop - end, 0))

    def _page_of_log(
        self,
        resource: str,
        namespace: str | None,
        after: tuple[str, str] | None,
        limit: int | None,
        at: int,
    ) -> Page:
        self.require_history(at)
        after_ns, after_name = after if after is not None else ("", "")
        rows = self._reader.execute(
            _AT_REVISION,
            {
                "res": resource,
                "ns": namespace,
                "after_ns": after_ns,
                "after_name": after_name,
                "rev": at,
                "limit": -1 if limit is None else limit + 1,
            },
        ).fetchall()
        more = limit is not None and len(rows) > limit
        entries = [
            Entry(Key(res, ns, name), rev, written, body, read_meta(body))
            for rev, res, ns, name, written, body in rows[:limit]
        ]
        return Page(entries, at, more, remaining=None)

    def require_history(self, revision: int) -> None:
        """Refuse a revision whose history is gone.

        Raises:
            ApiError: 410, compacted.
        """
        if revision < self.compacted:
            raise expired(f"too old resource version: {revision} ({self.compacted})")

    def history(
        self, resource: str, after: int, until: int, *, with_previous: bool
    ) -> list[Change]:
        """The next changes of a resource after a revision, at most one page of them.

        Raises:
            ApiError: 410, compacted.
        """
        self.require_history(after)
        rows = self._reader.execute(
            "SELECT rev, type, ns, name, at, body FROM log"
            " WHERE res = ? AND rev > ? AND rev <= ? ORDER BY rev LIMIT ?",
            (resource, after, until, limits.API_WATCH_CATCH_UP_EVENTS),
        ).fetchall()
        changes = []
        for rev, kind, ns, name, at, body in rows:
            entry = Entry(Key(resource, ns, name), rev, at, body, read_meta(body))
            previous = self._before(entry.key, rev) if with_previous else None
            changes.append(Change(ChangeType(kind), entry, previous))
        return changes

    def _before(self, key: Key, revision: int) -> Entry | None:
        row = self._reader.execute(
            "SELECT rev, type, at, body FROM log"
            " WHERE res = ? AND ns = ? AND name = ? AND rev < ? ORDER BY rev DESC LIMIT 1",
            (*key, revision),
        ).fetchone()
        if row is None or row[1] == ChangeType.DELETED:
            return None
        return Entry(key, row[0], row[2], row[3], read_meta(row[3]))

    # Writing.

    def on_stage(self, listener: StageListener) -> None:
        """Tell an index about staged writes, and about everything that is there already."""
        listener.rolled_back(self.entries())
        self._stage_listeners.append(listener)

    def on_commit(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call `listener` with each batch as soon as it is durable, in order."""
        self._commit_listeners.append(listener)

    @property
    def next_revision(self) -> int:
        """The revision that the next staged write gets."""
        return self._next

    def stage(self, kind: ChangeType, key: Key, body: bytes) -> Staged:
        """Give a write its place in the order. `body` must carry `next_revision`.

        Writes staged without an `await` between them are committed together or not at all.

        Raises:
            ApiError: 429 too much is waiting, or 503 the store is closing or failed.
        """
        if self._closing or self._failed:
            raise unavailable(self._failed or "the API server is shutting down")
        if len(self._pending) >= limits.API_PENDING_WRITES:
            raise too_many_requests(
                "too many writes are waiting for the disk", limits.API_RETRY_AFTER_SECONDS
            )
        if kind is ChangeType.ADDED and self._objects >= limits.API_OBJECTS:
            raise too_many_requests(
                f"the store is full ({limits.API_OBJECTS} objects)", limits.API_RETRY_AFTER_SECONDS
            )
        written = self._clock.now().timestamp()
        entry = Entry(key, self._next, written, body, read_meta(body))
        change = Change(kind, entry, self.latest(key))
        self._next += 1
        self._overlay[key] = change
        self._objects += (kind is ChangeType.ADDED) - (kind is ChangeType.DELETED)
        self._pending.append(change)
        if self._batch is None:
            self._batch = asyncio.get_running_loop().create_future()
            self._batch.add_done_callback(_retrieve)
        for listener in self._stage_listeners:
            listener.staged(change)
        self._wake.set()
        return Staged(change, self._batch)

    async def _commit_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            changes, batch = self._pending, self._batch
            self._pending, self._batch = [], None
            if batch is not None:
                try:
                    await loop.run_in_executor(self._thread, self._write, changes)
                except sqlite3.Error as error:
                    self._roll_back(batch, error)
                else:
                    # Acknowledged first: it is on the disk, whatever comes of telling others.
                    batch.set_result(None)
                    self._publish(changes)
            if self._closing and not self._pending:
                return

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours in the writer must not leave clients waiting for ever."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        _log.error("the store's writer failed", exc_info=error)
        self._failed = f"the store's writer failed and must be restarted: {error}"
        if self._batch is not None and not self._batch.done():
            self._batch.set_exception(internal(self._failed))

    def _write(self, changes: Sequence[Change]) -> None:
        """Append to the log; runs in the store's thread."""
        rows = [
            (
                change.entry.revision,
                int(change.type),
                *change.entry.key,
                change.entry.written,
                change.entry.body,
            )
            for change in changes
        ]
        self._transaction(lambda: self._writer.executemany(_INSERT, rows))

    def _transaction(self, work: Callable[[], object]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _publish(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key = change.entry.key
            self._tables.setdefault(key.resource, _Table()).apply(change)
            if self._overlay.get(key) is change:
                del self._overlay[key]
        self.revision = changes[-1].entry.revision
        for listener in self._commit_listeners:
            listener(changes)

    def _roll_back(self, batch: "asyncio.Future[None]", error: sqlite3.Error) -> None:
        """Forget everything staged: later writes were made on top of the failed ones."""
        _log.error("write refused by the disk: %s", error)
        full = error.sqlite_errorname == "SQLITE_FULL"
        if not full:
            # After a failed fsync nobody knows what the disk holds; only a restart reads it back.
            self._failed = f"the store failed and must be restarted: {error}"
        refusal = internal(f"the write was not stored: {error}")
        for waiting in (batch, self._batch):
            if waiting is not None:
                waiting.set_exception(refusal)
        self._pending, self._batch = [], None
        self._overlay.clear()
        self._next = self.revision + 1
        self._objects = sum(len(table.order) for table in self._tables.values())
        for listener in self._stage_listeners:
            listener.rolled_back(self.entries())

    # Compaction.

    async def compact(self, revision: int) -> None:
        """Forget the history up to a revision; the state at it stays readable."""
        bound = min(revision, self.revision)
        if bound <= self.compacted:
            return
        # Readers ask `require_history` first, so from here on nobody looks below the bound.
        self.compacted = bound
        loop = asyncio.get_running_loop()
        low = await loop.run_in_executor(self._thread, self._mark_compacted, bound)
        while low < bound and not self._closing:
            high = min(low + limits.API_COMPACT_ROWS, bound)
            await loop.run_in_executor(self._thread, self._sweep, low, high)
            low = high

    def _mark_compacted(self, bound: int) -> int:
        """Record the bound; give back how far an earlier sweep came."""
        statement = "INSERT OR REPLACE INTO meta (name, value) VALUES ('compacted', ?)"
        self._transaction(lambda: self._writer.execute(statement, (bound,)))
        row = self._writer.execute("SELECT value FROM meta WHERE name = 'swept'").fetchone()
        return int(row[0]) if row else 0

    def _sweep(self, low: int, high: int) -> None:
        values = {"low": low, "high": high}

        def work() -> None:
            for statement in _SWEEP:
                self._writer.execute(statement, values)

        self._transaction(work)
        self._writer.execute("PRAGMA incremental_vacuum(1000)").fetchall()


def _retrieve(future: "asyncio.Future[None]") -> None:
    """Mark a batch's error as seen: its writers may all have gone away."""
    future.exception()
