"""Configuration after checking: what the other modules read instead of raw objects.

Everything here is valid: addresses are parsed, aliases resolved, references looked up. Selectors of
nodes and services stay selectors, so that a changed label does not change the configuration.
"""

from collections.abc import Mapping

import msgspec

from clarion.base.addr import Address, AddressRange
from clarion.decide.communities import LargeCommunity
from clarion.decide.selectors import Labels, any_matches, selects
from clarion.model.meta import LabelSelector
from clarion.model.metallb import BFDProfileSpec

LAST_PRIORITY = 1 << 62
"""Where priority 0 sorts: after every number that a user would write."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool: addresses, who may have them, and which advertisements tell of them.

    Attributes:
        ranges: In declared order, which is the order of allocation.
        scoped: It has a serviceAllocation: reserved for the services that it fits.
        namespaces: Namespaces that may use it; None means all.
        reserved: Addresses that are given only on request; parts outside the ranges do not count.
        hold_down: Seconds for which a released address is kept from other services.
    """

    name: str
    ranges: tuple[AddressRange, ...]
    auto_assign: bool = True
    avoid_buggy: bool = False
    scoped: bool = False
    priority: int = LAST_PRIORITY
    namespaces: frozenset[str] | None = None
    service_selectors: tuple[LabelSelector, ...] = ()
    reserved: tuple[AddressRange, ...] = ()
    hold_down: float = 0.0
    l2: tuple[str, ...] = ()
    bgp: tuple[str, ...] = ()

    def has_family(self, version: int) -> bool:
        """True if some address of this IP version is inside."""
        return any(span.version == version for span in self.ranges)


class L2Settings(msgspec.Struct, frozen=True, kw_only=True):
    """An L2 advertisement. No interfaces means every interface."""

    name: str
    pools: frozenset[str]
    node_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()
    preferences: tuple[tuple[int, LabelSelector], ...] = ()
    interfaces: tuple[str, ...] = ()

    def covers_node(self, labels: Labels) -> bool:
        """True if a node with these labels may announce."""
        return selects(self.node_selectors, labels)

    def covers_service(self, labels: Labels) -> bool:
        """True if a service with these labels is announced."""
        return selects(self.service_selectors, labels)

    def score(self, labels: Labels) -> int:
        """Sum of the weights of the preferences that a node with these labels meets."""
        return sum(w for w, preference in self.preferences if any_matches((preference,), labels))


class BGPSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A BGP advertisement. No peers means every peer.

    Attributes:
        weighted: Routes tell how many endpoints of the services the node has.
    """

    name: str
    pools: frozenset[str]
    lengths: dict[int, int]
    local_pref: int = 0
    communities: tuple[int, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()
    extended_communities: tuple[int, ...] = ()
    weighted: bool = False
    node_selectors: tuple[LabelSelector, ...] = ()
    service_selectors: tuple[LabelSelector, ...] = ()
    peers: tuple[str, ...] = ()

    def covers_node(self, labels: Labels) -> bool:
        """True if a node with these labels may announce."""
        return selects(self.node_selectors, labels)

    def covers_service(self, labels: Labels) -> bool:
        """True if a service with these labels is announced."""
        return selects(self.service_selectors, labels)

    def goes_to(self, peer: str) -> bool:
        """True if the peer is told."""
        return not self.peers or peer in self.peers


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A BGP neighbour. Durations are seconds; None means the back end's default.

    Attributes:
        peer_asn: 0 when `dynamic_asn` says internal or external instead.
        address: None for an unnumbered peer, which `interface` names.
        passive: Wait for the peer to connect.
        local_asn: What the peer sees in place of `my_asn`; 0 for that one.
        password_secret: Name of the Secret beside the peer that holds the password, if one does.
        ttl_security: Hops that packets of the peer may have travelled; 0 for any number.
        max_prefixes: More prefixes from the peer end the session; 0 for any number.
        families: IP versions of the routes that the session carries.
        lacking: Fields that this back end cannot honour and without which there is no session.
    """

    name: str
    my_asn: int
    peer_asn: int = 0
    dynamic_asn: str = ""
    local_asn: int = 0
    address: Address | None = None
    interface: str = ""
    source_address: Address | None = None
    port: int = 179
    passive: bool = False
    hold_time: float | None = None
    keepalive_time: float | None = None
    connect_time: float | None = None
    router_id: Address | None = None
    node_selectors: tuple[LabelSelector, ...] = ()
    password: str = ""
    password_secret: str = ""
    bfd_profile: str = ""
    graceful_restart: bool = False
    ebgp_multihop: bool = False
    ttl_security: int = 0
    max_prefixes: int = 0
    vrf: str = ""
    families: frozenset[int] = frozenset((4, 6))
    lacking: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Leave the password out, so that no message can hold it by accident."""
        return f"Peer({self.name}, AS{self.my_asn} to {self.target} AS{self.peer_asn})"

    @property
    def internal(self) -> bool:
        """True for iBGP: both sides in one autonomous system."""
        return self.dynamic_asn == "internal" or self.peer_asn == self.my_asn

    @property
    def target(self) -> str:
        """Address or interface, as the user wrote it."""
        return str(self.address) if self.address else self.interface

    def runs_on(self, labels: Labels) -> bool:
        """True if a node with these labels has this session."""
        return selects(self.node_selectors, labels)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All valid configuration, by name.

    Attributes:
        lost_pools: Pools that are set aside and have no last good version.
    """

    lost_pools: frozenset[str] = frozenset()
    pools: dict[str, Pool] = msgspec.field(default_factory=dict)
    l2: dict[str, L2Settings] = msgspec.field(default_factory=dict)
    bgp: dict[str, BGPSettings] = msgspec.field(default_factory=dict)
    peers: dict[str, Peer] = msgspec.field(default_factory=dict)
    bfd_profiles: dict[str, BFDProfileSpec] = msgspec.field(default_factory=dict)

    def redacted(self, blank: str) -> "Config":
        """The same with this text in the place of every password."""
        peers = {
            name: msgspec.structs.replace(peer, password=blank if peer.password else "")
            for name, peer in self.peers.items()
        }
        return msgspec.structs.replace(self, peers=peers)


def nodes_of(item: L2Settings | BGPSettings, nodes: Mapping[str, Labels]) -> frozenset[str]:
    """Names of the nodes that an advertisement covers."""
    return frozenset(name for name, labels in nodes.items() if item.covers_node(labels))
