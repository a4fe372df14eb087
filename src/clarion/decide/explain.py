"""Answers to "why?" from a plan: trees of reasons, for and against.

Nothing is decided here: every leaf is a reason or a value that the plan already holds.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from clarion.base.addr import Address, Prefix, parse_address
from clarion.base.duration import format_duration
from clarion.base.errors import InvalidInputError
from clarion.decide.advertise import AdvertisedRoute, merge
from clarion.decide.communities import CommunityValue, ExtendedCommunity, format_community
from clarion.decide.config_build import hint
from clarion.decide.config_pools import span_text
from clarion.decide.plan import NodePlan, PeerPlan, Plan, PlannedRoute, PoolPlan, ServicePlan
from clarion.decide.problems import Problem
from clarion.decide.reason_rows import Verdict
from clarion.decide.reasons import Reason, reason
from clarion.decide.reasontree import (
    EVERYTHING,
    ITEMS_SHOWN,
    Focus,
    ReasonTree,
    alike,
    first,
    group,
    leaf,
    number,
    ruled_out,
    trouble,
)
from clarion.decide.registry import listed
from clarion.decide.reported import (
    all_down,
    all_sessions,
    answering,
    controller,
    details,
    not_written,
    sessions,
    sessions_of,
    telling,
)
from clarion.decide.selectors import describe
from clarion.decide.settings import LAST_PRIORITY, BGPSettings, Pool
from clarion.model.meta import ObjectKey


def explain(plan: Plan, kind: str, name: str, focus: Focus = EVERYTHING) -> ReasonTree:
    """Answer about one thing.

    Args:
        plan: What was decided.
        kind: One of `QUESTIONS`.
        name: `namespace/name` of a service, an address, or the name of a peer, node or pool.
        focus: The node, peer or interface that the question is about, where it is about one.
    """
    if focus.node and kind != "node" and focus.node not in plan.nodes:
        return _missing("node", focus.node, plan.nodes)
    if focus.peer and focus.peer not in plan.config.peers:
        return _peer(plan, focus.peer, EVERYTHING)
    return QUESTIONS[kind](plan, name, focus)


def _troubles(plan: Plan, kind: str, name: str, namespace: str = "") -> tuple[ReasonTree, ...]:
    """Problems of an object, and of others because of it; of configuration in any namespace."""

    def concerns(item: Problem) -> bool:
        return any(
            ref.kind == kind and ref.name == name and namespace in ("", ref.namespace)
            for ref in (item.object, *item.related)
        )

    return tuple(trouble(item) for item in plan.problems if concerns(item))


def _named(plan: Plan, kind: str, valid: Iterable[str]) -> set[str]:
    """Names that an answer exists for: of valid objects, and of those with an error."""
    return {*valid, *(item.object.name for item in plan.set_aside if item.object.kind == kind)}


def _missing(what: str, name: str, known: Iterable[object], close: str = "") -> ReasonTree:
    close = close or hint(name, map(str, known))
    return ReasonTree(
        f"{what} {name}", "no", (leaf(reason("not-found", what=what, name=name, hint=close)),)
    )


def communities_text(route: AdvertisedRoute | BGPSettings) -> str:
    """The communities of a route or an advertisement, as routers print them."""
    found: list[CommunityValue] = [*route.communities, *route.large_communities]
    found += map(ExtendedCommunity, route.extended_communities)
    return " ".join(map(format_community, found))


def attributes_text(route: AdvertisedRoute) -> str:
    """A route with its attributes on one line."""
    parts = [str(route.prefix)]
    if route.local_pref:
        parts.append(f"local preference {route.local_pref}")
    if texts := communities_text(route):
        parts.append(f"communities {texts}")
    if route.weight:
        parts.append(f"weight {route.weight}")
    return ", ".join(parts)


# Service.


def _service(plan: Plan, name: str, focus: Focus) -> ReasonTree:
    space, _, own = name.rpartition("/")
    key = ObjectKey(space or "default", own)
    item = plan.services.get(key)
    if item is None:
        return _missing("service", str(key), plan.services, _namesake(plan, own))
    told: list[ReasonTree] = []
    if item.pool:
        if focus.interface or not focus.peer:
            told.append(_l2(plan, item, focus))
        if focus.peer or not focus.interface:
            told.append(_bgp(plan, item, focus))
    states = {child.status for child in told if child.label not in UNASKED}
    open_ = not plan.nodes or not_written(plan, item)
    status: Verdict = "yes" if "yes" in states else "note" if open_ and "note" in states else "no"
    children = (_addresses(plan, item), *told, *_troubles(plan, "Service", own, key.namespace))
    return ReasonTree(f"service {key}", status, children)


def _namesake(plan: Plan, name: str) -> str:
    """The service of this name in another namespace: the namespace was left out, or mistaken."""
    found = next((key for key in plan.services if key.name == name), None)
    return f"; did you mean {found}?" if found else ""


def _addresses(plan: Plan, item: ServicePlan) -> ReasonTree:
    """What the service has, or is to get: what is decided is not yet what is written."""
    outcome, has = item.outcome, listed(item.written)
    reasons = [leaf(why) for why in outcome.reasons] if outcome else []
    for address in item.addresses:
        others = [key for key in _users(plan, address) if key != item.service]
        if others:
            reasons.append(ReasonTree(f"{address} is also the address of {listed(others)}"))
    reasons += _aside(plan, "IPAddressPool", item.pool)
    if outcome and outcome.action == "ignore" and has:
        return group(f"has {has}, which Clarion leaves alone", reasons, "note")
    behind = not_written(plan, item)
    if behind or not item.addresses:
        reasons += controller(plan)
    if behind and has:
        reasons.append(leaf(reason("status-behind", written=has)))
    if not item.addresses:
        return group("no address", reasons, "no")
    what = f"{listed(item.addresses)} of pool {item.pool}"
    if behind and plan.observed.no_controller:
        return group(f"would get {what}", reasons, "no")
    if behind:
        label = f"is about to get {what}: the controller has not written it yet"
        return group(label, reasons, "note")
    verb = "would get" if plan.options.assume_cluster and not has else "has"
    return group(f"{verb} {what}", reasons, "yes")


def _aside(plan: Plan, kind: str, pool: str = "", peer: str = "") -> Iterable[ReasonTree]:
    """Objects with an error on which an answer may depend."""
    for item in plan.set_aside:
        if item.concerns(kind, pool=pool, peer=peer):
            yield leaf(item.reason)


def _users(plan: Plan, address: Address) -> tuple[ObjectKey, ...]:
    return tuple(key for key, item in plan.services.items() if address in item.addresses)


def _unasked(reasons: Iterable[Reason], *codes: str) -> bool:
    """True if a protocol says nothing because nobody asked it to."""
    return any(item.code in codes for item in reasons)


UNASKED = ("layer 2: not asked for", "BGP: not asked for")
NODELESS = "no Node objects are given, so it cannot be said which nodes"


def _l2(plan: Plan, item: ServicePlan, focus: Focus) -> ReasonTree:
    decision = item.l2
    children = [leaf(why) for why in decision.reasons]
    aside = list(_aside(plan, "L2Advertisement", item.pool))
    if _unasked(decision.reasons, "l2-no-advertisement"):
        if aside:
            return group("layer 2: no advertisement is in force", aside, "no")
        return group(UNASKED[0], children, "note")
    children += aside
    if not plan.nodes and decision.advertisements:
        notes = [child for child in children if child.code != "l2-no-candidate"]
        by = f"layer 2: by L2Advertisement {listed(decision.advertisements)}; {NODELESS} answer"
        return group(by, notes, "note")
    if focus.interface:
        children += _on_interface(plan, item, focus.interface)
    if decision.owner and focus.on(decision.owner):
        text = f"node {decision.owner}: chosen from {len(decision.ranking)} candidates"
        children.append(ReasonTree(text, "yes"))
    behind = {
        node: reason("l2-not-first", owner=decision.owner)
        for node in decision.ranking
        if node != decision.owner
    }
    children += ruled_out({**behind, **decision.refused}, focus)
    if report := plan.observed.report(item.service):
        children += answering(report, item, focus)
    owner = plan.nodes.get(decision.owner)
    if owner is not None and owner.interfaces == ():
        children.append(leaf(reason("l2-no-interface", node=owner.node)))
        return group(f"layer 2: {owner.node} is to answer, and cannot", children, "no")
    if not decision.announced:
        return group("layer 2: nobody answers", children, "no")
    good = focus.on(decision.owner) and all(
        child.code != "l2-interface-not-named" for child in children
    )
    behind_plan = not_written(plan, item)
    label = f"layer 2: {decision.owner} {'will answer' if behind_plan else 'answers'}"
    if not good:
        label += f", not {focus.node}" if not focus.on(decision.owner) else ""
        label += f", not on {focus.interface}" if focus.interface else ""
    return group(label, children, "no" if not good else "note" if behind_plan else "yes")


def _on_interface(plan: Plan, item: ServicePlan, interface: str) -> Iterable[ReasonTree]:
    """Whether the owner answers on an interface, and which advertisement would have to name it."""
    decision = item.l2
    if not decision.announced:
        return
    if decision.interfaces is None:
        text = f"{decision.owner} answers on every interface that it has, {interface} or other"
        yield ReasonTree(text, "yes")
        return
    if interface in decision.interfaces:
        yield ReasonTree(f"{decision.owner} answers on {interface}", "yes")
        return
    for name in decision.advertisements:
        wanted = plan.config.l2[name].interfaces
        if interface in wanted:
            facts = {"node": decision.owner, "interfaces": interface}
            yield leaf(reason("l2-interface-absent", advertisement=name, **facts))
        elif wanted:
            facts = {"interfaces": listed(wanted), "interface": interface}
            yield leaf(reason("l2-interface-not-named", advertisement=name, **facts))


def _bgp(plan: Plan, item: ServicePlan, focus: Focus) -> ReasonTree:
    decision = item.bgp
    children = [leaf(why) for why in decision.reasons]
    aside = list(_aside(plan, "BGPAdvertisement", item.pool, focus.peer))
    if _unasked(decision.reasons, "bgp-no-advertisement"):
        if aside:
            return group("BGP: no advertisement is in force", aside, "no")
        return group(UNASKED[1], children, "note")
    children += aside
    children += _aside(plan, "BGPPeer", peer=focus.peer)
    if not plan.nodes and decision.prefixes:
        children += _nodeless_prefixes(plan, item, focus)
        by = f"BGP: by BGPAdvertisement {listed(list(decision.prefixes))}; {NODELESS} announce"
        return group(by, children, "note")
    told = {
        node: _told(plan, item, plan.nodes[node], focus)
        for node in decision.nodes
        if node in plan.nodes and focus.on(node)
    }
    children += alike("node", told)
    children += ruled_out(decision.refused, focus)
    if report := plan.observed.report(item.service):
        children += telling(report, item, focus)
    states = sessions_of(plan, item, focus)
    children += sessions(states)
    if not decision.announced:
        return group("BGP: not announced", children, "no")
    heard = any(child.status == "yes" for tree in told.values() for child in tree)
    if focus != EVERYTHING and not heard:
        label = "BGP: not announced" + (f" by {focus.node}" if focus.node else "")
        return group(label + (f" to {focus.peer}" if focus.peer else ""), children, "no")
    nodes = listed(list(decision.nodes))
    if all_down(states):
        return group(f"BGP: to be announced by {nodes}, but no session is up", children, "no")
    if not_written(plan, item):
        return group(f"BGP: will be announced by {nodes}", children, "note")
    return group(f"BGP: announced by {nodes}", children, "yes")


def _nodeless_prefixes(plan: Plan, item: ServicePlan, focus: Focus) -> Iterable[ReasonTree]:
    """What a node that announces would tell, by advertisement."""
    for name, prefixes in item.bgp.prefixes.items():
        ad = plan.config.bgp[name]
        peers = [peer for peer in plan.config.peers if ad.goes_to(peer) and focus.to(peer)]
        lines = [ReasonTree(attributes_text(merge(prefix, [ad])), "yes") for prefix in prefixes]
        yield group(f"{name}: to {listed(peers) or 'nobody'}", lines, None if peers else "no")


def _told(plan: Plan, item: ServicePlan, node: NodePlan, focus: Focus) -> tuple[ReasonTree, ...]:
    """What one node tells its peers of a service."""
    refused: list[ReasonTree] = []
    told: dict[str, tuple[ReasonTree, ...]] = {}
    prefixes = sorted({prefix for items in item.bgp.prefixes.values() for prefix in items})
    for name, peer in node.peers.items():
        if not focus.to(name):
            continue
        if peer.refused:
            refused.append(leaf(peer.refused))
            continue
        routes = tuple(
            ReasonTree(attributes_text(route.route), "yes", tuple(map(leaf, route.notes)))
            for prefix in prefixes
            if (route := find_route(peer, prefix)) and item.service in route.services
        )
        label = f"{name} ({peer.target})"
        told[label] = routes or tuple(_not_told(plan, item, node.node, name))
    return (*alike("peer", told), *refused)


def _not_told(plan: Plan, item: ServicePlan, node: str, name: str) -> Iterable[ReasonTree]:
    for ad in item.bgp.nodes[node]:
        if not plan.config.bgp[ad].goes_to(name):
            yield leaf(reason("peer-not-told", peer=name, advertisement=ad))
            continue
        carried = plan.config.peers[name].families
        for version in sorted({address.version for address in item.addresses} - carried):
            yield leaf(reason("peer-without-family", peer=name, family=version))


def find_route(peer: PeerPlan, prefix: Prefix) -> PlannedRoute | None:
    """The route of a prefix among those that a peer is told."""
    index = bisect_left(peer.routes, prefix, key=lambda item: item.route.prefix)
    found = peer.routes[index] if index < len(peer.routes) else None
    return found if found and found.route.prefix == prefix else None


# Address.


def _address(plan: Plan, text: str, focus: Focus) -> ReasonTree:
    try:
        address = parse_address(text)
    except InvalidInputError as error:
        fault = ReasonTree(error.message, "no", code="not-found")
        return ReasonTree(f"address {text}", "no", (fault,))
    label = f"address {address}"
    users = _users(plan, address)
    if users:
        trees = [_service(plan, str(key), focus) for key in users]
        twice = [trouble(p) for p in plan.problems if p.facts.get("address") == str(address)]
        return group(label, [*trees, *twice])
    for name, pool in plan.config.pools.items():
        if any(address in span for span in pool.ranges):
            unused = _unused(plan, address, name)
            return ReasonTree(label, "note", (leaf(unused), _pool(plan, name, focus)))
    nowhere = leaf(reason("address-in-no-pool", address=str(address)))
    return ReasonTree(label, "no", (nowhere, *_aside(plan, "IPAddressPool")))


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


def _peer(plan: Plan, name: str, focus: Focus) -> ReasonTree:
    troubles = _troubles(plan, "BGPPeer", name)
    peer = plan.config.peers.get(name)
    if peer is None:
        if troubles:
            return ReasonTree(f"peer {name}: not in use", "no", troubles)
        return _missing("peer", name, _named(plan, "BGPPeer", plan.config.peers))
    children: list[ReasonTree] = []
    for ad in plan.config.bgp.values():
        if ad.goes_to(name):
            children.append(ReasonTree(f"hears BGPAdvertisement {ad.name}", "yes"))
        else:
            children.append(leaf(reason("peer-not-told", peer=name, advertisement=ad.name)))
    by_node = {
        node.node: _session(node, node.peers[name])
        for node in plan.nodes.values()
        if focus.on(node.node)
    }
    children += alike("node", by_node)
    if not plan.nodes:
        children.append(ReasonTree(f"{NODELESS} have sessions"))
    children += _aside(plan, "BGPAdvertisement", peer=name)
    states = all_sessions(plan, msgspec.structs.replace(focus, peer=name))
    children += sessions(states)
    children += details(plan, name, focus)
    asn = peer.peer_asn or peer.dynamic_asn
    kind = "internal" if peer.internal else "external"
    label = f"peer {name}: {peer.target}, AS {asn}, {kind}"
    return group(label, [*children, *troubles], "no" if all_down(states) else None)


def _session(node: NodePlan, peer: PeerPlan) -> tuple[ReasonTree, ...]:
    """One session: why there is none, or all that goes over it."""
    refused = peer.refused or (None if node.speaks else node.refused)
    if refused:
        return (leaf(refused),)
    runs = leaf(reason("peer-runs"))
    if node.refused:
        return runs, leaf(node.refused, "announces nothing: ")
    count = len(peer.routes)
    routes = list(map(_planned, peer.routes[:ITEMS_SHOWN]))
    status: Verdict = "yes" if count else "note"
    return runs, group(number(count, "route"), first(routes, "routes", count), status)


def _planned(item: PlannedRoute) -> ReasonTree:
    services, by = listed(item.services, 3), listed(item.advertisements)
    text = f"{attributes_text(item.route)}: of {services}, by {by}"
    return ReasonTree(text, "yes", tuple(map(leaf, item.notes)))


# Node.


def _node(plan: Plan, name: str, focus: Focus) -> ReasonTree:
    node = plan.nodes.get(name)
    if node is None:
        return _missing("node", name, plan.nodes)
    able = _able(node)
    mute = node.l2 and node.interfaces == ()
    silence = plan.observed.silence(name)
    answers = []
    for item in node.l2[:ITEMS_SHOWN]:
        where = "every interface" if item.interfaces is None else listed(item.interfaces)
        text = f"{item.address} on {where}, for {listed(item.services, 3)}"
        answers.append(ReasonTree(text, "yes"))
    told = {
        f"{peer.peer} ({peer.target})": _session(node, peer)
        for peer in node.peers.values()
        if focus.to(peer.peer)
    }
    running = sum(node.speaks and not peer.refused for peer in node.peers.values())
    shown = first(answers, "addresses", len(node.l2))
    against, count = _against(plan, name)
    kinds = ("L2Advertisement", "BGPAdvertisement", "BGPPeer")
    children = (
        *able,
        *([leaf(silence)] if silence else []),
        *([leaf(reason("l2-no-interface", node=name))] if mute else []),
        group(f"layer 2: answers for {number(len(node.l2), 'address', 'addresses')}", shown),
        group(f"BGP: {number(running, 'session')}", alike("peer", told)),
        *sessions(all_sessions(plan, msgspec.structs.replace(focus, node=name))),
        group(f"says nothing of {number(count, 'service')}", against, "note"),
        *(leaf for kind in kinds for leaf in _aside(plan, kind, peer=focus.peer)),
    )
    return ReasonTree(f"node {name}", able[0].status, children)


def _able(node: NodePlan) -> tuple[ReasonTree, ...]:
    """Whether a node may announce, by which protocol."""
    if node.refused:
        return (leaf(node.refused),)
    draining = (leaf(node.draining, "BGP: "),) if node.draining else ()
    if node.l2_refused:
        return leaf(node.l2_refused, "layer 2: "), leaf(reason("node-eligible-bgp")), *draining
    return leaf(reason("node-eligible")), *draining


def _against(plan: Plan, node: str) -> tuple[Iterable[ReasonTree], int]:
    """Services that have addresses of which this node says nothing, by any protocol, and why."""
    found: dict[str, tuple[ReasonTree, ...]] = {}
    for key, item in plan.services.items():
        l2, bgp = item.l2.refused.get(node), item.bgp.refused.get(node)
        if not item.pool or item.l2.owner == node or node in item.bgp.nodes:
            continue
        why: list[ReasonTree] = []
        if l2:
            why.append(leaf(l2, "layer 2: "))
        elif node in item.l2.ranking:
            why.append(leaf(reason("l2-not-first", owner=item.l2.owner), "layer 2: "))
        if bgp:
            why.append(leaf(bgp, "BGP: "))
        found[str(key)] = tuple(why)
    return alike("service", found), len(found)


# Pool.


def _pool(plan: Plan, name: str, focus: Focus) -> ReasonTree:
    del focus  # a pool is the same on every node
    troubles = _troubles(plan, "IPAddressPool", name)
    pool, use = plan.config.pools.get(name), plan.pools.get(name)
    if pool is None or use is None:
        if troubles:
            return ReasonTree(f"pool {name}: not in use", "no", troubles)
        return _missing("pool", name, _named(plan, "IPAddressPool", plan.config.pools))
    ranges = ", ".join(map(span_text, pool.ranges))
    told = [
        *(ReasonTree(f"announced by L2Advertisement {item}", "yes") for item in pool.l2),
        *(ReasonTree(f"announced by BGPAdvertisement {item}", "yes") for item in pool.bgp),
    ]
    if not pool.auto_assign:
        told.append(leaf(reason("pool-not-automatic", pool=name)))
    told += map(ReasonTree, _terms(pool))
    users = [
        ReasonTree(f"{key}: {listed(plan.services[key].addresses)}", "yes")
        for key in use.services[:ITEMS_SHOWN]
    ]
    count = len(use.services)
    held = group(f"held by {number(count, 'service')}", first(users, "services", count), "note")
    told += _aside(plan, "L2Advertisement", name)
    told += _aside(plan, "BGPAdvertisement", name)
    told += _aside(plan, "IPAddressPool", name)
    told += controller(plan)
    return group(f"pool {name}: {ranges}", [*_usage(use), *told, held, *troubles])


def _terms(pool: Pool) -> Iterable[str]:
    """For whom a pool is, and which of its addresses it holds back."""
    if pool.namespaces is not None:
        yield f"only for namespaces {listed(sorted(pool.namespaces)) or '(none)'}"
    if pool.service_selectors:
        yield f"only for services with {' or '.join(map(describe, pool.service_selectors))}"
    if pool.priority != LAST_PRIORITY:
        yield f"tried at priority {pool.priority}"
    if pool.avoid_buggy:
        yield "avoids IPv4 addresses that end in .0 or .255"
    if pool.hold_down:
        yield f"a released address rests for {format_duration(pool.hold_down)}"


def _usage(use: PoolPlan) -> Iterable[ReasonTree]:
    for version, capacity in use.usage.capacity.items():
        if capacity:
            free = use.usage.available(version)
            text = f"IPv{version}: {capacity - free} of {capacity} in use, {free} free"
            for count, state in ((use.usage.reserved, "reserved"), (use.usage.resting, "resting")):
                if count[version]:
                    text += f", {count[version]} {state}"
            yield ReasonTree(text, "note" if free else "no")


QUESTIONS: dict[str, Callable[[Plan, str, Focus], ReasonTree]] = {
    "service": _service,
    "address": _address,
    "peer": _peer,
    "node": _node,
    "pool": _pool,
}
"""What can be asked about."""
