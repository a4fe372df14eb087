"""Who is alive, told from Leases, and when to take, renew or give up one.

Clocks of different machines are never compared. A holder is alive while its lease was *seen to
change* within the lease's duration on the local monotonic clock; `renewTime` only tells that a
change took place. So a wrong clock on one machine kills nobody, and a stale lease, however recent
its text claims to be, dies after one duration of watching it.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

import msgspec


class LeaseRecord(msgspec.Struct, frozen=True):
    """What a Lease says, and its version for a conditional update."""

    holder: str
    duration: float
    acquire_time: str = ""
    renew_time: str = ""
    transitions: int = 0
    version: str = ""


class _Sighting(msgspec.Struct, frozen=True):
    record: LeaseRecord
    changed_at: float
    confirmed: bool  # a change was seen, so a live holder made it


class Liveness(Enum):
    """What the observer thinks of a lease."""

    UNKNOWN = "unknown"  # never seen, or deleted
    UNCONFIRMED = "unconfirmed"  # seen first less than its duration ago, not yet seen to change
    ALIVE = "alive"
    DEAD = "dead"


class LeaseObserver:
    """Follows any number of leases by name."""

    def __init__(self) -> None:
        self._sightings: dict[str, _Sighting] = {}

    def observe(self, name: str, record: LeaseRecord | None, now: float) -> None:
        """Take note of a lease's present content; None when it was deleted."""
        if record is None:
            self._sightings.pop(name, None)
            return
        last = self._sightings.get(name)
        if last is None:
            self._sightings[name] = _Sighting(record, now, confirmed=False)
        elif (last.record.renew_time, last.record.holder) != (record.renew_time, record.holder):
            self._sightings[name] = _Sighting(record, now, confirmed=True)
        else:
            self._sightings[name] = _Sighting(record, last.changed_at, last.confirmed)

    def liveness(self, name: str, now: float) -> Liveness:
        """What is known of the holder of this lease."""
        sighting = self._sightings.get(name)
        if sighting is None:
            return Liveness.UNKNOWN
        if not sighting.record.holder or now >= sighting.changed_at + sighting.record.duration:
            return Liveness.DEAD
        return Liveness.ALIVE if sighting.confirmed else Liveness.UNCONFIRMED

    def changed_at(self, name: str) -> float | None:
        """When this lease was last seen to change (or first seen); None when it is not known."""
        sighting = self._sightings.get(name)
        return None if sighting is None else sighting.changed_at

    def forgive(self, now: float) -> None:
        """Give every lease a full duration again: no renewal could be seen for a while."""
        for name, last in self._sightings.items():
            self._sightings[name] = _Sighting(last.record, now, last.confirmed)

    def alive(self, now: float) -> frozenset[str]:
        """Holders that are alive or may be: whoever was just seen first has its benefit of doubt.

        A speaker that starts would otherwise think itself alone and claim every address.
        """
        hopeful = (Liveness.ALIVE, Liveness.UNCONFIRMED)
        return frozenset(
            sighting.record.holder
            for name, sighting in self._sightings.items()
            if self.liveness(name, now) in hopeful
        )

    def settled(self, now: float) -> bool:
        """Whether no lease is unconfirmed any more, so that `alive` holds no benefit of doubt."""
        return all(self.liveness(name, now) is not Liveness.UNCONFIRMED for name in self._sightings)

    def deadline(self, now: float) -> float | None:
        """When the next holder dies if nothing more is seen; None when none is alive."""
        ends: Iterable[float] = (
            sighting.changed_at + sighting.record.duration
            for sighting in self._sightings.values()
            if sighting.record.holder
        )
        return min((end for end in ends if end > now), default=None)


# --- holding a lease ------------------------------------------------------------------------


class ElectionPolicy(msgspec.Struct, frozen=True):
    """Times of a leader election in seconds."""

    lease_duration: float  # others wait this long after the last change that they saw
    renew_deadline: float  # the leader stops leading this long after its last good renewal began
    retry_period: float  # between attempts to take or renew

    def __post_init__(self) -> None:
        if not 0 < self.retry_period < self.renew_deadline < self.lease_duration:
            raise ValueError(
                "an election needs 0 < retry_period < renew_deadline < lease_duration, else "
                "two may lead at once"
            )


