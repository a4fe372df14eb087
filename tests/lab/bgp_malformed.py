"""Malformed BGP messages: what is sent in which state, and what the RFCs want done about it."""

import msgspec

from clarion.base.addr import Address
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.update import assemble_update
from clarion.proto.bgp.wire import KEEPALIVE, MARKER, encode_frame

ASN = 64513
ROUTE4 = bytes.fromhex("20cb007107")
ROUTE6 = bytes.fromhex("80" + "20010db800ff00000000000000000007")
HOP4, HOP6 = bytes.fromhex("c00002fa"), bytes.fromhex("20010db80001000000000000000000fa")


class Row(msgspec.Struct, frozen=True):
    """One message. `wants` is the outcome that the clause asks for, in the words of `outcome`.

    Attributes:
        state: `OpenSent`, `OpenConfirm` or `Established`, as the receiver's.
        octets: What is sent.
    """

    chapter: str
    name: str
    state: str
    octets: bytes
    wants: str
    clause: str


def attribute(flags: int, code: int, value: bytes) -> bytes:
    """One path attribute."""
    return bytes((flags, code, len(value))) + value


ORIGIN = attribute(0x40, 1, b"\0")
PATH = attribute(0x40, 2, b"\x02\x01" + ASN.to_bytes(4, "big"))
HOP = attribute(0x40, 3, HOP4)
GOOD = ORIGIN + PATH + HOP


def reach(hops: bytes = HOP6, routes: bytes = ROUTE6, family: bytes = b"\0\2\1") -> bytes:
    """The value of MP_REACH_NLRI."""
    return family + bytes((len(hops),)) + hops + b"\0" + routes


def update(attributes: bytes = GOOD, nlri: bytes = ROUTE4, withdrawn: bytes = b"") -> bytes:
    """An UPDATE."""
    return assemble_update(withdrawn, attributes, nlri)


def opened(router_id: str = "c0000264", hold: int = 3, version: int = 4, asn: int = ASN) -> bytes:
    """An OPEN, right but for what is said."""
    families = bytes.fromhex("0104000100010104000200014104") + ASN.to_bytes(4, "big")
    body = bytes((version,)) + asn.to_bytes(2, "big") + hold.to_bytes(2, "big")
    body += bytes.fromhex(router_id) + bytes((len(families) + 2, 2, len(families))) + families
    return encode_frame(MessageType.OPEN, body)


def with_parameters(parameters: bytes, total: int | None = None) -> bytes:
    """An OPEN with these optional parameters."""
    size = len(parameters) if total is None else total
    body = bytes.fromhex("04fc010003c0000264") + bytes((size,)) + parameters
    return encode_frame(MessageType.OPEN, body)


def capability(code: int, value: bytes) -> bytes:
    """An OPEN with IPv4 unicast, its ASN, and one more capability."""
    known = bytes.fromhex("0104000100014104") + ASN.to_bytes(4, "big")
    known += bytes((code, len(value))) + value
    return with_parameters(bytes((2, len(known))) + known)


def header(length: int, kind: int, body: bytes = b"", marker: bytes = MARKER) -> bytes:
    """Any header."""
    return marker + length.to_bytes(2, "big") + bytes((kind,)) + body


def preface(address: Address) -> bytes:
    """The OPEN of a peer that does all right."""
    return opened(address.packed.hex())


ANNOUNCE = update() + update(ORIGIN + PATH + attribute(0x80, 14, reach()), b"")
"""What an Established peer has announced before the row is sent."""

UP, STAYS, GOES = "up", "up, route stays", "up, route goes"


def _headers() -> list[Row]:
    def row(name: str, octets: bytes, wants: str) -> Row:
        return Row("Header", name, "Established", octets, wants, "RFC 4271 §6.1")

    return [
        row("marker not all ones", header(19, 4, marker=b"\xfe" + b"\xff" * 15), "1/1"),
        row("marker of zeros", header(19, 4, marker=bytes(16)), "1/1"),
        row("length 18", header(18, 4), "1/2 0012"),
        row("length 0", header(0, 4), "1/2 0000"),
        row("KEEPALIVE of 65535 octets", header(65535, 4), "1/2 ffff"),
        row("OPEN of 4097 octets", header(4097, 1), "1/2 1001"),
        row("type 0", header(19, 0), "1/3 00"),
        row("type 6", header(19, 6), "1/3 06"),
        row("type 255", header(19, 255), "1/3 ff"),
        row("KEEPALIVE with a body", header(20, 4, b"\0"), "1/2 0014"),
        row("UPDATE of 22 octets", header(22, 2, bytes(3)), "1/2 0016"),
        row("NOTIFICATION of 20 octets", header(20, 3, b"\6"), "1/2 0014"),
        row("OPEN of 28 octets", header(28, 1, bytes(9)), "1/2 001c"),
    ]


