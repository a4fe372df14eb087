"""Malformed UPDATEs, and what the RFCs want done about them."""

from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.wire import encode_frame

from .bgp_malformed_bytes import (
    GOES,
    GOOD,
    HOP,
    HOP6,
    INTERNAL,
    ORIGIN,
    PATH,
    PATHS,
    ROUTE4,
    ROUTE6,
    STAYS,
    TWO_OCTETS,
    Row,
    attribute,
    reach,
    reset,
    update,
)

MP = "RFC 4760 §7, RFC 7606 §7.11"


def _attributes() -> list[Row]:
    def row(name: str, attributes: bytes, wants: str, clause: str) -> Row:
        return Row("Attributes", name, "Established", update(attributes), wants, clause)

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
        row("AS_PATH with a set", path("02010000fc0101010000fc02"), GOES, "RFC 9774 §3"),
        row("AS_PATH with another AS first", path("02010000fde7"), STAYS, "RFC 4271 §6.3"),
        row(
            "NEXT_HOP of 3 octets",
            ORIGIN + PATH + attribute(0x40, 3, b"abc"),
            GOES,
            "RFC 7606 §7.3",
        ),
        row(
            "NEXT_HOP of 16 octets", ORIGIN + PATH + attribute(0x40, 3, HOP6), GOES, "RFC 7606 §7.3"
        ),
        row(
            "NEXT_HOP 0.0.0.0", ORIGIN + PATH + attribute(0x40, 3, bytes(4)), GOES, "RFC 4271 §6.3"
        ),
        row(
            "NEXT_HOP 224.0.0.1",
            ORIGIN + PATH + attribute(0x40, 3, b"\xe0\0\0\1"),
            GOES,
            "RFC 4271 §6.3",
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
        row("extended communities of 0 octets", more(0xC0, 16, ""), GOES, "RFC 7606 §7.14"),
        row(
            "extended community of an unknown type",
            more(0xC0, 16, "7f7f000000000001"),
            STAYS,
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
        row(
            "unknown optional attribute, non-transitive",
            more(0x80, 199, "01"),
            STAYS,
            "RFC 4271 §5",
        ),
        row("unknown well-known attribute", more(0x40, 199, "01"), "3/2 40c70101", "RFC 4271 §6.3"),
        row("ORIGIN marked optional", attribute(0xC0, 1, b"\0") + PATH + HOP, GOES, "RFC 7606 §3"),
        row("MED marked transitive", more(0xC0, 4, "00000001"), GOES, "RFC 7606 §3"),
        row("COMMUNITIES marked well-known", more(0x40, 8, "fc010001"), GOES, "RFC 7606 §3"),
        row("ATOMIC_AGGREGATE marked optional", more(0xC0, 6, ""), GOES, "RFC 7606 §3"),
        row("AGGREGATOR marked well-known", more(0x40, 7, "0000fc01c0000201"), GOES, "RFC 7606 §3"),
        row(
            "large community marked non-transitive",
            more(0x80, 32, "0000fc010000000100000002"),
            GOES,
            "RFC 7606 §3",
        ),
        row("ORIGIN marked partial", attribute(0x60, 1, b"\0") + PATH + HOP, STAYS, "RFC 7606 §3"),
        row(
            "ORIGIN with a long length",
            attribute(0x50, 1, b"\0") + PATH + HOP,
            STAYS,
            "RFC 4271 §4.3",
        ),
        row(
            "ORIGIN with the unused flags",
            bytes.fromhex("4f010100") + PATH + HOP,
            STAYS,
            "RFC 4271 §4.3",
        ),
        row("ORIGIN twice", GOOD + ORIGIN, STAYS, "RFC 7606 §3"),
        row(
            "COMMUNITIES twice",
            more(0xC0, 8, "fc010001") + attribute(0xC0, 8, bytes.fromhex("fc010002")),
            STAYS,
            "RFC 7606 §3",
        ),
        row("no ORIGIN", PATH + HOP, GOES, "RFC 7606 §3"),
        row("no AS_PATH", ORIGIN + HOP, GOES, "RFC 7606 §3"),
        row("no NEXT_HOP", ORIGIN + PATH, GOES, "RFC 7606 §3"),
        row("no attribute at all", b"", GOES, "RFC 7606 §3"),
        row("attribute beyond the list", GOOD + b"\xc0\x08\x08\xfc\1", GOES, "RFC 7606 §4"),
        row("an octet behind the last attribute", GOOD + b"\xc0", GOES, "RFC 7606 §4"),
    ]


def _internal() -> list[Row]:
    def row(name: str, flags: int, code: int, value: str, clause: str) -> Row:
        more = attribute(flags, code, bytes.fromhex(value))
        path = attribute(0x40, 2, b"")
        preference = b"" if code == 5 else attribute(0x40, 5, bytes.fromhex("00000064"))
        octets = update(ORIGIN + path + HOP + preference + more)
        return Row("Internal", name, "Established", octets, GOES, clause, INTERNAL)

    return [
        row("LOCAL_PREF of 3 octets", 0x40, 5, "000064", "RFC 7606 §7.5"),
        row("LOCAL_PREF marked optional", 0xC0, 5, "00000064", "RFC 7606 §3"),
        row("ORIGINATOR_ID of 3 octets", 0x80, 9, "c00002", "RFC 7606 §7.9"),
        row("CLUSTER_LIST of 0 octets", 0x80, 10, "", "RFC 7606 §7.10"),
        row("CLUSTER_LIST of 5 octets", 0x80, 10, "c000020101", "RFC 7606 §7.10"),
    ]


def _two_octets() -> list[Row]:
    def row(name: str, code: int, value: str, clause: str) -> Row:
        more = attribute(0xC0, code, bytes.fromhex(value))
        octets = update(ORIGIN + PATHS[TWO_OCTETS] + HOP + more)
        return Row("Two-octet ASNs", name, "Established", octets, STAYS, clause, TWO_OCTETS)

    return [
        row("AS4_PATH underrun", 17, "02010000fc0102", "RFC 6793 §6"),
        row("AS4_PATH overrun", 17, "02020000fc01", "RFC 6793 §6"),
        row("AS4_PATH segment of 0 ASNs", 17, "0200", "RFC 6793 §6"),
        row("AS4_PATH segment of type 5", 17, "05010000fc01", "RFC 6793 §6"),
        row("AS4_PATH longer than AS_PATH", 17, "02020000fc010000fc02", "RFC 6793 §4.2.3"),
        row("AS4_AGGREGATOR of 7 octets", 18, "0000fc01c00002", "RFC 6793 §6"),
        row("AGGREGATOR of 8 octets", 7, "0000fc01c0000201", "RFC 7606 §7.7"),
    ]


def _hidden() -> list[Row]:
    def row(name: str, octets: bytes, code: str) -> Row:
        message = update(octets, b"")
        return Row(
            "No routes",
            name,
            "Established",
            message,
            reset(code, octets),
            "RFC 7606 §5.2, RFC 4271 §6.3",
        )

    return [
        row("ORIGIN 3", attribute(0x40, 1, b"\3"), "3/6"),
        row("ORIGIN of 2 octets", attribute(0x40, 1, b"\0\0"), "3/5"),
        row("ORIGIN marked optional", attribute(0xC0, 1, b"\0"), "3/4"),
        row("NEXT_HOP 0.0.0.0", attribute(0x40, 3, bytes(4)), "3/8"),
        row("MED of 3 octets", attribute(0x80, 4, bytes(3)), "3/5"),
    ]


def _routes() -> list[Row]:
    def row(
        name: str, octets: bytes, wants: str, clause: str = "RFC 4271 §6.3", version: int = 4
    ) -> Row:
        return Row("Routes", name, "Established", octets, wants, clause, version=version)

    def six(value: bytes, flags: int = 0x80, more: bytes = b"") -> bytes:
        return update(ORIGIN + PATH + more + attribute(flags, 14, value), b"")

    def wrong(name: str, code: int, value: bytes, clause: str = MP) -> Row:
        """An MP attribute that the session does not survive; data is the attribute."""
        bad = attribute(0x80, code, value)
        return row(name, update(ORIGIN + PATH + bad, b""), reset("3/9", bad), clause)

    def body(octets: str) -> bytes:
        return encode_frame(MessageType.UPDATE, bytes.fromhex(octets))

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
        row("route both withdrawn and announced", update(withdrawn=ROUTE4), STAYS, "RFC 4271 §4.3"),
        wrong("MP_REACH of 4 octets", 14, b"\0\2\1\x10"),
        wrong("MP_REACH, next hop of 0 octets", 14, reach(b"")),
        wrong("MP_REACH, next hop of 5 octets", 14, reach(HOP6[:5])),
        wrong("MP_REACH, next hop of 24 octets", 14, reach(bytes(8) + HOP6)),
        wrong("MP_REACH, next hop overruns", 14, b"\0\2\1\xff" + HOP6),
        wrong("MP_REACH, prefix of length 129", 14, reach(routes=b"\x81" + bytes(17))),
        wrong("MP_REACH, prefix cut short", 14, reach(routes=b"\x80\x20\1")),
        row(
            "MP_REACH, reserved octet 255",
            six(reach(routes=b"")[:-1] + b"\xff" + ROUTE6),
            STAYS,
            "RFC 4760 §3",
            6,
        ),
        row("MP_REACH marked transitive", six(reach(), 0xC0), GOES, "RFC 7606 §3", 6),
        row(
            "MP_REACH beside NEXT_HOP 0.0.0.0",
            six(reach(), more=attribute(0x40, 3, bytes(4))),
            STAYS,
            "RFC 4760 §3",
            6,
        ),
        row("MP_REACH of an unknown family", six(reach(family=b"\0\x63\x63")), STAYS, MP, 6),
        row(
            "MP_REACH twice",
            update(ORIGIN + PATH + attribute(0x80, 14, reach()) * 2, b""),
            "3/1",
            "RFC 7606 §3",
        ),
        row(
            "MP_REACH without ORIGIN",
            update(PATH + attribute(0x80, 14, reach()), b""),
            GOES,
            "RFC 7606 §3",
            6,
        ),
        wrong("MP_UNREACH of 2 octets", 15, b"\0\2", "RFC 7606 §7.12"),
        wrong("MP_UNREACH, prefix of length 129", 15, b"\0\2\1\x81" + bytes(17), "RFC 7606 §7.12"),
        wrong("MP_UNREACH, prefix cut short", 15, b"\0\2\1\x80\x20", "RFC 7606 §7.12"),
        row(
            "MP_UNREACH twice",
            update(attribute(0x80, 15, b"\0\2\1") * 2, b""),
            "3/1",
            "RFC 7606 §3",
        ),
        row(
            "MP_UNREACH of an unknown family",
            update(attribute(0x80, 15, b"\0\x63\x63"), b""),
            STAYS,
            "RFC 4760 §7",
            6,
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


UPDATES = (*_attributes(), *_internal(), *_two_octets(), *_hidden(), *_routes())
