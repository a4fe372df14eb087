"""What the API does by itself in time: compaction of history, expiry of events, first objects."""

import asyncio
import logging
import sqlite3

import msgspec

from clarion.apiserver.kindrules import PROTECTED_NAMESPACES, KindRules
from clarion.apiserver.registry import DeleteOptions, Registry, Target, WriteOptions
from clarion.apiserver.resources import Resource, core
from clarion.apiserver.status import ApiError, Json
from clarion.apiserver.store import Key, Store
from clarion.base import limits
from clarion.base.ports import Clock
from clarion.model.meta import CONFIGURATION_NAMESPACES

_log = logging.getLogger(__name__)


async def make_first_objects(store: Store, registry: Registry, rules: KindRules) -> None:
    """Namespaces that every cluster has, and the definitions of the built-in kinds."""
    fresh = store.revision == 0
    # Those of the configuration may be deleted.
    names = PROTECTED_NAMESPACES + (CONFIGURATION_NAMESPACES if fresh else ())
    for name in names:
        await _ensure(store, registry, core("namespaces"), {"metadata": {"name": name}})
    for definition in rules.definitions():
        resource = core("customresourcedefinitions")
        await _ensure(store, registry, resource, definition)


async def _ensure(store: Store, registry: Registry, resource: Resource, body: Json) -> None:
    target = Target(resource, resource.stored, name=body["metadata"]["name"])
    options = WriteOptions(manager="clarion-apiserver")
    if store.get(target.key) is None:
        target = msgspec.structs.replace(target, name="")
        await registry.create(target, _copy(body), options)
    elif resource.plural == "customresourcedefinitions":
        # The registry puts the schemas of this very version of the program in.
        await registry.maintain(target, lambda current: current)


def _copy(body: Json) -> Json:
    return {**body, "metadata": dict(body["metadata"])}


class Upkeep:
    """Compaction and expiry, on the API's own schedule."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    async def run(self, compact_seconds: float) -> None:
        """Work until cancelled.

        Each round forgets what was history at the round before. Between rounds only history beyond
        its limit is cut, so that a flood of writes does not fill the disk.
        """
        before, due = self._store.revision, self._clock.monotonic() + compact_seconds
        while True:
            await asyncio.sleep(min(compact_seconds, limits.API_UPKEEP_SECONDS))
            bound = self._store.revision - limits.API_HISTORY_ROWS
            full_round = self._clock.monotonic() >= due
            try:
                if full_round:
                    await self.expire_events()
                await self._store.compact(max(before, bound) if full_round else bound)
            except (ApiError, sqlite3.Error) as error:
                _log.warning("upkeep: %s", error)
            if full_round:
                before, due = self._store.revision, self._clock.monotonic() + compact_seconds

    async def expire_events(self) -> None:
        """Delete events that nobody wrote to for their time to live."""
        oldest = self._clock.now().timestamp() - limits.API_EVENT_TTL_SECONDS
        resource = core("events")
        due = [one.key for one in self._store.select(resource.id) if one.written < oldest]
        for key in due:
            await self._expire(resource, key)

    async def _expire(self, resource: Resource, key: Key) -> None:
        target = Target(resource, resource.stored, key.namespace, key.name)
        try:
            await self._registry.delete(target, DeleteOptions())
        except ApiError as error:
            if error.code != 404:
                raise
