"""Which prefix goes to which peer with which attributes.

A service contributes one prefix per address and advertisement. Equal prefixes of many services and
advertisements are one route: its communities are the union, its local preference is the highest.
"""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.base.addr import BITS, Address, Prefix, covering_prefix
from clarion.decide.communities import LargeCommunity
from clarion.decide.endpoints import Serving, is_local
from clarion.decide.nodes import Nodes
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.selectors import Labels
from clarion.decide.settings import BGPSettings, Config, Peer, Pool
from clarion.model.core import Service
from clarion.model.meta import ObjectKey


class AdvertisedRoute(msgspec.Struct, frozen=True, order=True, gc=False):
    """A route as it is sent. Local preference goes to internal peers only; 0 when unset."""

    prefix: Prefix
    local_pref: int = 0
    communities: tuple[int, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()


class BGPDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From where, and as which prefixes, a service's addresses are announced.

    Attributes:
        prefixes: Advertisement -> what it makes of the addresses.
        nodes: Node that announces -> the advertisements under which it does.
        refused: Every other node, with its reason.
    """

    addresses: tuple[Address, ...] = ()
    prefixes: dict[str, tuple[Prefix, ...]] = msgspec.field(default_factory=dict)
    nodes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    refused: dict[str, Reason] = msgspec.field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()

    @property
    def announced(self) -> bool:
        """True if some node announces."""
        return bool(self.nodes)


def decide_bgp(
    nodes: Nodes,
    pool: Pool,
    service: Service,
    addresses: tuple[Address, ...],
    serving: Serving,
) -> BGPDecision:
    """Find the nodes and prefixes by which a service is announced; arguments as `decide_l2`."""
    names, notes = _matching(nodes, pool, service)
    if not names:
        return BGPDecision(addresses=addresses, reasons=tuple(notes))
    if not serving.total:
        notes.insert(0, reason("no-endpoints", seen=serving.seen))
        return BGPDecision(addresses=addresses, reasons=tuple(notes))
    prefixes = {name: _prefixes(nodes.config.bgp[name], addresses) for name in names}
    if serving.assumed:
        notes.append(reason("endpoints-assumed"))
    if not nodes.config.peers:
        notes.append(reason("no-peers"))
    found = nodes.speakers(pool, names)
    telling, refused = found.advertisements, found.refused
    if is_local(service) and not serving.assumed:
        refused = dict(refused)
        for node in telling:
            if not serving.on(node):
                refused[node] = reason("node-without-local-endpoint")
        telling = {node: ads for node, ads in telling.items() if serving.on(node)}
    notes[:0] = [
        *(reason("bgp-announced", advertisement=name) for name in names if telling),
        *_aggregation_notes(prefixes, addresses),
    ]
    return BGPDecision(
        addresses=addresses,
        prefixes=prefixes,
        nodes=telling,
        refused=refused,
        reasons=tuple(notes),
    )


def _matching(nodes: Nodes, pool: Pool, service: Service) -> tuple[tuple[str, ...], list[Reason]]:
    """The pool's advertisements that are for the service; why the others are not."""
    if not pool.bgp:
        return (), [reason("bgp-no-advertisement", pool=pool.name)]
    names, notes = [], []
    for name in pool.bgp:
        if nodes.config.bgp[name].covers_service(service.metadata.labels):
            names.append(name)
        else:
            notes.append(reason("bgp-other-services", advertisement=name))
    return tuple(names), notes


def _prefixes(ad: BGPSettings, addresses: tuple[Address, ...]) -> tuple[Prefix, ...]:
    return tuple(covering_prefix(item, ad.lengths[item.version]) for item in addresses)


def _aggregation_notes(
    prefixes: Mapping[str, tuple[Prefix, ...]], addresses: tuple[Address, ...]
) -> Iterable[Reason]:
    for items in prefixes.values():
        for address, prefix in zip(addresses, items, strict=True):
            if prefix.length < BITS[prefix.version]:
                yield reason("bgp-aggregated", address=str(address), prefix=str(prefix))


class RouteTable:
    """Routes made of the contributions of services under some advertisements.

    One table serves every peer that hears the same advertisements. What a change of one service
    costs does not depend on how many others there are.
    """

    def __init__(self, ads: Mapping[str, BGPSettings], families: frozenset[int]) -> None:
        self._ads = ads
        self._families = families
        self._parts: dict[ObjectKey, tuple[tuple[str, Prefix], ...]] = {}
        self._sources: dict[Prefix, dict[str, set[ObjectKey]]] = {}
        self._attributes: dict[tuple[str, ...], AdvertisedRoute] = {}
        self._dirty: set[Prefix] = set()
        self.routes: dict[Prefix, AdvertisedRoute] = {}

    def put(self, service: ObjectKey, decision: BGPDecision | None, node: str) -> None:
        """Replace what a service contributes on a node."""
        told = decision.nodes.get(node, ()) if decision else ()
        parts: tuple[tuple[str, Prefix], ...] = ()
        if decision and told:
            parts = tuple(
                (name, prefix)
                for name in told
                if name in self._ads
                for prefix in decision.prefixes[name]
                if prefix.version in self._families
            )
        old = self._parts.pop(service, ())
        if parts:
            self._parts[service] = parts
        if parts == old:
            return
        for name, prefix in old:
            self._take(service, name, prefix)
        for name, prefix in parts:
            sources = self._sources.setdefault(prefix, {})
            if name not in sources:
                sources[name] = set()
                self._dirty.add(prefix)
            sources[name].add(service)

    def _take(self, service: ObjectKey, name: str, prefix: Prefix) -> None:
        sources = self._sources[prefix]
        sources[name].remove(service)
        if not sources[name]:
            del sources[name]
            self._dirty.add(prefix)
        if not sources:
            del self._sources[prefix]

    def settle(self) -> dict[Prefix, AdvertisedRoute | None]:
        """Bring `routes` up to date; what changed, None for a route that is gone."""
        changes: dict[Prefix, AdvertisedRoute | None] = {}
        for prefix in self._dirty:
            old, new = self.routes.get(prefix), self._route(prefix)
            if old == new:
                continue
            changes[prefix] = new
            if new is None:
                del self.routes[prefix]
            else:
                self.routes[prefix] = new
        self._dirty.clear()
        return changes

    def _route(self, prefix: Prefix) -> AdvertisedRoute | None:
        sources = self._sources.get(prefix)
        if not sources:
            return None
        names = tuple(sorted(sources))
        if names not in self._attributes:
            self._attributes[names] = merge(prefix, [self._ads[name] for name in names])
        model = self._attributes[names]
        return AdvertisedRoute(prefix, model.local_pref, model.communities, model.large_communities)

    def sources(self, prefix: Prefix) -> tuple[tuple[str, ...], tuple[ObjectKey, ...]]:
        """The advertisements and services that make a route."""
        sources = self._sources[prefix]
        services = set().union(*sources.values())
        return tuple(sorted(sources)), tuple(sorted(services))


def merge(prefix: Prefix, ads: Iterable[BGPSettings]) -> AdvertisedRoute:
    """One route of several advertisements."""
    ads = tuple(ads)
    return AdvertisedRoute(
        prefix,
        max(ad.local_pref for ad in ads),
        tuple(sorted({item for ad in ads for item in ad.communities})),
        tuple(sorted({item for ad in ads for item in ad.large_communities})),
    )


def route_notes(prefix: Prefix, ads: Iterable[BGPSettings]) -> tuple[Reason, ...]:
    """What a user should know about a merged route."""
    values = sorted({ad.local_pref for ad in ads})
    if len(values) < 2:
        return ()
    texts = {"prefix": str(prefix), "values": listed(values)}
    return (reason("bgp-local-pref-highest", value=values[-1], **texts),)


def peer_refusal(peer: Peer, node: str, labels: Labels) -> Reason | None:
    """Why a node has no session with a peer; None if it has one."""
    if not peer.runs_on(labels):
        return reason("peer-not-on-node", peer=peer.name, node=node)
    if peer.lacking:
        return reason("peer-not-supported", peer=peer.name, fields=listed(peer.lacking))
    return None


class NodeRoutes:
    """What one node tells each of its peers, kept up to date service by service."""

    def __init__(self, config: Config, node: str, labels: Labels) -> None:
        self.node = node
        self.config = config
        self.peers = {
            name: peer
            for name, peer in config.peers.items()
            if peer_refusal(peer, node, labels) is None
        }
        tables: dict[tuple[frozenset[str], frozenset[int]], RouteTable] = {}
        self._table_of: dict[str, RouteTable] = {}
        for name, peer in self.peers.items():
            ads = {key: ad for key, ad in config.bgp.items() if ad.goes_to(name)}
            key = (frozenset(ads), peer.families)
            if key not in tables:
                tables[key] = RouteTable(ads, peer.families)
            self._table_of[name] = tables[key]
        self.tables = tuple(tables.values())

    def put(self, service: ObjectKey, decision: BGPDecision | None) -> None:
        """Replace what a service contributes."""
        for table in self.tables:
            table.put(service, decision, self.node)

    def settle(self) -> dict[str, dict[Prefix, AdvertisedRoute | None]]:
        """Changes since the last call, by peer; peers without changes are left out."""
        changes = {id(table): table.settle() for table in self.tables}
        found = {name: changes[id(table)] for name, table in self._table_of.items()}
        return {name: items for name, items in found.items() if items}

    def table(self, peer: str) -> RouteTable:
        """The table that a peer is told."""
        return self._table_of[peer]

    def routes(self, peer: str) -> Mapping[Prefix, AdvertisedRoute]:
        """All routes that a peer is told."""
        return self._table_of[peer].routes
