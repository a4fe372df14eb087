"""Answers ARP requests and Neighbor Solicitations for a table of announced addresses.

Frames go in, frames or the reason for silence come out. One `Responder` serves every interface of a
node; the cost of a frame does not depend on the number of addresses.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from clarion.base.addr import Address
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import BROADCAST, FrameError, is_station, multicast_mac


class Counts(msgspec.Struct, frozen=True):
    """What happened for one address since the process started.

    Attributes:
        requests: Requests and solicitations received for it.
        responses: Answers sent.
        gratuitous: Unsolicited frames sent.
        conflicts: Frames of another station that claim it (RFC 5227 §2.4).
    """

    requests: int = 0
    responses: int = 0
    gratuitous: int = 0
    conflicts: int = 0


class Link(msgspec.Struct, frozen=True):
    """The interface on which a frame came or goes.

    Attributes:
        name: Name, as announcements select it.
        mac: Hardware address to announce.
    """

    name: str
    mac: bytes


class Drop(StrEnum):
    """Why a frame gets no answer."""

    MALFORMED = "malformed"
    NOT_A_REQUEST = "notARequest"
    OWN_FRAME = "ownFrame"
    CLAIM_OF_ANOTHER = "claimOfAnother"
    WRONG_DESTINATION = "wrongDestination"
    WRONG_SOURCE = "wrongSource"
    NOT_ANNOUNCED = "notAnnounced"
    OTHER_INTERFACE = "otherInterface"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A frame to send back on the interface where the request came from."""

    address: Address
    frame: bytes


class _Entry:
    """One announced address with its running counts."""

    __slots__ = ("conflicts", "gratuitous", "interfaces", "requests", "responses")

    def __init__(self, interfaces: frozenset[str] | None) -> None:
        self.interfaces = interfaces
        self.requests = self.responses = self.gratuitous = self.conflicts = 0

    def covers(self, interface: str) -> bool:
        return self.interfaces is None or interface in self.interfaces


