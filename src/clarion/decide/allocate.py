"""Which addresses a service has: keep, clear, add, assign, or wait, each with its reasons.

`settle` takes what the service may not keep; `place` gives what it lacks; `converge` does both.
Given equal configuration, ledger and service the outcome is equal.
"""

from typing import Literal

import msgspec

from clarion.base.addr import Address
from clarion.base.duration import format_duration
from clarion.decide.demand import Demand, current_addresses, families_text, read_demand
from clarion.decide.ledger import Holding, Ledger
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import Fact, listed
from clarion.decide.selectors import any_matches
from clarion.decide.settings import Pool
from clarion.decide.snapshot import Options
from clarion.model.annotations import IP_ALLOCATED_FROM_POOL, deprecated_annotations
from clarion.model.core import LoadBalancerIngress, Service
from clarion.model.meta import ObjectKey

Action = Literal["ignore", "keep", "assign", "clear", "pending"]
DEFAULTS = Options()
EXHAUSTED = frozenset(("pool-exhausted", "pool-exhausted-but-reserved", "pool-resting"))
"""Reasons that say that a pool has no address to give."""


class Note(msgspec.Struct, frozen=True, gc=False):
    """An event to record on the service: type, reason and message, in MetalLB's words."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was decided about the addresses of one service.

    Attributes:
        action: `ignore`: not ours, write nothing. `keep`, `assign`: it has addresses. `clear`: it
            shall have none. `pending`: it waits for some.
        waiting: It lacks something that a release or a new pool could give.
    """

    service: ObjectKey
    action: Action
    addresses: tuple[Address, ...] = ()
    pool: str = ""
    reasons: tuple[Reason, ...] = ()
    events: tuple[Note, ...] = ()
    waiting: bool = False

    @property
    def ingress(self) -> tuple[LoadBalancerIngress, ...]:
        """What `status.loadBalancer.ingress` shall hold."""
        return tuple(LoadBalancerIngress(ip=str(address)) for address in self.addresses)


class _Work:
    """One service on its way to an outcome."""

    __slots__ = ("changed", "current", "demand", "events", "key", "ledger", "reasons", "service")

    def __init__(self, ledger: Ledger, service: Service, demand: Demand) -> None:
        self.ledger = ledger
        self.service = service
        self.key = service.key
        self.demand = demand
        self.current: Holding | None = None
        self.reasons: list[Reason] = []
        self.events: list[Note] = []
        self.changed = False

    def note(self, kind: Literal["Normal", "Warning"], name: str, message: str) -> None:
        self.events.append(Note(kind, name, message))

    def clear(self, why: Reason) -> None:
        """Take what the service has."""
        self.ledger.release(self.key)
        self.current = None
        self.changed = True
        self.reasons.append(why)

    def hold(self, holding: Holding) -> None:
        """Give the service these addresses."""
        self.ledger.hold(self.key, holding)
        self.current = holding

    def keep(self) -> None:
        """Enter what the service may keep."""
        if self.current:
            self.ledger.hold(self.key, self.current)


Settled = _Work | Outcome
"""A service that may still be given addresses, or one about which all is decided."""


def converge(ledger: Ledger, service: Service, options: Options = DEFAULTS) -> Outcome:
    """Decide about one service and enter the result in the ledger.

    Args:
        ledger: Who holds what, with the pools of the configuration.
        service: The service; its status counts only while the ledger knows nothing of it.
        options: Class to handle, and whether cluster IPs are assumed.
    """
    settled = settle(ledger, service, options)
    return settled if isinstance(settled, Outcome) else place(settled)


