"""What a change does: the difference of two plans, every part classified and with its reasons.

Nothing is decided here. The reasons are those of the plan that lacks something, and what differs
between the two configurations.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.diff_reasons import (
    address_reasons,
    altered,
    owner_reasons,
    route_reasons,
    session_reasons,
)
from clarion.decide.effects import Effect, FieldChange, field_changes, strongest
from clarion.decide.ledger import PoolUsage
from clarion.decide.plan import Plan, PlannedRoute
from clarion.decide.problems import Problem
from clarion.decide.reasons import Reason
from clarion.model.meta import ObjectKey

AddressKind = Literal["lost", "moved", "gained"]
OwnerKind = Literal["owner-lost", "owner-moved", "owner-gained", "owner-interfaces"]
SessionKind = Literal["session-removed", "session-added", "reset", "next-session", "live", "kept"]
RouteKind = Literal["withdrawn", "changed", "announced"]
PoolKind = Literal["pool-removed", "pool-added", "pool-usage"]

CLASSES: dict[str, str] = {
    "lost": "a service loses an address and gets none of that family in its place",
    "moved": "a service gets another address in place of the one that it has",
    "gained": "a service gets an address",
    "owner-lost": "nobody answers for an address any more",
    "owner-moved": "another node answers for an address",
    "owner-gained": "an address is answered for that was not",
    "owner-interfaces": "an address is answered for on other interfaces",
    "session-removed": "a BGP session ends for good",
    "session-added": "a BGP session begins",
    "reset": "a BGP session is closed and opened again",
    "next-session": "a setting takes effect when the BGP session next comes up",
    "live": "a setting takes effect in the running BGP session",
    "kept": "a setting changes that the BGP session does not notice",
    "withdrawn": "a route is withdrawn from a peer",
    "changed": "a route is sent to a peer with other attributes",
    "announced": "a route is sent to a peer that did not have it",
    "pool-removed": "a pool is not there any more",
    "pool-added": "a pool is new",
    "pool-usage": "a pool has another size or use",
    "problem-new": "a problem arises",
    "problem-solved": "a problem is gone",
}
"""Every class of change, the worst of each kind first."""


class AddressChange(msgspec.Struct, frozen=True, kw_only=True):
    """One family of one service gets another address, loses it, or gains one."""

    change: AddressKind
    service: ObjectKey
    before: Address | None
    after: Address | None
    reasons: tuple[Reason, ...] = ()


class OwnerChange(msgspec.Struct, frozen=True, kw_only=True):
    """Other nodes, or other interfaces, answer for an address.

    Attributes:
        before: Node -> interfaces on which it answers, None for every one.
        after: The same, after the change.
    """

    change: OwnerKind
    address: Address
    before: dict[str, tuple[str, ...] | None]
    after: dict[str, tuple[str, ...] | None]
    reasons: tuple[Reason, ...] = ()


class SessionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the sessions with one peer, on the nodes where it is the same."""

    change: SessionKind
    peer: str
    nodes: tuple[str, ...]
    fields: tuple[FieldChange, ...] = ()
    reasons: tuple[Reason, ...] = ()


class RouteChange(msgspec.Struct, frozen=True, kw_only=True):
    """A route that some nodes tell a peer differently, or no more, or newly.

    Attributes:
        attributes: Names of the attributes that differ, when it is changed.
    """

    change: RouteKind
    peer: str
    prefix: Prefix
    nodes: tuple[str, ...]
    before: AdvertisedRoute | None
    after: AdvertisedRoute | None
    attributes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


class PoolChange(msgspec.Struct, frozen=True, kw_only=True):
    """A pool whose size or use differs."""

    change: PoolKind
    pool: str
    before: PoolUsage | None
    after: PoolUsage | None


class ProblemChange(msgspec.Struct, frozen=True, kw_only=True):
    """A problem that only one of the two plans has."""

    change: Literal["problem-new", "problem-solved"]
    problem: Problem


Change = AddressChange | OwnerChange | SessionChange | RouteChange | PoolChange | ProblemChange


class Unchanged(msgspec.Struct, frozen=True):
    """How much stays as it is, so that a reader sees what was compared."""

    addresses: int = 0
    owners: int = 0
    sessions: int = 0
    routes: int = 0


class PlanDiff(msgspec.Struct, frozen=True, kw_only=True):
    """All that differs between two plans."""

    addresses: tuple[AddressChange, ...] = ()
    owners: tuple[OwnerChange, ...] = ()
    sessions: tuple[SessionChange, ...] = ()
    routes: tuple[RouteChange, ...] = ()
    pools: tuple[PoolChange, ...] = ()
    problems: tuple[ProblemChange, ...] = ()
    unchanged: Unchanged = Unchanged()

    def changes(self) -> Iterator[Change]:
        """Every change, kind by kind."""
        yield from self.addresses
        yield from self.owners
        yield from self.sessions
        yield from self.routes
        yield from self.pools
        yield from self.problems

    @property
    def counts(self) -> dict[str, int]:
        """Class of change -> how many there are; sessions and routes count once per node."""
        found: dict[str, int] = {}
        for item in self.changes():
            weight = len(item.nodes) if isinstance(item, SessionChange | RouteChange) else 1
            found[item.change] = found.get(item.change, 0) + weight
        return {name: found[name] for name in CLASSES if name in found}


