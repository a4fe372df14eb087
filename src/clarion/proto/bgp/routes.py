"""Routes as users ask for them, and the terms on which a connection carries them."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.limits import BGP_COMMUNITY_BYTES_MAX, BGP_MESSAGE_BYTES
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.iana import NON_TRANSITIVE, Family


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


@lru_cache(maxsize=256)
def heard(group: Group, *, internal: bool) -> Group:
    """What a peer hears of a group: two that sound the same are one to it."""
    version, local_pref, communities, large, extended, bandwidth = group
    if not internal:
        local_pref = 0  # RFC 4271 §5.1.5: never to external peers
        # RFC 4360 §6: non-transitive communities do not cross the border of an AS.
        extended = tuple(each for each in extended if not each & NON_TRANSITIVE)
    return (
        version,
        local_pref,
        tuple(sorted(set(communities))),
        tuple(sorted(set(large))),  # RFC 8092 §3: no duplicates
        tuple(sorted(set(extended))),
        bandwidth,
    )


def fits(group: Group) -> bool:
    """Do the communities leave room for a prefix? If not, nothing is sent (RFC 4271 §9.2)."""
    _, _, communities, large, extended, bandwidth = group
    octets = 4 * len(communities) + 12 * len(large) + 8 * len(extended) + 8 * bool(bandwidth)
    return octets <= BGP_COMMUNITY_BYTES_MAX


def grouped(routes: Iterable[Route]) -> dict[Group, dict[Prefix, None]]:
    """Prefixes by group, in the order of the routes."""
    groups: dict[Group, dict[Prefix, None]] = {}
    for route in routes:
        group = group_of(route)
        prefixes = groups.get(group)
        if prefixes is None:
            prefixes = groups[group] = {}
        prefixes[route.prefix] = None
    return groups


class RouteTable(Collection[Route]):
    """Routes checked and grouped once, to be given to any number of peers.

    Of two routes for a prefix the greater one counts.

    Attributes:
        sendable: By prefix, those that can be sent.
        refused: Those that carry more communities than BGP_COMMUNITY_BYTES_MAX.
        groups: The prefixes of `sendable` by group.
    """

    def __init__(self, routes: Collection[Route]) -> None:
        self.sendable = {route.prefix: route for route in routes}
        if len(self.sendable) != len(routes):
            self.sendable = {route.prefix: route for route in sorted(routes)}
        self.groups = grouped(self.sendable.values())
        self.refused: dict[Prefix, Route] = {}
        for group in [group for group in self.groups if not fits(group)]:
            for prefix in self.groups.pop(group):
                self.refused[prefix] = self.sendable.pop(prefix)

    def __len__(self) -> int:
        return len(self.sendable) + len(self.refused)

    def __iter__(self) -> Iterator[Route]:
        yield from self.sendable.values()
        yield from self.refused.values()

    def __contains__(self, route: object) -> bool:
        known = isinstance(route, Route) and self.sendable.get(
            route.prefix, self.refused.get(route.prefix)
        )
        return known == route


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection allows: how paths are written, and the next hop of each family sent."""

    local_asn: int
    internal: bool
    four_octet_asn: bool
    next_hops: tuple[tuple[Family, Address], ...]
    message_bytes: int = BGP_MESSAGE_BYTES
    """The longest message that the peer takes (RFC 8654 §4)."""
