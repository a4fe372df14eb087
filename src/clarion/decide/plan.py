"""The plan: everything decided about one snapshot, as one frozen value."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from clarion.base.addr import Address, parse_address
from clarion.base.errors import InvalidInputError
from clarion.decide.advertise import (
    AdvertisedRoute,
    BGPDecision,
    NodeRoutes,
    RouteTable,
    peer_refusal,
)
from clarion.decide.allocate import Outcome
from clarion.decide.elect import L2Decision
from clarion.decide.ledger import Ledger, PoolUsage
from clarion.decide.nodes import NodeFacts, Nodes
from clarion.decide.observed import Observed
from clarion.decide.problems import Problem
from clarion.decide.reasons import Reason
from clarion.decide.resting import Rest
from clarion.decide.setaside import SetAside, set_aside
from clarion.decide.settings import Config
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.meta import ObjectKey


class ServicePlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was decided about one service.

    Attributes:
        outcome: About its addresses; None where they are taken from the status as they are.
        written: What its status holds, where that may differ from what was decided.
        addresses: What is announced.
        reasons: Why nothing can be announced by any protocol.
    """

    service: ObjectKey
    outcome: Outcome | None = None
    written: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    pool: str = ""
    reasons: tuple[Reason, ...] = ()
    l2: L2Decision = L2Decision()
    bgp: BGPDecision = BGPDecision()


class L2Announcement(msgspec.Struct, frozen=True, order=True):
    """An address for which a node answers; no interfaces (None) means on every one."""

    address: Address
    interfaces: tuple[str, ...] | None
    services: tuple[ObjectKey, ...]


class PlannedRoute(msgspec.Struct, frozen=True):
    """A route that a peer is told, and where it comes from."""

    route: AdvertisedRoute
    advertisements: tuple[str, ...]
    services: tuple[ObjectKey, ...]
    notes: tuple[Reason, ...] = ()


class PeerPlan(msgspec.Struct, frozen=True):
    """What one node tells one peer.

    Attributes:
        refused: Why there is no session; None if there is one.
    """

    peer: str
    target: str
    refused: Reason | None = None
    routes: tuple[PlannedRoute, ...] = ()


class NodePlan(msgspec.Struct, frozen=True):
    """What one node announces.

    Attributes:
        refused: Why it announces nothing at all; None if it may.
        l2_refused: Why it answers for nothing; None if it may.
        draining: Why it sheds the traffic of its routes; None if it does not.
        interfaces: Where it can answer at all; None if that is not known.
    """

    node: str
    refused: Reason | None = None
    l2_refused: Reason | None = None
    draining: Reason | None = None
    interfaces: tuple[str, ...] | None = None
    l2: tuple[L2Announcement, ...] = ()
    peers: dict[str, PeerPlan] = msgspec.field(default_factory=dict)

    @property
    def speaks(self) -> bool:
        """True if a speaker runs on it: sessions are up even where nothing may be announced."""
        return self.refused is None or self.refused.code != "node-without-speaker"


