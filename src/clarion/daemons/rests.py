"""Addresses at rest, kept on their pools: a hold-down outlives the controller that began it.

An annotation of the IPAddressPool lists them, the last released ones if there are too many:
`2026-01-01T00:00:00Z 192.0.2.7 shop/web`, separated by commas. The time is that of the release, in
UTC: how long an address rests is said by the pool's hold-down as it is when somebody asks.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from clarion.base import limits
from clarion.base.addr import Address, parse_address
from clarion.base.errors import InvalidInputError
from clarion.base.ports import Clock
from clarion.daemons.writer import Writer
from clarion.decide.planner import Planner
from clarion.decide.resting import Rest
from clarion.edge.kubeclient import KubeClient
from clarion.model.annotations import RESTING
from clarion.model.meta import ObjectKey
from clarion.model.metallb import IPAddressPool

SAME_SECONDS = 2.0
"""Times of release that differ by less are one: they are written in whole seconds."""


def rests_of(pool: IPAddressPool, wall: datetime, now: float) -> list[Rest]:
    """What the annotation of a pool lists; what cannot be read of it is left out.

    Args:
        pool: The pool.
        wall: The date and time.
        now: The same moment on the clock of the answer, in seconds.
    """
    found = []
    for entry in pool.metadata.annotations.get(RESTING, "").split(","):
        with suppress(ValueError, InvalidInputError):
            text, address, service = entry.split()
            age = (wall - datetime.fromisoformat(text).astimezone(UTC)).total_seconds()
            namespace, _, name = service.partition("/")
            # A clock that was ahead must not prolong the rest.
            released = now - max(0.0, age)
            found.append(Rest(parse_address(address), ObjectKey(namespace, name), released))
    return found


def resting_text(rests: Iterable[Rest], wall: datetime, now: float) -> str:
    """The annotation; arguments as `rests_of`."""
    return ",".join(
        f"{wall - timedelta(seconds=now - rest.released):%Y-%m-%dT%H:%M:%SZ}"
        f" {rest.address} {rest.service}"
        for rest in rests
    )


class Rests:
    """Keeps the annotations of the pools equal to what rests, as one planner decides it.

    Args:
        client: How to reach the API.
        writer: Performs the writes.
        clock: The clock.
        planner: Who decides.
        pools: The pools, as last seen.
    """

    def __init__(
        self,
        client: KubeClient,
        writer: Writer,
        clock: Clock,
        planner: Planner,
        pools: Mapping[ObjectKey, IPAddressPool],
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._planner = planner
        self._pools = pools
        self._begun = False

    def begin(self) -> None:
        """Before the first decision: what rested when the last program wrote."""
        if self._begun:
            return
        self._begun = True
        wall, now = self._clock.now(), self._clock.monotonic()
        rests = (rest for pool in self._pools.values() for rest in rests_of(pool, wall, now))
        self._planner.restore(rests)

    def report(self, pool_key: ObjectKey) -> None:
        """Write what rests in a pool, if that is not what its annotation says.

        Entries that are over are no reason to write, unless they are all that is left.
        """
        key = ("rests", pool_key.name)
        pool, settings = self._pools.get(pool_key), self._planner.config.pools.get(pool_key.name)
        if pool is None or settings is None:
            self._writer.forget(key)
            return
        wall, now = self._clock.now(), self._clock.monotonic()
        wanted = self._planner.ledger.resting(pool_key.name)[-limits.POOL_RESTS_WRITTEN :]
        told = [
            rest for rest in rests_of(pool, wall, now) if rest.released + settings.hold_down > now
        ]
        present = RESTING in pool.metadata.annotations
        if _same(wanted, told) and (wanted or not present):
            self._writer.forget(key)
            return
        text = resting_text(wanted, wall, now) or None
        patch = {"metadata": {"annotations": {RESTING: text}}}
        self._writer.put(key, partial(self._client.patch, IPAddressPool, pool_key, patch))


def _same(one: Iterable[Rest], other: Iterable[Rest]) -> bool:
    """True if the same addresses rest since the same time."""
    times: tuple[dict[tuple[Address, ObjectKey], float], ...] = tuple(
        {(rest.address, rest.service): rest.released for rest in rests} for rests in (one, other)
    )
    first, second = times
    return first.keys() == second.keys() and all(
        abs(when - second[what]) < SAME_SECONDS for what, when in first.items()
    )
