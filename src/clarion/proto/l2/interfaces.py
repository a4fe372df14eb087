"""What is known of an interface, and which interfaces may announce.

The rules are MetalLB's (an interface that is down, a member of another one, or without ARP is
passed over), with the obstacle named, so that a user can be told why an interface stays silent.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from clarion.base.addr import Address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import L2_EXCLUDE_PATTERNS_MAX

MAC_BYTES = 6


class Interface(msgspec.Struct, frozen=True):
    """One network interface as the kernel describes it.

    Attributes:
        index: Kernel index; a removed interface that returns has another one.
        name: Name at present; an interface can be renamed.
        mac: Hardware address, 6 bytes on Ethernet.
        up: Switched on by the administrator.
        carrier: The other end of the cable is there.
        broadcast: Can send to every station at once.
        noarp: The kernel does no address resolution on it.
        loopback: Is the loopback interface.
        ethernet: Carries Ethernet frames.
        master: Index of the bond, bridge or VRF that it belongs to, 0 for none.
        link_local: IPv6 link-local address, which may still be tentative; None without one.
        addresses: Every other usable address.
    """

    index: int
    name: str
    mac: bytes
    up: bool
    carrier: bool
    broadcast: bool
    noarp: bool
    loopback: bool
    ethernet: bool
    master: int
    link_local: Address | None = None
    addresses: tuple[Address, ...] = ()


class Obstacle(StrEnum):
    """Why an interface does not announce addresses of one IP version."""

    EXCLUDED = "excluded"
    DOWN = "down"
    MEMBER = "member"
    NO_ARP = "noArp"
    NOT_ETHERNET = "notEthernet"
    NO_BROADCAST = "noBroadcast"
    NO_LINK_LOCAL = "noLinkLocal"
    SOCKET_FAILED = "socketFailed"


class Fitness(msgspec.Struct, frozen=True):
    """What stands against announcing on an interface: None where nothing does."""

    arp: Obstacle | None
    ndp: Obstacle | None


class Exclusions:
    """Interface names not to be used: regular expressions that match anywhere in the name.

    Raises:
        InvalidInputError: too many patterns, or one that is no regular expression.
    """

    __slots__ = ("_patterns",)

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        listed = list(patterns)
        if len(listed) > L2_EXCLUDE_PATTERNS_MAX:
            raise InvalidInputError(
                f"{len(listed)} patterns of excluded interfaces, {L2_EXCLUDE_PATTERNS_MAX} at most"
            )
        self._patterns = tuple(_compile(text) for text in listed)

    def __contains__(self, name: str) -> bool:
        return any(pattern.search(name) for pattern in self._patterns)


def _compile(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInputError(
            f"excluded interfaces: {text!r} is no regular expression: {error}"
        ) from None


def fitness(interface: Interface, exclusions: Exclusions) -> Fitness:
    """Whether ARP and NDP can be spoken on an interface, and what prevents it."""
    common = _common_obstacle(interface, exclusions)
    if common is not None:
        return Fitness(common, common)
    return Fitness(
        arp=None if interface.broadcast else Obstacle.NO_BROADCAST,
        # RFC 4291 §2.8: without a link-local address an interface does not speak IPv6.
        ndp=None if interface.link_local is not None else Obstacle.NO_LINK_LOCAL,
    )


def _common_obstacle(interface: Interface, exclusions: Exclusions) -> Obstacle | None:
    if interface.name in exclusions:
        return Obstacle.EXCLUDED
    if not interface.ethernet or interface.loopback or len(interface.mac) != MAC_BYTES:
        return Obstacle.NOT_ETHERNET
    if not interface.up:
        return Obstacle.DOWN
    if interface.master:
        return Obstacle.MEMBER
    if interface.noarp:
        return Obstacle.NO_ARP
    return None
