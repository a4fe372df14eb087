"""Warnings about configuration against the cluster that it is for: nodes, networks, services."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from clarion.base.addr import AddressRange, parse_address, parse_prefix
from clarion.base.errors import InvalidInputError
from clarion.decide.config_annotations import annotation_warnings, request_warnings
from clarion.decide.config_build import Build, ref
from clarion.decide.config_pools import span_text
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import NAMED, listed
from clarion.decide.selectors import describe, matches
from clarion.decide.settings import BGPSettings, Config, L2Settings, Pool, nodes_of
from clarion.decide.snapshot import Snapshot
from clarion.model.annotations import LABEL_EXCLUDE_BALANCERS
from clarion.model.core import Node, Service
from clarion.model.meta import KubeObject
from clarion.model.metallb import BGPAdvertisement

Entry = tuple[str, int]
"""A pool, and one of its entries by position."""


class _Entries:
    """The entries of all pools, to find those that share an address with a range."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._rows = sorted(
            (span.version, span.first, span.last, name, index)
            for name, pool in pools.items()
            for index, span in enumerate(pool.ranges)
        )
        self._starts = [row[:2] for row in self._rows]

    def touching(self, span: AddressRange) -> Iterator[Entry]:
        """Entries that share an address with the range; they do not overlap one another."""
        index = bisect_right(self._starts, (span.version, span.last))
        while index:
            index -= 1
            version, _, last, name, position = self._rows[index]
            if version != span.version or last < span.first:
                return
            yield name, position

    def hit_by(
        self, networks: Iterable[tuple[KubeObject, str]]
    ) -> dict[Entry, dict[ObjectRef, None]]:
        """Entries that share an address with some of these networks, and whose they are."""
        found: dict[Entry, dict[ObjectRef, None]] = {}
        for obj, text in networks:
            span = _span(text)
            for entry in self.touching(span) if span else ():
                found.setdefault(entry, {})[ref(obj)] = None
        return found


def _span(text: str) -> AddressRange | None:
    """An address or prefix as a range; None for anything else, which is the cluster's business."""
    try:
        return parse_prefix(text).range if "/" in text else parse_address(text).host_prefix.range
    except InvalidInputError:
        return None


def _overlaps(
    code: str, snapshot: Snapshot, config: Config, networks: Iterable[tuple[KubeObject, str]]
) -> Iterator[Problem]:
    """One problem for each entry of a pool that some of these networks share addresses with."""
    objects = {obj.name: obj for obj in snapshot.pools}
    for (name, index), others in sorted(_Entries(config.pools).hit_by(networks).items()):
        entry = span_text(config.pools[name].ranges[index])
        yield Problem(
            code=code,
            object=ref(objects[name]) if name in objects else ObjectRef("IPAddressPool", "", name),
            path=f"spec.addresses[{index}]",
            facts={"entry": entry, "others": listed([item.name for item in others], NAMED)},
            related=tuple(others)[:NAMED],
        )


def _node_addresses(nodes: Iterable[Node]) -> Iterator[tuple[KubeObject, str]]:
    for node in nodes:
        for item in node.status.addresses:
            yield node, item.address


def _pod_networks(nodes: Iterable[Node]) -> Iterator[tuple[KubeObject, str]]:
    for node in nodes:
        for text in node.spec.pod_cidrs or filter(None, (node.spec.pod_cidr,)):
            yield node, text


def _cluster_ips(services: Iterable[Service]) -> Iterator[tuple[KubeObject, str]]:
    for service in services:
        for text in service.spec.cluster_ips or (service.spec.cluster_ip,):
            yield service, text


def warn_of_nodes(build: Build, config: Config) -> None:
    """Warn of pools inside the networks of nodes and pods, and of nodes that cannot announce."""
    snapshot = build.snapshot
    nodes = snapshot.nodes
    for code, networks in (
        ("pool-overlaps-nodes", _node_addresses(nodes)),
        ("pool-overlaps-pods", _pod_networks(nodes)),
    ):
        build.problems.extend(_overlaps(code, snapshot, config, networks))
    for objects, settings in (
        (snapshot.l2_advertisements, config.l2),
        (snapshot.bgp_advertisements, config.bgp),
    ):
        for obj in objects:
            item = settings.get(obj.name)
            if item:
                _warn_of_excluded(build, obj, item)
                _warn_of_missing_interfaces(build, obj, item)


