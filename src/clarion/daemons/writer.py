"""Writes to the API, the latest wanted state of each object only, a bounded number at a time.

Whoever decides puts the write of an object here and goes on. A newer write of the same object
replaces one that waits. A conflict or a vanished object drops the write: the watch brings the newer
object, and deciding about that one puts a new write if one is still needed.

Where several programs could write and one may, a fence says until when this one may: no write is
begun or waited for beyond it. What a fence drops is decided anew by whoever may write next.

Two troubles are told apart. When the server is away or overloaded, nothing can be written: all
writes wait, and one at a time tries whether it is back. When it refuses one object, that one waits
alone and delays no other.
"""

import asyncio
import contextlib
import heapq
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from itertools import count

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.edge.kubeclient import ApiError, ConflictError, NotFoundError, UnreachableError
from clarion.edge.logs import Log
from clarion.proto.kube.backoff import Backoff, BackoffPolicy

Write = Callable[[], Awaitable[object]]

Fence = Callable[[], float]
"""Until when writes may be under way, in monotonic seconds; a time that is over: not at all."""

_REFUSED = BackoffPolicy(base=0.2, cap=limits.WRITE_RETRY_MAX_SECONDS)
_AWAY = BackoffPolicy(base=0.2, cap=limits.WRITE_PROBE_MAX_SECONDS)
_OUTAGE_STATUSES = frozenset({0, 429, 502, 503, 504})


class Job(msgspec.Struct, frozen=True, eq=False):
    """A write under way."""

    key: Hashable
    write: Write


class WriteQueue:
    """Which write is next; without I/O, time is passed in.

    Args:
        in_flight: How many writes may be under way at once.
    """

    def __init__(self, in_flight: int = limits.WRITES_IN_FLIGHT) -> None:
        self._in_flight = in_flight
        self._waiting: OrderedDict[Hashable, Write] = OrderedDict()
        self._busy: dict[Hashable, bool] = {}  # the value: still wanted
        self._resting: dict[Hashable, tuple[int, Write]] = {}
        self._alarms: list[tuple[float, int, Hashable]] = []
        self._serial = count()
        self._refusals: dict[Hashable, Backoff] = {}
        self._outage = Backoff(_AWAY)
        self._closed_until = 0.0
        self._silent = False

    def __len__(self) -> int:
        """Objects of which a write waits or is under way."""
        return len(self._waiting.keys() | self._busy.keys() | self._resting.keys())

    def __contains__(self, key: Hashable) -> bool:
        return key in self._waiting or key in self._busy or key in self._resting

    @property
    def away(self) -> bool:
        """Whether the server takes no writes at the moment."""
        return self._outage.failures > 0

    def put(self, key: Hashable, write: Write) -> None:
        """Want this write of the object `key`, and no earlier one of it."""
        self._resting.pop(key, None)
        self._waiting[key] = write

    def forget(self, key: Hashable) -> None:
        """Want no write of this object any more; one that is under way is not tried again."""
        self._waiting.pop(key, None)
        self._resting.pop(key, None)
        self._refusals.pop(key, None)
        if key in self._busy:
            self._busy[key] = False

    def take(self, now: float) -> Job | None:
        """The write to begin now, the longest-waiting first; None if there is none."""
        while self._alarms and self._alarms[0][0] <= now:
            _, serial, key = heapq.heappop(self._alarms)
            if key in self._resting and self._resting[key][0] == serial:
                self._waiting[key] = self._resting.pop(key)[1]
        if now < self._closed_until or self._full:
            return None
        # Of one object one write at a time: its writes stay in order.
        found = next((key for key in self._waiting if key not in self._busy), None)
        if found is None:
            return None
        self._busy[found] = True
        return Job(found, self._waiting.pop(found))

    @property
    def _full(self) -> bool:
        return len(self._busy) >= (1 if self.away else self._in_flight)

    def deadline(self) -> float | None:
        """When `take` may have something although nothing is put and nothing ends; None: never."""
        if self._full:
            return None
        if self._waiting and self._closed_until:
            return self._closed_until
        return self._alarms[0][0] if self._alarms else None

    def succeeded(self, job: Job) -> None:
        """The write ended well, or there is nothing to be written any more."""
        del self._busy[job.key]
        self._refusals.pop(job.key, None)
        self._opened()

    def dropped(self, job: Job) -> None:
        """The write was not begun, and shall not be."""
        del self._busy[job.key]
        self._refusals.pop(job.key, None)

    def clear(self) -> None:
        """Want no write of anything any more; those under way are not tried again."""
        for key in [*self._waiting, *self._resting, *self._busy]:
            self.forget(key)

    def failed(self, job: Job, error: ApiError, now: float, jitter: float) -> float:
        """The write failed; seconds until the next attempt. A newer write is not delayed."""
        wanted = self._busy.pop(job.key) and job.key not in self._waiting
        if error.status in _OUTAGE_STATUSES:
            if now >= self._closed_until:  # of those that were under way together one counts
                self._closed_until = now + self._outage.fail(jitter, error.retry_after)
                self._silent = error.status == 0
            if wanted:
                self._waiting[job.key] = job.write
            return self._closed_until - now
        self._opened()
        if not wanted:
            return 0.0
        pause = self._refusals.setdefault(job.key, Backoff(_REFUSED)).fail(jitter)
        serial = next(self._serial)
        self._resting[job.key] = serial, job.write
        heapq.heappush(self._alarms, (now + pause, serial, job.key))
        return pause

    def heard(self) -> bool:
        """The server was heard of: if it was silent, the next attempt need not wait.

        Returns:
            Whether that changes anything.
        """
        if not self._silent:
            return False
        self._silent = False
        self._closed_until = 0.0
        return True

    def _opened(self) -> None:
        self._outage.succeed()
        self._closed_until = 0.0
        self._silent = False


