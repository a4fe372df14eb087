"""Who holds which address: one structure from which every count is derived.

Free addresses are range sets, so finding one costs the same in a /8, a /64 or a /28. An address
shared by services is kept in a group of its sharing key, with the addresses on which each port is
still open, so that joining one is a search in range sets too.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

import msgspec

from clarion.base.addr import Address, AddressRange
from clarion.base.duration import format_duration
from clarion.base.rangeset import RangeSet
from clarion.decide.reasons import Reason, reason
from clarion.decide.resting import Rest, Resting
from clarion.decide.settings import Config, Pool
from clarion.model.meta import ObjectKey
from clarion.model.metallb import IPAddressPoolStatus

Port = tuple[str, int]
INT64_MAX = (1 << 63) - 1
FULL_SPACE = (0, (1 << 128) - 1)


class Tenancy(msgspec.Struct, frozen=True, gc=False):
    """What decides whether a service can be one of several on an address.

    Attributes:
        sharing: Sharing key; empty: the service does not share.
        backend: Empty for traffic policy Cluster, the pod selector for Local.
        ports: Protocol and number of every port.
    """

    sharing: str
    backend: str
    ports: frozenset[Port]


class Holding(msgspec.Struct, frozen=True, gc=False):
    """Addresses that a service holds, all from one pool."""

    addresses: tuple[Address, ...]
    pool: str
    tenancy: Tenancy


class PoolUsage(msgspec.Struct, frozen=True):
    """How much of a pool is given out, by IP version; a shared address counts once.

    Attributes:
        reserved: Addresses given only on request, in use or not.
        resting: Addresses that nobody uses, but that are kept from other services for a while.
    """

    assigned: dict[int, int]
    capacity: dict[int, int]
    reserved: dict[int, int]
    resting: dict[int, int]

    def available(self, version: int) -> int:
        """How many addresses of an IP version nobody uses."""
        return self.capacity[version] - self.assigned[version]

    def status(self) -> IPAddressPoolStatus:
        """The status of the pool; numbers beyond 64 bits are shown as the largest there is."""
        return IPAddressPoolStatus(
            assigned_ipv4=self.assigned[4],
            assigned_ipv6=self.assigned[6],
            available_ipv4=min(self.available(4), INT64_MAX),
            available_ipv6=min(self.available(6), INT64_MAX),
        )


def is_buggy(address: Address) -> bool:
    """True for IPv4 addresses ending in .0 or .255, which some old devices refuse."""
    return address.version == 4 and address.value & 255 in (0, 255)


class _Group:
    """Addresses of one pool and IP version that services with one sharing and backend key hold."""

    def __init__(self) -> None:
        self.members = RangeSet()
        self.open: dict[Port, RangeSet] = {}

    def find(self, first: int, last: int, ports: frozenset[Port]) -> int | None:
        """The lowest member from `first` to `last` on which all these ports are open."""
        sets = [self.members, *(self.open[port] for port in ports if port in self.open)]
        value, agreed = first, 0
        while agreed < len(sets):
            agreed = 0
            for members in sets:
                found = members.first_at_least(value)
                if found is None or found > last:
                    return None
                agreed += found == value
                value = found
        return value


class _Use:
    """Services on one address."""

    def __init__(self, pool: str, tenancy: Tenancy) -> None:
        self.pool = pool
        self.sharing, self.backend = tenancy.sharing, tenancy.backend
        self.ports: dict[Port, ObjectKey] = {}
        self.services: dict[ObjectKey, frozenset[Port]] = {}


class _Space:
    """The addresses of one pool and IP version: what may be given to anyone, in declared order."""

    def __init__(self, pool: Pool, version: int) -> None:
        self.ranges = [span for span in pool.ranges if span.version == version]
        self.free = RangeSet()
        for span in self.ranges:
            for first, last in _usable(span, avoid_buggy=pool.avoid_buggy):
                self.free.add(first, last)
        self.capacity = self.free.count
        self.reserved = RangeSet()
        for span in pool.reserved:
            if span.version == version:
                self._reserve(span.first, span.last)
        self.assigned = self.resting = 0
        self._hint = 0

    def _reserve(self, first: int, last: int) -> None:
        """Move what the pool has from `first` to `last` from the free to the reserved addresses."""
        for start, end in self.free.spans():
            low, high = max(start, first), min(end, last)
            if low <= high:
                self.reserved.add(low, high)
        self.free.remove(first, last)

    def find(self, group: _Group | None, ports: frozenset[Port]) -> int | None:
        """The first address, in declared order, that is free or can be shared."""
        for index in range(0 if group else self._hint, len(self.ranges)):
            span = self.ranges[index]
            free = self.free.first_at_least(span.first)
            if free is not None and free > span.last:
                free = None
            if not group:
                if free is not None:
                    self._hint = index
                    return free
                continue
            shared = group.find(span.first, span.last if free is None else free, ports)
            if shared is not None or free is not None:
                return free if shared is None else shared
        return None

    def take(self, value: int) -> None:
        """An address comes into use."""
        self.free.remove(value, value)
        self.assigned += 1

    def give_back(self, value: int) -> None:
        """An address is no longer in use."""
        self.assigned -= 1
        self._open(value)

    def rest(self, value: int) -> None:
        """An address that is not in use may not be given to anyone."""
        self.free.remove(value, value)
        self.resting += value not in self.reserved

    def wake(self, value: int) -> None:
        """Its rest is over."""
        self.resting -= value not in self.reserved
        self._open(value)

    def _open(self, value: int) -> None:
        if value not in self.reserved:
            self.free.add(value, value)
            self._hint = 0


def _usable(span: AddressRange, *, avoid_buggy: bool) -> Iterable[tuple[int, int]]:
    if not avoid_buggy or span.version != 4:
        yield span.first, span.last
        return
    for block in range(span.first >> 8, (span.last >> 8) + 1):
        first, last = max(span.first, (block << 8) + 1), min(span.last, (block << 8) + 254)
        if first <= last:
            yield first, last


class Ledger:
    """Holdings of all services, and what each pool has left.

    Attributes:
        epoch: Counts what can matter to a service that waits, be it only for the reason why it
            does: something was given back, a pool was used up, a service joined an address in
            use, pools changed.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.pools: dict[str, Pool] = {}
        self.epoch = 0
        self.lost = False
        self.now = 0.0
        self._resting = Resting()
        self._spaces: dict[tuple[str, int], _Space] = {}
        self._groups: dict[tuple[str, int, str, str], _Group] = {}
        self._uses: dict[Address, _Use] = {}
        self._holdings: dict[ObjectKey, Holding] = {}
        self._by_pool: dict[str, dict[ObjectKey, None]] = {}
        self._starts: list[tuple[int, int]] = []
        self._spans: list[tuple[int, str]] = []
        self._candidates: dict[str, tuple[tuple[Pool, ...], tuple[Pool, ...]]] = {}
        if config:
            self.set_pools(config.pools, lost=bool(config.lost_pools))

    def set_pools(self, pools: Mapping[str, Pool], *, lost: bool = False) -> None:
        """Adopt other pools; who no longer has all addresses in one of them loses them.

        Args:
            pools: All pools that are valid.
            lost: There are more, but their addresses cannot be told.
        """
        self.epoch += lost != self.lost
        self.lost = lost
        changed = [n for n in self.pools.keys() | pools.keys() if self._differs(n, pools.get(n))]
        moved = {key: self._holdings[key] for n in changed for key in self._by_pool.get(n, ())}
        for key in moved:
            self._drop(key)
        rests = [rest for name in changed for rest in self._resting.take(name)]
        self.pools = dict(pools)
        self._candidates.clear()
        for name in changed:
            for version in (4, 6):
                self._spaces.pop((name, version), None)
                if name in pools:
                    self._spaces[name, version] = _Space(pools[name], version)
        spans = sorted(
            (span.version, span.first, span.last, name)
            for name, pool in pools.items()
            for span in pool.ranges
        )
        self._starts = [(version, first) for version, first, _, _ in spans]
        self._spans = [(last, name) for _, _, last, name in spans]
        for key, holding in sorted(moved.items()):
            pool = self.owner(holding.addresses)
            if isinstance(pool, Pool):
                self._put(key, msgspec.structs.replace(holding, pool=pool.name))
            else:
                rests += [Rest(address, key, self.now) for address in holding.addresses]
        self.restore(rests)
        self.epoch += bool(changed)
        self._wake_rested()

    def _differs(self, name: str, new: Pool | None) -> bool:
        old = self.pools.get(name)
        if old is None or new is None:
            return old is not new
        return (old.ranges, old.avoid_buggy, old.reserved) != (
            new.ranges,
            new.avoid_buggy,
            new.reserved,
        )

    # Rest.

    def advance(self, now: float) -> None:
        """Time has passed: who rested long enough may be given to anyone."""
        self.now = max(self.now, now)
        self._wake_rested()

    def _wake_rested(self) -> None:
        for name in self._resting.pools():
            while rest := self._resting.first(name):
                if rest.released + self.pools[name].hold_down > self.now:
                    break
                self._wake(name, rest.address)
                self.epoch += 1

    def next_deadline(self) -> float | None:
        """When the next address has rested long enough; None if none rests."""
        found = ((self._resting.first(name), self.pools[name]) for name in self._resting.pools())
        return min((rest.released + pool.hold_down for rest, pool in found if rest), default=None)

    def resting(self, pool: str | None = None) -> tuple[Rest, ...]:
        """Every address at rest, in one pool or all."""
        return self._resting.of(self._resting.pools() if pool is None else (pool,))

    def restore(self, rests: Iterable[Rest]) -> None:
        """Lay addresses to rest that nobody uses, as far as their pools want it."""
        for rest in sorted(rests, key=lambda rest: rest.age):
            pool = self.owner((rest.address,))
            if isinstance(pool, Reason) or not pool.hold_down or rest.address in self._uses:
                continue
            if self._resting.get(rest.address) or rest.released + pool.hold_down <= self.now:
                continue
            self._spaces[pool.name, rest.address.version].rest(rest.address.value)
            surplus = self._resting.add(pool.name, rest)
            if surplus:
                self._wake(pool.name, surplus)

    def _wake(self, pool: str, address: Address) -> bool:
        woken = self._resting.wake(pool, address)
        if woken:
            self._spaces[pool, address.version].wake(address.value)
        return woken

    # Who has what.

    def holding(self, service: ObjectKey) -> Holding | None:
        """What the service holds."""
        return self._holdings.get(service)

    def holdings(self) -> Mapping[ObjectKey, Holding]:
        """What every service holds."""
        return self._holdings

    def held_in(self, pool: str) -> Iterable[ObjectKey]:
        """Services that hold addresses of a pool."""
        return self._by_pool.get(pool, ())

    def services_on(self, address: Address) -> tuple[ObjectKey, ...]:
        """Services that hold an address."""
        use = self._uses.get(address)
        return tuple(sorted(use.services)) if use else ()

    def usage(self, pool: str) -> PoolUsage:
        """How much of a pool is given out."""
        spaces = {version: self._spaces[pool, version] for version in (4, 6)}
        return PoolUsage(
            {version: space.assigned for version, space in spaces.items()},
            {version: space.capacity for version, space in spaces.items()},
            {version: space.reserved.count for version, space in spaces.items()},
            {version: space.resting for version, space in spaces.items()},
        )

    def pool_of(self, address: Address) -> Pool | None:
        """The pool that contains an address, used or not."""
        index = bisect_right(self._starts, (address.version, address.value)) - 1
        if index < 0 or self._starts[index][0] != address.version:
            return None
        last, name = self._spans[index]
        return self.pools[name] if address.value <= last else None

    def owner(self, addresses: Iterable[Address]) -> Pool | Reason:
        """The one pool that has all the addresses to give."""
        found: Pool | None = None
        for address in addresses:
            pool = self.pool_of(address)
            if pool is None:
                return reason("address-in-no-pool", address=str(address))
            if pool.avoid_buggy and is_buggy(address):
                return reason("address-buggy", address=str(address), pool=pool.name)
            if found is not None and found is not pool:
                return reason("addresses-of-two-pools", one=found.name, two=pool.name)
            found = pool
        return found or reason("address-in-no-pool", address="(none)")

    def is_reserved(self, address: Address) -> bool:
        """True if the address is given only on request."""
        pool = self.pool_of(address)
        space = self._spaces[pool.name, address.version] if pool else None
        return space is not None and address.value in space.reserved

    def find(self, service: ObjectKey, pool: str, version: int, tenancy: Tenancy) -> Address | None:
        """The address of a pool that the service had until lately, or the first it may have."""
        for address in self._resting.own(pool, service):
            if address.version == version and not self.is_reserved(address):
                return address
        group = None
        if tenancy.sharing:
            group = self._groups.get((pool, version, tenancy.sharing, tenancy.backend))
        value = self._spaces[pool, version].find(group, tenancy.ports)
        return None if value is None else Address(version, value)

    def refusal(self, service: ObjectKey, address: Address, tenancy: Tenancy) -> Reason | None:
        """Why the services on an address do not let this one in; None if they do."""
        use = self._uses.get(address)
        if use is None:
            return self._rest_refusal(service, address)
        if len(use.services) == 1 and service in use.services:
            return None
        other = str(min(key for key in use.services if key != service))
        text = str(address)
        if not tenancy.sharing or not use.sharing:
            return reason("address-held", address=text, service=other)
        if tenancy.sharing != use.sharing:
            facts = {"address": text, "service": other, "key": use.sharing}
            return reason("sharing-key-differs", wanted=tenancy.sharing, **facts)
        if tenancy.backend != use.backend:
            return reason("sharing-backend-differs", address=text, service=other)
        for port in sorted(tenancy.ports & use.ports.keys()):
            if use.ports[port] != service:
                holder = str(use.ports[port])
                wanted = f"{port[0]}/{port[1]}"
                return reason("sharing-port-taken", address=text, service=holder, port=wanted)
        return None

    def _rest_refusal(self, service: ObjectKey, address: Address) -> Reason | None:
        rest, pool = self._resting.get(address), self.pool_of(address)
        if rest is None or pool is None or rest.service == service:
            return None
        facts = {"address": str(address), "service": str(rest.service)}
        return reason("address-resting", time=format_duration(pool.hold_down), **facts)

    def hold(self, service: ObjectKey, holding: Holding) -> None:
        """Give the service these addresses instead of what it held; they must be allowed."""
        old = self._holdings.get(service)
        if old == holding:
            return
        if old:
            self._drop(service)
            self.epoch += 1
        self._put(service, holding)
        if old:
            self.restore(Rest(address, service, self.now) for address in old.addresses)

    def release(self, service: ObjectKey) -> Holding | None:
        """Take everything from the service; what it held."""
        holding = self._holdings.get(service)
        if holding:
            self._drop(service)
            self.epoch += 1
            self.restore(Rest(address, service, self.now) for address in holding.addresses)
        return holding

    def _put(self, service: ObjectKey, holding: Holding) -> None:
        tenancy = holding.tenancy
        self._holdings[service] = holding
        self._by_pool.setdefault(holding.pool, {})[service] = None
        for address in holding.addresses:
            use = self._uses.get(address)
            if use is None:
                use = self._uses[address] = _Use(holding.pool, tenancy)
                self.epoch += self._wake(holding.pool, address)
                space = self._spaces[holding.pool, address.version]
                space.take(address.value)
                self.epoch += not space.free
            else:
                self.epoch += 1
            use.services[service] = tenancy.ports
            for port in tenancy.ports:
                use.ports[port] = service
            # Joining a reserved address would be getting it without asking for it.
            if tenancy.sharing and not self.is_reserved(address):
                self._join(holding.pool, address, tenancy)

    def _join(self, pool: str, address: Address, tenancy: Tenancy) -> None:
        key = (pool, address.version, tenancy.sharing, tenancy.backend)
        group = self._groups.setdefault(key, _Group())
        group.members.add(address.value, address.value)
        for port in tenancy.ports:
            if port not in group.open:
                group.open[port] = RangeSet([FULL_SPACE])
            group.open[port].remove(address.value, address.value)

    def _drop(self, service: ObjectKey) -> None:
        holding = self._holdings.pop(service)
        del self._by_pool[holding.pool][service]
        for address in holding.addresses:
            use = self._uses[address]
            ports = use.services.pop(service)
            for port in ports:
                del use.ports[port]
            if use.sharing and not self.is_reserved(address):
                key = (holding.pool, address.version, use.sharing, use.backend)
                group = self._groups[key]
                for port in ports:
                    group.open[port].add(address.value, address.value)
                if not use.services:
                    group.members.remove(address.value, address.value)
                    if not group.members:
                        del self._groups[key]
            if not use.services:
                del self._uses[address]
                self._spaces[holding.pool, address.version].give_back(address.value)

    def candidates(self, namespace: str) -> tuple[tuple[Pool, ...], tuple[Pool, ...]]:
        """Pools to try for a service of a namespace: the scoped ones by priority, then the others.

        Pools of equal priority are tried in the order of their names.
        """
        if namespace not in self._candidates:
            automatic = [pool for _, pool in sorted(self.pools.items()) if pool.auto_assign]
            scoped = [
                pool
                for pool in automatic
                if pool.scoped and (pool.namespaces is None or namespace in pool.namespaces)
            ]
            scoped.sort(key=lambda pool: (pool.priority, pool.name))
            general = tuple(pool for pool in automatic if not pool.scoped)
            self._candidates[namespace] = (tuple(scoped), general)
        return self._candidates[namespace]