def _opens() -> list[Row]:
    def row(name: str, octets: bytes, wants: str, clause: str = "RFC 4271 §6.2") -> Row:
        return Row("OPEN", name, "OpenSent", octets, wants, clause)

    cap = bytes.fromhex
    return [
        row("version 3", opened(version=3), "2/1 0004"),
        row("version 5", opened(version=5), "2/1 0004"),
        row(
            "another AS",
            opened(asn=64999).replace(b"\x41\4\0\0\xfc\1", b"\x41\4\0\0\xfd\xe7"),
            "2/2",
        ),
        row("AS 0", with_parameters(b"").replace(b"\4\xfc\1", b"\4\0\0"), "2/2", "RFC 7607 §2"),
        row(
            "AS 0 in the capability",
            opened().replace(b"\x41\4\0\0\xfc\1", b"\x41\4\0\0\0\0"),
            "2/2",
            "RFC 6793 §9, RFC 7607 §2",
        ),
        row("identifier 0.0.0.0", opened("00000000"), "2/3", "RFC 6286 §2.1"),
        row("hold time 1", opened(hold=1), "2/6"),
        row("hold time 2", opened(hold=2), "2/6"),
        row("parameters longer than the message", with_parameters(b"", 10), "2/0"),
        row(
            "parameters shorter than the message",
            with_parameters(cap("0206010400010001"), 2),
            "2/0",
        ),
        row("parameter cut short", with_parameters(cap("02ff01")), "2/0"),
        row("parameter of type 1", with_parameters(cap("01020000")), "2/4"),
        row("parameter of type 77", with_parameters(cap("4d00")), "2/4"),
        row("capability cut short", with_parameters(cap("0203010400")), "2/0", "RFC 5492 §4"),
        row("unknown capability", capability(239, b"abc"), UP, "RFC 5492 §3"),
        row("multiprotocol capability of 3 octets", capability(1, b"\0\2\1"), UP, "RFC 5492 §3"),
        row("route refresh capability with a value", capability(2, b"x"), UP, "RFC 5492 §3"),
        row("graceful restart capability of 1 octet", capability(64, b"x"), UP, "RFC 5492 §3"),
        row("multiprotocol capability twice", capability(1, cap("00010001")), UP, "RFC 5492 §4"),
        row("extended next hop of 5 octets", capability(5, bytes(5)), UP, "RFC 5492 §3"),
        row("no capability at all", with_parameters(b""), UP, "RFC 5492 §3"),
    ]


def _states() -> list[Row]:
    def row(name: str, state: str, octets: bytes, wants: str, clause: str = "RFC 6608 §4") -> Row:
        return Row("State", name, state, octets, wants, clause)

    said = encode_frame(MessageType.NOTIFICATION, b"\6\2")
    refresh = encode_frame(MessageType.ROUTE_REFRESH, b"\0\1\0\1")
    return [
        row("KEEPALIVE", "OpenSent", KEEPALIVE, "5/1"),
        row("UPDATE", "OpenSent", update(), "5/1"),
        row("ROUTE-REFRESH", "OpenSent", refresh, "5/1"),
        row("NOTIFICATION", "OpenSent", said, "closed", "RFC 4271 §8.2.2"),
        row("UPDATE", "OpenConfirm", update(), "5/2"),
        row("OPEN", "OpenConfirm", opened(), "5/2"),
        row("ROUTE-REFRESH", "OpenConfirm", refresh, "5/2"),
        row("NOTIFICATION", "OpenConfirm", said, "closed", "RFC 4271 §8.2.2"),
        row("OPEN", "Established", opened(), "5/3"),
        row("NOTIFICATION", "Established", said, "closed", "RFC 4271 §8.2.2"),
        row(
            "NOTIFICATION with unknown codes",
            "Established",
            encode_frame(MessageType.NOTIFICATION, b"\xc8\xc8x"),
            "closed",
            "RFC 4271 §6.4",
        ),
        row(
            "ROUTE-REFRESH of an unknown family",
            "Established",
            encode_frame(MessageType.ROUTE_REFRESH, b"\0\x63\0\x63"),
            STAYS,
            "RFC 2918 §4",
        ),
        row(
            "ROUTE-REFRESH of an unknown subtype",
            "Established",
            encode_frame(MessageType.ROUTE_REFRESH, b"\0\1\x63\1"),
            STAYS,
            "RFC 7313 §5",
        ),
    ]


