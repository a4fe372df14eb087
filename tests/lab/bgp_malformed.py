"""Malformed BGP messages: what is sent in which state, and what the RFCs want done about it."""

from clarion.proto.bgp.iana import AS_TRANS, MessageType
from clarion.proto.bgp.wire import KEEPALIVE, encode_frame

from .bgp_malformed_bytes import (
    EXTERNAL,
    GOOD,
    MP_ONLY,
    REFRESHING,
    STAYS,
    UP,
    Row,
    attribute,
    capability,
    header,
    opened,
    raw_open,
    reset,
    update,
    with_parameters,
)
from .bgp_malformed_updates import UPDATES


def _headers() -> list[Row]:
    def row(
        name: str,
        octets: bytes,
        wants: str,
        state: str = "Established",
        clause: str = "RFC 4271 §6.1",
    ) -> Row:
        return Row("Header", name, state, octets, wants, clause)

    long = GOOD + attribute(0xD0, 199, bytes(5000))
    return [
        row("marker not all ones", header(19, 4, marker=b"\xfe" + b"\xff" * 15), "1/1"),
        row("marker of zeros", header(19, 4, marker=bytes(16)), "1/1"),
        row("marker of zeros", header(19, 4, marker=bytes(16)), "1/1", "OpenSent"),
        row("length 18", header(18, 4), "1/2 0012"),
        row("length 18", header(18, 4), "1/2 0012", "OpenSent"),
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
        row("UPDATE of 5,055 octets", update(long), STAYS, clause="RFC 8654 §4"),
    ]


def _opens() -> list[Row]:
    def row(name: str, octets: bytes, wants: str, clause: str = "RFC 4271 §6.2") -> Row:
        return Row("OPEN", name, "OpenSent", octets, wants, clause)

    cap = bytes.fromhex
    bad_asn = with_parameters(MP_ONLY + cap("02044102fc01"))
    long = cap("02000c") + MP_ONLY[2:]
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
        row("identifier 224.0.0.1", opened("e0000001"), UP, "RFC 6286 §2.1"),
        row("AS_TRANS and no capability", with_parameters(MP_ONLY, asn=AS_TRANS), "2/2"),
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
        row("4-octet ASN capability of 2 octets", bad_asn, UP, "RFC 5492 §3"),
        row("no capability in its parameter", with_parameters(b"\2\0"), UP, "RFC 5492 §4"),
        row("no capability at all", with_parameters(b""), UP, "RFC 5492 §3"),
        row("long form", raw_open(b"\xff\xff\0\x0f" + long), UP, "RFC 9072 §2"),
        row("long form, first length 1", raw_open(b"\1\xff\0\x0f" + long), UP, "RFC 9072 §2"),
        row("long form that overruns", raw_open(b"\xff\xff\0\x10" + long), "2/0", "RFC 9072 §2"),
        row("long form cut short", raw_open(b"\xff\xff\0\2\2\0"), "2/0", "RFC 9072 §2"),
    ]


def _states() -> list[Row]:
    def row(name: str, state: str, octets: bytes, wants: str, clause: str = "RFC 6608 §4") -> Row:
        return Row("State", name, state, octets, wants, clause)

    said = encode_frame(MessageType.NOTIFICATION, b"\6\2")
    refresh = encode_frame(MessageType.ROUTE_REFRESH, b"\0\1\0\1")
    return [
        row("KEEPALIVE", "OpenSent", KEEPALIVE, "5/1 04"),
        row("UPDATE", "OpenSent", update(), "5/1 02"),
        row("ROUTE-REFRESH", "OpenSent", refresh, "5/1 05"),
        row("NOTIFICATION", "OpenSent", said, "closed", "RFC 4271 §8.2.2"),
        row("UPDATE", "OpenConfirm", update(), "5/2 02"),
        row("OPEN", "OpenConfirm", opened(), "5/2 01"),
        row("ROUTE-REFRESH", "OpenConfirm", refresh, "5/2 05"),
        row("NOTIFICATION", "OpenConfirm", said, "closed", "RFC 4271 §8.2.2"),
        row("OPEN", "Established", opened(), "5/3 01"),
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


def _refreshes() -> list[Row]:
    def row(name: str, body: str, wants: str, clause: str, peer: str = REFRESHING) -> Row:
        octets = encode_frame(MessageType.ROUTE_REFRESH, bytes.fromhex(body))
        if wants == "7/1":
            wants = reset(wants, octets)
        return Row("Route refresh", name, "Established", octets, wants, clause, peer)

    return [
        row("begin of 24 octets", "0001010100", "7/1", "RFC 7313 §5"),
        row("end of 24 octets", "0001020100", "7/1", "RFC 7313 §5"),
        row("begin of 22 octets", "000101", "7/1", "RFC 7313 §5"),
        row("request of 22 octets", "000100", "1/2 0016", "RFC 4271 §6.1"),
        row("begin from who did not offer it", "00010101", STAYS, "RFC 7313 §5", EXTERNAL),
        row("end without a beginning", "00010201", STAYS, "RFC 7313 §4"),
    ]


ROWS = (*_headers(), *_opens(), *_states(), *_refreshes(), *UPDATES)