def settle(ledger: Ledger, service: Service, options: Options = DEFAULTS) -> Settled:
    """Re-assert what the service has, or take it; releases happen here and only here."""
    key = service.key
    refused = not_ours(service, options)
    if refused:
        released = ledger.release(key)
        ours = released or IP_ALLOCATED_FROM_POOL in service.metadata.annotations
        clear = bool(ours) and refused.code == "not-load-balancer"
        return Outcome(service=key, action="clear" if clear else "ignore", reasons=(refused,))
    demand = read_demand(service, options)
    if isinstance(demand, Reason):
        ledger.release(key)
        event = _DEMAND_EVENTS.get(demand.code)
        notes = (Note("Warning", event, demand.text),) if event else ()
        return Outcome(service=key, action="clear", reasons=(demand,), events=notes)
    work = _Work(ledger, service, demand)
    if left := _left_alone(work):
        return Outcome(service=key, action="ignore", reasons=(left,), waiting=True)
    _reassert(work)
    if demand.request_fault:
        # An unreadable request neither takes what the service has nor gives it anything.
        work.reasons.append(demand.request_fault)
        work.note("Warning", "LoadBalancerFailed", demand.request_fault.text)
        work.keep()
        _note_kept(work)
        return _outcome(work, waiting=False)
    if work.current and demand.requested and set(demand.requested) != set(work.current.addresses):
        texts = (listed(demand.requested), listed(work.current.addresses))
        work.clear(reason("request-differs", wanted=texts[0], addresses=texts[1]))
    work.keep()
    return work


_DEMAND_EVENTS = {
    "cluster-ips-invalid": "noclusterIPsIPFamily",
    "not-enough-cluster-ips": "not enough clusterips",
}
"""Reason why a service cannot be served at all -> MetalLB's event for it."""


def not_ours(service: Service, options: Options) -> Reason | None:
    """Why a service is none of our business; None if it is."""
    spec = service.spec
    if spec.type != "LoadBalancer":
        return reason("not-load-balancer", type=spec.type)
    if (spec.load_balancer_class or "") != options.lb_class:
        named = spec.load_balancer_class or "(none)"
        return reason("class-not-ours", class_=named, ours=options.lb_class or "(none)")
    return None


def _left_alone(work: _Work) -> Reason | None:
    """Why the status stays as it is, whatever it says: a pool that cannot be read may have it."""
    if not work.ledger.lost or work.ledger.holding(work.key):
        return None
    addresses = current_addresses(work.service)
    if isinstance(addresses, Reason):
        return None
    for address in addresses:
        if work.ledger.pool_of(address) is None:
            return reason("address-of-lost-pool", address=str(address))
    return None


def _reassert(work: _Work) -> None:
    """Find what the service has and may keep.

    The ledger is left alone until all is checked: a status that is not followed must leave no
    trace, or each look at it would count as a release and set off the next one.
    """
    held = work.ledger.holding(work.key)
    addresses = held.addresses if held else current_addresses(work.service)
    if isinstance(addresses, Reason):
        work.note("Warning", "nolbIPsIPFamily", addresses.text)
        work.clear(addresses)
        return
    if not addresses:
        return
    if not work.demand.fits_families(addresses):
        families = families_text(work.demand.families)
        work.clear(reason("family-changed", addresses=listed(addresses), families=families))
        return
    granted = _grant(work, addresses)
    if isinstance(granted, Reason):
        work.note("Normal", "ClearAssignment", f"cannot keep its addresses: {granted.text}")
        work.clear(granted)
        return
    wanted = work.demand.pool
    if wanted and wanted != granted.pool:
        work.clear(reason("pool-other-asked-for", wanted=wanted, pool=granted.pool))
        return
    work.current = granted


def _grant(work: _Work, addresses: tuple[Address, ...]) -> Holding | Reason:
    """The holding of exactly these addresses, or why the service may not have them."""
    pool = work.ledger.owner(addresses)
    if isinstance(pool, Reason):
        return pool
    refused = pool_refusal(pool, work.service)
    for address in addresses:
        refused = refused or work.ledger.refusal(work.key, address, work.demand.tenancy)
    return refused or Holding(addresses, pool.name, work.demand.tenancy)


def pool_refusal(pool: Pool, service: Service) -> Reason | None:
    """Why a pool's serviceAllocation keeps a service out; None if it does not."""
    if pool.namespaces is not None and service.namespace not in pool.namespaces:
        return reason("pool-for-other-namespaces", pool=pool.name, namespace=service.namespace)
    if pool.service_selectors and not any_matches(pool.service_selectors, service.metadata.labels):
        return reason("pool-for-other-services", pool=pool.name)
    return None