def _attributes() -> list[Row]:
    def row(
        name: str, attributes: bytes, wants: str, clause: str = "RFC 7606 §7", nlri: bytes = ROUTE4
    ) -> Row:
        return Row("Attributes", name, "Established", update(attributes, nlri), wants, clause)

    def path(value: str) -> bytes:
        return ORIGIN + attribute(0x40, 2, bytes.fromhex(value)) + HOP

    def more(flags: int, code: int, value: str) -> bytes:
        return GOOD + attribute(flags, code, bytes.fromhex(value))

    return [
        row("ORIGIN of 0 octets", attribute(0x40, 1, b"") + PATH + HOP, GOES, "RFC 7606 §7.1"),
        row("ORIGIN of 2 octets", attribute(0x40, 1, b"\0\0") + PATH + HOP, GOES, "RFC 7606 §7.1"),
        row("ORIGIN 3", attribute(0x40, 1, b"\3") + PATH + HOP, GOES, "RFC 7606 §7.1"),
        row("AS_PATH segment of type 5", path("05010000fc01"), GOES, "RFC 7606 §7.2"),
        row("AS_PATH segment of 0 ASNs", path("02010000fc010200"), GOES, "RFC 7606 §7.2"),
        row("AS_PATH segment overrun", path("02020000fc01"), GOES, "RFC 7606 §7.2"),
        row("AS_PATH segment underrun", path("02010000fc0102"), GOES, "RFC 7606 §7.2"),
        row("AS_PATH with AS 0", path("02020000fc0100000000"), GOES, "RFC 7607 §2"),
        row("AS_PATH with a confederation", path("03010000fc01"), GOES, "RFC 5065 §5"),
        row(
            "NEXT_HOP of 3 octets",
            ORIGIN + PATH + attribute(0x40, 3, b"abc"),
            GOES,
            "RFC 7606 §7.3",
        ),
        row(
            "NEXT_HOP of 16 octets", ORIGIN + PATH + attribute(0x40, 3, HOP6), GOES, "RFC 7606 §7.3"
        ),
        row("MED of 3 octets", more(0x80, 4, "000001"), GOES, "RFC 7606 §7.4"),
        row("LOCAL_PREF from outside", more(0x40, 5, "00000064"), STAYS, "RFC 7606 §7.5"),
        row("LOCAL_PREF of 3 octets from outside", more(0x40, 5, "000064"), STAYS, "RFC 7606 §7.5"),
        row("ATOMIC_AGGREGATE with a value", more(0x40, 6, "00"), STAYS, "RFC 7606 §7.6"),
        row("AGGREGATOR of 7 octets", more(0xC0, 7, "0000fc01c00002"), STAYS, "RFC 7606 §7.7"),
        row("AGGREGATOR of AS 0", more(0xC0, 7, "00000000c0000201"), STAYS, "RFC 7607 §2"),
        row("COMMUNITIES of 0 octets", more(0xC0, 8, ""), GOES, "RFC 7606 §7.8"),
        row("COMMUNITIES of 5 octets", more(0xC0, 8, "fc01000100"), GOES, "RFC 7606 §7.8"),
        row("ORIGINATOR_ID from outside", more(0x80, 9, "c0000201"), STAYS, "RFC 7606 §7.9"),
        row("CLUSTER_LIST from outside", more(0x80, 10, "c00002"), STAYS, "RFC 7606 §7.10"),
        row(
            "extended communities of 7 octets",
            more(0xC0, 16, "00020000000001"),
            GOES,
            "RFC 7606 §7.14",
        ),
        row("AS4_PATH between four-octet speakers", more(0xC0, 17, "0201"), STAYS, "RFC 6793 §6"),
        row("AS4_AGGREGATOR of 7 octets", more(0xC0, 18, "0000fc01c00002"), STAYS, "RFC 6793 §6"),
        row(
            "large community of 11 octets",
            more(0xC0, 32, "0000fc01000000010000aa"),
            GOES,
            "RFC 8092 §6",
        ),
        row("large communities of 0 octets", more(0xC0, 32, ""), GOES, "RFC 8092 §6"),
        row("unknown optional attribute", more(0xC0, 199, "01020304"), STAYS, "RFC 4271 §5"),
        row("unknown well-known attribute", more(0x40, 199, "01"), "3/2 40c70101", "RFC 4271 §6.3"),
        row("ORIGIN marked optional", attribute(0xC0, 1, b"\0") + PATH + HOP, GOES, "RFC 7606 §3"),
        row("MED marked transitive", more(0xC0, 4, "00000001"), GOES, "RFC 7606 §3"),
        row("COMMUNITIES marked well-known", more(0x40, 8, "fc010001"), GOES, "RFC 7606 §3"),
        row("ORIGIN twice", GOOD + ORIGIN, STAYS, "RFC 7606 §3"),
        row("no ORIGIN", PATH + HOP, GOES, "RFC 7606 §3"),
        row("no AS_PATH", ORIGIN + HOP, GOES, "RFC 7606 §3"),
        row("no NEXT_HOP", ORIGIN + PATH, GOES, "RFC 7606 §3"),
        row("no attribute at all", b"", GOES, "RFC 7606 §3"),
        row("attribute beyond the list", GOOD + b"\xc0\x08\x08\xfc\1", GOES, "RFC 7606 §4"),
        row("an octet behind the last attribute", GOOD + b"\xc0", GOES, "RFC 7606 §4"),
    ]


