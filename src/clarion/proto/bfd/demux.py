"""Which session a packet is for (RFC 5880 §6.3, RFC 5881 §3 and §5, RFC 5883 §3 to §5)."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.proto.bfd.packet import ControlPacket
from clarion.proto.bfd.session import BfdSession

SINGLE_HOP_PORT: Final = 3784
"""RFC 5881 §4."""
MULTIHOP_PORT: Final = 4784
"""RFC 5883 §5."""
SOURCE_PORTS: Final = range(49152, 65536)
"""RFC 5881 §4."""
TTL: Final = 255
"""Sent always, and required of single-hop packets (RFC 5881 §5)."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Between whom a session is.

    Attributes:
        remote: The other side.
        local: Our address, None to have the kernel choose.
        interface: On which interface only; needed with link-local addresses. Empty for any.
        vrf: Device of the VRF, empty for the default one.
        multihop: Routers may be in between.
    """

    remote: Address
    local: Address | None = None
    interface: str = ""
    vrf: str = ""
    multihop: bool = False

    @property
    def port(self) -> int:
        """The UDP port to which both sides send."""
        return MULTIHOP_PORT if self.multihop else SINGLE_HOP_PORT

    @property
    def device(self) -> str:
        """What the sockets are bound to, empty for nothing."""
        return self.interface or self.vrf


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """From where and how a packet came. `interface` is the name of the one that received it."""

    source: Address
    destination: Address
    ttl: int
    interface: str
    vrf: str
    multihop: bool


class Refusal(StrEnum):
    """Why a packet goes to no session."""

    UNKNOWN = "no session has its discriminator or its address"
    HOPS = "its TTL says that it came from too far"
    ELSEWHERE = "it belongs to a session with another address, interface or number of hops"


class Demux:
    """The sessions of a speaker, found by what packets carry."""

    def __init__(self) -> None:
        self._by_discriminator: dict[int, tuple[Endpoint, BfdSession]] = {}

    def __iter__(self) -> Iterator[BfdSession]:
        return (session for _, session in self._by_discriminator.values())

    def __contains__(self, discriminator: int) -> bool:
        return discriminator in self._by_discriminator

    def add(self, endpoint: Endpoint, session: BfdSession) -> None:
        """Let packets reach a session."""
        self._by_discriminator[session.memory.discriminator] = (endpoint, session)

    def remove(self, session: BfdSession) -> None:
        """Let none reach it any more."""
        self._by_discriminator.pop(session.memory.discriminator, None)

    def find(self, packet: ControlPacket, arrival: Arrival) -> BfdSession | Refusal:
        """The session of a valid packet.

        RFC 5880 §6.8.6: with a discriminator, that one selects; without, the addresses do. A packet
        that a session's own other side cannot have sent is refused and counted there.
        """
        if packet.your_discriminator:
            found = self._by_discriminator.get(packet.your_discriminator)
            if found is None:
                return Refusal.UNKNOWN
        else:
            found = next(
                (row for row in self._by_discriminator.values() if _matches(row[0], arrival)), None
            )
            if found is None:
                return Refusal.UNKNOWN
        endpoint, session = found
        if not _matches(endpoint, arrival):
            session.memory.discarded += 1
            return Refusal.ELSEWHERE
        # RFC 5881 §5 (GTSM, RFC 5082); for more hops the profile says how many.
        if arrival.ttl < (session.config.minimum_ttl if endpoint.multihop else TTL):
            session.memory.discarded += 1
            return Refusal.HOPS
        return session


def _matches(endpoint: Endpoint, arrival: Arrival) -> bool:
    """Whether the other side of a session may have sent this (RFC 5881 §3, RFC 5883 §3)."""
    return (
        endpoint.remote == arrival.source
        and endpoint.multihop == arrival.multihop
        and endpoint.vrf == arrival.vrf
        and endpoint.interface in ("", arrival.interface)
        and (endpoint.local is None or endpoint.local == arrival.destination)
    )
