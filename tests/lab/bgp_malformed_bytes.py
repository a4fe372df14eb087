"""What the rows of malformed BGP messages are made of: a row, and the octets of its message."""

import msgspec

from clarion.base.addr import Address
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.update import assemble_update
from clarion.proto.bgp.wire import MARKER, encode_frame

ASN, THEIR_ASN = 64513, 64512
ROUTE4 = bytes.fromhex("20cb007107")
ROUTE6 = bytes.fromhex("80" + "20010db800ff00000000000000000007")
MARK = bytes.fromhex("18c63364")
HOP4, HOP6 = bytes.fromhex("c00002fa"), bytes.fromhex("20010db80001000000000000000000fa")
UP, STAYS, GOES = "up", "up, route stays", "up, route goes"
EXTERNAL, INTERNAL, TWO_OCTETS, REFRESHING = "external", "internal", "two octets", "refreshing"
DATA_SHOWN = 32
HOLD_SECONDS = 6
"""Long enough for a busy machine, short for a test that waits for KEEPALIVEs."""


class Row(msgspec.Struct, frozen=True):
    """One message. `wants` is the outcome that the clause asks for, in the words of `outcome`.

    Attributes:
        state: `OpenSent`, `OpenConfirm` or `Established`, as the receiver's.
        octets: What is sent.
        peer: Who sends it: an external peer as usual, an internal one, one that knows two-octet
            ASNs only, or one that takes part in enhanced route refresh.
        version: Which of the two routes is looked for afterwards, 4 or 6.
    """

    chapter: str
    name: str
    state: str
    octets: bytes
    wants: str
    clause: str
    peer: str = EXTERNAL
    version: int = 4

    @property
    def asn(self) -> int:
        """The ASN of the peer."""
        return THEIR_ASN if self.peer == INTERNAL else ASN

    def opening(self, address: Address) -> bytes:
        """The OPEN of the peer, where the row is not one itself."""
        identifier = address.packed.hex()
        if self.peer == TWO_OCTETS:
            return with_parameters(MP_ONLY, identifier=identifier)
        if self.peer == REFRESHING:
            return opened(identifier, more=bytes.fromhex("02004600"))
        return opened(identifier, asn=self.asn)

    @property
    def announces(self) -> bytes:
        """What an Established peer has announced before the row is sent."""
        both = ORIGIN + PATHS.get(self.peer, PATH)
        return update(both + HOP) + update(both + attribute(0x80, 14, reach()), b"")

    @property
    def mark(self) -> bytes:
        """What the peer announces after the row, where its routes are looked at: MARK."""
        path = PATHS.get(self.peer, PATH)
        return update(ORIGIN + path + HOP, MARK) if self.wants in (STAYS, GOES) else b""


def reset(code: str, data: bytes) -> str:
    """A NOTIFICATION with data, in the words of `outcome`."""
    return f"{code} {data[:DATA_SHOWN].hex()}"


def outcome(row: Row, end: str, *, has_route: bool) -> str:
    """What came of a row: `end` is `up`, `closed`, `silent`, or a NOTIFICATION's body as digits.

    Its data is told where the clause says what it has to be.
    """
    if end == UP and row.wants in (STAYS, GOES):
        return STAYS if has_route else GOES
    if end in (UP, "closed", "silent"):
        return end
    body = bytes.fromhex(end)
    code = f"{body[0]}/{body[1]}"
    demanded = row.wants[0].isdigit() and " " in row.wants
    return reset(code, body[2:]).strip() if demanded else code


def meets(row: Row, said: str) -> bool:
    """Whether an outcome is what the clause asks for."""
    return said == row.wants


def attribute(flags: int, code: int, value: bytes) -> bytes:
    """One path attribute; with the Extended Length bit its length has two octets."""
    return bytes((flags, code)) + len(value).to_bytes(2 if flags & 0x10 else 1, "big") + value


ORIGIN = attribute(0x40, 1, b"\0")
PATH = attribute(0x40, 2, b"\x02\x01" + ASN.to_bytes(4, "big"))
HOP = attribute(0x40, 3, HOP4)
GOOD = ORIGIN + PATH + HOP
PATHS = {
    INTERNAL: attribute(0x40, 2, b"") + attribute(0x40, 5, bytes.fromhex("00000064")),
    TWO_OCTETS: attribute(0x40, 2, b"\x02\x01" + ASN.to_bytes(2, "big")),
}


def reach(hops: bytes = HOP6, routes: bytes = ROUTE6, family: bytes = b"\0\2\1") -> bytes:
    """The value of MP_REACH_NLRI."""
    return family + bytes((len(hops),)) + hops + b"\0" + routes


def update(attributes: bytes = GOOD, nlri: bytes = ROUTE4, withdrawn: bytes = b"") -> bytes:
    """An UPDATE."""
    return assemble_update(withdrawn, attributes, nlri)


MP_ONLY = bytes.fromhex("020c010400010001010400020001")
"""A parameter with both families and no ASN."""


def opened(
    identifier: str = "c0000264",
    hold: int = HOLD_SECONDS,
    version: int = 4,
    asn: int = ASN,
    more: bytes = b"",
) -> bytes:
    """An OPEN, right but for what is said; `more` are further capabilities."""
    known = MP_ONLY[2:] + b"\x41\4" + asn.to_bytes(4, "big") + more
    body = bytes((version,)) + asn.to_bytes(2, "big") + hold.to_bytes(2, "big")
    body += bytes.fromhex(identifier) + bytes((len(known) + 2, 2, len(known))) + known
    return encode_frame(MessageType.OPEN, body)


def with_parameters(
    parameters: bytes, total: int | None = None, asn: int = ASN, identifier: str = "c0000264"
) -> bytes:
    """An OPEN with these optional parameters, which say that they are `total` octets."""
    size = len(parameters) if total is None else total
    return raw_open(bytes((size,)) + parameters, asn, identifier)


def raw_open(tail: bytes, asn: int = ASN, identifier: str = "c0000264") -> bytes:
    """An OPEN with anything from the length of its parameters on."""
    head = (
        b"\4" + asn.to_bytes(2, "big") + HOLD_SECONDS.to_bytes(2, "big") + bytes.fromhex(identifier)
    )
    return encode_frame(MessageType.OPEN, head + tail)


def capability(code: int, value: bytes) -> bytes:
    """An OPEN with IPv4 unicast, its ASN, and one more capability."""
    known = bytes.fromhex("0104000100014104") + ASN.to_bytes(4, "big")
    known += bytes((code, len(value))) + value
    return with_parameters(bytes((2, len(known))) + known)


def header(length: int, kind: int, body: bytes = b"", marker: bytes = MARKER) -> bytes:
    """Any header."""
    return marker + length.to_bytes(2, "big") + bytes((kind,)) + body
