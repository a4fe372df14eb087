"""Adj-RIB-Out (RFC 4271 §3.2) as desired state: what a peer should have, in the least UPDATEs.

Three maps tell all: what is `desired`, what was `sent`, and what is `pending`, which is where the
two differ, grouped by attributes. Changes only move prefixes between groups; bytes are built when
`take` asks for them, from what is true at that moment. A change that is superseded before it was
asked for leaves no trace on the wire, so a slow peer costs one map and no queue.

What `take` has handed out counts as sent; when the connection ends, `stop` forgets it.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.limits import BGP_COMMUNITY_BYTES_MAX, BGP_MESSAGE_BYTES
from clarion.proto.bgp.attrs import (
    AsSegment,
    LargeCommunity,
    MpReach,
    PathAttributes,
    encode_attribute,
    encode_attributes,
    link_bandwidth_community,
)
from clarion.proto.bgp.iana import (
    FAMILY_OF_VERSION,
    IPV4_UNICAST,
    NON_TRANSITIVE,
    AttributeCode,
    AttributeFlag,
    Family,
    Origin,
    RefreshSubtype,
    SegmentType,
)
from clarion.proto.bgp.nlri import encode_prefix
from clarion.proto.bgp.update import assemble_update, end_of_rib
from clarion.proto.bgp.wire import HEADER_BYTES, RouteRefresh, encode_route_refresh

_ROOM: Final = BGP_MESSAGE_BYTES - HEADER_BYTES - 4
"""Octets of an UPDATE besides its header and two length fields (RFC 4271 §4.3)."""


class Route(msgspec.Struct, frozen=True, order=True):
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


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection allows: how paths are written, and the next hop of each family sent."""

    local_asn: int
    internal: bool
    four_octet_asn: bool
    next_hops: tuple[tuple[Family, Address], ...]
    message_bytes: int = BGP_MESSAGE_BYTES
    """The longest message that the peer takes (RFC 8654 §4)."""


_Group = tuple[int, int, tuple[int, ...], tuple[LargeCommunity, ...], tuple[int, ...], float]
"""IP version and all of a route but its prefix: routes that agree in these share messages."""


def _fits(route: Route) -> bool:
    # RFC 4271 §9.2: attributes that leave no room for a prefix must not be advertised.
    octets = 4 * len(route.communities) + 12 * len(route.large_communities)
    octets += 8 * len(route.extended_communities) + 8 * bool(route.link_bandwidth)
    return octets <= BGP_COMMUNITY_BYTES_MAX


def _group(route: Route) -> _Group:
    return (
        route.prefix.version,
        route.local_pref,
        route.communities,
        route.large_communities,
        route.extended_communities,
        route.link_bandwidth,
    )


