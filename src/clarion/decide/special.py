"""Blocks of addresses that cannot serve as what a pool or a peer needs (RFC 6890 and successors).

MetalLB accepts them all, so each is a warning and never an error.
"""

from collections.abc import Iterator
from typing import NamedTuple

from clarion.base.addr import Address, AddressRange, parse_range


class Block(NamedTuple):
    """A block with a purpose of its own.

    Attributes:
        text: As it is written in messages.
        what: What it is for, with its source.
        effect: What becomes of a service there.
        no_peer: No TCP connection can be opened to an address of it.
    """

    text: str
    span: AddressRange
    what: str
    effect: str
    no_peer: bool = True


def _block(text: str, what: str, effect: str, *, no_peer: bool = True) -> Block:
    return Block(text, parse_range(text), what, effect, no_peer)


_OWN_SEGMENT = "routers do not forward it, so only the segment itself reaches the service"

BLOCKS = (
    _block("0.0.0.0/8", "this network, RFC 791 §3.2", "hosts refuse it as a destination"),
    _block(
        "127.0.0.0/8",
        "loopback, RFC 1122 §3.2.1.3",
        "every host takes it for itself",
        no_peer=False,
    ),
    _block("169.254.0.0/16", "link-local, RFC 3927", _OWN_SEGMENT, no_peer=False),
    _block("224.0.0.0/4", "multicast, RFC 5771", "it names groups, not a host"),
    _block("240.0.0.0-255.255.255.254", "reserved, RFC 1112 §4", "most systems refuse it"),
    _block("255.255.255.255/32", "limited broadcast, RFC 919 §7", "it names everyone, not a host"),
    _block("::/128", "unspecified, RFC 4291 §2.5.2", "hosts refuse it as a destination"),
    _block("::1/128", "loopback, RFC 4291 §2.5.3", "every host takes it for itself", no_peer=False),
    _block(
        "::ffff:0.0.0.0/96",
        "IPv4-mapped, RFC 4291 §2.5.5.2",
        "it is IPv4 to a program and nothing on the wire; write it as IPv4",
        no_peer=False,
    ),
    _block("100::/64", "discard-only, RFC 6666", "routers drop what is sent to it"),
    _block("fe80::/10", "link-local, RFC 4291 §2.5.6", _OWN_SEGMENT),
    _block("ff00::/8", "multicast, RFC 4291 §2.7", "it names groups, not a host"),
)


def touching(span: AddressRange) -> Iterator[Block]:
    """The blocks that share an address with a range."""
    return (block for block in BLOCKS if block.span.overlaps(span))


def no_peer(address: Address) -> Block | None:
    """The block that makes it impossible to connect to an address; None if nothing does."""
    blocks = touching(address.host_prefix.range)
    return next((block for block in blocks if block.no_peer), None)


RESERVED_ASNS = {
    23456: "AS_TRANS, RFC 6793 §9",
    65535: "RFC 7300",
    4294967295: "RFC 7300",
}
"""Numbers that no speaker may have as its own; 0 is an error of its own."""
