"""Two views of one thing, comparable line by line: what Clarion plans, and what is really there.

A view of a router maps a prefix to a `RouteView`; a view of the segment maps an address to the node
that answers for it. The plan comes from the decision library over the live objects; the observation
comes from the router's own table, or from arping and ndisc6 at the client.
"""

from collections import Counter
from collections.abc import Iterable
from math import gcd

import msgspec

from clarion.decide.plan import Plan
from clarion.decide.planner import plan as decide
from clarion.decide.snapshot import Options, Snapshot
from clarion.lab.nodes import SYSTEM_NAMESPACE
from clarion.lab.routers import Router
from clarion.lab.topology import NODES_ASN, StandardLab, segment_address
from clarion.model.codec import object_from_builtins

READ = (
    "namespaces,nodes,services,endpointslices,ipaddresspools.metallb.io,"
    "l2advertisements.metallb.io,bgpadvertisements.metallb.io,bgppeers.metallb.io,"
    "bfdprofiles.metallb.io,communities.metallb.io"
)
NO_ADVERTISE = "65535:65282"
NOBODY = "nobody"


class RouteView(msgspec.Struct, frozen=True, order=True):
    """A route: who it leads to, and what it carries; local preference only where it is seen."""

    via: tuple[str, ...]
    local_pref: int | None = None
    communities: tuple[str, ...] = ()


RouterView = dict[str, RouteView]
SegmentView = dict[str, str]
WeightView = dict[str, dict[str, int]]
"""Prefix to node to its share."""


def live_plan(lab: StandardLab) -> Plan:
    """The plan of the decision library over the objects that kubectl reads."""
    items = lab.api.items(READ, "--all-namespaces")
    interfaces = {node.name: [port.interface for port in node.ports] for node in lab.nodes.values()}
    alive = [node.name for node in lab.nodes.values() if node.speaker is not None]
    snapshot = Snapshot.from_objects(
        (object_from_builtins(item) for item in items),
        Options(namespace=SYSTEM_NAMESPACE, graceful_shutdown=True),
        speakers=alive,
        interfaces=interfaces,
    )
    return decide(snapshot)


def planned_routes(plan: Plan, router: str) -> RouterView:
    """What the nodes are to tell a router, over whichever of its addresses."""
    own = segment_address(router)
    internal = router == "bird"
    found: dict[str, list[tuple[str, RouteView]]] = {}
    for node, node_plan in plan.nodes.items():
        for name, peer_plan in node_plan.peers.items():
            if str(plan.config.peers[name].address) not in own:
                continue
            for item in peer_plan.routes:
                route = item.route
                small = [f"{value >> 16}:{value & 0xFFFF}" for value in route.communities]
                large = [":".join(map(str, value)) for value in route.large_communities]
                view = RouteView(
                    (), route.local_pref if internal else None, tuple(sorted([*small, *large]))
                )
                found.setdefault(str(route.prefix), []).append((node, view))
    return {prefix: _merged(entries) for prefix, entries in sorted(found.items())}


def _merged(entries: Iterable[tuple[str, RouteView]]) -> RouteView:
    """One view of the paths of a prefix; paths that disagree show all their communities."""
    paths = list(entries)
    local_prefs = {view.local_pref for _, view in paths}
    return RouteView(
        tuple(sorted({node for node, _ in paths})),
        local_prefs.pop() if len(local_prefs) == 1 else -1,
        tuple(sorted({text for _, view in paths for text in view.communities})),
    )


def passed_on(view: RouterView) -> RouterView:
    """What a router that obeys RFC 1997 tells the one behind it: everything but NO_ADVERTISE."""
    return {
        prefix: RouteView(("frr",), None, route.communities)
        for prefix, route in view.items()
        if NO_ADVERTISE not in route.communities
    }