class AdjOut:
    """Routes of one peer, before and during a connection.

    `set_routes` may be called at any time; `start` and `stop` frame a connection; between them
    `pending` says whether there is work and `take` hands out whole messages.
    """

    def __init__(self) -> None:
        self._known = False
        self._desired: dict[Prefix, Route] = {}
        self._sent: dict[Prefix, Route] = {}
        self._updates: dict[_Group, dict[Prefix, Route]] = {}
        self._withdrawals: dict[int, dict[Prefix, None]] = {4: {}, 6: {}}
        self._terms: Terms | None = None
        self._versions: tuple[int, ...] = ()
        self._encoded: dict[_Group, bytes] = {}
        self._markers: list[tuple[Family, bool]] = []  # True ends a refresh, False the first dump
        self._refreshing: dict[Family, bool] = {}  # True once the beginning was said
        self._refused: dict[Prefix, Route] = {}
        self._updates_built = 0

    @property
    def updates_built(self) -> int:
        """UPDATE messages handed out since the start, markers included."""
        return self._updates_built

    @property
    def refused(self) -> int:
        """Routes that carry more communities than BGP_COMMUNITY_BYTES_MAX, and are not sent."""
        return len(self._refused)

    @property
    def routes(self) -> list[Route]:
        """What was asked for last, whether sent, unsent or refused."""
        return [*self._desired.values(), *self._refused.values()]

    @property
    def announced(self) -> int:
        """Prefixes the peer has, as far as bytes were handed out."""
        return len(self._sent)

    @property
    def unsent(self) -> int:
        """Prefixes whose state at the peer is not the desired one."""
        if self._terms is None:
            return len(self._desired)
        return sum(map(len, self._updates.values())) + sum(map(len, self._withdrawals.values()))

    @property
    def pending(self) -> bool:
        """Is there anything to take?"""
        if self._terms is None:
            return False
        markers = self._known and bool(self._markers)
        return bool(self._updates) or any(self._withdrawals.values()) or markers

    def set_routes(self, routes: Collection[Route]) -> None:
        """Replace the desired routes. Of two routes for a prefix the greater one counts."""
        wanted = [route for route in routes if _fits(route)]
        desired = {route.prefix: route for route in wanted}
        if len(desired) != len(wanted):
            desired = {route.prefix: route for route in sorted(wanted)}
        before, self._desired, self._known = self._desired, desired, True
        self._refused = {}
        if len(wanted) != len(routes):
            self._refused = {route.prefix: route for route in routes if not _fits(route)}
        if self._terms is None:
            return
        for prefix, old in before.items():
            if prefix not in desired:
                self._change(prefix, old, None)
        for prefix, new in desired.items():
            former = before.get(prefix)
            if former is not new and former != new:
                self._change(prefix, former, new)

    def change_routes(self, changes: Mapping[Prefix, Route | None]) -> None:
        """Change what is desired of these prefixes only; None: nothing any more."""
        self._known = True
        for prefix, route in changes.items():
            old, new = self._desired.pop(prefix, None), route
            self._refused.pop(prefix, None)
            if new is not None and not _fits(new):
                self._refused[prefix], new = new, None
            if new is not None:
                self._desired[prefix] = new
            if self._terms is not None and old != new:
                self._change(prefix, old, new)

    def _change(self, prefix: Prefix, old: Route | None, new: Route | None) -> None:
        """Move one prefix to the group where it now belongs, if any."""
        if prefix.version not in self._versions:
            return
        if old is None:
            self._withdrawals[prefix.version].pop(prefix, None)
        else:
            group = _group(old)
            waiting = self._updates.get(group, {})
            if waiting.pop(prefix, None) is not None and not waiting:
                self._close(group)
        sent = self._sent.get(prefix)
        if new is None:
            if sent is not None:
                self._withdrawals[prefix.version][prefix] = None
        elif new != sent:
            self._updates.setdefault(_group(new), {})[prefix] = new

    def start(self, terms: Terms) -> None:
        """A connection is up: everything desired is unsent."""
        self.stop()
        self._terms = terms
        families = [family for family, _ in terms.next_hops]
        self._versions = tuple(
            version for version, family in FAMILY_OF_VERSION.items() if family in families
        )
        self._markers = [(family, False) for family in families]
        self._enqueue(self._versions)

    def _enqueue(self, versions: tuple[int, ...]) -> None:
        updates = self._updates
        for prefix, route in self._desired.items():
            if prefix.version in versions:
                group = _group(route)
                waiting = updates.get(group)
                if waiting is None:
                    waiting = updates[group] = {}
                waiting[prefix] = route

    def stop(self) -> None:
        """The connection is gone, and with it all the peer had."""
        self._terms, self._versions = None, ()
        self._sent.clear()
        self._updates.clear()
        for withdrawals in self._withdrawals.values():
            withdrawals.clear()
        self._encoded.clear()
        self._markers.clear()
        self._refreshing.clear()

    def refresh(self, family: Family, *, enhanced: bool) -> None:
        """Send all routes of a family again (RFC 2918 §4), framed if enhanced (RFC 7313 §4)."""
        version = next((v for v in self._versions if FAMILY_OF_VERSION[v] == family), None)
        if version is None:
            return
        if enhanced:
            self._refreshing[family] = False
            if (family, True) not in self._markers:
                self._markers.append((family, True))
        self._enqueue((version,))

    def take(self, limit: int) -> bytes:
        """Whole messages of together at most `limit` octets, which is at least one message long.

        Announcements precede withdrawals, so that traffic finds the new route before the old one
        goes; the End-of-RIB of a family follows when its routes have all been handed out.
        """
        assert limit >= BGP_MESSAGE_BYTES
        parts: list[bytes] = []
        room = limit
        while room >= BGP_MESSAGE_BYTES and self.pending:
            message = self._next_message()
            parts.append(message)
            room -= len(message)
        return b"".join(parts)

    def _next_message(self) -> bytes:
        for family, begun in self._refreshing.items():
            if not begun:  # RFC 7313 §4.1: BoRR before the routes
                self._refreshing[family] = True
                return encode_route_refresh(RouteRefresh(family, RefreshSubtype.BEGIN))
        if self._updates:
            return self._next_update()
        for version, prefixes in self._withdrawals.items():
            if prefixes:
                return self._next_withdrawal(version, prefixes)
        family, refreshed = self._markers.pop(0)
        if refreshed:  # RFC 7313 §4.1: EoRR after them
            del self._refreshing[family]
            return encode_route_refresh(RouteRefresh(family, RefreshSubtype.END))
        self._updates_built += 1
        return end_of_rib(family)

    def _next_update(self) -> bytes:
        group, waiting = next(iter(self._updates.items()))
        attributes = self._encoded.get(group)
        if attributes is None:
            attributes = self._encoded[group] = self._encode(group)
        family = FAMILY_OF_VERSION[group[0]]
        next_hop = self._next_hop(family)
        classic = family == IPV4_UNICAST and next_hop.version == 4
        # MP_REACH_NLRI takes 4 octets of attribute header, 4 + 1 of its own, and the next hop.
        overhead = 0 if classic else 9 + len(next_hop.packed)
        nlri, taken = _pack(waiting, _ROOM - len(attributes) - overhead)
        sent = self._sent
        if len(taken) == len(waiting):
            sent.update(waiting)
            self._close(group)
        else:
            for prefix in taken:
                sent[prefix] = waiting.pop(prefix)
        self._updates_built += 1
        if classic:
            return assemble_update(b"", attributes, nlri)
        reach = _mp_reach(MpReach(family, (next_hop,)), nlri)
        return assemble_update(b"", reach + attributes, b"")

    def _close(self, group: _Group) -> None:
        """Nothing of this group is left to send."""
        del self._updates[group]
        self._encoded.pop(group, None)

    def _next_withdrawal(self, version: int, prefixes: dict[Prefix, None]) -> bytes:
        family = FAMILY_OF_VERSION[version]
        # An MP_UNREACH_NLRI takes 4 octets of attribute header and 3 of its own.
        classic = family == IPV4_UNICAST and self._next_hop(family).version == 4
        nlri, taken = _pack(prefixes, _ROOM if classic else _ROOM - 7)
        self._updates_built += 1
        for prefix in taken:
            del prefixes[prefix]
            del self._sent[prefix]
        if classic:
            return assemble_update(nlri, b"", b"")
        head = family.afi.to_bytes(2, "big") + bytes((family.safi,))
        unreach = encode_attribute(
            AttributeCode.MP_UNREACH_NLRI, int(AttributeFlag.OPTIONAL), head + nlri
        )
        return assemble_update(b"", unreach, b"")

    def _next_hop(self, family: Family) -> Address:
        assert self._terms is not None
        return dict(self._terms.next_hops)[family]

    def _encode(self, group: _Group) -> bytes:
        """The attributes of a group besides the multiprotocol ones."""
        terms = self._terms
        assert terms is not None
        version, local_pref, communities, large, extended, bandwidth = group
        next_hop = self._next_hop(FAMILY_OF_VERSION[version])
        path: tuple[AsSegment, ...] = ()
        if not terms.internal:  # RFC 4271 §5.1.2: our ASN to external peers, empty to internal
            path = (AsSegment(SegmentType.AS_SEQUENCE, (terms.local_asn,)),)
        needs_as4 = not terms.four_octet_asn and not terms.internal and terms.local_asn > 0xFFFF
        attributes = PathAttributes(
            origin=Origin.IGP,
            as_path=path,
            # RFC 8950 §4, RFC 4760 §3: no NEXT_HOP beside a multiprotocol next hop.
            next_hop=next_hop if version == 4 and next_hop.version == 4 else None,
            # RFC 4271 §5.1.5: always to internal peers, never to external ones.
            local_pref=local_pref if terms.internal else None,
            communities=tuple(sorted(set(communities))),
            extended_communities=_extended(terms, extended, bandwidth),
            # RFC 6793 §4.2.2: the true path, for those beyond a two-octet speaker.
            as4_path=path if needs_as4 else None,
            # RFC 8092 §6: no duplicates.
            large_communities=tuple(sorted(set(large))),
        )
        return encode_attributes(attributes, four_octet_asn=terms.four_octet_asn)


