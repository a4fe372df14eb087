"""Checks of advertisements, alone and against the pools that they select."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import combinations

from clarion.base.addr import BITS, Address, AddressRange, covering_prefix, summarize
from clarion.base.errors import quoted
from clarion.base.limits import COMMUNITIES_PER_ADVERTISEMENT_MAX
from clarion.base.rangeset import RangeSet
from clarion.decide.communities import (
    Aliases,
    CommunityValue,
    ExtendedCommunity,
    format_community,
    parse_community,
)
from clarion.decide.config_build import Build, hint, ref
from clarion.decide.config_pools import alias_names, resolve_community, span_text
from clarion.decide.problems import ObjectRef
from clarion.decide.registry import Fact
from clarion.decide.selectors import any_matches, faults, selects
from clarion.decide.settings import BGPSettings, L2Settings, Pool, nodes_of
from clarion.model.annotations import BY_ENDPOINTS, LINK_BANDWIDTH
from clarion.model.meta import LabelSelector
from clarion.model.metallb import BGPAdvertisement, L2Advertisement

Advertisement = BGPAdvertisement | L2Advertisement
INTERFACE_NAME_BYTES = 15
"""Longest name of an interface: IFNAMSIZ of Linux, less the closing zero."""

FAMILIES = {4: "aggregationLength", 6: "aggregationLengthV6"}


def build_l2(
    build: Build, pools: Mapping[str, Pool], previous: dict[str, L2Settings]
) -> dict[str, L2Settings]:
    """All valid L2 advertisements."""
    return build.accept(
        build.snapshot.l2_advertisements, lambda obj: _l2(build, obj, pools), previous
    )


def build_bgp(
    build: Build,
    pools: Mapping[str, Pool],
    aliases: Aliases,
    previous: dict[str, BGPSettings],
) -> dict[str, BGPSettings]:
    """All valid BGP advertisements, free of conflicts with one another."""
    conflicts = _LocalPrefs(build, pools)
    return build.accept(
        build.snapshot.bgp_advertisements,
        lambda obj: _bgp(build, obj, pools, aliases),
        previous,
        conflicts.admit,
    )


def _common(build: Build, obj: Advertisement, pools: Mapping[str, Pool]) -> frozenset[str]:
    """Check what both kinds have; the names of the selected pools."""
    spec = obj.spec
    build.unique(spec.ip_address_pools, obj, "spec.ipAddressPools")
    build.selectors(spec.ip_address_pool_selectors, obj, "spec.ipAddressPoolSelectors")
    build.selectors(spec.node_selectors, obj, "spec.nodeSelectors")
    build.selectors(spec.service_selectors, obj, "spec.serviceSelectors")
    existing = {pool.name: pool.metadata.labels for pool in build.snapshot.pools}
    for index, name in enumerate(spec.ip_address_pools):
        if name not in existing:
            where = f"spec.ipAddressPools[{index}]"
            build.report("pool-unknown", obj, where, name=name, hint=hint(name, existing))
    path = "spec.ipAddressPoolSelectors"
    build.each_selects(spec.ip_address_pool_selectors, existing.values(), "pool", obj, path)
    build.each_selects_nodes(spec.node_selectors, obj, "spec.nodeSelectors")
    chosen = _selected(spec.ip_address_pools, spec.ip_address_pool_selectors, existing)
    if not chosen:
        build.report("advertisement-without-pool", obj, "spec")
    return chosen & pools.keys()


def _selected(
    names: Iterable[str],
    selectors: tuple[LabelSelector, ...],
    existing: Mapping[str, Mapping[str, str]],
) -> frozenset[str]:
    """Union of the named and the matched pools; all pools when neither is asked for."""
    names = frozenset(names)
    if not names and not selectors:
        return frozenset(existing)
    usable = [selector for selector in selectors if not any(faults(selector))]
    return (names & existing.keys()) | {
        name for name, labels in existing.items() if any_matches(usable, labels)
    }


def _l2(build: Build, obj: L2Advertisement, pools: Mapping[str, Pool]) -> L2Settings:
    spec = obj.spec
    chosen = _common(build, obj, pools)
    for index, item in enumerate(spec.preferred_node_selectors):
        path = f"spec.preferredNodeSelectors[{index}]"
        if not 1 <= item.weight <= 100:
            build.report("preference-weight", obj, f"{path}.weight", weight=item.weight)
        build.selector(item.preference, obj, f"{path}.preference")
        nodes = build.node_labels.values()
        if nodes:
            build.selects_something(item.preference, nodes, "node", obj, f"{path}.preference")
    for index, name in enumerate(spec.interfaces):
        if fault := _name_fault(name):
            where = f"spec.interfaces[{index}]"
            build.report("interface-name-invalid", obj, where, name=repr(name), fault=fault)
    _check_interfaces(build, obj)
    return L2Settings(
        name=obj.name,
        pools=chosen,
        node_selectors=spec.node_selectors,
        service_selectors=spec.service_selectors,
        preferences=tuple((i.weight, i.preference) for i in spec.preferred_node_selectors),
        interfaces=tuple(dict.fromkeys(spec.interfaces)),
    )


def _name_fault(name: str) -> str:
    """Why no interface of Linux can have a name; empty if one can."""
    if any(sign in name for sign in "*?["):
        return "it looks like a pattern"
    if not 1 <= len(name.encode()) <= INTERFACE_NAME_BYTES:
        return f"names have 1 to {INTERFACE_NAME_BYTES} bytes"
    if "/" in name or ":" in name or name in (".", "..") or any(map(str.isspace, name)):
        return "names have neither '/' nor ':' nor white space"
    return ""


def _check_interfaces(build: Build, obj: L2Advertisement) -> None:
    """Warn of interfaces that no covered node has, once those of all these nodes are known."""
    known, usable = (
        build.snapshot.interfaces,
        not any(map(any, map(faults, obj.spec.node_selectors))),
    )
    covered = [n for n, own in build.node_labels.items() if usable and _covers(obj, own)]
    if not covered or not all(name in known for name in covered):
        return
    existing = sorted({name for node in covered for name in known[node]})
    for index, name in enumerate(obj.spec.interfaces):
        if name not in existing and not _name_fault(name):
            where = f"spec.interfaces[{index}]"
            build.report("interface-unknown", obj, where, name=name, hint=hint(name, existing))


def _covers(obj: Advertisement, labels: Mapping[str, str]) -> bool:
    return selects(obj.spec.node_selectors, labels)


def _bgp(
    build: Build, obj: BGPAdvertisement, pools: Mapping[str, Pool], aliases: Aliases
) -> BGPSettings:
    spec = obj.spec
    chosen = _common(build, obj, pools)
    lengths = {4: spec.aggregation_length, 6: spec.aggregation_length_v6}
    _check_lengths(build, obj, lengths)
    for name in sorted(chosen):
        _check_aggregation(build, obj, pools[name], lengths)
    if not 0 <= spec.local_pref < 1 << 32:
        build.report("local-pref-range", obj, "spec.localPref", value=spec.local_pref)
    build.unique(spec.peers, obj, "spec.peers")
    peers = [peer.name for peer in build.snapshot.peers]
    for index, name in enumerate(spec.peers):
        if name not in peers:
            where = f"spec.peers[{index}]"
            build.report("peer-unknown", obj, where, name=name, hint=hint(name, peers))
    if not peers:
        build.report("advertisement-without-peer", obj, "spec")
    values = _communities(build, obj, aliases)
    extended = {item for item in values if isinstance(item, ExtendedCommunity)}
    _check_extended(build, obj, extended)
    return BGPSettings(
        name=obj.name,
        pools=chosen,
        lengths=lengths,
        local_pref=spec.local_pref,
        communities=tuple(sorted({item for item in values if isinstance(item, int)})),
        large_communities=tuple(sorted({item for item in values if isinstance(item, tuple)})),
        extended_communities=tuple(sorted(item.value for item in extended)),
        weighted=_weighted(build, obj),
        node_selectors=spec.node_selectors,
        service_selectors=spec.service_selectors,
        peers=spec.peers,
    )


def _check_extended(
    build: Build, obj: BGPAdvertisement, communities: Iterable[ExtendedCommunity]
) -> None:
    """Report extended communities that the back end cannot send."""
    backend = build.options.backend
    for item in sorted(communities):
        if backend == "native" or (backend == "frr" and item.kind):
            continue
        field = f"extended community {format_community(item)}"
        facts = {"backend": backend, "field": field, "effect": "routes are sent without it"}
        build.report("back-end-lacks", obj, "spec.communities", **facts)


def _weighted(build: Build, obj: BGPAdvertisement) -> bool:
    """True if the routes tell how many endpoints of the services the node has."""
    value = obj.metadata.annotations.get(LINK_BANDWIDTH)
    path = f"metadata.annotations[{LINK_BANDWIDTH}]"
    if value is not None and value != BY_ENDPOINTS:
        build.report("link-bandwidth-invalid", obj, path, value=quoted(value))
    if value and build.options.backend == "frr-k8s":
        effect = "routers share traffic equally among the nodes"
        facts = {"backend": "frr-k8s", "field": LINK_BANDWIDTH, "effect": effect}
        build.report("back-end-lacks", obj, path, **facts)
    return value == BY_ENDPOINTS


def _check_lengths(build: Build, obj: BGPAdvertisement, lengths: Mapping[int, int]) -> None:
    for version, field in FAMILIES.items():
        length, least, most = lengths[version], 1 if version == 4 else 0, BITS[version]
        if not least <= length <= most:
            build.report(
                "aggregation-out-of-range",
                obj,
                f"spec.{field}",
                length=length,
                least=least,
                most=most,
            )
    if obj.spec.service_selectors and any(lengths[v] != BITS[v] for v in FAMILIES):
        build.report("aggregation-with-service-selectors", obj, "spec.serviceSelectors")


def _check_aggregation(
    build: Build, obj: BGPAdvertisement, pool: Pool, lengths: Mapping[int, int]
) -> None:
    """Compare with the largest prefix of each entry, as MetalLB does; then warn of the edges."""
    related = [_pool_ref(build, pool.name)]
    inside = {v: _members(pool, v) for v in FAMILIES}
    for span in pool.ranges:
        field, length = FAMILIES[span.version], lengths[span.version]
        if not 0 <= length <= BITS[span.version]:
            continue
        largest = min(prefix.length for prefix in summarize(span))
        facts: dict[str, Fact] = {"length": length, "pool": pool.name, "entry": span_text(span)}
        if length < largest:
            build.report(
                "aggregation-too-short", obj, f"spec.{field}", related, **facts, largest=largest
            )
        elif _spills(span, length, inside[span.version]):
            build.report("aggregate-beyond-pool", obj, f"spec.{field}", related, **facts)


def _pool_ref(build: Build, name: str) -> ObjectRef:
    return next(ref(pool) for pool in build.snapshot.pools if pool.name == name)


def _members(pool: Pool, version: int) -> list[tuple[int, int]]:
    return RangeSet((s.first, s.last) for s in pool.ranges if s.version == version).spans()


def _spills(span: AddressRange, length: int, inside: list[tuple[int, int]]) -> bool:
    """True if the aggregate of the first or last address leaves the pool."""
    for value in (span.first, span.last):
        cover = covering_prefix(Address(span.version, value), length).range
        first, last = inside[bisect_right(inside, (value, 1 << 128)) - 1]
        if cover.first < first or cover.last > last:
            return True
    return False


def _communities(build: Build, obj: BGPAdvertisement, aliases: Aliases) -> list[CommunityValue]:
    texts = obj.spec.communities
    build.unique(texts, obj, "spec.communities")
    if len(texts) > COMMUNITIES_PER_ADVERTISEMENT_MAX:
        build.report(
            "too-many-communities",
            obj,
            "spec.communities",
            count=len(texts),
            limit=COMMUNITIES_PER_ADVERTISEMENT_MAX,
        )
    values: list[CommunityValue] = []
    for index, text in enumerate(texts):
        path = f"spec.communities[{index}]"
        value = resolve_community(text, aliases)
        if value is None and ":" in text:
            value = build.parse(parse_community, text, "community-invalid", obj, path)
        elif value is None:
            known = hint(text, alias_names(aliases))
            build.report("alias-unknown", obj, path, alias=text, hint=known)
        if value is not None:
            values.append(value)
    return values


class _LocalPrefs:
    """Keeps two advertisements from sending one route with two local preferences."""

    def __init__(self, build: Build, pools: Mapping[str, Pool]) -> None:
        self._build = build
        self._pools = pools
        self._admitted: dict[str, list[tuple[ObjectRef, BGPSettings]]] = {}

    def admit(self, obj: BGPAdvertisement, item: BGPSettings) -> bool:
        """Report each conflict with an advertisement admitted before; true if there is none."""
        clashes = [
            (pool, other)
            for pool in sorted(item.pools & self._pools.keys())
            for other in self._admitted.get(pool, ())
            if self._clash(self._pools[pool], item, other[1])
        ]
        for pool, (other_ref, other) in clashes:
            self._build.report(
                "local-pref-conflict",
                obj,
                "spec.localPref",
                [other_ref, _pool_ref(self._build, pool)],
                pool=pool,
                value=item.local_pref,
                other=str(other_ref),
                other_value=other.local_pref,
            )
        if not clashes:
            for pool in item.pools:
                self._admitted.setdefault(pool, []).append((ref(obj), item))
        return not clashes

    def _clash(self, pool: Pool, one: BGPSettings, two: BGPSettings) -> bool:
        # With service selectors the question is asked per service, when its labels are known.
        if one.service_selectors or two.service_selectors:
            return False
        return local_prefs_clash(pool, one, two) and self._common_node(one, two)

    def _common_node(self, one: BGPSettings, two: BGPSettings) -> bool:
        labels = self._build.node_labels
        if not labels:
            return not (one.node_selectors and two.node_selectors) or (
                one.node_selectors == two.node_selectors
            )
        return bool(nodes_of(one, labels) & nodes_of(two, labels))


def local_prefs_clash(pool: Pool, one: BGPSettings, two: BGPSettings) -> bool:
    """True if both would send equal prefixes of the pool to a peer, but not equal preferences.

    For a pool of both families only advertisements that differ in both lengths are distinct.
    """
    if one.local_pref == two.local_pref:
        return False
    if one.peers and two.peers and not set(one.peers) & set(two.peers):
        return False
    return any(
        one.lengths[version] == two.lengths[version]
        for version in FAMILIES
        if pool.has_family(version)
    )


def clashing_pair(
    pool: Pool, items: Iterable[BGPSettings]
) -> tuple[BGPSettings, BGPSettings] | None:
    """The first two advertisements of one service on one node that clash, None if none do."""
    items = tuple(items)
    if len({item.local_pref for item in items}) < 2:
        return None
    return next((p for p in combinations(items, 2) if local_prefs_clash(pool, *p)), None)
