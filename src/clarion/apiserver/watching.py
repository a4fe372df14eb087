"""The watch verb: a stream of changes from a version on, with bookmarks and an end."""

import msgspec
from aiohttp import web

from clarion.apiserver.present import Presenter
from clarion.apiserver.registry import Target
from clarion.apiserver.requests import (
    Form,
    read_flag,
    read_form,
    read_number,
    read_selection,
    read_version,
)
from clarion.apiserver.selectors import Selection
from clarion.apiserver.status import ApiError, Json, version_not_reached
from clarion.apiserver.store import Change, ChangeType, Entry, Store
from clarion.apiserver.watchcache import Subscription, WatchCache
from clarion.apiserver.wire import decode, encode
from clarion.base import limits
from clarion.base.ports import Clock

_TYPES = {
    ChangeType.ADDED: "ADDED",
    ChangeType.MODIFIED: "MODIFIED",
    ChangeType.DELETED: "DELETED",
}


class Stream(msgspec.Struct):
    """One watch: what it asked for, and how far it is."""

    target: Target
    selection: Selection
    form: Form
    bookmarks: bool
    deadline: float
    headers_sent: bool = False


class Watching:
    """Serves watches."""

    def __init__(
        self,
        store: Store,
        cache: WatchCache,
        presenter: Presenter,
        clock: Clock,
        bookmark_seconds: float,
    ) -> None:
        self._store = store
        self._cache = cache
        self._presenter = presenter
        self._clock = clock
        self._bookmark_seconds = bookmark_seconds

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Serve one watch until its time is over, the client goes, or it falls behind.

        Raises:
            ApiError: refused before the stream began.
        """
        seconds = read_number(request.query, "timeoutSeconds") or limits.API_WATCH_SECONDS
        stream = Stream(
            target=target,
            selection=read_selection(target, request.query),
            form=read_form(request.headers.get("Accept", ""), request.query),
            bookmarks=read_flag(request.query, "allowWatchBookmarks"),
            deadline=self._clock.monotonic() + min(seconds, limits.API_WATCH_SECONDS),
        )
        fields = stream.selection.fields
        namespace = target.namespace or fields.namespace or None
        name = target.name or fields.name or None
        asked = read_version(request.query)
        if asked is not None and asked > self._store.revision:
            raise version_not_reached(asked, self._store.revision)
        # From here to `prepare` nothing awaits: the subscription begins exactly at `start`.
        subscription = self._cache.subscribe(target.resource.id, namespace, name)
        start = self._store.revision
        try:
            initial = read_flag(request.query, "sendInitialEvents")
            state = self._state(stream, namespace, name) if asked is None or initial else None
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            try:
                if state is not None:
                    await response.write(self._initial(stream, state, start, marked=initial))
                elif asked is not None:
                    await self._catch_up(response, stream, asked, start, namespace, name)
                await self._follow(response, stream, subscription, start)
            except ApiError as error:
                await response.write(_frame("ERROR", encode(error.to_status())))
            await response.write_eof()
        finally:
            self._cache.unsubscribe(subscription)
        return response

    def _state(self, stream: Stream, namespace: str | None, name: str | None) -> list[Entry]:
        entries = self._store.page(stream.target.resource.id, namespace).entries
        return [
            entry
            for entry in entries
            if (name is None or entry.key.name == name) and stream.selection.matches(entry)
        ]

    def _initial(self, stream: Stream, state: list[Entry], start: int, *, marked: bool) -> bytes:
        frames = [self._event(stream, "ADDED", entry.body) for entry in state]
        if marked and stream.bookmarks:
            frames.append(self._bookmark(stream, start, initial_end=True))
        return b"".join(frames)

    async def _catch_up(
        self,
        response: web.StreamResponse,
        stream: Stream,
        after: int,
        until: int,
        namespace: str | None,
        name: str | None,
    ) -> None:
        """Send what happened between the version asked for and the subscription.

        Raises:
            ApiError: 410, part of it is compacted.
        """
        resource = stream.target.resource.id
        while after < until:
            changes = self._store.history(
                resource, after, until, with_previous=bool(stream.selection)
            )
            if not changes:
                return
            after = changes[-1].entry.revision
            wanted = [
                change
                for change in changes
                if namespace in (None, change.entry.key.namespace)
                and name in (None, change.entry.key.name)
            ]
            await self._send(response, stream, wanted)

    async def _follow(
        self,
        response: web.StreamResponse,
        stream: Stream,
        subscription: Subscription,
        start: int,
    ) -> None:
        now = self._clock.monotonic()
        sent, next_bookmark = start, now + self._bookmark_seconds
        while now < stream.deadline:
            wait = stream.deadline if not stream.bookmarks else min(next_bookmark, stream.deadline)
            await subscription.wait(max(wait - now, 0))
            if subscription.closed:
                return
            reached = self._store.revision
            await self._send(response, stream, subscription.take())
            now = self._clock.monotonic()
            if stream.bookmarks and now >= min(next_bookmark, stream.deadline):
                # A client that resumes from here misses nothing: all up to it has been written.
                sent = max(sent, reached)
                await response.write(self._bookmark(stream, sent))
                next_bookmark = now + self._bookmark_seconds

    async def _send(
        self, response: web.StreamResponse, stream: Stream, changes: list[Change]
    ) -> None:
        frames = []
        for change in changes:
            kind, body = _seen(stream.selection, change)
            if kind:
                frames.append(self._event(stream, kind, body))
        if frames:
            await response.write(b"".join(frames))

    def _event(self, stream: Stream, kind: str, body: bytes) -> bytes:
        shown = self._presenter.one(
            stream.target, body, stream.form, headers=not stream.headers_sent
        )
        stream.headers_sent = True
        return _frame(kind, shown)

    def _bookmark(self, stream: Stream, revision: int, *, initial_end: bool = False) -> bytes:
        metadata: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind = stream.target.kind
        body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        return _frame("BOOKMARK", encode(body))


def _frame(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


def _seen(selection: Selection, change: Change) -> tuple[str, bytes]:
    """The change as a watcher with selectors sees it; an empty type when it does not."""
    entry = change.entry
    if not selection:
        return _TYPES[change.type], entry.body
    now = change.type is not ChangeType.DELETED and selection.matches(entry)
    before = change.previous is not None and selection.matches(change.previous)
    if now:
        return ("MODIFIED" if before else "ADDED"), entry.body
    if not before:
        return "", b""
    if change.type is ChangeType.DELETED:
        return "DELETED", entry.body
    # It left the selection: the watcher gets the state it knew, at the version of the change.
    assert change.previous is not None, "it was selected before"
    body = decode(change.previous.body)
    body["metadata"]["resourceVersion"] = str(entry.revision)
    return "DELETED", encode(body)