def observed_routes(lab: StandardLab, router: Router) -> RouterView:
    """What a router really holds."""
    internal = router.config.asn == NODES_ASN
    names = {"198.51.100.1": "frr", "2001:db8:2::1": "frr"}
    view: RouterView = {}
    for version in (4, 6):
        for prefix, paths in router.learned(version).items():
            entries = [
                (
                    names.get(path.next_hop) or lab.node_of_next_hop(path.next_hop),
                    RouteView(
                        (),
                        path.local_pref if internal else None,
                        tuple(sorted([*path.communities, *path.large_communities])),
                    ),
                )
                for path in paths
            ]
            view[prefix] = _merged(entries)
    return dict(sorted(view.items()))


def planned_weights(plan: Plan, router: str) -> WeightView:
    """How a router is to share traffic among the nodes, in smallest whole numbers."""
    own = segment_address(router)
    found: dict[str, dict[str, int]] = {}
    for node, node_plan in plan.nodes.items():
        for name, peer_plan in node_plan.peers.items():
            if str(plan.config.peers[name].address) in own:
                for item in peer_plan.routes:
                    found.setdefault(str(item.route.prefix), {})[node] = item.route.weight
    return {prefix: _reduced(weights) for prefix, weights in sorted(found.items())}


def observed_weights(lab: StandardLab, router: Router) -> WeightView:
    """How the kernel of a router really shares it."""
    found: dict[str, dict[str, int]] = {}
    for version in (4, 6):
        for prefix, weights in router.kernel_weights(version).items():
            found[prefix] = {lab.node_of_next_hop(hop): each for hop, each in weights.items()}
    return {prefix: _reduced(weights) for prefix, weights in sorted(found.items())}


def _reduced(weights: dict[str, int]) -> dict[str, int]:
    divisor = gcd(*weights.values()) or 1
    return {node: weight // divisor for node, weight in sorted(weights.items())}


def summarize_weights(view: WeightView) -> str:
    """One line: prefixes that are shared in the same way are counted."""
    counts: Counter[tuple[str, str]] = Counter()
    for prefix, weights in view.items():
        shares = " ".join(f"{n.removeprefix('node-')}:{w}" for n, w in weights.items())
        counts[shares, f"/{prefix.partition('/')[2]}"] += 1
    return _counted(counts)


def planned_owners(plan: Plan, interface: str = "eth0") -> SegmentView:
    """Who is to answer for each service address on a segment."""
    view = {str(a): NOBODY for each in plan.services.values() for a in each.addresses}
    for node, node_plan in plan.nodes.items():
        for item in node_plan.l2:
            if item.interfaces is None or interface in item.interfaces:
                view[str(item.address)] = node
    return dict(sorted(view.items()))


def observed_owners(
    lab: StandardLab, addresses: Iterable[str], interface: str = "eth0"
) -> SegmentView:
    """Who really answers the client for each address."""
    return {
        address: " and ".join(lab.owners(address, interface)) or NOBODY
        for address in sorted(addresses)
    }


def summarize_routes(view: RouterView) -> str:
    """One line: routes of one kind are counted."""
    counts: Counter[tuple[str, str]] = Counter()
    for prefix, route in view.items():
        counts[_attributes(route), f"/{prefix.partition('/')[2]}"] += 1
    return _counted(counts)


def _counted(counts: Counter[tuple[str, str]]) -> str:
    """What is common to them behind how many of which length."""
    lines: dict[str, list[str]] = {}
    for (attributes, length), count in counts.items():
        lines.setdefault(attributes, []).append(f"{count}x{length}")
    return "; ".join(f"{' '.join(sizes)} {attributes}" for attributes, sizes in lines.items())


def _attributes(route: RouteView) -> str:
    via = " ".join(name.removeprefix("node-") for name in route.via)
    local_pref = "" if route.local_pref is None else f" lp {route.local_pref}"
    communities = "".join(f" {text}" for text in route.communities)
    return f"via {via}{local_pref}{communities}"


def summarize_owners(view: SegmentView) -> str:
    """One line: owner and how many addresses it answers for."""
    counts = Counter(view.values())
    return ", ".join(f"{owner}: {count}" for owner, count in sorted(counts.items()))
