"""Before a new leader decides: what the API holds must have been seen.

The one that led before may have given addresses a moment ago that the watch has not brought yet.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from clarion.base import limits
from clarion.base.errors import DecodeError
from clarion.edge.kubeclient import EVERYTHING, ApiError, KubeClient, Selection
from clarion.edge.logs import Log
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject, ObjectKey
from clarion.proto.kube.wire import decode_metadata, decode_page


async def catch_up(
    client: KubeClient,
    of: type[KubeObject],
    store: Mapping[ObjectKey, KubeObject],
    *,
    selection: Selection = EVERYTHING,
    unread: Callable[[], Collection[str]],
    changed: asyncio.Event,
    wanted: Callable[[], bool],
    log: Log,
) -> None:
    """Until a store holds every object as it is on the server now, or newer.

    Args:
        client: How to ask the server.
        of: The struct of the kind.
        store: Where the watch puts the objects.
        selection: Which objects the watch brings.
        unread: Names (`namespace/name`) of objects that cannot be read, and are not waited for.
        changed: Set when something came from the server, or it is not wanted any more.
        wanted: Whether to go on.
        log: Where troubles are told.
    """
    failing = False
    while wanted():
        try:
            stored = await stored_versions(client, of, selection)
        except (ApiError, DecodeError) as error:
            if not failing:
                log.warn("what is stored cannot be read; nothing is given yet", error=error.message)
            failing = True
            await asyncio.sleep(limits.TAKEOVER_LOOK_SECONDS)
            continue
        with suppress(TimeoutError):
            # Looked at anew: what was deleted meanwhile is in no store and would never come.
            async with asyncio.timeout(limits.TAKEOVER_LOOK_SECONDS):
                while behind := _behind(stored, store, unread()):
                    stored = behind
                    changed.clear()
                    await changed.wait()
                    if not wanted():
                        return
                return


def _behind(
    stored: Mapping[ObjectKey, str], store: Mapping[ObjectKey, KubeObject], unread: Collection[str]
) -> dict[ObjectKey, str]:
    """What is stored in a later version than was seen."""
    return {
        key: version
        for key, version in stored.items()
        if str(key) not in unread and not _reached(store.get(key), version)
    }


def _reached(seen: KubeObject | None, version: str) -> bool:
    if seen is None:
        return False
    have = seen.metadata.resource_version
    if have.isdecimal() and version.isdecimal():
        return int(have) >= int(version)
    return have == version


async def stored_versions(
    client: KubeClient, of: type[KubeObject], selection: Selection
) -> dict[ObjectKey, str]:
    """The version of every object of a selection, read page by page, metadata only.

    Raises:
        ApiError: the server refuses or does not answer.
        DecodeError: its answer is no list.
    """
    found: dict[ObjectKey, str] = {}
    token = ""
    while True:
        body = await client.list_page(kind_of(of), selection, limits.KUBE_PAGE_ITEMS, token)
        page = decode_page(body)
        for raw in page.items:
            meta = decode_metadata(raw)
            found[ObjectKey(meta.namespace, meta.name)] = meta.resource_version
        await asyncio.sleep(0)
        token = page.token
        if not token:
            return found