def warn_of_peers(build: Build, config: Config) -> None:
    """Warn of peers inside our own pools, and of advertisements to peers of other nodes."""
    entries = _Entries(config.pools)
    pools = {obj.name: ref(obj) for obj in build.snapshot.pools}
    for obj in build.snapshot.peers:
        address = config.peers[obj.name].address if obj.name in config.peers else None
        for name, index in entries.touching(address.host_prefix.range) if address else ():
            facts = {
                "address": str(address),
                "entry": span_text(config.pools[name].ranges[index]),
                "other": str(pools[name]),
            }
            build.report("peer-inside-pool", obj, "spec.peerAddress", [pools[name]], **facts)
    for ad in build.snapshot.bgp_advertisements:
        if ad.name in config.bgp:
            _warn_of_peers_elsewhere(build, config, ad)


def _warn_of_peers_elsewhere(build: Build, config: Config, obj: BGPAdvertisement) -> None:
    """Peers that are named, or all of them, have their sessions on other nodes."""
    covered = nodes_of(config.bgp[obj.name], build.node_labels)
    labels = [build.node_labels[name] for name in covered]

    def elsewhere(name: str) -> bool:
        return not any(map(config.peers[name].runs_on, labels))

    if not labels or not config.peers:
        return
    for index, name in enumerate(obj.spec.peers):
        if name in config.peers and elsewhere(name):
            related = [ref(peer) for peer in build.snapshot.peers if peer.name == name]
            where, facts = f"spec.peers[{index}]", {"peer": f"peer {name}"}
            build.report("advertisement-peer-elsewhere", obj, where, related, **facts)
    if not obj.spec.peers and all(map(elsewhere, config.peers)):
        build.report("advertisement-peer-elsewhere", obj, "spec", peer="any peer")


def _warn_of_excluded(build: Build, obj: KubeObject, item: L2Settings | BGPSettings) -> None:
    covered = sorted(nodes_of(item, build.node_labels))
    excluded = [n for n in covered if LABEL_EXCLUDE_BALANCERS in build.node_labels[n]]
    if covered and covered == excluded and not build.options.ignore_exclude_lb:
        related = [ObjectRef("Node", "", name) for name in covered[:NAMED]]
        names = listed(covered, NAMED)
        build.report("advertisement-only-excluded-nodes", obj, "spec", related, nodes=names)


def _warn_of_missing_interfaces(
    build: Build, obj: KubeObject, item: L2Settings | BGPSettings
) -> None:
    """Nodes that may be chosen, but would be silent, if others have what they lack."""
    if (
        not isinstance(item, L2Settings)
        or not item.interfaces
        or build.options.l2_require_interface
    ):
        return
    known = build.snapshot.interfaces
    covered = sorted(nodes_of(item, build.node_labels) & known.keys())
    lacking = [name for name in covered if not set(item.interfaces) & set(known[name])]
    if lacking and lacking != covered:
        related = [ObjectRef("Node", "", name) for name in lacking[:NAMED]]
        facts = {"nodes": listed(lacking, NAMED), "interfaces": listed(item.interfaces)}
        build.report("nodes-without-interfaces", obj, "spec.interfaces", related, **facts)


def service_warnings(snapshot: Snapshot, config: Config) -> Iterator[Problem]:
    """Warnings for which the services are needed; the programs do without them."""
    balanced = [item for item in snapshot.services if item.spec.type == "LoadBalancer"]
    networks = _cluster_ips(snapshot.services)
    yield from _overlaps("pool-overlaps-services", snapshot, config, networks)
    yield from request_warnings(snapshot, balanced)
    yield from annotation_warnings(balanced)
    yield from _pools_for_nobody(snapshot, config, balanced)
    labels = [item.metadata.labels for item in balanced]
    ads = [*snapshot.l2_advertisements, *snapshot.bgp_advertisements]
    for obj in ads if balanced else ():
        table: Mapping[str, L2Settings | BGPSettings] = (
            config.l2 if obj.kind == "L2Advertisement" else config.bgp
        )
        item = table.get(obj.name)
        if item and not any(map(item.covers_service, labels)):
            path = "spec.serviceSelectors"
            yield Problem(code="advertisement-without-service", object=ref(obj), path=path)


def _pools_for_nobody(
    snapshot: Snapshot, config: Config, services: list[Service]
) -> Iterator[Problem]:
    """Service selectors of pools that match no service in the pool's namespaces."""
    for obj in snapshot.pools if services else ():
        pool = config.pools.get(obj.name)
        for index, selector in enumerate(pool.service_selectors if pool else ()):
            inside = (
                item.metadata.labels
                for item in services
                if pool and (pool.namespaces is None or item.namespace in pool.namespaces)
            )
            if not any(matches(selector, labels) for labels in inside):
                yield Problem(
                    code="selector-selects-nothing",
                    object=ref(obj),
                    path=f"spec.serviceAllocation.serviceSelectors[{index}]",
                    facts={"what": "service", "selector": describe(selector)},
                )
