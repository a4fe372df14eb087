"""Warnings about configuration against the cluster that it is for: nodes, networks, services."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from clarion.base.addr import AddressRange, parse_address, parse_prefix
from clarion.base.errors import InvalidInputError
from clarion.decide.config_build import Build, ref
from clarion.decide.config_pools import span_text
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import listed
from clarion.decide.settings import BGPSettings, Config, L2Settings, Pool, nodes_of
from clarion.decide.snapshot import Snapshot
from clarion.model.annotations import (
    DEPRECATED_PREFIX,
    LABEL_EXCLUDE_BALANCERS,
    PREFIX,
    deprecated_annotations,
)
from clarion.model.core import Node, Service
from clarion.model.meta import KubeObject

NAMED = 5
"""So many of the objects concerned are named in a problem."""

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
    for service in balanced:
        yield from _deprecated(service)
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


def _deprecated(service: Service) -> Iterator[Problem]:
    for key in deprecated_annotations(service):
        facts = {"key": key, "new": PREFIX + key.removeprefix(DEPRECATED_PREFIX)}
        path = f"metadata.annotations[{key}]"
        yield Problem(
            code="annotation-deprecated", object=ref(service), path=path, facts=dict(facts)
        )
    if service.spec.load_balancer_ip:
        path = "spec.loadBalancerIP"
        yield Problem(code="load-balancer-ip-deprecated", object=ref(service), path=path)