def diff(old: Plan, new: Plan) -> PlanDiff:
    """What differs; nothing does between a plan and itself."""
    addresses, same_addresses = _addresses(old, new)
    owners, same_owners = _owners(old, new)
    sessions, same_sessions = _sessions(old, new)
    routes, same_routes = _routes(old, new)
    return PlanDiff(
        addresses=tuple(addresses),
        owners=tuple(owners),
        sessions=tuple(sessions),
        routes=tuple(routes),
        pools=tuple(_pools(old, new)),
        problems=tuple(_problems(old, new)),
        unchanged=Unchanged(same_addresses, same_owners, same_sessions, same_routes),
    )


# Addresses.


def _addresses(old: Plan, new: Plan) -> tuple[list[AddressChange], int]:
    changes: list[AddressChange] = []
    same = 0
    for key in sorted(old.services.keys() | new.services.keys()):
        before, after = _by_version(old, key), _by_version(new, key)
        for version in sorted(before.keys() | after.keys()):
            one, two = before.get(version), after.get(version)
            if one == two:
                same += 1
                continue
            change: AddressKind = "gained" if one is None else "lost" if two is None else "moved"
            changes.append(
                AddressChange(
                    change=change,
                    service=key,
                    before=one,
                    after=two,
                    reasons=address_reasons(old, new, key),
                )
            )
    return changes, same


def _by_version(plan: Plan, key: ObjectKey) -> dict[int, Address]:
    item = plan.services.get(key)
    return {address.version: address for address in item.addresses} if item else {}


# Owners.

Answering = dict[str, tuple[str, ...] | None]


def _owners(old: Plan, new: Plan) -> tuple[list[OwnerChange], int]:
    before, after = _answering(old), _answering(new)
    changes: list[OwnerChange] = []
    same = 0
    for address in sorted(before.keys() | after.keys()):
        one, two = before.get(address, {}), after.get(address, {})
        if one == two:
            same += 1
            continue
        reasons = owner_reasons(old, new, address, one, two)
        change = _owner_change(one, two)
        changes.append(
            OwnerChange(change=change, address=address, before=one, after=two, reasons=reasons)
        )
    return changes, same


def _owner_change(before: Answering, after: Answering) -> OwnerKind:
    if not before:
        return "owner-gained"
    if not after:
        return "owner-lost"
    return "owner-interfaces" if before.keys() == after.keys() else "owner-moved"


def _answering(plan: Plan) -> dict[Address, Answering]:
    """Address -> who answers for it, and on which interfaces."""
    found: dict[Address, Answering] = {}
    for item in plan.services.values():
        if not item.l2.announced:
            continue
        for address in item.addresses:
            nodes = found.setdefault(address, {})
            known = nodes.get(item.l2.owner, ())
            wider = known is None or item.l2.interfaces is None
            more = None if wider else tuple(sorted({*(known or ()), *(item.l2.interfaces or ())}))
            nodes[item.l2.owner] = more
    return found


# Sessions.


def _sessions(old: Plan, new: Plan) -> tuple[list[SessionChange], int]:
    found: dict[tuple[str, SessionKind, tuple[FieldChange, ...], tuple[object, ...]], list[str]]
    found = {}
    reasons_of: dict[tuple[object, ...], tuple[Reason, ...]] = {}
    fields_of = {
        name: field_changes(old.config.peers[name], new.config.peers[name])
        for name in old.config.peers.keys() & new.config.peers.keys()
    }
    before, after, same = _running(old), _running(new), 0
    for peer, node in sorted(before | after):
        fields: tuple[FieldChange, ...] = ()
        change: SessionKind
        if (peer, node) not in after:
            change = "session-removed"
        elif (peer, node) not in before:
            change = "session-added"
        elif fields := fields_of[peer]:
            change = _session_kind(strongest(fields))
        else:
            same += 1
            continue
        reasons = session_reasons(old, new, node, peer, change)
        texts = tuple(item.text for item in reasons)
        reasons_of[texts] = reasons
        found.setdefault((peer, change, fields, texts), []).append(node)
    changes = [
        SessionChange(
            change=change,
            peer=peer,
            nodes=tuple(nodes),
            fields=fields,
            reasons=reasons_of[texts],
        )
        for (peer, change, fields, texts), nodes in found.items()
    ]
    return changes, same


def _session_kind(effect: Effect) -> SessionKind:
    return effect


