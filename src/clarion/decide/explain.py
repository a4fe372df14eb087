"""Answers to "why?" from a plan: trees of reasons, for and against.

Nothing is decided here: every leaf is a reason or a value that the plan already holds.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

import msgspec

from clarion.base.addr import Address, Prefix, parse_address
from clarion.base.duration import format_duration
from clarion.base.errors import InvalidInputError
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import format_community
from clarion.decide.config_build import hint
from clarion.decide.config_pools import span_text
from clarion.decide.plan import NodePlan, PeerPlan, Plan, PlannedRoute, PoolPlan, ServicePlan
from clarion.decide.problems import Problem
from clarion.decide.reasons import Reason, Verdict, reason
from clarion.decide.registry import listed
from clarion.decide.settings import BGPSettings
from clarion.model.meta import ObjectKey


class ReasonTree(msgspec.Struct, frozen=True):
    """A statement with what supports it.

    Attributes:
        status: Whether the statement is good news, bad news or a circumstance.
        code: The reason's or problem's code; empty for a heading.
    """

    label: str
    status: Verdict = "note"
    children: tuple["ReasonTree", ...] = ()
    code: str = ""
    remedy: str = ""


def explain(plan: Plan, kind: str, name: str) -> ReasonTree:
    """Answer about one thing.

    Args:
        plan: What was decided.
        kind: One of `QUESTIONS`.
        name: `namespace/name` of a service, an address, or the name of a peer, node or pool.
    """
    return QUESTIONS[kind](plan, name)


def _leaf(item: Reason, prefix: str = "") -> ReasonTree:
    return ReasonTree(prefix + item.text, item.verdict, (), item.code, item.remedy)


def _trouble(item: Problem) -> ReasonTree:
    status: Verdict = "no" if item.severity == "error" else "note"
    where = f"{item.object} {item.path}".rstrip()
    return ReasonTree(f"{where}: {item.message}", status, (), item.code, item.remedy)


def _troubles(plan: Plan, kind: str, name: str) -> tuple[ReasonTree, ...]:
    """Problems of an object, and of others because of it."""

    def concerns(item: Problem) -> bool:
        return any(ref.kind == kind and ref.name == name for ref in (item.object, *item.related))

    return tuple(_trouble(item) for item in plan.problems if concerns(item))


def _missing(what: str, name: str, known: Iterable[object]) -> ReasonTree:
    close = hint(name, map(str, known))
    return ReasonTree(
        f"{what} {name}", "no", (_leaf(reason("not-found", what=what, name=name, hint=close)),)
    )


def _group(label: str, children: Iterable[ReasonTree], status: Verdict | None = None) -> ReasonTree:
    """A heading; without a status of its own it is good if a child is."""
    items = tuple(children)
    states = {item.status for item in items}
    derived: Verdict = "yes" if "yes" in states else "no" if "no" in states else "note"
    return ReasonTree(label, status or derived, items)


def communities_text(route: AdvertisedRoute | BGPSettings) -> str:
    """The communities of a route or an advertisement, as routers print them."""
    small, large = route.communities, route.large_communities
    return " ".join([*map(format_community, small), *map(format_community, large)])


def attributes_text(route: AdvertisedRoute) -> str:
    """A route with its attributes on one line."""
    parts = [str(route.prefix)]
    if route.local_pref:
        parts.append(f"local preference {route.local_pref}")
    if texts := communities_text(route):
        parts.append(f"communities {texts}")
    return ", ".join(parts)


# Service.


def _service(plan: Plan, name: str) -> ReasonTree:
    space, _, own = name.rpartition("/")
    key = ObjectKey(space or "default", own)
    item = plan.services.get(key)
    if item is None:
        return _missing("service", str(key), plan.services)
    children = [_addresses(plan, item)]
    if item.pool:
        children += [_l2(item), _bgp(plan, item)]
    else:
        children += [_leaf(why) for why in item.reasons]
    good = item.l2.announced or item.bgp.announced
    children += _troubles(plan, "Service", own)
    return ReasonTree(f"service {key}", "yes" if good else "no", tuple(children))


def _addresses(plan: Plan, item: ServicePlan) -> ReasonTree:
    outcome = item.outcome
    reasons = [_leaf(why) for why in outcome.reasons] if outcome else []
    for address in item.addresses:
        others = [key for key in _users(plan, address) if key != item.service]
        if others:
            reasons.append(ReasonTree(f"{address} is also the address of {listed(others)}"))
    if not item.addresses:
        return _group("no address", reasons, "no")
    return _group(f"has {listed(item.addresses)} of pool {item.pool}", reasons, "yes")


def _users(plan: Plan, address: Address) -> tuple[ObjectKey, ...]:
    return tuple(key for key, item in plan.services.items() if address in item.addresses)


def _l2(item: ServicePlan) -> ReasonTree:
    decision = item.l2
    children = [_leaf(why) for why in decision.reasons]
    for node in decision.ranking:
        if node == decision.owner:
            text = f"node {node}: chosen from {len(decision.ranking)} candidates"
            children.append(ReasonTree(text, "yes"))
        else:
            children.append(_leaf(reason("l2-not-first", owner=decision.owner), f"node {node}: "))
    children += [_leaf(why, f"node {node}: ") for node, why in decision.refused.items()]
    if not decision.announced:
        return _group("layer 2: nobody answers", children, "no")
    return _group(f"layer 2: {decision.owner} answers", children, "yes")


def _bgp(plan: Plan, item: ServicePlan) -> ReasonTree:
    decision = item.bgp
    children = [_leaf(why) for why in decision.reasons]
    told = {n: _told(plan, item, plan.nodes[n]) for n in decision.nodes if n in plan.nodes}
    children += _alike("node", told)
    children += [_leaf(why, f"node {node}: ") for node, why in decision.refused.items()]
    if not decision.announced:
        return _group("BGP: not announced", children, "no")
    return _group(f"BGP: announced by {listed(list(decision.nodes))}", children, "yes")


def _alike(what: str, groups: Mapping[str, tuple[ReasonTree, ...]]) -> Iterable[ReasonTree]:
    """One heading for all names with equal contents."""
    merged: list[tuple[list[str], tuple[ReasonTree, ...]]] = []
    for name, children in groups.items():
        for names, others in merged:
            if others == children:
                names.append(name)
                break
        else:
            merged.append(([name], children))
    for names, children in merged:
        plural = "s" if len(names) > 1 else ""
        yield _group(f"{what}{plural} {listed(names)}", children)


def _told(plan: Plan, item: ServicePlan, node: NodePlan) -> tuple[ReasonTree, ...]:
    """What one node tells its peers of a service."""
    refused: list[ReasonTree] = []
    told: dict[str, tuple[ReasonTree, ...]] = {}
    prefixes = sorted({prefix for items in item.bgp.prefixes.values() for prefix in items})
    for name, peer in node.peers.items():
        if peer.refused:
            refused.append(_leaf(peer.refused))
            continue
        routes = tuple(
            ReasonTree(attributes_text(route.route), "yes", tuple(map(_leaf, route.notes)))
            for prefix in prefixes
            if (route := find_route(peer, prefix)) and item.service in route.services
        )
        label = f"{name} ({peer.target})"
        told[label] = routes or tuple(_not_told(plan, item, node.node, name))
    return (*_alike("peer", told), *refused)


def _not_told(plan: Plan, item: ServicePlan, node: str, name: str) -> Iterable[ReasonTree]:
    for ad in item.bgp.nodes[node]:
        if not plan.config.bgp[ad].goes_to(name):
            yield _leaf(reason("peer-not-told", peer=name, advertisement=ad))
            continue
        carried = plan.config.peers[name].families
        for version in sorted({address.version for address in item.addresses} - carried):
            yield _leaf(reason("peer-without-family", peer=name, family=version))


def find_route(peer: PeerPlan, prefix: Prefix) -> PlannedRoute | None:
    """The route of a prefix among those that a peer is told."""
    index = bisect_left(peer.routes, prefix, key=lambda item: item.route.prefix)
    found = peer.routes[index] if index < len(peer.routes) else None
    return found if found and found.route.prefix == prefix else None


# Address.


def _address(plan: Plan, text: str) -> ReasonTree:
    try:
        address = parse_address(text)
    except InvalidInputError as error:
        return ReasonTree(f"address {text}", "no", (ReasonTree(error.message, "no"),))
    label = f"address {address}"
    users = _users(plan, address)
    if users:
        trees = [_service(plan, str(key)) for key in users]
        twice = [_trouble(p) for p in plan.problems if p.facts.get("address") == str(address)]
        return _group(label, [*trees, *twice])
    for name, pool in plan.config.pools.items():
        if any(address in span for span in pool.ranges):
            unused = _unused(plan, address, name)
            return ReasonTree(label, "note", (_leaf(unused), _pool(plan, name)))
    nowhere = _leaf(reason("address-in-no-pool", address=str(address)))
    return ReasonTree(label, "no", (nowhere,))


def _unused(plan: Plan, address: Address, name: str) -> Reason:
    """Who could have an address of a pool that nobody has."""
    pool, text = plan.config.pools[name], str(address)
    for rest in plan.pools[name].resting:
        if rest.address == address:
            time = format_duration(pool.hold_down)
            return reason("address-resting", address=text, service=str(rest.service), time=time)
    reserved = any(address in span for span in pool.reserved)
    return reason("address-reserved" if reserved else "address-free", address=text, pool=name)


# Peer.


def _peer(plan: Plan, name: str) -> ReasonTree:
    troubles = _troubles(plan, "BGPPeer", name)
    peer = plan.config.peers.get(name)
    if peer is None:
        if troubles:
            return ReasonTree(f"peer {name}: not in use", "no", troubles)
        return _missing("peer", name, plan.config.peers)
    children: list[ReasonTree] = []
    for ad in plan.config.bgp.values():
        if ad.goes_to(name):
            children.append(ReasonTree(f"hears BGPAdvertisement {ad.name}", "yes"))
        else:
            children.append(_leaf(reason("peer-not-told", peer=name, advertisement=ad.name)))
    children += [_session(node, node.peers[name]) for node in plan.nodes.values()]
    asn = peer.peer_asn or peer.dynamic_asn
    kind = "internal" if peer.internal else "external"
    label = f"peer {name}: {peer.target}, AS {asn}, {kind}"
    return _group(label, [*children, *troubles])


def _session(node: NodePlan, peer: PeerPlan) -> ReasonTree:
    label = f"node {node.node}"
    refused = peer.refused or node.refused
    if refused:
        return ReasonTree(label, "no", (_leaf(refused),))
    runs = _leaf(reason("peer-runs", node=node.node, peer=peer.peer, target=peer.target))
    routes = [_planned(item) for item in peer.routes]
    return ReasonTree(f"{label}: {len(routes)} routes", "yes", (runs, *routes))


def _planned(item: PlannedRoute) -> ReasonTree:
    origin = f"of {listed(item.services)}, by {listed(item.advertisements)}"
    notes = tuple(map(_leaf, item.notes))
    return ReasonTree(attributes_text(item.route), "yes", (ReasonTree(origin), *notes))


# Node.


def _node(plan: Plan, name: str) -> ReasonTree:
    node = plan.nodes.get(name)
    if node is None:
        return _missing("node", name, plan.nodes)
    able = _leaf(node.refused or reason("node-eligible"))
    answers = []
    for item in node.l2:
        where = "every interface" if item.interfaces is None else listed(item.interfaces)
        text = f"{item.address} on {where}, for {listed(item.services)}"
        answers.append(ReasonTree(text, "yes"))
    sessions = [_session(node, peer) for peer in node.peers.values()]
    against = _against(plan, name)
    children = (
        able,
        _group(f"layer 2: answers for {len(answers)} addresses", answers),
        _group(f"BGP: {sum(not p.refused for p in node.peers.values())} peers", sessions),
        _group(f"does not announce {len(against)} services", against, "note"),
    )
    return ReasonTree(f"node {name}", able.status, children)


def _against(plan: Plan, node: str) -> list[ReasonTree]:
    """Services that have addresses of which this node says nothing, by any protocol, and why."""
    found = []
    for key, item in plan.services.items():
        l2, bgp = item.l2.refused.get(node), item.bgp.refused.get(node)
        if item.pool and item.l2.owner != node and node not in item.bgp.nodes:
            why: list[ReasonTree] = []
            if l2:
                why.append(_leaf(l2, "layer 2: "))
            elif node in item.l2.ranking:
                why.append(_leaf(reason("l2-not-first", owner=item.l2.owner), "layer 2: "))
            if bgp:
                why.append(_leaf(bgp, "BGP: "))
            found.append(ReasonTree(f"service {key}", "no", tuple(why)))
    return found


# Pool.


def _pool(plan: Plan, name: str) -> ReasonTree:
    troubles = _troubles(plan, "IPAddressPool", name)
    pool, use = plan.config.pools.get(name), plan.pools.get(name)
    if pool is None or use is None:
        if troubles:
            return ReasonTree(f"pool {name}: not in use", "no", troubles)
        return _missing("pool", name, plan.config.pools)
    ranges = ", ".join(map(span_text, pool.ranges))
    told = [
        *(ReasonTree(f"announced by L2Advertisement {item}", "yes") for item in pool.l2),
        *(ReasonTree(f"announced by BGPAdvertisement {item}", "yes") for item in pool.bgp),
    ]
    if not pool.auto_assign:
        told.append(_leaf(reason("pool-not-automatic", pool=name)))
    if pool.namespaces is not None:
        text = f"only for namespaces {listed(sorted(pool.namespaces)) or '(none)'}"
        told.append(ReasonTree(text))
    users = [
        ReasonTree(f"{key}: {listed(plan.services[key].addresses)}", "yes") for key in use.services
    ]
    held = _group(f"held by {len(users)} services", users, "note")
    return _group(f"pool {name}: {ranges}", [*_usage(use), *told, held, *troubles])


def _usage(use: PoolPlan) -> Iterable[ReasonTree]:
    for version, capacity in use.usage.capacity.items():
        if capacity:
            free = use.usage.available(version)
            text = f"IPv{version}: {capacity - free} of {capacity} in use, {free} free"
            for count, state in ((use.usage.reserved, "reserved"), (use.usage.resting, "resting")):
                if count[version]:
                    text += f", {count[version]} {state}"
            yield ReasonTree(text, "note" if free else "no")


QUESTIONS: dict[str, Callable[[Plan, str], ReasonTree]] = {
    "service": _service,
    "address": _address,
    "peer": _peer,
    "node": _node,
    "pool": _pool,
}
"""What can be asked about."""