def _extended(terms: Terms, communities: tuple[int, ...], bandwidth: float) -> tuple[int, ...]:
    """The extended communities that a peer is sent, each once and in ascending order."""
    found = set(communities)
    if not terms.internal:  # RFC 4360 §6: non-transitive ones do not cross the border of an AS
        found = {community for community in found if not community & NON_TRANSITIVE}
    if (
        bandwidth
    ):  # RFC 10005 §3.1: may be sent to external peers all the same, and must be to serve
        found.add(link_bandwidth_community(terms.local_asn, bandwidth))
    return tuple(sorted(found))


def _pack(
    prefixes: dict[Prefix, Route] | dict[Prefix, None], room: int
) -> tuple[bytes, list[Prefix]]:
    """As many entries as fit into `room` octets."""
    parts: list[bytes] = []
    taken: list[Prefix] = []
    for prefix in prefixes:
        entry = encode_prefix(prefix)
        room -= len(entry)
        if room < 0:
            break
        parts.append(entry)
        taken.append(prefix)
    assert taken
    return b"".join(parts), taken


def _mp_reach(head: MpReach, nlri: bytes) -> bytes:
    """MP_REACH_NLRI in its long form, first among the attributes (RFC 7606 §5.1)."""
    hops = b"".join(address.packed for address in head.next_hops)
    family = head.family
    value = family.afi.to_bytes(2, "big") + bytes((family.safi, len(hops))) + hops + b"\x00" + nlri
    return encode_attribute(AttributeCode.MP_REACH_NLRI, int(AttributeFlag.OPTIONAL), value)
