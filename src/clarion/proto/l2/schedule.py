"""When unsolicited announcements are sent: a burst at take-over, then a refresh, never a flood.

The burst has L2_BURST_ROUNDS rounds, the first at once. After it, each key is refreshed once per
period. All keys share one budget of frames per second; what is due and cannot be paid waits in
order, so that the first round of every address comes before the second round of any.
"""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from clarion.base.limits import (
    L2_BURST_INTERVAL_SECONDS,
    L2_BURST_ROUNDS,
    L2_FRAMES_AT_ONCE,
    L2_PACE_SECONDS,
    L2_REFRESH_GRID_SECONDS,
    L2_REFRESH_SPREAD,
)

Key = TypeVar("Key", bound=Hashable)

_COMPACT_SLACK = 64
_ROUNDING = 1e-6
"""Frames by which a sum of earned credit may fall short of a whole number."""


class _Item:
    """The state of one key."""

    __slots__ = ("cost", "jitter", "rounds_left", "ticket")

    def __init__(self, cost: int, jitter: float, ticket: int) -> None:
        self.cost = cost
        self.jitter = jitter
        self.rounds_left = L2_BURST_ROUNDS
        self.ticket = ticket


class Schedule(Generic[Key]):
    """Deadlines of keys (an address on an interface), paced by a budget.

    Args:
        refresh_seconds: Period after the burst; 0 for no refresh.
        frames_per_second: Long-term budget; up to L2_FRAMES_AT_ONCE frames may go at once.
    """

    def __init__(self, refresh_seconds: float, frames_per_second: float) -> None:
        self._refresh = refresh_seconds
        self._rate = frames_per_second
        self._credit = float(L2_FRAMES_AT_ONCE)
        self._credit_at: float | None = None
        self._items: dict[Key, _Item] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    def configure(self, refresh_seconds: float, frames_per_second: float) -> None:
        """Change period and budget; a refresh that is under way keeps its deadline."""
        self._refresh = refresh_seconds
        self._rate = frames_per_second

    def start(self, key: Key, *, cost: int, now: float, jitter: float) -> None:
        """Begin a burst; a burst or refresh of the same key that is under way is replaced.

        Args:
            key: What is announced.
            cost: Frames per round.
            now: Monotonic seconds.
            jitter: In [0, 1): where in the spread the period of this key lies.
        """
        item = _Item(cost, jitter, 0)
        self._items[key] = item
        self._push(key, item, now)
        self._compact()

    def cancel(self, key: Key) -> None:
        """Announce a key no more; an unknown one is no error."""
        self._items.pop(key, None)
        self._compact()

    def cancel_all(self) -> None:
        """Announce nothing any more."""
        self._items.clear()
        self._heap.clear()

    def take(self, now: float) -> list[Key]:
        """The keys whose frames are to be sent now, each with its next deadline set."""
        self._earn(now)
        due: list[Key] = []
        while (item := self._first()) is not None:
            deadline, _, key = self._heap[0]
            if deadline > now or not self._affordable(item):
                break
            heapq.heappop(self._heap)
            self._credit -= item.cost
            due.append(key)
            self._plan_next(key, item, now)
        return due

    def next_deadline(self) -> float | None:
        """When `take` has something to give, in monotonic seconds; None if never."""
        item = self._first()
        if item is None:
            return None
        deadline = self._heap[0][0]
        if self._credit_at is not None and not self._affordable(item):
            missing = min(item.cost, L2_FRAMES_AT_ONCE) - self._credit
            # A few frames at a time: waking up for each one costs more than the frames.
            wait = max(missing / self._rate, L2_PACE_SECONDS)
            deadline = max(deadline, self._credit_at + wait)
        return deadline

    def _plan_next(self, key: Key, item: _Item, now: float) -> None:
        item.rounds_left = max(item.rounds_left - 1, 0)
        if item.rounds_left:
            self._push(key, item, now + L2_BURST_INTERVAL_SECONDS)
        elif self._refresh > 0:
            spread = 1 + L2_REFRESH_SPREAD * (2 * item.jitter - 1)
            # On a common grid, so that one waking serves many keys.
            ticks = round((now + self._refresh * spread) / L2_REFRESH_GRID_SECONDS)
            self._push(key, item, ticks * L2_REFRESH_GRID_SECONDS)
        else:
            del self._items[key]

    def _push(self, key: Key, item: _Item, deadline: float) -> None:
        self._tickets += 1
        item.ticket = self._tickets
        heapq.heappush(self._heap, (deadline, item.ticket, key))

    def _first(self) -> _Item | None:
        """The item of the earliest deadline; deadlines that were cancelled or replaced go away."""
        while self._heap:
            _, ticket, key = self._heap[0]
            item = self._items.get(key)
            if item is not None and item.ticket == ticket:
                return item
            heapq.heappop(self._heap)
        return None

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._items) + _COMPACT_SLACK:
            items = self._items
            self._heap = [e for e in self._heap if e[2] in items and items[e[2]].ticket == e[1]]
            heapq.heapify(self._heap)

    def _earn(self, now: float) -> None:
        if self._credit_at is not None:
            earned = (now - self._credit_at) * self._rate
            self._credit = min(self._credit + max(earned, 0.0), float(L2_FRAMES_AT_ONCE))
        self._credit_at = now

    def _affordable(self, item: _Item) -> bool:
        return self._credit + _ROUNDING >= min(item.cost, L2_FRAMES_AT_ONCE)