def _running(plan: Plan) -> set[tuple[str, str]]:
    """Peer and node of every session that a plan has."""
    return {
        (name, node.node)
        for node in plan.nodes.values()
        for name, peer in node.peers.items()
        if node.speaks and peer.refused is None
    }


# Routes.

Tables = dict[Prefix, PlannedRoute]
Pair = tuple[PlannedRoute | None, PlannedRoute | None]


def _routes(old: Plan, new: Plan) -> tuple[list[RouteChange], int]:
    """Differences per peer and prefix; nodes where they and their reasons agree are one change."""
    found: dict[tuple[object, ...], tuple[RouteChange, list[str]]] = {}
    tables: dict[int, Tables] = {}
    same = 0
    for peer, before, after, nodes in _alike(old, new):
        differing, equal = _compare(_table(before, tables), _table(after, tables))
        same += equal * len(nodes)
        for prefix, (one, two) in differing.items():
            # Other attributes have their reason in the advertisements, wherever they are sent from.
            groups = [nodes] if one and two else [[node] for node in nodes]
            for group in groups:
                reasons = route_reasons(old, new, group[0], peer, one, two)
                texts = tuple(item.text for item in reasons)
                key = peer, prefix, one and one.route, two and two.route, texts
                if key not in found:
                    found[key] = _route_change(peer, prefix, one, two, reasons), []
                found[key][1].extend(group)
    changes = [
        msgspec.structs.replace(change, nodes=tuple(sorted(nodes)))
        for change, nodes in found.values()
    ]
    return sorted(changes, key=lambda item: (item.peer, item.prefix, item.nodes)), same


Routes = tuple[PlannedRoute, ...]


def _alike(old: Plan, new: Plan) -> Iterator[tuple[str, Routes, Routes, list[str]]]:
    """Each peer with what it is told before and after, and the nodes that tell it just that."""
    groups: dict[tuple[str, int, int], tuple[Routes, Routes, list[str]]] = {}
    for node in sorted(old.nodes.keys() | new.nodes.keys()):
        for peer in sorted(old.config.peers.keys() | new.config.peers.keys()):
            before, after = _told(old, node, peer), _told(new, node, peer)
            group = groups.setdefault((peer, id(before), id(after)), (before, after, []))
            group[2].append(node)
    for (peer, _, _), (before, after, nodes) in groups.items():
        yield peer, before, after, nodes


_NONE: Routes = ()


def _told(plan: Plan, node: str, peer: str) -> Routes:
    """What a node tells a peer; plans that last as long as the comparison keep these in place."""
    item = plan.nodes.get(node)
    return item.peers[peer].routes if item and peer in item.peers else _NONE


def _table(routes: Routes, tables: dict[int, Tables]) -> Tables:
    if id(routes) not in tables:
        tables[id(routes)] = {item.route.prefix: item for item in routes}
    return tables[id(routes)]


def _compare(before: Tables, after: Tables) -> tuple[dict[Prefix, Pair], int]:
    """The prefixes whose route differs, and how many are equal."""
    differing: dict[Prefix, Pair] = {}
    for prefix in sorted(before.keys() | after.keys()):
        one, two = before.get(prefix), after.get(prefix)
        if (one and one.route) != (two and two.route):
            differing[prefix] = one, two
    return differing, len(before.keys() | after.keys()) - len(differing)


def _route_change(
    peer: str,
    prefix: Prefix,
    one: PlannedRoute | None,
    two: PlannedRoute | None,
    reasons: tuple[Reason, ...],
) -> RouteChange:
    change: RouteKind = "announced" if one is None else "withdrawn" if two is None else "changed"
    return RouteChange(
        change=change,
        peer=peer,
        prefix=prefix,
        nodes=(),
        before=one.route if one else None,
        after=two.route if two else None,
        attributes=altered(one.route, two.route) if one and two else (),
        reasons=reasons,
    )


# Pools and problems.


def _pools(old: Plan, new: Plan) -> Iterable[PoolChange]:
    for name in sorted(old.pools.keys() | new.pools.keys()):
        before, after = _usage(old, name), _usage(new, name)
        if before != after:
            change: PoolKind = (
                "pool-added" if not before else "pool-removed" if not after else "pool-usage"
            )
            yield PoolChange(change=change, pool=name, before=before, after=after)


def _usage(plan: Plan, name: str) -> PoolUsage | None:
    return plan.pools[name].usage if name in plan.pools else None


def _problems(old: Plan, new: Plan) -> Iterable[ProblemChange]:
    before: Mapping[str, Problem] = {str(item.order): item for item in old.problems}
    after: Mapping[str, Problem] = {str(item.order): item for item in new.problems}
    for name in sorted(after.keys() - before.keys()):
        yield ProblemChange(change="problem-new", problem=after[name])
    for name in sorted(before.keys() - after.keys()):
        yield ProblemChange(change="problem-solved", problem=before[name])
