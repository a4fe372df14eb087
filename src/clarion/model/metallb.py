"""The metallb.io kinds, with all their fields.

Ranges, enums and descriptions stand in `schema_text.py`; decoding checks types only, so that an
object that breaks a rule can still be read, reported and set aside.
"""

import msgspec

from clarion.model.meta import (
    Condition,
    KubeObject,
    LabelSelector,
    Model,
    always,
)

GROUP = "metallb.io"
V1BETA1 = "metallb.io/v1beta1"
V1BETA2 = "metallb.io/v1beta2"


class ServiceAllocation(Model, frozen=True, kw_only=True, gc=False):
    """Which services may use a pool, and how early it is tried (0 is last)."""

    priority: int = 0
    namespaces: tuple[str, ...] = ()
    namespace_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()


class IPAddressPoolSpec(Model, frozen=True, kw_only=True, gc=False):
    """Addresses and who may have them."""

    addresses: tuple[str, ...] = ()
    auto_assign: bool = True
    avoid_buggy_ips: bool = False
    service_allocation: ServiceAllocation | None = None


class IPAddressPoolStatus(Model, frozen=True, kw_only=True, gc=False):
    """Usage of a pool; the four numbers are always written."""

    assigned_ipv4: int
    assigned_ipv6: int
    available_ipv4: int
    available_ipv6: int


class IPAddressPool(KubeObject, frozen=True, kw_only=True, gc=False):
    """A pool of addresses for services."""

    api_version: str = always(V1BETA1)
    kind: str = always("IPAddressPool")
    spec: IPAddressPoolSpec = IPAddressPoolSpec()
    status: IPAddressPoolStatus | None = None


