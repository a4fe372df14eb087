"""Kubernetes Events: what happened to an object, for people who run `kubectl describe`."""

import asyncio
from collections import OrderedDict
from typing import Any, Final, Literal

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.edge.kubeclient import ApiError, KubeClient, NotFoundError
from clarion.edge.logs import Log
from clarion.model.core import Event, EventSource
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta, ObjectReference

EventType = Literal["Normal", "Warning"]


class _Identity(msgspec.Struct, frozen=True):
    """What makes two events the same one seen twice."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: str
    reason: str
    message: str


class _Remembered(msgspec.Struct):
    """An event that the server holds."""

    key: ObjectKey
    count: int
    last_at: float


class _Bucket(msgspec.Struct):
    """How many more events one object may have now."""

    tokens: float
    filled_at: float


class _Pending(msgspec.Struct):
    """An event that waits to be written, with how often it happened while it waited."""

    about: ObjectReference
    identity: _Identity
    first: str
    last: str
    times: int


class EventCounts(msgspec.Struct, frozen=True):
    """What became of the events recorded so far."""

    recorded: int = 0
    written: int = 0
    dropped: int = 0
    failed: int = 0


def reference_to(obj: KubeObject) -> ObjectReference:
    """A pointer to an object, as an Event carries it."""
    return ObjectReference(
        api_version=obj.api_version,
        kind=obj.kind,
        namespace=obj.namespace,
        name=obj.name,
        uid=obj.metadata.uid,
        resource_version=obj.metadata.resource_version,
    )


class EventRecorder:
    """Writes events in the background; `record` never blocks and never fails.

    A repeat within the window counts the first event up instead of adding one. An object that has
    a burst of different events is then limited to one each few minutes, and when the API is away
    the oldest waiting events are dropped first.

    Args:
        client: How to reach the server.
        component: Who reports, for example `metallb-controller`.
        clock: The clock.
        entropy: For names.
        host: On which node.
    """

    def __init__(
        self, client: KubeClient, component: str, clock: Clock, entropy: Entropy, host: str = ""
    ) -> None:
        self._client = client
        self._clock = clock
        self._entropy = entropy
        self._source = EventSource(component=component, host=host)
        self._log = Log("events")
        self._waiting: OrderedDict[_Identity, _Pending] = OrderedDict()
        self._memory: OrderedDict[_Identity, _Remembered] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, str, str], _Bucket] = OrderedDict()
        self._wake = asyncio.Event()
        self._counts = EventCounts()

    @property
    def counts(self) -> EventCounts:
        """What became of the events recorded so far."""
        return self._counts

    @property
    def waiting(self) -> int:
        """Events not yet written."""
        return len(self._waiting)

    def record(
        self, about: KubeObject | ObjectReference, type_: EventType, reason: str, message: str
    ) -> None:
        """Report that something happened to an object."""
        if isinstance(about, KubeObject):
            about = reference_to(about)
        message = _shortened(message)
        identity = _Identity(
            about.kind, about.namespace, about.name, about.uid, type_, reason, message
        )
        when = _timestamp(self._clock)
        self._count(recorded=1)
        pending = self._waiting.get(identity)
        if pending is not None:
            pending.times += 1
            pending.last = when
            return
        if not self._allowed((about.kind, about.namespace, about.name)):
            self._count(dropped=1)
            return
        if len(self._waiting) >= limits.EVENT_QUEUE_MAX:
            self._waiting.popitem(last=False)
            self._count(dropped=1)
        self._waiting[identity] = _Pending(about, identity, when, when, 1)
        self._wake.set()

    async def run(self) -> None:
        """Write what is recorded until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits; what the API refuses is dropped, what it cannot take now waits."""
        while self._waiting:
            _, pending = self._waiting.popitem(last=False)
            try:
                await self._write(pending)
                self._count(written=1)
            except ApiError as error:
                if _may_pass(error) and len(self._waiting) < limits.EVENT_QUEUE_MAX:
                    self._requeue(pending)
                    await asyncio.sleep(max(error.retry_after, 1 + self._entropy.random()))
                    continue
                self._count(failed=1)
                self._log.warn(
                    "an event is refused", reason=pending.identity.reason, error=str(error)
                )

    def _requeue(self, pending: _Pending) -> None:
        newer = self._waiting.pop(pending.identity, None)
        if newer is not None:
            pending.times += newer.times
            pending.last = newer.last
        self._waiting[pending.identity] = pending
        self._waiting.move_to_end(pending.identity, last=False)

    async def _write(self, pending: _Pending) -> None:
        known = self._recall(pending.identity)
        if known is not None:
            count = known.count + pending.times
            try:
                patch = {"count": count, "lastTimestamp": pending.last}
                await self._client.patch(Event, known.key, patch)
            except NotFoundError:
                pass  # the server forgets events after an hour: write it anew
            else:
                self._remember(pending.identity, known.key, count)
                return
        event = self._event(pending)
        await self._client.create(event)
        self._remember(pending.identity, event.key, pending.times)

    def _event(self, pending: _Pending) -> Event:
        about = pending.about
        return Event(
            metadata=ObjectMeta(
                name=f"{about.name}.{self._entropy.token(16)}"[-253:],
                namespace=about.namespace or "default",
            ),
            involved_object=about,
            type=pending.identity.type,
            reason=pending.identity.reason,
            message=pending.identity.message,
            count=pending.times,
            first_timestamp=pending.first,
            last_timestamp=pending.last,
            source=self._source,
            reporting_component=self._source.component,
            reporting_instance=self._source.host,
        )

    # --- memory, all bounded ---

    def _recall(self, identity: _Identity) -> _Remembered | None:
        known = self._memory.get(identity)
        if known is None:
            return None
        if self._clock.monotonic() - known.last_at > limits.EVENT_WINDOW_SECONDS:
            del self._memory[identity]
            return None
        return known

    def _remember(self, identity: _Identity, key: ObjectKey, count: int) -> None:
        self._memory[identity] = _Remembered(key, count, self._clock.monotonic())
        self._memory.move_to_end(identity)
        while len(self._memory) > limits.EVENT_MEMORY_MAX:
            self._memory.popitem(last=False)

    def _allowed(self, about: tuple[str, str, str]) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(about, _Bucket(float(limits.EVENT_BURST), now))
        self._buckets.move_to_end(about)
        while len(self._buckets) > limits.EVENT_MEMORY_MAX:
            self._buckets.popitem(last=False)
        gained = (now - bucket.filled_at) / limits.EVENT_REFILL_SECONDS
        bucket.tokens = min(float(limits.EVENT_BURST), bucket.tokens + gained)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _count(self, **more: int) -> None:
        counts: dict[str, Any] = msgspec.structs.asdict(self._counts)
        for name, value in more.items():
            counts[name] += value
        self._counts = EventCounts(**counts)


# No answer, throttled, or failing: the event may be written later.
_PASSING: Final = frozenset({0, 429, 500, 502, 503, 504})


def _may_pass(error: ApiError) -> bool:
    """Whether to try again later; an answer that cannot be read means that the event is there."""
    return error.status in _PASSING and error.reason != "BadAnswer"


def _timestamp(clock: Clock) -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _shortened(message: str) -> str:
    """At most as many bytes as the API takes, cut between characters."""
    data = message.encode()
    if len(data) <= limits.EVENT_MESSAGE_BYTES:
        return message
    return data[: limits.EVENT_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."