class Writer:
    """Performs writes in the background until cancelled.

    Args:
        clock: The clock.
        entropy: For jitter between attempts.
        log: Where troubles are told.
        fence: Until when writes may be under way.
    """

    def __init__(
        self, clock: Clock, entropy: Entropy, log: Log, fence: Fence = lambda: math.inf
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._log = log
        self._fence = fence
        self._queue = WriteQueue()
        self._wake = asyncio.Event()
        self.written = 0
        self.failed = 0

    @property
    def idle(self) -> bool:
        """Whether everything wanted was written."""
        return not self._queue

    def busy_with(self, key: Hashable) -> bool:
        """Whether a write of this object waits or is under way."""
        return key in self._queue

    def put(self, key: Hashable, write: Write) -> None:
        """Want this write of the object `key`, and no earlier one of it."""
        self._queue.put(key, write)
        self._wake.set()

    def forget(self, key: Hashable) -> None:
        """Want no write of this object any more."""
        self._queue.forget(key)

    def clear(self) -> None:
        """Want no write of anything any more."""
        self._queue.clear()

    def heard(self) -> None:
        """Something came from the server: if writes wait because it was silent, try again."""
        if self._queue.heard():
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                while (job := self._queue.take(self._clock.monotonic())) is not None:
                    group.create_task(self._perform(job))
                deadline = self._queue.deadline()
                rest = None if deadline is None else deadline - self._clock.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if rest is None else max(0.0, rest)):
                        await self._wake.wait()

    async def _perform(self, job: Job) -> None:
        was_away = self._queue.away
        left = self._fence() - self._clock.monotonic()
        if left <= 0:
            self._queue.dropped(job)
            self._wake.set()
            return
        try:
            await _within(left, job.write)
        except (ConflictError, NotFoundError) as error:
            self._log.debug("write dropped", object=str(job.key), error=error.message)
            self._queue.succeeded(job)
        except ApiError as error:
            self.failed += 1
            self._tell(job, error, was_away=was_away)
        else:
            self.written += 1
            self._queue.succeeded(job)
        if was_away and not self._queue.away:
            self._log.info("the API takes writes again", waiting=len(self._queue))
        self._wake.set()

    def _tell(self, job: Job, error: ApiError, *, was_away: bool) -> None:
        """Note a failure: an outage is one line, not one for each object."""
        now, jitter = self._clock.monotonic(), self._entropy.random()
        pause = self._queue.failed(job, error, now, jitter)
        if not self._queue.away:
            self._log.warn(
                "write refused",
                object=str(job.key),
                error=error.message,
                retry_seconds=round(pause, 1),
            )
        elif not was_away:
            self._log.warn("the API takes no writes; they wait", error=error.message)


async def _within(seconds: float, write: Write) -> None:
    """Perform a write; without an answer in time it counts as one to a server that is away.

    Raises:
        ApiError: the write failed, or its outcome is not known.
    """
    try:
        async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
            await write()
    except TimeoutError:
        raise UnreachableError(0, "Unreachable", "no answer while writing was allowed") from None
