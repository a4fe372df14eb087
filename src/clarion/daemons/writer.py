"""Writes to the API, the latest wanted state of each object only, a bounded number at a time.

Whoever decides puts the write of an object here and goes on. A newer write of the same object
replaces one that waits. A conflict or a vanished object drops the write: the watch brings the newer
object, and deciding about that one puts a new write if one is still needed.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.edge.kubeclient import ApiError, ConflictError, NotFoundError
from clarion.edge.logs import Log
from clarion.proto.kube.backoff import Backoff, BackoffPolicy

Write = Callable[[], Awaitable[object]]

_POLICY = BackoffPolicy(base=0.2, cap=limits.WRITE_RETRY_MAX_SECONDS)


class Writer:
    """Performs writes in the background until cancelled."""

    def __init__(self, clock: Clock, entropy: Entropy, log: Log) -> None:
        self._clock = clock
        self._entropy = entropy
        self._log = log
        self._waiting: OrderedDict[Hashable, Write] = OrderedDict()
        self._busy: set[Hashable] = set()
        self._wake = asyncio.Event()
        self.written = 0
        self.failed = 0

    @property
    def idle(self) -> bool:
        """Whether everything wanted was written."""
        return not self._waiting and not self._busy

    def busy_with(self, key: Hashable) -> bool:
        """Whether a write of this object waits or is under way."""
        return key in self._waiting or key in self._busy

    def put(self, key: Hashable, write: Write) -> None:
        """Want this write of the object `key`, and no earlier one of it."""
        self._waiting[key] = write
        self._wake.set()

    def forget(self, key: Hashable) -> None:
        """Want no write of this object any more."""
        self._waiting.pop(key, None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(limits.WRITES_IN_FLIGHT):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = self._next()
            if key is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._busy.add(key)
            try:
                await self._write(key, self._waiting.pop(key))
            finally:
                self._busy.discard(key)
                self._wake.set()

    def _next(self) -> Hashable | None:
        """The longest-waiting object of which no write is under way: writes stay in order."""
        return next((key for key in self._waiting if key not in self._busy), None)

    async def _write(self, key: Hashable, write: Write) -> None:
        backoff = Backoff(_POLICY)
        while key not in self._waiting:
            try:
                await write()
            except (ConflictError, NotFoundError) as error:
                self._log.debug("write dropped", object=str(key), error=error.message)
                return
            except ApiError as error:
                self.failed += 1
                pause = backoff.fail(self._entropy.random(), error.retry_after)
                self._log.warn(
                    "write failed", object=str(key), error=error.message, retry_seconds=pause
                )
                await asyncio.sleep(pause)
            else:
                self.written += 1
                return