class Responder:
    """The table of announced addresses and what is answered for them."""

    def __init__(self) -> None:
        self._entries: dict[Address, _Entry] = {}
        self._own_macs: frozenset[bytes] = frozenset()
        self._changed: set[Address] = set()
        self._claims: dict[Address, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, address: Address) -> bool:
        return address in self._entries

    @property
    def addresses(self) -> Iterable[Address]:
        """Every announced address."""
        return self._entries.keys()

    def interfaces(self, address: Address) -> frozenset[str] | None:
        """Names of the interfaces on which an announced address is told; None means all."""
        return self._entries[address].interfaces

    def covers(self, address: Address, interface: str) -> bool:
        """Whether an address is announced on an interface."""
        entry = self._entries.get(address)
        return entry is not None and entry.covers(interface)

    def announce(self, address: Address, interfaces: frozenset[str] | None) -> None:
        """Answer for an address from now on; known ones keep their counts."""
        entry = self._entries.get(address)
        if entry is None:
            self._entries[address] = _Entry(interfaces)
        else:
            entry.interfaces = interfaces

    def withdraw(self, address: Address) -> None:
        """Answer for an address no more; its counts are forgotten."""
        self._entries.pop(address, None)
        self._changed.discard(address)
        self._claims.pop(address, None)

    def set_own_macs(self, macs: Iterable[bytes]) -> None:
        """Hardware addresses of this node: what they claim is no conflict."""
        self._own_macs = frozenset(macs)

    def receive_arp(self, frame: bytes, link: Link) -> Answer | Drop:
        """What to do about a frame with EtherType ARP."""
        try:
            packet = arp.decode(frame)
        except FrameError:
            return Drop.MALFORMED
        if packet.operation != arp.Operation.REQUEST:
            return Drop.NOT_A_REQUEST
        claim = self._entries.get(packet.sender)
        if claim is not None and claim.covers(link.name):
            verdict = self._claimed(packet, claim)
            if packet.sender == packet.target:
                return verdict  # RFC 5227 §3: an announcement asks nothing
        if packet.destination != BROADCAST and packet.destination != link.mac:
            return Drop.WRONG_DESTINATION
        if not is_station(packet.sender_mac):
            return Drop.WRONG_SOURCE  # the answer would be flooded to a whole segment
        refusal = self._lookup(packet.target, link)
        if refusal is not None:
            return refusal
        return Answer(packet.target, arp.encode(arp.reply(packet, link.mac)))

    def receive_ndp(self, frame: bytes, link: Link) -> Answer | Drop:
        """What to do about a frame that may be a Neighbor Solicitation."""
        try:
            question = ndp.decode_solicitation(frame)
        except FrameError:
            return Drop.MALFORMED
        if not _addressed_to_target(question, link):
            return Drop.WRONG_DESTINATION
        if not is_station(question.source_link_layer or question.source_mac):
            return Drop.WRONG_SOURCE
        if ndp.is_multicast(question.source):
            return Drop.WRONG_SOURCE  # RFC 4291 §2.7: a group is never a source
        refusal = self._lookup(question.target, link)
        if refusal is not None:
            return refusal
        advertisement = ndp.answer(question, link.mac)
        return Answer(question.target, ndp.encode_advertisement(advertisement))

    def gratuitous(self, address: Address, link: Link) -> tuple[bytes, ...]:
        """The unsolicited frames that announce an address on a link, in the order to send them."""
        if address.version == 4:
            return tuple(arp.encode(packet) for packet in arp.announcements(address, link.mac))
        return (ndp.encode_advertisement(ndp.announcement(address, link.mac)),)

    def count_sent(self, address: Address, *, responses: int = 0, gratuitous: int = 0) -> None:
        """Note frames that were really sent."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.responses += responses
            entry.gratuitous += gratuitous
            self._changed.add(address)

    def take_changed_counts(self) -> dict[Address, Counts]:
        """Counts of the addresses for which something happened since the last call."""
        changed = {address: self.counts(address) for address in self._changed}
        self._changed.clear()
        return changed

    def take_claims(self) -> dict[Address, bytes]:
        """Announced addresses that another station claimed since the last call, and its MAC."""
        claims, self._claims = self._claims, {}
        return claims

    @property
    def has_changed_counts(self) -> bool:
        """Whether `take_changed_counts` would give something."""
        return bool(self._changed)

    def counts(self, address: Address) -> Counts:
        """Counts of an announced address."""
        entry = self._entries[address]
        return Counts(entry.requests, entry.responses, entry.gratuitous, entry.conflicts)

    def _lookup(self, target: Address, link: Link) -> Drop | None:
        entry = self._entries.get(target)
        if entry is None:
            return Drop.NOT_ANNOUNCED
        if not entry.covers(link.name):
            return Drop.OTHER_INTERFACE
        entry.requests += 1
        self._changed.add(target)
        return None

    def _claimed(self, packet: arp.ArpPacket, entry: _Entry) -> Drop:
        """A sender names an announced address as its own: ourselves, or a conflict."""
        if packet.sender_mac in self._own_macs:
            return Drop.OWN_FRAME  # another interface of this node hangs on the same segment
        entry.conflicts += 1  # RFC 5227 §2.4
        self._changed.add(packet.sender)
        self._claims[packet.sender] = packet.sender_mac
        return Drop.CLAIM_OF_ANOTHER


def _addressed_to_target(question: ndp.Solicitation, link: Link) -> bool:
    """Whether it was sent to the target or its group (RFC 4861 §4.3), and to this station."""
    if question.destination == question.target:
        return question.destination_mac == link.mac
    group = ndp.solicited_node(question.target)
    return question.destination == group and question.destination_mac in (
        multicast_mac(group),
        link.mac,  # RFC 6085 §3: a group may be reached by a unicast frame
    )