class PoolPlan(msgspec.Struct, frozen=True):
    """Use of one pool."""

    pool: str
    usage: PoolUsage
    services: tuple[ObjectKey, ...]
    resting: tuple[Rest, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything decided: per service, per node and peer, per pool; and what is wrong.

    Attributes:
        options: With which settings it was decided.
        observed: What running programs report of themselves.
        set_aside: Objects that have an error.
    """

    options: Options
    observed: Observed
    config: Config
    problems: tuple[Problem, ...]
    set_aside: tuple[SetAside, ...]
    services: dict[ObjectKey, ServicePlan]
    nodes: dict[str, NodePlan]
    pools: dict[str, PoolPlan]


def judged_anew(
    before: Nodes, now: Nodes, services: Mapping[ObjectKey, ServicePlan]
) -> set[ObjectKey]:
    """Services that were decided with nodes that are judged otherwise now.

    A service reads of the nodes what its advertisements make of them, and who answers now for its
    first address.
    """
    incumbents = _changed_incumbents(before.incumbents, now.incumbents)
    l2: dict[tuple[str, ...], bool] = {}
    bgp: dict[tuple[str, tuple[str, ...]], bool] = {}
    found = set()
    for key, item in services.items():
        names, told = item.l2.advertisements, (item.pool, tuple(item.bgp.prefixes))
        if names not in l2:
            l2[names] = names != () and (
                not now.config.l2.keys() >= set(names)
                or before.candidates(names) != now.candidates(names)
            )
        if told not in bgp:
            bgp[told] = told[1] != () and _told_anew(before, now, *told)
        moved = incumbents and names and item.addresses[0] in incumbents
        if l2[names] or bgp[told] or moved:
            found.add(key)
    return found


def _changed_incumbents(before: Mapping[str, str], now: Mapping[str, str]) -> set[Address]:
    """Addresses for which another node answers now; what is no address concerns nobody."""
    found = set()
    for text in before.keys() | now.keys():
        if before.get(text) != now.get(text):
            with suppress(InvalidInputError):
                found.add(parse_address(text))
    return found


def _told_anew(before: Nodes, now: Nodes, pool: str, names: tuple[str, ...]) -> bool:
    old, new = before.config.pools.get(pool), now.config.pools.get(pool)
    if old is None or new is None or not now.config.bgp.keys() >= set(names):
        return True
    return before.speakers(old, names) != now.speakers(new, names)


def assemble(
    snapshot: Snapshot,
    nodes: Nodes,
    ledger: Ledger,
    problems: Iterable[Problem],
    services: Mapping[ObjectKey, ServicePlan],
    only: str | None = None,
) -> Plan:
    """Put the parts together, for all nodes or for one."""
    found = tuple(sorted(problems, key=lambda problem: problem.order))
    config = nodes.config
    wanted = {n: f for n, f in nodes.facts.items() if only is None or n == only}
    answers = l2_by_node(services.values())
    routes = _routes_of_nodes(nodes, wanted, services)
    cache: dict[int, tuple[PlannedRoute, ...]] = {}
    plans = {
        name: NodePlan(
            name,
            nodes.refusal(facts),
            nodes.l2_refusal(facts),
            nodes.draining(facts),
            facts.interfaces,
            answers.get(name, ()),
            _peers(config, facts, routes[name], cache),
        )
        for name, facts in wanted.items()
    }
    return Plan(
        options=snapshot.options,
        observed=snapshot.observed,
        config=config,
        problems=found,
        set_aside=set_aside(snapshot, found),
        services=dict(sorted(services.items())),
        nodes=plans,
        pools={
            name: PoolPlan(name, ledger.usage(name), _users(services, name), ledger.resting(name))
            for name in config.pools
        },
    )


def _users(services: Mapping[ObjectKey, ServicePlan], pool: str) -> tuple[ObjectKey, ...]:
    return tuple(sorted(key for key, item in services.items() if item.pool == pool))


def l2_by_node(services: Iterable[ServicePlan]) -> dict[str, tuple[L2Announcement, ...]]:
    """What each node answers for; services on one address are one announcement."""
    found: dict[str, dict[Address, list[ServicePlan]]] = {}
    for item in services:
        if item.l2.announced:
            table = found.setdefault(item.l2.owner, {})
            for address in item.addresses:
                table.setdefault(address, []).append(item)
    return {
        node: tuple(join_l2(address, items) for address, items in sorted(table.items()))
        for node, table in found.items()
    }


def join_l2(address: Address, items: Iterable[ServicePlan]) -> L2Announcement:
    """The announcement of an address for all services on it that a node owns."""
    items = sorted(items, key=lambda item: item.service)
    names: set[str] = set()
    everywhere = False
    for item in items:
        everywhere = everywhere or item.l2.interfaces is None
        names.update(item.l2.interfaces or ())
    interfaces = None if everywhere else tuple(sorted(names))
    return L2Announcement(address, interfaces, tuple(item.service for item in items))


def _routes_of_nodes(
    nodes: Nodes, facts: Mapping[str, NodeFacts], services: Mapping[ObjectKey, ServicePlan]
) -> dict[str, NodeRoutes]:
    """Routes of every node; nodes with equal peers that announce the same share the work."""
    # Services that all the same nodes announce share one table of these nodes.
    alike: dict[int, list[ObjectKey]] = {}
    for key, item in services.items():
        alike.setdefault(id(item.bgp.nodes), []).append(key)
    told: dict[str, list[tuple[int, tuple[str, ...], int]]] = {name: [] for name in facts}
    for number, keys in alike.items():
        # Weights need policy Local, where each service has nodes of its own.
        first = services[keys[0]].bgp
        for node, ads in first.nodes.items():
            if node in told:
                told[node].append((number, ads, first.weights.get(node, 0)))
    made: dict[tuple[object, ...], NodeRoutes] = {}
    found: dict[str, NodeRoutes] = {}
    for name, own in facts.items():
        runs = tuple(p.name for p in nodes.config.peers.values() if p.runs_on(own.labels))
        draining = nodes.draining(own)
        signature = (runs, draining and draining.code, tuple(told[name]))
        if signature not in made:
            routes = NodeRoutes(nodes.config, name, own.labels, draining)
            for number, _, _ in told[name]:
                for key in alike[number]:
                    routes.put(key, services[key].bgp)
            routes.settle()
            made[signature] = routes
        found[name] = made[signature]
    return found


def _peers(
    config: Config,
    facts: NodeFacts,
    routes: NodeRoutes,
    cache: dict[int, tuple[PlannedRoute, ...]],
) -> dict[str, PeerPlan]:
    plans = {}
    for name, peer in config.peers.items():
        refused = peer_refusal(peer, facts.name, facts.labels)
        planned: tuple[PlannedRoute, ...] = ()
        if refused is None:
            table = routes.table(name)
            if id(table) not in cache:
                cache[id(table)] = _planned(table)
            planned = cache[id(table)]
        plans[name] = PeerPlan(name, peer.target, refused, planned)
    return plans


def _planned(table: RouteTable) -> tuple[PlannedRoute, ...]:
    planned = []
    for prefix, route in sorted(table.routes.items()):
        names, services = table.sources(prefix)
        planned.append(PlannedRoute(route, names, services, table.notes(prefix)))
    return tuple(planned)
