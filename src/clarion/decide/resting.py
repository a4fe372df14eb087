"""Addresses that rest after their release before another service may have them.

The pool's hold-down says how long; the service that had an address last may have it back at once.
"""

from collections.abc import Iterable

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import POOL_RESTING_ADDRESSES
from clarion.model.meta import ObjectKey


class Rest(msgspec.Struct, frozen=True, gc=False):
    """One address at rest.

    Attributes:
        service: Who had it last.
        released: When it was given back, in seconds on the clock of the caller.
    """

    address: Address
    service: ObjectKey
    released: float

    @property
    def age(self) -> tuple[float, Address]:
        """Key that sorts what rests longest first."""
        return self.released, self.address


class Resting:
    """All addresses at rest, by pool in the order of their release."""

    def __init__(self) -> None:
        self._rests: dict[Address, Rest] = {}
        self._pools: dict[str, dict[Address, None]] = {}
        self._own: dict[tuple[str, ObjectKey], dict[Address, None]] = {}

    def add(self, pool: str, rest: Rest) -> Address | None:
        """An address comes to rest, later than all others of its pool; who must wake for it."""
        queue = self._pools.setdefault(pool, {})
        self._rests[rest.address] = rest
        queue[rest.address] = None
        self._own.setdefault((pool, rest.service), {})[rest.address] = None
        return next(iter(queue)) if len(queue) > POOL_RESTING_ADDRESSES else None

    def wake(self, pool: str, address: Address) -> bool:
        """An address rests no longer; false if it did not."""
        rest = self._rests.pop(address, None)
        if rest is None:
            return False
        del self._pools[pool][address]
        if not self._pools[pool]:
            del self._pools[pool]
        own = self._own[pool, rest.service]
        del own[address]
        if not own:
            del self._own[pool, rest.service]
        return True

    def get(self, address: Address) -> Rest | None:
        """How an address rests, None if it does not."""
        return self._rests.get(address)

    def own(self, pool: str, service: ObjectKey) -> Iterable[Address]:
        """Addresses of a pool that rest since this service had them."""
        return self._own.get((pool, service), ())

    def first(self, pool: str) -> Rest | None:
        """Who rests longest in a pool."""
        queue = self._pools.get(pool)
        return self._rests[next(iter(queue))] if queue else None

    def pools(self) -> tuple[str, ...]:
        """Pools with addresses at rest."""
        return tuple(self._pools)

    def take(self, pool: str) -> list[Rest]:
        """Wake all of a pool at once; how they rested."""
        found = [self._rests[address] for address in self._pools.get(pool, ())]
        for rest in found:
            self.wake(pool, rest.address)
        return found

    def of(self, pools: Iterable[str]) -> tuple[Rest, ...]:
        """Every address at rest in these pools, in order of release."""
        found = (self._rests[item] for pool in pools for item in self._pools.get(pool, ()))
        return tuple(sorted(found, key=lambda rest: rest.age))
