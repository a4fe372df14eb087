"""Follow-up of deletions: dependents, foreground and orphan deletion, namespaces' content.

Everything is derived from stored objects, so work that a crash interrupted is found again at the
next start.
"""

import asyncio
import logging
from collections.abc import Sequence

from clarion.apiserver.registry import FOREGROUND, ORPHAN, DeleteOptions, Registry, Target
from clarion.apiserver.resources import Resource, resources
from clarion.apiserver.status import ApiError, Json
from clarion.apiserver.store import Change, ChangeType, Entry, Key, Store
from clarion.base import limits

_log = logging.getLogger(__name__)


class Collector:
    """Knows who owns whom, and deletes what has lost its owner or namespace."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._by_id: dict[str, Resource] = {one.id: one for one in resources().values()}
        self._alive: dict[str, Key] = {}
        self._dependents: dict[str, set[Key]] = {}
        self._work: set[Key] = set()
        self._wake = asyncio.Event()

    # Following the store.

    def start(self) -> None:
        """Learn what is stored, and queue what an earlier run left undone."""
        for entry in self._store.entries():
            self._learn(entry)
        for entry in self._store.entries():
            self._queue_if_due(entry)
        self._store.on_commit(self.follow)

    def follow(self, changes: Sequence[Change]) -> None:
        """Note committed changes."""
        for change in changes:
            if change.previous is not None:
                self._forget(change.previous)
            if change.type is ChangeType.DELETED:
                self._alive.pop(change.entry.meta.uid, None)
                self._lost(change.entry)
                continue
            self._learn(change.entry)
            self._queue_if_due(change.entry)

    def _learn(self, entry: Entry) -> None:
        self._alive[entry.meta.uid] = entry.key
        for owner in entry.meta.owner_references:
            self._dependents.setdefault(owner.uid, set()).add(entry.key)

    def _forget(self, entry: Entry) -> None:
        for owner in entry.meta.owner_references:
            keys = self._dependents.get(owner.uid)
            if keys is not None:
                keys.discard(entry.key)
                if not keys:
                    del self._dependents[owner.uid]

    def _lost(self, entry: Entry) -> None:
        """An object is gone: its dependents are due, and whoever waited for it may be."""
        for key in self._dependents.get(entry.meta.uid, ()):
            self._queue(key)
        for owner in entry.meta.owner_references:
            if owner.uid in self._alive:
                self._queue(self._alive[owner.uid])
        if entry.key.namespace:
            self._queue(Key("namespaces", "", entry.key.namespace))

    def _queue_if_due(self, entry: Entry) -> None:
        if entry.meta.deletion_timestamp or any(
            owner.uid not in self._alive for owner in entry.meta.owner_references
        ):
            self._queue(entry.key)

    def _queue(self, key: Key) -> None:
        self._work.add(key)
        self._wake.set()

    # Working.

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            work, self._work = self._work, set()
            for key in sorted(work):
                try:
                    await self._visit(key)
                except ApiError as error:
                    if error.code in (404, 409):
                        continue  # somebody changed it meanwhile: its new state is queued
                    _log.warning("collecting %s: %s", "/".join(key), error)
                    self._work.add(key)
            if self._work:
                await asyncio.sleep(limits.API_RETRY_AFTER_SECONDS)
                self._wake.set()

    async def _visit(self, key: Key) -> None:
        entry = self._store.get(key)
        if entry is None:
            return
        if entry.meta.deletion_timestamp:
            if key.resource == "namespaces":
                await self._empty_namespace(entry)
            if FOREGROUND in entry.meta.finalizers:
                await self._foreground(entry)
            elif ORPHAN in entry.meta.finalizers:
                await self._orphan(entry)
        elif entry.meta.owner_references:
            await self._check_owners(entry)

    def _target(self, key: Key) -> Target:
        resource = self._by_id[key.resource]
        return Target(resource, resource.stored, key.namespace, key.name)

    async def _check_owners(self, entry: Entry) -> None:
        """Delete an object whose owners are all gone; else drop the references to the gone."""
        present = [one for one in entry.meta.owner_references if one.uid in self._alive]
        if len(present) == len(entry.meta.owner_references):
            return
        if present:
            gone = {one.uid for one in entry.meta.owner_references} - {one.uid for one in present}
            await self._drop_owners(entry.key, gone)
        else:
            await self._registry.delete(self._target(entry.key), DeleteOptions(uid=entry.meta.uid))

    async def _drop_owners(self, key: Key, uids: set[str]) -> None:
        def change(body: Json) -> Json:
            meta = body["metadata"]
            owners = meta.get("ownerReferences", [])
            meta["ownerReferences"] = [one for one in owners if one["uid"] not in uids]
            return body

        await self._registry.maintain(self._target(key), change)

    async def _foreground(self, entry: Entry) -> None:
        """Delete dependents first; those that do not block may go on their own time."""
        blocking = False
        for key in sorted(self._dependents.get(entry.meta.uid, ())):
            dependent = self._store.get(key)
            if dependent is None:
                continue
            blocks = any(
                one.uid == entry.meta.uid and one.block_owner_deletion
                for one in dependent.meta.owner_references
            )
            if not dependent.meta.deletion_timestamp:
                # As in Kubernetes only what has dependents itself goes in the foreground too.
                own = bool(self._dependents.get(dependent.meta.uid))
                policy = DeleteOptions(
                    uid=dependent.meta.uid, propagation="Foreground" if own else "Background"
                )
                await self._registry.delete(self._target(key), policy)
            blocking = blocking or (blocks and self._store.get(key) is not None)
        if not blocking:
            await self._drop_finalizer(entry.key, FOREGROUND)

    async def _orphan(self, entry: Entry) -> None:
        for key in sorted(self._dependents.get(entry.meta.uid, ())):
            await self._drop_owners(key, {entry.meta.uid})
        await self._drop_finalizer(entry.key, ORPHAN)

    async def _drop_finalizer(self, key: Key, finalizer: str) -> None:
        def change(body: Json) -> Json:
            meta = body["metadata"]
            meta["finalizers"] = [one for one in meta.get("finalizers", []) if one != finalizer]
            return body

        await self._registry.maintain(self._target(key), change)

    async def _empty_namespace(self, entry: Entry) -> None:
        """Delete the content; when nothing is left, let the namespace go."""
        name = entry.key.name
        left = False
        for resource in self._by_id.values():
            if not resource.namespaced:
                continue
            for found in self._store.select(resource.id, name):
                if not found.meta.deletion_timestamp:
                    await self._registry.delete(self._target(found.key), DeleteOptions())
            left = left or bool(self._store.select(resource.id, name))
        if not left:
            await self._registry.finalize_namespace(self._target(entry.key))