def place(work: _Work) -> Outcome:
    """Give the service what it lacks, as far as there is any."""
    if work.current:
        waiting = _add_second(work)
        _note_kept(work)
        return _outcome(work, waiting=waiting)
    granted = _assign(work)
    if isinstance(granted, Reason):
        work.reasons.append(granted)
        work.note("Warning", "AllocationFailed", f"no address for the service: {granted.text}")
        return _outcome(work, waiting=True)
    work.hold(granted)
    addresses = listed(granted.addresses)
    work.changed = True
    work.reasons.insert(0, reason("address-assigned", addresses=addresses, pool=granted.pool))
    work.note("Normal", "IPAllocated", f"Assigned IP [{addresses}]")
    lacking = [v for v in work.demand.families if all(v != a.version for a in granted.addresses)]
    for version in lacking:
        _note_missing(
            work, version, _why_none(work.ledger, work.ledger.pools[granted.pool], version)
        )
    return _outcome(work, waiting=bool(lacking))


def _note_missing(work: _Work, version: int, why: Reason) -> Reason:
    held = work.current
    assert held
    missing = reason("second-family-missing", family=version, pool=held.pool, why=why.text)
    work.reasons.append(missing)
    return missing


def _note_kept(work: _Work) -> None:
    if work.current and not work.changed:
        pool, addresses = work.current.pool, listed(work.current.addresses)
        work.reasons.insert(0, reason("address-kept", addresses=addresses, pool=pool))


def _add_second(work: _Work) -> bool:
    """Complete a service that prefers two families and has one; true if it goes on waiting."""
    held, demand = work.current, work.demand
    assert held
    if len(held.addresses) >= len(demand.families) or demand.requested:
        return False
    (missing,) = (v for v in demand.families if v != held.addresses[0].version)
    found = _find(work, work.ledger.pools[held.pool], missing)
    if isinstance(found, Reason):
        work.note("Normal", "AdditionalAssignFailed", _note_missing(work, missing, found).text)
        return True
    both = tuple(sorted((*held.addresses, found)))
    work.hold(Holding(both, held.pool, demand.tenancy))
    work.changed = True
    work.reasons.append(reason("address-added", address=str(found), pool=held.pool))
    work.note("Normal", "IPAllocated", f"Assigned additional IP {found}")
    return False


def _assign(work: _Work) -> Holding | Reason:
    if not work.ledger.pools:
        return reason("no-pools")
    if work.demand.requested:
        return _assign_requested(work)
    if work.demand.pool:
        return _assign_from_pool(work)
    return _assign_automatically(work)


def _assign_requested(work: _Work) -> Holding | Reason:
    demand = work.demand
    text = listed(demand.requested)
    if sorted(address.version for address in demand.requested) != sorted(demand.families):
        families = families_text(demand.families)
        return reason("request-family", addresses=text, families=families)
    # Who holds an address is asked last: all other obstacles stay while services come and go.
    pool = work.ledger.owner(demand.requested)
    if isinstance(pool, Pool) and demand.pool and demand.pool != pool.name:
        return reason("pool-other-asked-for", wanted=demand.pool, pool=pool.name)
    granted = _grant(work, demand.requested)
    if isinstance(granted, Reason):
        return granted
    work.reasons.append(reason("request-granted", addresses=text))
    return granted


def _assign_from_pool(work: _Work) -> Holding | Reason:
    pool = work.ledger.pools.get(work.demand.pool)
    if pool is None:
        return reason("pool-unknown", pool=work.demand.pool)
    refused = pool_refusal(pool, work.service)
    if refused:
        return refused
    work.reasons.append(reason("pool-asked-for", pool=pool.name))
    found, refusals = _choose(work, (pool,))
    return found or refusals[0]


