"""Routes as users ask for them, and the terms on which a connection carries them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.limits import BGP_COMMUNITY_BYTES_MAX, BGP_MESSAGE_BYTES
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.iana import Family


class Route(msgspec.Struct, frozen=True, order=True, gc=False):
    """One prefix to announce, and what users may set about it.

    `communities` are 32-bit numbers (RFC 1997), `extended_communities` 64-bit ones (RFC 4360 §2).
    `local_pref` reaches internal peers only, non-transitive extended communities too.
    `link_bandwidth` is in octets per second, 0 for none; it reaches all peers.
    """

    prefix: Prefix
    local_pref: int = 0
    communities: tuple[int, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()
    extended_communities: tuple[int, ...] = ()
    link_bandwidth: float = 0.0

    @property
    def fits(self) -> bool:
        """Do the communities leave room for a prefix? If not, it is not sent (RFC 4271 §9.2)."""
        octets = 4 * len(self.communities) + 12 * len(self.large_communities)
        octets += 8 * len(self.extended_communities) + 8 * bool(self.link_bandwidth)
        return octets <= BGP_COMMUNITY_BYTES_MAX


Group = tuple[int, int, tuple[int, ...], tuple[LargeCommunity, ...], tuple[int, ...], float]
"""IP version and all of a route but its prefix: routes that agree in these share messages."""

group_of: Final[Callable[[Route], Group]] = attrgetter(
    "prefix.version",
    "local_pref",
    "communities",
    "large_communities",
    "extended_communities",
    "link_bandwidth",
)
"""The group of a route."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection allows: how paths are written, and the next hop of each family sent."""

    local_asn: int
    internal: bool
    four_octet_asn: bool
    next_hops: tuple[tuple[Family, Address], ...]
    message_bytes: int = BGP_MESSAGE_BYTES
    """The longest message that the peer takes (RFC 8654 §4)."""
