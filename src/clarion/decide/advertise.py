"""Which prefix goes to which peer with which attributes.

A service contributes one prefix per address and advertisement. Equal prefixes of many services and
advertisements are one route: its communities are the union, its local preference is the highest,
and its weight the sum, unless one of the services has none.
"""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.base.addr import BITS, Address, Prefix, covering_prefix
from clarion.decide.communities import GRACEFUL_SHUTDOWN, LargeCommunity
from clarion.decide.endpoints import Serving, is_local
from clarion.decide.nodes import Nodes
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.selectors import Labels
from clarion.decide.settings import BGPSettings, Config, Peer, Pool
from clarion.model.core import Service
from clarion.model.meta import ObjectKey


class AdvertisedRoute(msgspec.Struct, frozen=True, order=True, gc=False):
    """A route as it is sent. Local preference goes to internal peers only; 0 when unset.

    Attributes:
        extended_communities: Numbers of 64 bits (RFC 4360).
        weight: Endpoints behind it on this node, by which routers share traffic; 0 says nothing.
    """

    prefix: Prefix
    local_pref: int = 0
    communities: tuple[int, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()
    extended_communities: tuple[int, ...] = ()
    weight: int = 0


class BGPDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From where, and as which prefixes, a service's addresses are announced.

    Attributes:
        prefixes: Advertisement -> what it makes of the addresses.
        nodes: Node that announces -> the advertisements under which it does.
        refused: Every other node, with its reason.
        weights: Node -> endpoints on it, where an advertisement asks for them.
    """

    addresses: tuple[Address, ...] = ()
    prefixes: dict[str, tuple[Prefix, ...]] = msgspec.field(default_factory=dict)
    nodes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    refused: dict[str, Reason] = msgspec.field(default_factory=dict)
    weights: dict[str, int] = msgspec.field(default_factory=dict)
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
    weighted = tuple(name for name in names if nodes.config.bgp[name].weighted)
    notes += _weight_notes(weighted, service, serving)
    notes[:0] = [
        *(reason("bgp-announced", advertisement=name) for name in names if telling),
        *_aggregation_notes(prefixes, addresses),
    ]
    return BGPDecision(
        addresses=addresses,
        prefixes=prefixes,
        nodes=telling,
        refused=refused,
        weights=_weights(telling, service, serving) if weighted else {},
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


def _weights(telling: Iterable[str], service: Service, serving: Serving) -> dict[str, int]:
    """Ready endpoints of each announcing node; with policy Cluster every node sends to them all."""
    if not is_local(service) or serving.assumed:
        return {}
    return {node: serving.by_node[node] for node in telling}


def _weight_notes(names: Iterable[str], service: Service, serving: Serving) -> Iterable[Reason]:
    for name in names:
        if not is_local(service):
            yield reason("bgp-weight-not-local", advertisement=name)
        elif serving.assumed:
            yield reason("bgp-weight-unknown", advertisement=name)


class RouteTable:
    """Routes made of the contributions of services under some advertisements.

    One table serves every peer that hears the same advertisements. What a change of one service
    costs does not depend on how many others there are.

    Args:
        ads: The advertisements, by name.
        families: IP versions of the routes that are carried.
        draining: Why the node sheds its traffic; None if it does not.
    """

    def __init__(
        self,
        ads: Mapping[str, BGPSettings],
        families: frozenset[int],
        draining: Reason | None = None,
    ) -> None:
        self._ads = ads
        self._families = families
        self._draining = draining
        self._weighted = any(ad.weighted for ad in ads.values())
        self._weights: dict[ObjectKey, int] = {}
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
        weight = decision.weights.get(node, 0) if decision and self._weighted and parts else 0
        if weight != self._weights.pop(service, 0):
            self._dirty.update(prefix for _, prefix in parts)
        if weight:
            self._weights[service] = weight
        if parts == old:
            return
        for name, prefix in old:
            self._take(service, name, prefix)
        for name, prefix in parts:
            sources = self._sources.setdefault(prefix, {})
            if self._weighted or name not in sources:
                self._dirty.add(prefix)
            sources.setdefault(name, set()).add(service)

    def _take(self, service: ObjectKey, name: str, prefix: Prefix) -> None:
        sources = self._sources[prefix]
        sources[name].remove(service)
        if self._weighted or not sources[name]:
            self._dirty.add(prefix)
        if not sources[name]:
            del sources[name]
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
            model = merge(prefix, [self._ads[name] for name in names])
            self._attributes[names] = shed(model) if self._draining else model
        model = self._attributes[names]
        return AdvertisedRoute(
            prefix,
            model.local_pref,
            model.communities,
            model.large_communities,
            model.extended_communities,
            self._weight(sources) if self._weighted else 0,
        )

    def _weight(self, sources: Mapping[str, set[ObjectKey]]) -> int:
        """The sum over the services; 0 if one has none, as its traffic would be left out."""
        asked = set().union(*(sources[name] for name in sources if self._ads[name].weighted))
        weights = [self._weights.get(key, 0) for key in set().union(*sources.values())]
        return sum(weights) if all(weights) and len(weights) == len(asked) else 0

    def notes(self, prefix: Prefix) -> tuple[Reason, ...]:
        """What a user should know about a route."""
        names, services = self.sources(prefix)
        ads = [self._ads[name] for name in names]
        found = [] if self._draining else [*_preference_notes(prefix, ads)]
        if any(ad.weighted for ad in ads):
            found.append(self._weight_note(prefix, services))
        if self._draining:
            found.append(self._draining)
        return tuple(found)

    def _weight_note(self, prefix: Prefix, services: tuple[ObjectKey, ...]) -> Reason:
        if weight := self.routes[prefix].weight:
            shares = listed([f"{self._weights[key]} of {key}" for key in services], 3)
            return reason("bgp-weighted", prefix=str(prefix), weight=weight, shares=shares)
        without = [key for key in services if key not in self._weights] or services
        return reason("bgp-weight-missing", prefix=str(prefix), services=listed(without, 3))

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
        tuple(sorted({item for ad in ads for item in ad.extended_communities})),
    )


def shed(route: AdvertisedRoute) -> AdvertisedRoute:
    """The route as a node announces it that wants no more traffic: any other is better."""
    return msgspec.structs.replace(
        route,
        local_pref=0,  # RFC 8326 §4.2: within the AS; others learn it from the community
        communities=tuple(sorted({*route.communities, GRACEFUL_SHUTDOWN})),
    )


def _preference_notes(prefix: Prefix, ads: Iterable[BGPSettings]) -> Iterable[Reason]:
    values = sorted({ad.local_pref for ad in ads})
    if len(values) > 1:
        texts = {"prefix": str(prefix), "values": listed(values)}
        yield reason("bgp-local-pref-highest", value=values[-1], **texts)


def peer_refusal(peer: Peer, node: str, labels: Labels) -> Reason | None:
    """Why a node has no session with a peer; None if it has one."""
    if not peer.runs_on(labels):
        return reason("peer-not-on-node", peer=peer.name, node=node)
    if peer.lacking:
        return reason("peer-not-supported", peer=peer.name, fields=listed(peer.lacking))
    return None


class NodeRoutes:
    """What one node tells each of its peers, kept up to date service by service.

    Args:
        config: The configuration.
        node: Name of the node.
        labels: Its labels.
        draining: Why it sheds its traffic; None if it does not.
    """

    def __init__(
        self, config: Config, node: str, labels: Labels, draining: Reason | None = None
    ) -> None:
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
                tables[key] = RouteTable(ads, peer.families, draining)
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