class Create(msgspec.Struct, frozen=True, tag=True):
    """Write a new Lease; it must not exist."""

    record: LeaseRecord


class Replace(msgspec.Struct, frozen=True, tag=True):
    """Write over the Lease; it must still be of the version in the record."""

    record: LeaseRecord


class Wait(msgspec.Struct, frozen=True, tag=True):
    """Nothing to write now: the lease is held by another who lives, or was renewed just now."""

    holder: str


Decision: TypeAlias = Create | Replace | Wait


class Elector:
    """Decides for one candidate of one lease. Leadership is a fact of the local clock only.

    A leader leads until `renew_deadline` after it *began* its last successful write: that is no
    later than the moment from which others count, and shorter than they wait, so there are never
    two, even if the leader was paused for an hour and has not yet noticed.

    Args:
        identity: The name of this candidate, unique among all.
        policy: The times.
    """

    def __init__(self, identity: str, policy: ElectionPolicy) -> None:
        if not identity:
            raise ValueError("a candidate needs a name")
        self.identity = identity
        self.policy = policy
        self._observer = LeaseObserver()
        self._record: LeaseRecord | None = None
        self._leads_until: float | None = None

    def seen(self, record: LeaseRecord | None, now: float) -> None:
        """The Lease as read from the API just now; None when there is none."""
        self._record = record
        self._observer.observe("", record, now)
        if record is None or record.holder != self.identity:
            self._leads_until = None

    def decide(self, wall: str, now: float, *, ended: bool = False) -> Decision:
        """What to write. Call after `seen`.

        Args:
            wall: The date and time as the record shall carry it.
            now: Monotonic seconds.
            ended: Whether the holder is known to run no more, so that its lease need not be
                waited for.
        """
        record = self._record
        if record is None:
            return Create(self._claim(wall, wall, transitions=0, version=""))
        if record.holder == self.identity:
            since = record.acquire_time or wall
            return Replace(self._claim(since, wall, record.transitions, record.version))
        alive = self._observer.liveness("", now) in (Liveness.ALIVE, Liveness.UNCONFIRMED)
        if record.holder and alive and not ended:
            return Wait(record.holder)
        return Replace(self._claim(wall, wall, record.transitions + 1, record.version))

    def written(self, record: LeaseRecord, began: float, now: float) -> None:
        """A write of ours succeeded; `record` is what the API answered, `began` when we asked."""
        self.seen(record, now)
        if record.holder == self.identity:
            self._leads_until = began + self.policy.renew_deadline

    def release(self, wall: str) -> Replace | None:
        """The write that gives the lease up at once; None when it is not ours."""
        self._leads_until = None
        record = self._record
        if record is None or record.holder != self.identity:
            return None
        return Replace(
            LeaseRecord(
                holder="",
                duration=1.0,
                acquire_time=wall,
                renew_time=wall,
                transitions=record.transitions,
                version=record.version,
            )
        )

    def leads(self, now: float) -> bool:
        """Whether this candidate may act as the leader at this very moment."""
        return self._leads_until is not None and now < self._leads_until

    @property
    def leads_until(self) -> float | None:
        """When leadership ends unless renewed; None while another leads."""
        return self._leads_until

    @property
    def term(self) -> str:
        """A name for this time of holding the lease; empty while another holds it.

        It stays the same as long as nobody else held the lease in between, even if leadership was
        interrupted because the lease could not be renewed in time.
        """
        record = self._record
        if record is None or record.holder != self.identity:
            return ""
        return f"{record.transitions} since {record.acquire_time}"

    @property
    def leader(self) -> str:
        """Who held the lease when it was last read; empty when nobody did."""
        return self._record.holder if self._record else ""

    def _claim(self, since: str, wall: str, transitions: int, version: str) -> LeaseRecord:
        return LeaseRecord(
            holder=self.identity,
            duration=self.policy.lease_duration,
            acquire_time=since,
            renew_time=wall,
            transitions=transitions,
            version=version,
        )