def _routes() -> list[Row]:
    def row(name: str, octets: bytes, wants: str, clause: str = "RFC 4271 §6.3") -> Row:
        return Row("Routes", name, "Established", octets, wants, clause)

    def six(value: bytes, flags: int = 0x80) -> bytes:
        return update(ORIGIN + PATH + attribute(flags, 14, value), b"")

    def body(octets: str) -> bytes:
        return encode_frame(MessageType.UPDATE, bytes.fromhex(octets))

    mp = "RFC 4760 §7, RFC 7606 §7.11"
    return [
        row("prefix of length 33", update(nlri=b"\x21\xcb\0\x71\7\0"), "3/10"),
        row("prefix cut short", update(nlri=b"\x20\xcb\0\x71"), "3/10"),
        row("withdrawn prefix of length 255", update(b"", b"", b"\xff"), "3/10"),
        row("withdrawn prefix cut short", update(b"", b"", b"\x18\xc6"), "3/10"),
        row(
            "bits beyond the prefix length",
            update(nlri=ROUTE4 + b"\x19\xc6\x33\x64\x7f"),
            STAYS,
            "RFC 4271 §4.3",
        ),
        row("withdrawn routes overrun", body("00ff0000"), "3/1"),
        row("attributes overrun", body("0000 00ff".replace(" ", "")), "3/1"),
        row("MP_REACH of 4 octets", six(b"\0\2\1\x10"), "3/9", mp),
        row("MP_REACH, next hop of 5 octets", six(reach(HOP6[:5])), "3/9", mp),
        row("MP_REACH, next hop overruns", six(b"\0\2\1\xff" + HOP6), "3/9", mp),
        row("MP_REACH, prefix of length 129", six(reach(routes=b"\x81" + bytes(17))), "3/9", mp),
        row("MP_REACH, prefix cut short", six(reach(routes=b"\x80\x20\1")), "3/9", mp),
        row(
            "MP_REACH of an unknown family", six(reach(family=b"\0\x63\x63")), STAYS, "RFC 4760 §7"
        ),
        row(
            "MP_REACH twice",
            update(ORIGIN + PATH + attribute(0x80, 14, reach()) * 2, b""),
            "3/1",
            "RFC 7606 §3",
        ),
        row(
            "MP_REACH without ORIGIN",
            update(PATH + attribute(0x80, 14, reach()), b""),
            "up",
            "RFC 7606 §3",
        ),
        row(
            "MP_UNREACH of 2 octets",
            update(attribute(0x80, 15, b"\0\2"), b""),
            "3/9",
            "RFC 7606 §7.12",
        ),
        row(
            "MP_UNREACH, prefix of length 129",
            update(attribute(0x80, 15, b"\0\2\1\x81" + bytes(17)), b""),
            "3/9",
            "RFC 7606 §7.12",
        ),
        row(
            "IPv4 route with an IPv6 next hop, not negotiated",
            update(
                ORIGIN + PATH + attribute(0x80, 14, reach(HOP6, b"\x18\xc6\x33\x64", b"\0\1\1")),
                b"",
            ),
            "up",
            "RFC 8950 §3",
        ),
    ]


ROWS = (*_headers(), *_opens(), *_states(), *_attributes(), *_routes())