class BGPAdvertisementSpec(Model, frozen=True, kw_only=True, gc=False):
    """Which pools are told to which peers, from which nodes and how."""

    aggregation_length: int = 32
    aggregation_length_v6: int = 128
    local_pref: int = 0
    communities: tuple[str, ...] = ()
    ip_address_pools: tuple[str, ...] = ()
    ip_address_pool_selectors: tuple[LabelSelector, ...] = ()
    node_selectors: tuple[LabelSelector, ...] = ()
    peers: tuple[str, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()


class EmptyStatus(Model, frozen=True, kw_only=True, gc=False):
    """A status that nobody writes to."""


class BGPAdvertisement(KubeObject, frozen=True, kw_only=True, gc=False):
    """How addresses of pools are announced by BGP."""

    api_version: str = always(V1BETA1)
    kind: str = always("BGPAdvertisement")
    spec: BGPAdvertisementSpec = BGPAdvertisementSpec()
    status: EmptyStatus | None = None


class PreferredNodeSelector(Model, frozen=True, kw_only=True, gc=False):
    """A soft preference in the choice of an address's owner."""

    weight: int = 0
    preference: LabelSelector = LabelSelector()


class L2AdvertisementSpec(Model, frozen=True, kw_only=True, gc=False):
    """Which pools are answered for on the segment, by which nodes and on which interfaces."""

    ip_address_pools: tuple[str, ...] = ()
    ip_address_pool_selectors: tuple[LabelSelector, ...] = ()
    node_selectors: tuple[LabelSelector, ...] = ()
    preferred_node_selectors: tuple[PreferredNodeSelector, ...] = ()
    interfaces: tuple[str, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()


class L2Advertisement(KubeObject, frozen=True, kw_only=True, gc=False):
    """How addresses of pools are announced by ARP and NDP."""

    api_version: str = always(V1BETA1)
    kind: str = always("L2Advertisement")
    spec: L2AdvertisementSpec = L2AdvertisementSpec()
    status: EmptyStatus | None = None


class SecretReference(Model, frozen=True, kw_only=True, gc=False):
    """The Secret that holds a password."""

    name: str = ""
    namespace: str = ""


class BGPPeerSpec(Model, frozen=True, kw_only=True, gc=False):
    """A router to speak to; durations are strings as written, absent when not given."""

    my_asn: int = 0
    peer_asn: int = 0
    dynamic_asn: str = ""
    local_asn: int = 0
    peer_address: str = ""
    interface: str = ""
    source_address: str = ""
    peer_port: int = 179
    hold_time: str | None = None
    keepalive_time: str | None = None
    connect_time: str | None = None
    router_id: str = ""
    node_selectors: tuple[LabelSelector, ...] = ()
    password: str = ""
    password_secret: SecretReference = SecretReference()
    bfd_profile: str = ""
    enable_graceful_restart: bool | None = None
    ebgp_multi_hop: bool = False
    vrf: str = ""
    disable_mp: bool = False
    dual_stack_address_family: bool = False


class BGPPeer(KubeObject, frozen=True, kw_only=True, gc=False):
    """A BGP neighbour."""

    api_version: str = always(V1BETA2)
    kind: str = always("BGPPeer")
    spec: BGPPeerSpec = BGPPeerSpec()
    status: EmptyStatus | None = None


class NodeSelectorRequirementV1Beta1(Model, frozen=True, kw_only=True, gc=False):
    """One expression of a node selector of v1beta1, which needs at least one value."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeSelectorV1Beta1(Model, frozen=True, kw_only=True, gc=False):
    """The node selector of v1beta1."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[NodeSelectorRequirementV1Beta1, ...] = ()


class BGPPeerSpecV1Beta1(Model, frozen=True, kw_only=True, gc=False):
    """A router to speak to, in the deprecated version."""

    my_asn: int = 0
    peer_asn: int = 0
    peer_address: str = ""
    source_address: str = ""
    peer_port: int = 0
    hold_time: str | None = None
    keepalive_time: str | None = None
    router_id: str = ""
    node_selectors: tuple[NodeSelectorV1Beta1, ...] = ()
    password: str = ""
    bfd_profile: str = ""
    ebgp_multi_hop: bool = False


class BGPPeerV1Beta1(KubeObject, frozen=True, kw_only=True, gc=False):
    """A BGP neighbour, in the deprecated version."""

    api_version: str = always(V1BETA1)
    kind: str = always("BGPPeer")
    spec: BGPPeerSpecV1Beta1 = BGPPeerSpecV1Beta1()
    status: EmptyStatus | None = None


class BFDProfileSpec(Model, frozen=True, kw_only=True, gc=False):
    """Settings of BFD sessions; intervals are milliseconds, absent means the default."""

    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool | None = None
    passive_mode: bool | None = None
    minimum_ttl: int | None = None


class BFDProfile(KubeObject, frozen=True, kw_only=True, gc=False):
    """Named settings of BFD sessions."""

    api_version: str = always(V1BETA1)
    kind: str = always("BFDProfile")
    spec: BFDProfileSpec = BFDProfileSpec()
    status: EmptyStatus | None = None


class CommunityAlias(Model, frozen=True, kw_only=True, gc=False):
    """A name for a community value."""

    name: str = ""
    value: str = ""


class CommunitySpec(Model, frozen=True, kw_only=True, gc=False):
    """Aliases, known to all advertisements."""

    communities: tuple[CommunityAlias, ...] = ()


class Community(KubeObject, frozen=True, kw_only=True, gc=False):
    """Names for BGP communities."""

    api_version: str = always(V1BETA1)
    kind: str = always("Community")
    spec: CommunitySpec = CommunitySpec()
    status: EmptyStatus | None = None


class EmptySpec(Model, frozen=True, kw_only=True, gc=False):
    """A spec in which nothing can be asked for."""


class InterfaceInfo(Model, frozen=True, kw_only=True, gc=False):
    """A network interface on which an address is announced."""

    name: str = ""


class ServiceL2StatusStatus(Model, frozen=True, kw_only=True, gc=False):
    """Which node answers for a service; no interfaces means all."""

    node: str = ""
    service_name: str = ""
    service_namespace: str = ""
    interfaces: tuple[InterfaceInfo, ...] = ()


class ServiceL2Status(KubeObject, frozen=True, kw_only=True, gc=False):
    """Where a service is announced on the segment."""

    api_version: str = always(V1BETA1)
    kind: str = always("ServiceL2Status")
    spec: EmptySpec | None = None
    status: ServiceL2StatusStatus = ServiceL2StatusStatus()


class ServiceBGPStatusStatus(Model, frozen=True, kw_only=True, gc=False):
    """To which peers a node announces a service."""

    node: str = ""
    service_name: str = ""
    service_namespace: str = ""
    peers: tuple[str, ...] = ()


class ServiceBGPStatus(KubeObject, frozen=True, kw_only=True, gc=False):
    """Where a service is announced by BGP."""

    api_version: str = always(V1BETA1)
    kind: str = always("ServiceBGPStatus")
    spec: EmptySpec | None = None
    status: ServiceBGPStatusStatus = ServiceBGPStatusStatus()


class ConfigurationStateStatus(Model, frozen=True, kw_only=True, gc=False):
    """Whether a component accepts the configuration; result is Valid, Invalid or Unknown."""

    result: str = ""
    error_summary: str = ""
    conditions: tuple[Condition, ...] = ()


class ConfigurationState(KubeObject, frozen=True, kw_only=True, gc=False):
    """What one component thinks of the configuration."""

    api_version: str = always(V1BETA1)
    kind: str = always("ConfigurationState")
    status: ConfigurationStateStatus = ConfigurationStateStatus()