def _assign_automatically(work: _Work) -> Holding | Reason:
    """Try the pools reserved for such services, then the general ones."""
    scoped, general = work.ledger.candidates(work.service.namespace)
    fitting = tuple(pool for pool in scoped if pool_refusal(pool, work.service) is None)
    refusals: list[Reason] = []
    for pools, code in ((fitting, "pool-reserved"), (general, "pool-general")):
        found, refused = _choose(work, pools) if pools else (None, [])
        refusals += refused
        if found:
            work.reasons += [*refusals, reason(code, pool=found.pool)]
            return found
    return _why_no_pool(work, refusals)


def _why_no_pool(work: _Work, refusals: list[Reason]) -> Reason:
    """The reason that stands for all, after noting why each pool that was not tried is out."""
    tried = {str(item.facts["pool"]) for item in refusals}
    for name, pool in sorted(work.ledger.pools.items()):
        if name not in tried:
            refused = pool_refusal(pool, work.service)
            refusals.append(refused or reason("pool-not-automatic", pool=name))
    # A pool that would serve it, had it room, tells more than one that never can.
    never = {item.facts["pool"] for item in refusals if item.code not in EXHAUSTED}
    main = next((item for item in refusals if item.facts["pool"] not in never), refusals[0])
    work.reasons += (item for item in refusals if item is not main)
    return main


def _choose(work: _Work, pools: tuple[Pool, ...]) -> tuple[Holding | None, list[Reason]]:
    """The first pool that has every family; where two are only preferred, the best that has one."""
    demand = work.demand
    partial: dict[int, Holding] = {}
    refusals: list[Reason] = []
    for pool in pools:
        found: list[Address] = []
        for version in demand.families:
            address = _find(work, pool, version)
            if isinstance(address, Reason):
                refusals.append(address)
            else:
                found.append(address)
        if len(found) == len(demand.families):
            return Holding(tuple(found), pool.name, demand.tenancy), refusals
        for address in found if demand.prefers_dual else ():
            single = Holding((address,), pool.name, demand.tenancy)
            partial.setdefault(address.version, single)
    primary = demand.primary
    return partial.get(primary) or next(iter(partial.values()), None), refusals


def _find(work: _Work, pool: Pool, version: int) -> Address | Reason:
    found = work.ledger.find(work.key, pool.name, version, work.demand.tenancy)
    return _why_none(work.ledger, pool, version) if found is None else found


def _why_none(ledger: Ledger, pool: Pool, version: int) -> Reason:
    """Why a pool has no address; nothing here may change without a new epoch of the ledger."""
    usage = ledger.usage(pool.name)
    capacity, reserved = usage.capacity[version], usage.reserved[version]
    where: dict[str, Fact] = {"pool": pool.name, "family": version}
    if not capacity:
        return reason("pool-without-family", **where)
    if usage.resting[version]:
        return reason("pool-resting", **where, time=format_duration(pool.hold_down))
    if reserved:
        where |= {"open": capacity - reserved, "reserved": reserved}
        return reason("pool-exhausted-but-reserved", **where)
    return reason("pool-exhausted", **where, capacity=capacity)


def _outcome(work: _Work, *, waiting: bool) -> Outcome:
    held = work.current
    if work.changed:
        for key in deprecated_annotations(work.service):
            text = f"annotation {key} is deprecated, use the metallb.io/ prefix"
            work.note("Warning", "deprecatedAnnotation", text)
    if held is None:
        return Outcome(
            service=work.key,
            action="pending",
            reasons=tuple(work.reasons),
            events=tuple(work.events),
            waiting=waiting,
        )
    if work.demand.tenancy.sharing:
        _note_sharing(work, held)
    return Outcome(
        service=work.key,
        action="assign" if work.changed else "keep",
        addresses=held.addresses,
        pool=held.pool,
        reasons=tuple(work.reasons),
        events=tuple(work.events),
        waiting=waiting,
    )


def _note_sharing(work: _Work, held: Holding) -> None:
    key = work.demand.tenancy.sharing
    for address in held.addresses:
        work.reasons.append(reason("address-shared", address=str(address), key=key))
