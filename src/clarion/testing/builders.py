"""Short builders of objects, for tests: `service("default/web", ports=[80])`.

Names may carry a namespace (`ns/name`); configuration objects live in `metallb-system` otherwise,
services in `default`. Selectors are written as kubectl does: `zone=east,tier in (web,api),!old`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clarion.model.annotations import (
    BY_ENDPOINTS,
    HOLD_DOWN,
    LABEL_EXCLUDE_BALANCERS,
    LABEL_SLICE_SERVICE,
    LINK_BANDWIDTH,
    RESERVED,
)
from clarion.model.core import (
    Endpoint,
    EndpointConditions,
    EndpointSlice,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Namespace,
    Node,
    NodeAddress,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Secret,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from clarion.model.meta import (
    METALLB_NAMESPACE,
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
)
from clarion.model.metallb import (
    BFDProfile,
    BFDProfileSpec,
    BGPAdvertisement,
    BGPAdvertisementSpec,
    BGPPeer,
    BGPPeerSpec,
    Community,
    CommunityAlias,
    CommunitySpec,
    IPAddressPool,
    IPAddressPoolSpec,
    L2Advertisement,
    L2AdvertisementSpec,
    PreferredNodeSelector,
    ServiceAllocation,
)

CONFIG_NAMESPACE = METALLB_NAMESPACE
CLUSTER_IPS = {4: "10.96.0.1", 6: "fd00:10:96::1"}
_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\((.*)\)$")


def meta(
    name: str,
    namespace: str = "",
    *,
    labels: Mapping[str, str] | str = "",
    annotations: Mapping[str, str] | None = None,
    created: int | None = None,
) -> ObjectMeta:
    """Metadata; `created` is a number of seconds that becomes the creation timestamp."""
    space, _, own = name.rpartition("/")
    stamp = (
        None
        if created is None
        else f"2025-01-01T{created // 3600:02}:{created // 60 % 60:02}:{created % 60:02}Z"
    )
    return ObjectMeta(
        name=own,
        namespace=space or namespace,
        labels=pairs(labels),
        annotations=dict(annotations or {}),
        creation_timestamp=stamp,
    )


def pairs(labels: Mapping[str, str] | str) -> dict[str, str]:
    """Labels written as `a=b,c=d`, or given as a map."""
    if isinstance(labels, str):
        labels = dict(item.split("=", 1) for item in labels.split(",") if item)
    return dict(labels)


def selector(text: str) -> LabelSelector:
    """A selector written as kubectl does; an empty text matches everything."""
    match_labels: dict[str, str] = {}
    rules: list[LabelSelectorRequirement] = []
    for part in re.split(r",(?![^(]*\))", text) if text else ():
        item = part.strip()
        if found := _SET.match(item):
            operator = {"in": "In", "notin": "NotIn"}[found[2]]
            values = tuple(value.strip() for value in found[3].split(","))
            rules.append(LabelSelectorRequirement(key=found[1], operator=operator, values=values))
        elif "=" in item:
            key, value = item.split("=", 1)
            match_labels[key] = value
        elif item.startswith("!"):
            rules.append(LabelSelectorRequirement(key=item[1:], operator="DoesNotExist"))
        else:
            rules.append(LabelSelectorRequirement(key=item, operator="Exists"))
    return LabelSelector(match_labels=match_labels, match_expressions=tuple(rules))


def selectors(*texts: str) -> tuple[LabelSelector, ...]:
    """A list of selectors, of which one must match."""
    return tuple(selector(text) for text in texts)


def namespace(name: str, labels: Mapping[str, str] | str = "") -> Namespace:
    """A namespace."""
    return Namespace(metadata=meta(name, labels=labels))


def node(
    name: str,
    labels: Mapping[str, str] | str = "",
    *,
    ready: bool | None = None,
    network_unavailable: bool = False,
    excluded: bool = False,
    addresses: Sequence[str] = (),
    pods: Sequence[str] = (),
    cordoned: bool = False,
) -> Node:
    """A node; `ready=None` leaves the condition out, `pods` are its pod networks."""
    conditions = []
    if ready is not None:
        conditions.append(NodeCondition(type="Ready", status="True" if ready else "False"))
    if network_unavailable:
        conditions.append(NodeCondition(type="NetworkUnavailable", status="True"))
    own = pairs(labels) | ({LABEL_EXCLUDE_BALANCERS: ""} if excluded else {})
    return Node(
        metadata=meta(name, labels=own),
        spec=NodeSpec(pod_cidrs=tuple(pods), unschedulable=cordoned),
        status=NodeStatus(
            conditions=tuple(conditions),
            addresses=tuple(NodeAddress(type="InternalIP", address=item) for item in addresses),
        ),
    )


def service(
    name: str = "web",
    *,
    ports: Iterable[int | str] = (80,),
    families: Sequence[int] = (4,),
    policy: str | None = None,
    local: bool = False,
    pool: str = "",
    ips: str = "",
    share: str | None = None,
    labels: Mapping[str, str] | str = "",
    annotations: Mapping[str, str] | None = None,
    ingress: Sequence[str] = (),
    created: int | None = None,
    cluster_ips: Sequence[str] | None = None,
    **spec: Any,
) -> Service:
    """A service of type LoadBalancer.

    Args:
        name: `name` or `namespace/name`.
        ports: Numbers (TCP) or `udp/53`.
        families: IP versions of its cluster IPs, in the order of spec.ipFamilies.
        policy: ipFamilyPolicy.
        local: externalTrafficPolicy Local.
        pool: Annotation address-pool.
        ips: Annotation loadBalancerIPs.
        share: Annotation allow-shared-ip.
        labels: Labels of the service.
        annotations: Further annotations.
        ingress: Addresses in its status.
        created: Seconds, for who is the oldest.
        cluster_ips: Instead of those that `families` gives.
        spec: Other fields of the spec, in Python spelling.
    """
    own = dict(annotations or {})
    for key, value in (("address-pool", pool), ("loadBalancerIPs", ips)):
        if value:
            own[f"metallb.io/{key}"] = value
    if share is not None:
        own["metallb.io/allow-shared-ip"] = share
    if cluster_ips is None:
        cluster_ips = [CLUSTER_IPS[version] for version in families]
    fields: dict[str, Any] = {
        "type": "LoadBalancer",
        "ports": tuple(_port(item) for item in ports),
        "cluster_ips": tuple(cluster_ips),
        "ip_families": tuple(f"IPv{version}" for version in families),
        "ip_family_policy": policy,
        "external_traffic_policy": "Local" if local else "Cluster",
    }
    return Service(
        metadata=meta(name, "default", labels=labels, annotations=own, created=created),
        spec=ServiceSpec(**(fields | spec)),
        status=ServiceStatus(
            load_balancer=LoadBalancerStatus(
                ingress=tuple(LoadBalancerIngress(ip=ip) for ip in ingress)
            )
        ),
    )


def _port(item: int | str) -> ServicePort:
    if isinstance(item, int):
        return ServicePort(port=item)
    protocol, number = item.split("/")
    return ServicePort(protocol=protocol.upper(), port=int(number))


def endpoints(
    service_name: str = "web",
    *nodes: str,
    ready: bool | None = True,
    serving: bool | None = None,
    terminating: bool | None = None,
    suffix: str = "1",
) -> EndpointSlice:
    """A slice with one endpoint on each of the nodes; an empty name is an endpoint without node."""
    space, _, own = service_name.rpartition("/")
    conditions = EndpointConditions(ready=ready, serving=serving, terminating=terminating)
    return EndpointSlice(
        metadata=meta(f"{own}-{suffix}", space or "default", labels={LABEL_SLICE_SERVICE: own}),
        address_type="IPv4",
        endpoints=tuple(
            Endpoint(
                addresses=(f"10.244.0.{index + 1}",),
                conditions=conditions,
                node_name=name or None,
            )
            for index, name in enumerate(nodes)
        ),
    )


def pool(
    name: str = "pool",
    *addresses: str,
    auto: bool = True,
    avoid_buggy: bool = False,
    priority: int | None = None,
    namespaces: Sequence[str] = (),
    namespace_selectors: Sequence[str] = (),
    service_selectors: Sequence[str] = (),
    labels: Mapping[str, str] | str = "",
    reserved: str = "",
    hold_down: str = "",
    created: int | None = None,
) -> IPAddressPool:
    """A pool; any of `priority`, `namespaces` and the selectors gives it a serviceAllocation."""
    notes = {RESERVED: reserved, HOLD_DOWN: hold_down}
    annotations = {key: value for key, value in notes.items() if value}
    scoped = priority is not None or namespaces or namespace_selectors or service_selectors
    scope = ServiceAllocation(
        priority=priority or 0,
        namespaces=tuple(namespaces),
        namespace_selectors=selectors(*namespace_selectors),
        service_selectors=selectors(*service_selectors),
    )
    return IPAddressPool(
        metadata=meta(
            name, CONFIG_NAMESPACE, labels=labels, annotations=annotations, created=created
        ),
        spec=IPAddressPoolSpec(
            addresses=addresses or ("192.0.2.0/28",),
            auto_assign=auto,
            avoid_buggy_ips=avoid_buggy,
            service_allocation=scope if scoped else None,
        ),
    )


def l2_advertisement(
    name: str = "l2",
    *,
    pools: Sequence[str] = (),
    pool_selectors: Sequence[str] = (),
    nodes: Sequence[str] = (),
    services: Sequence[str] = (),
    prefer: Mapping[str, int] | None = None,
    interfaces: Sequence[str] = (),
    created: int | None = None,
) -> L2Advertisement:
    """An L2 advertisement; `nodes`, `services` are selectors, `prefer` maps selector to weight."""
    return L2Advertisement(
        metadata=meta(name, CONFIG_NAMESPACE, created=created),
        spec=L2AdvertisementSpec(
            ip_address_pools=tuple(pools),
            ip_address_pool_selectors=selectors(*pool_selectors),
            node_selectors=selectors(*nodes),
            service_selectors=selectors(*services),
            preferred_node_selectors=tuple(
                PreferredNodeSelector(weight=weight, preference=selector(text))
                for text, weight in (prefer or {}).items()
            ),
            interfaces=tuple(interfaces),
        ),
    )


def bgp_advertisement(
    name: str = "bgp",
    *,
    pools: Sequence[str] = (),
    pool_selectors: Sequence[str] = (),
    nodes: Sequence[str] = (),
    services: Sequence[str] = (),
    peers: Sequence[str] = (),
    length: int = 32,
    length6: int = 128,
    local_pref: int = 0,
    communities: Sequence[str] = (),
    weighted: bool = False,
    created: int | None = None,
) -> BGPAdvertisement:
    """A BGP advertisement; `nodes` and `services` are selectors, `peers` are names."""
    notes = {LINK_BANDWIDTH: BY_ENDPOINTS} if weighted else None
    return BGPAdvertisement(
        metadata=meta(name, CONFIG_NAMESPACE, created=created, annotations=notes),
        spec=BGPAdvertisementSpec(
            ip_address_pools=tuple(pools),
            ip_address_pool_selectors=selectors(*pool_selectors),
            node_selectors=selectors(*nodes),
            service_selectors=selectors(*services),
            peers=tuple(peers),
            aggregation_length=length,
            aggregation_length_v6=length6,
            local_pref=local_pref,
            communities=tuple(communities),
        ),
    )


def peer(
    name: str = "router",
    address: str = "198.51.100.1",
    *,
    my_asn: int = 64500,
    peer_asn: int = 64501,
    nodes: Sequence[str] = (),
    created: int | None = None,
    **spec: Any,
) -> BGPPeer:
    """A BGP peer; further fields of the spec in Python spelling."""
    fields: dict[str, Any] = {
        "my_asn": my_asn,
        "peer_asn": peer_asn,
        "peer_address": address,
        "node_selectors": selectors(*nodes),
    }
    return BGPPeer(
        metadata=meta(name, CONFIG_NAMESPACE, created=created),
        spec=BGPPeerSpec(**(fields | spec)),
    )


def bfd_profile(name: str = "bfd", **spec: Any) -> BFDProfile:
    """A BFD profile; fields in Python spelling."""
    return BFDProfile(metadata=meta(name, CONFIG_NAMESPACE), spec=BFDProfileSpec(**spec))


def community(
    name: str = "aliases",
    aliases: Mapping[str, str] | None = None,
    *,
    created: int | None = None,
    **more: str,
) -> Community:
    """A Community object; `no_transit="65000:1"` defines alias `no_transit`."""
    named = {**(aliases or {}), **more}
    entries = tuple(CommunityAlias(name=key, value=value) for key, value in named.items())
    return Community(
        metadata=meta(name, CONFIG_NAMESPACE, created=created),
        spec=CommunitySpec(communities=entries),
    )


def secret(
    name: str,
    password: str | None,
    kind: str = "kubernetes.io/basic-auth",
) -> Secret:
    """A Secret with a password in clear (`stringData`); None leaves the key out."""
    data = {} if password is None else {"password": password}
    return Secret(metadata=meta(name, CONFIG_NAMESPACE), type=kind, string_data=data)
