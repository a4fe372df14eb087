"""Fan-out of committed changes to watchers.

Each watcher has a queue bounded in events and bytes. One that does not keep up is closed; the
client then watches again from the last version it saw, as with any Kubernetes API. A change is
put into queues as it is: selection and encoding are done by the watcher's own task.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from clarion.apiserver.status import too_many_requests
from clarion.apiserver.store import Change
from clarion.base import limits


class Subscription:
    """The changes of one resource (and namespace, or object) for one watcher."""

    def __init__(self, resource: str, namespace: str | None, name: str | None) -> None:
        self.resource = resource
        self._namespace = namespace
        self._name = name
        self._queue: deque[Change] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self.closed = False

    def offer(self, change: Change) -> None:
        """Queue a change, or close the watcher if it is too far behind."""
        key = change.entry.key
        if self._namespace is not None and key.namespace != self._namespace:
            return
        if self._name is not None and key.name != self._name:
            return
        self._bytes += len(change.entry.body)
        if (
            len(self._queue) >= limits.API_WATCH_QUEUE_EVENTS
            or self._bytes > limits.API_WATCH_QUEUE_BYTES
        ):
            self.close()
            return
        self._queue.append(change)
        self._wake.set()

    def close(self) -> None:
        """End the watch; what is queued is dropped."""
        self.closed = True
        self._queue.clear()
        self._wake.set()

    def take(self) -> list[Change]:
        """Everything queued, at once."""
        changes = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        self._wake.clear()
        return changes

    async def wait(self, seconds: float) -> bool:
        """Wait for a change or the end of the watch; False when the time passed instead."""
        if self._queue or self.closed:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


class WatchCache:
    """All watchers, by resource."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Subscription]] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many watchers there are."""
        return self._count

    def publish(self, changes: Sequence[Change]) -> None:
        """Hand a committed batch to the watchers it concerns."""
        for change in changes:
            for watcher in self._watchers.get(change.entry.key.resource, ()):
                if not watcher.closed:
                    watcher.offer(change)

    def subscribe(
        self, resource: str, namespace: str | None = None, name: str | None = None
    ) -> Subscription:
        """Begin to queue changes; what was committed before this call is not among them.

        Raises:
            ApiError: 429, there are too many watchers.
        """
        if self._count >= limits.API_WATCHERS:
            raise too_many_requests("too many watchers", limits.API_RETRY_AFTER_SECONDS)
        watcher = Subscription(resource, namespace, name)
        self._watchers.setdefault(resource, set()).add(watcher)
        self._count += 1
        return watcher

    def unsubscribe(self, watcher: Subscription) -> None:
        """Forget a watcher."""
        watchers = self._watchers.get(watcher.resource, set())
        if watcher in watchers:
            watchers.remove(watcher)
            self._count -= 1

    def close(self) -> None:
        """End every watch."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
