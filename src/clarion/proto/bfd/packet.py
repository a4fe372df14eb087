"""The BFD Control packet (RFC 5880 §4.1): its fields, bytes, and what makes one invalid.

`RULES` is the first half of the reception rules of RFC 5880 §6.8.6, in their order: those that need
nothing but the packet. `demux` has the ones that choose a session, `session` those that change it.
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from clarion.base.errors import DecodeError

VERSION: Final = 1
LENGTH: Final = 24
AUTHENTICATED_LENGTH: Final = 26
"""The least length with an authentication section: its type and length (RFC 5880 §4.1)."""
MICROSECONDS: Final = 1_000_000
_INTERVAL_MAX: Final = 0xFFFFFFFF

_MANDATORY: Final = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 32, 16, 8, 4, 2, 1


class BfdDecodeError(DecodeError):
    """Bytes that are no BFD Control packet, or one that RFC 5880 §6.8.6 has us discard."""


class State(IntEnum):
    """Session states as they are on the wire (RFC 5880 §4.1)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    def __str__(self) -> str:
        """As the RFC writes it, for example `AdminDown`."""
        return self.name.title().replace("_", "")


class Diagnostic(IntEnum):
    """Why a session last changed its state (RFC 5880 §4.1)."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


DIAGNOSTIC_WORDS: Final[dict[int, str]] = {
    Diagnostic.NONE: "",
    Diagnostic.DETECTION_TIME_EXPIRED: "no packet arrived within the detection time",
    Diagnostic.ECHO_FAILED: "echo packets did not come back",
    Diagnostic.NEIGHBOR_SIGNALED_DOWN: "the other side said that the session is down",
    Diagnostic.FORWARDING_PLANE_RESET: "forwarding cannot be relied on",
    Diagnostic.PATH_DOWN: "the path is down",
    Diagnostic.CONCATENATED_PATH_DOWN: "a path that follows is down",
    Diagnostic.ADMINISTRATIVELY_DOWN: "switched off by the administrator",
    Diagnostic.REVERSE_CONCATENATED_PATH_DOWN: "a path back that follows is down",
}


def diagnostic_words(code: int) -> str:
    """A diagnostic in words; empty for none."""
    return DIAGNOSTIC_WORDS.get(code, f"diagnostic {code}")


class ControlPacket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The mandatory section. Intervals are microseconds, as on the wire.

    Attributes:
        diagnostic: A `Diagnostic`, or a number that has no name yet.
        independent: C: the sender's BFD does not share fate with its control plane.
        authenticated: A: an authentication section follows.
        length: What the Length field says.
    """

    version: int = VERSION
    diagnostic: int = 0
    state: State
    poll: bool = False
    final: bool = False
    independent: bool = False
    authenticated: bool = False
    demand: bool = False
    multipoint: bool = False
    detect_multiplier: int
    length: int = LENGTH
    my_discriminator: int
    your_discriminator: int = 0
    desired_min_tx: int
    required_min_rx: int
    required_min_echo_rx: int = 0


class Rule(NamedTuple):
    """One reason to discard a packet: what breaks it, given the octets that UDP carried."""

    broken: Callable[[ControlPacket, int], bool]
    text: str


RULES: Final = (
    # RFC 5880 §6.8.6, "the following procedure MUST be followed", steps in the RFC's order.
    Rule(lambda p, _: p.version != VERSION, "the version is not 1"),
    Rule(
        lambda p, _: p.length < (AUTHENTICATED_LENGTH if p.authenticated else LENGTH),
        "the Length field is too small",
    ),
    Rule(lambda p, octets: p.length > octets, "the Length field exceeds the datagram"),
    Rule(lambda p, _: p.detect_multiplier == 0, "Detect Mult is zero"),
    Rule(lambda p, _: p.multipoint, "the Multipoint bit is set"),
    Rule(lambda p, _: p.my_discriminator == 0, "My Discriminator is zero"),
    Rule(
        lambda p, _: p.your_discriminator == 0 and p.state not in (State.DOWN, State.ADMIN_DOWN),
        "Your Discriminator is zero in a state other than Down and AdminDown",
    ),
    # Authentication is in use nowhere here (bfd.AuthType is zero).
    Rule(lambda p, _: p.authenticated, "it is authenticated, which is not agreed"),
)


def decode(data: bytes) -> ControlPacket:
    """Read a datagram; what follows the packet is ignored, as the RFC does.

    Raises:
        BfdDecodeError: it is no Control packet, or one that must be discarded.
    """
    if len(data) < LENGTH:
        raise BfdDecodeError(f"{len(data)} octets are no BFD Control packet")
    first, flags, multiplier, length, mine, yours, tx, rx, echo = _MANDATORY.unpack_from(data)
    packet = ControlPacket(
        version=first >> 5,
        diagnostic=first & 31,
        state=State(flags >> 6),
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        independent=bool(flags & _INDEPENDENT),
        authenticated=bool(flags & _AUTHENTICATED),
        demand=bool(flags & _DEMAND),
        multipoint=bool(flags & _MULTIPOINT),
        detect_multiplier=multiplier,
        length=length,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx=tx,
        required_min_rx=rx,
        required_min_echo_rx=echo,
    )
    for rule in RULES:
        if rule.broken(packet, len(data)):
            raise BfdDecodeError(rule.text)
    return packet


def encode(packet: ControlPacket) -> bytes:
    """The bytes of a packet without an authentication section."""
    flags = (
        packet.state << 6
        | packet.poll * _POLL
        | packet.final * _FINAL
        | packet.independent * _INDEPENDENT
        | packet.authenticated * _AUTHENTICATED
        | packet.demand * _DEMAND
        | packet.multipoint * _MULTIPOINT
    )
    return _MANDATORY.pack(
        packet.version << 5 | packet.diagnostic,
        flags,
        packet.detect_multiplier,
        packet.length,
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx,
        packet.required_min_rx,
        packet.required_min_echo_rx,
    )


def microseconds(seconds: float) -> int:
    """An interval as it is sent."""
    return min(round(seconds * MICROSECONDS), _INTERVAL_MAX)
