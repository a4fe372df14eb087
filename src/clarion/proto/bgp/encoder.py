"""The UPDATEs of all peers, each encoded once (RFC 4271 §4.3).

A message follows from three things: the terms of the connection, the attributes, and the prefixes.
So peers on the same terms that are owed the same prefixes get the same bytes. An `Encoder` keeps
the last messages that it made; whether one serves is found by comparing prefixes. Peers know
nothing of one another, and none waits for another.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.limits import BGP_SHARED_BYTES
from clarion.proto.bgp.aspath import AsSegment
from clarion.proto.bgp.attrs import (
    PathAttributes,
    encode_attribute,
    encode_attributes,
    link_bandwidth_community,
)
from clarion.proto.bgp.iana import (
    FAMILY_OF_VERSION,
    IPV4_UNICAST,
    AttributeCode,
    AttributeFlag,
    Family,
    Origin,
    SegmentType,
)
from clarion.proto.bgp.nlri import pack_prefixes
from clarion.proto.bgp.routes import Group, Terms
from clarion.proto.bgp.update import assemble_update
from clarion.proto.bgp.wire import HEADER_BYTES

_FRAME: Final = HEADER_BYTES + 4
"""Octets of an UPDATE that hold neither attributes nor prefixes (RFC 4271 §4.3)."""
_REACH: Final = 9
"""Octets of an MP_REACH_NLRI besides next hop and prefixes: header 4, its own 5 (RFC 4760 §3)."""
_UNREACH: Final = 7
"""Octets of an MP_UNREACH_NLRI besides prefixes: header 4, its own 3 (RFC 4760 §4)."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """An UPDATE, and the prefixes that it announces or withdraws."""

    octets: bytes
    prefixes: list[Prefix]
    full: bool
    """Was a further prefix left out because it did not fit?"""

    def serves(self, waiting: dict[Prefix, Any]) -> bool:
        """Is this what would be made of the last of these prefixes?"""
        count = len(self.prefixes)
        complete = self.full or count == len(waiting)
        return complete and list(islice(reversed(waiting), count)) == self.prefixes


class Encoder:
    """Makes UPDATEs and remembers them, BGP_SHARED_BYTES at most.

    Both methods put as many of `waiting` into a message as it takes; there is at least one, and
    all are of one family. The last ones go first: what changed last, and where a map is cut
    cheaply. A group is given as the peer hears it.

    Attributes:
        octets: In the messages that are kept.
        encoded: Messages that were made, since the start.
    """

    def __init__(self) -> None:
        self._kept: dict[object, Message] = {}
        self.octets = 0
        self.encoded = 0

    def announce(self, terms: Terms, group: Group, waiting: dict[Prefix, Any]) -> Message:
        """An UPDATE that announces prefixes with the attributes of a group."""
        return self._message(
            (terms, group, next(reversed(waiting))),
            waiting,
            lambda: _announce(terms, group, waiting),
        )

    def withdraw(self, terms: Terms, waiting: dict[Prefix, Any]) -> Message:
        """An UPDATE that withdraws prefixes."""
        return self._message(
            (terms, next(reversed(waiting))), waiting, lambda: _withdraw(terms, waiting)
        )

    def _message(
        self, key: object, waiting: dict[Prefix, Any], make: Callable[[], Message]
    ) -> Message:
        kept = self._kept.get(key)
        if kept is not None and kept.serves(waiting):
            return kept
        self._forget(key)
        made = self._kept[key] = make()
        self.octets += len(made.octets)
        self.encoded += 1
        while self.octets > BGP_SHARED_BYTES:
            self._forget(next(iter(self._kept)))
        return made

    def _forget(self, key: object) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self.octets -= len(old.octets)


def _announce(terms: Terms, group: Group, waiting: dict[Prefix, Any]) -> Message:
    family = FAMILY_OF_VERSION[group[0]]
    next_hop = dict(terms.next_hops)[family]
    attributes = _attributes(terms, group, next_hop)
    room = terms.message_bytes - _FRAME - len(attributes)
    # RFC 8950 §4, RFC 4760 §3: all but IPv4 with an IPv4 next hop goes into MP_REACH_NLRI.
    if family == IPV4_UNICAST and next_hop.version == 4:
        nlri, prefixes, full = pack_prefixes(reversed(waiting), room)
        return Message(assemble_update(b"", attributes, nlri), prefixes, full)
    hop = next_hop.packed
    nlri, prefixes, full = pack_prefixes(reversed(waiting), room - _REACH - len(hop))
    value = b"".join((_family(family), bytes((len(hop),)), hop, b"\x00", nlri))
    # RFC 7606 §5.1: the MP attribute comes first.
    reach = encode_attribute(AttributeCode.MP_REACH_NLRI, int(AttributeFlag.OPTIONAL), value)
    return Message(assemble_update(b"", reach + attributes, b""), prefixes, full)


def _withdraw(terms: Terms, waiting: dict[Prefix, Any]) -> Message:
    family = FAMILY_OF_VERSION[next(reversed(waiting)).version]
    room = terms.message_bytes - _FRAME
    if family == IPV4_UNICAST and dict(terms.next_hops)[family].version == 4:
        nlri, prefixes, full = pack_prefixes(reversed(waiting), room)
        return Message(assemble_update(nlri, b"", b""), prefixes, full)
    nlri, prefixes, full = pack_prefixes(reversed(waiting), room - _UNREACH)
    unreach = encode_attribute(
        AttributeCode.MP_UNREACH_NLRI, int(AttributeFlag.OPTIONAL), _family(family) + nlri
    )
    return Message(assemble_update(b"", unreach, b""), prefixes, full)


def _family(family: Family) -> bytes:
    return family.afi.to_bytes(2, "big") + bytes((family.safi,))


def _attributes(terms: Terms, group: Group, next_hop: Address) -> bytes:
    """The attributes of a group besides the multiprotocol ones."""
    version, local_pref, communities, large, extended, bandwidth = group
    if bandwidth:  # RFC 10005 §3.1: to external peers too, it is the next router that shares out
        link = link_bandwidth_community(terms.local_asn, bandwidth)
        extended = tuple(sorted({*extended, link}))
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
        communities=communities,
        extended_communities=extended,
        # RFC 6793 §4.2.2: the true path, for those beyond a two-octet speaker.
        as4_path=path if needs_as4 else None,
        large_communities=large,
    )
    return encode_attributes(attributes, four_octet_asn=terms.four_octet_asn)
