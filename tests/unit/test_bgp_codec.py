"""BGP messages as bytes: tables that read like a capture, in both directions."""

from typing import Any

import pytest

from clarion.base.addr import parse_address, parse_prefix
from clarion.base.errors import DecodeError
from clarion.proto.bgp.aspath import AsSegment, path_length
from clarion.proto.bgp.attrs import (
    Aggregator,
    LargeCommunity,
    MpReach,
    MpUnreach,
    PathAttributes,
    RawAttribute,
    decode_attributes,
    encode_attributes,
    merge_as4_path,
)
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    Cease,
    Family,
    MessageType,
    Origin,
    SegmentType,
)
from clarion.proto.bgp.notify import (
    Notification,
    cease,
    decode_notification,
    describe,
    encode_notification,
    too_many_prefixes,
)
from clarion.proto.bgp.open import (
    Capabilities,
    GracefulRestart,
    NextHopEncoding,
    Open,
    RawCapability,
    RestartFamily,
    decode_open,
    encode_open,
    make_open,
)
from clarion.proto.bgp.restart import hard_reset
from clarion.proto.bgp.update import Update, decode_update, encode_update, end_of_rib
from clarion.proto.bgp.wire import (
    KEEPALIVE,
    Framer,
    RouteRefresh,
    decode_route_refresh,
    encode_frame,
    encode_route_refresh,
)

MARKER = "ff" * 16
SEQUENCE = SegmentType.AS_SEQUENCE


def raw(text: str) -> bytes:
    """Bytes of spaced hexadecimal text."""
    return bytes.fromhex(text.replace("MARKER", MARKER))


# -- framing ---------------------------------------------------------------------------------------


def test_messages_are_cut_from_any_pieces() -> None:
    """RFC 4271 §4.1: only the length tells where a message ends."""
    stream = KEEPALIVE + raw("MARKER 0017 02 00000000") + KEEPALIVE
    framer, kinds = Framer(), []
    for position in range(len(stream)):
        framer.feed(stream[position : position + 1])
        while (frame := framer.next_frame()) is not None:
            kinds.append(frame.type)
    assert kinds == [MessageType.KEEPALIVE, MessageType.UPDATE, MessageType.KEEPALIVE]


BAD_HEADERS = [
    # bytes, subcode of Message Header Error, data
    ("fe" + "ff" * 15 + "0013 04", 1, ""),
    ("MARKER 0012 04", 2, "0012"),  # shorter than a header
    ("MARKER 0014 04", 2, "0014"),  # a KEEPALIVE with a body
    ("MARKER 001c 01", 2, "001c"),  # OPEN of 28
    ("MARKER 0016 02", 2, "0016"),  # UPDATE of 22
    ("MARKER 0014 03", 2, "0014"),  # NOTIFICATION of 20
    ("MARKER 1001 02", 2, "1001"),  # 4097
    ("MARKER ffff 01", 2, "ffff"),
    ("MARKER 0013 00", 3, "00"),
    ("MARKER 0013 06", 3, "06"),
]


@pytest.mark.parametrize(("text", "subcode", "data"), BAD_HEADERS)
def test_a_bad_header_is_named_and_echoed(text: str, subcode: int, data: str) -> None:
    framer = Framer()
    framer.feed(raw(text))
    with pytest.raises(DecodeError) as caught:
        framer.next_frame()
    assert (caught.value.code, caught.value.subcode) == (1, subcode)
    assert caught.value.data == raw(data)


def test_route_refresh() -> None:
    """RFC 2918 §3, with the subtypes of RFC 7313 §3.2."""
    assert encode_route_refresh(RouteRefresh(IPV6_UNICAST)) == raw("MARKER 0017 05 0002 00 01")
    assert decode_route_refresh(raw("0001 02 01")) == RouteRefresh(IPV4_UNICAST, 2)


@pytest.mark.parametrize("subtype", [1, 2])
def test_a_refresh_marker_of_another_length_is_echoed_whole(subtype: int) -> None:
    body = raw(f"0001 0{subtype} 01 00")
    with pytest.raises(DecodeError) as caught:
        decode_route_refresh(body)
    assert (caught.value.code, caught.value.subcode) == (7, 1)
    assert caught.value.data == raw("MARKER 0018 05") + body


def test_refreshes_that_are_no_markers_may_be_longer() -> None:
    # RFC 7313 §5: unknown subtypes are ignored whatever they carry; RFC 5291: filters follow.
    assert decode_route_refresh(raw("0001 07 01 00ff")) == RouteRefresh(IPV4_UNICAST, 7)
    assert decode_route_refresh(raw("0001 00 01 0180")) == RouteRefresh(IPV4_UNICAST, 0)
    unframed = decode_route_refresh(raw("0001 01 01 00"), enhanced=False)
    assert unframed == RouteRefresh(IPV4_UNICAST, 1)


# -- OPEN ------------------------------------------------------------------------------------------

ROUTER = parse_address("192.0.2.1")


def with_capabilities(**fields: Any) -> Open:
    return Open(64512, 90, ROUTER, Capabilities(**fields))


OPENS = [
    # body after the header, value
    ("04 fc00 005a c0000201 00", Open(64512, 90, ROUTER)),
    # Multiprotocol extensions (RFC 4760 §8).
    (
        "04 fc00 005a c0000201 08  02 06 01 04 0001 00 01",
        Open(64512, 90, ROUTER, Capabilities(families=(IPV4_UNICAST,))),
    ),
    # Route refresh (RFC 2918 §2), a large ASN (RFC 6793 §3), enhanced refresh (RFC 7313 §3.1).
    (
        "04 5ba0 0000 c0000201 16  02 02 02 00  02 06 41 04 fa56ea01 02 02 46 00  02 04 49 02 0161",
        Open(
            23456,
            0,
            ROUTER,
            Capabilities(
                route_refresh=True,
                four_octet_asn=4200000001,
                enhanced_route_refresh=True,
                unknown=(RawCapability(73, b"\x01a"),),
            ),
        ),
    ),
    # IPv4 with IPv6 next hops (RFC 8950 §4); long messages (RFC 8654 §3).
    (
        "04 fc00 005a c0000201 0a  02 08 05 06 0001 0001 0002",
        Open(
            64512,
            90,
            ROUTER,
            Capabilities(extended_next_hops=(NextHopEncoding(IPV4_UNICAST, 2),)),
        ),
    ),
    ("04 fc00 005a c0000201 04  02 02 06 00", with_capabilities(extended_messages=True)),
    # R and N, 120 s; IPv4 with the F bit, IPv6 without (RFC 4724 §3, RFC 8538 §2).
    (
        "04 fc00 005a c0000201 0e  02 0c 40 0a c078 0001 01 80 0002 01 00",
        with_capabilities(
            graceful_restart=GracefulRestart(
                120, True, True, (RestartFamily(IPV4_UNICAST, True), RestartFamily(IPV6_UNICAST))
            )
        ),
    ),
    # A speaker that only helps others (RFC 4724 §4).
    (
        "04 fc00 005a c0000201 06  02 04 40 02 0fff",
        with_capabilities(graceful_restart=GracefulRestart(4095)),
    ),
]


def test_of_several_restart_capabilities_the_last_one_counts() -> None:
    body = raw("04 fc00 005a c0000201 0c  02 04 40 02 8001  02 04 40 02 0002")
    assert decode_open(body).capabilities.graceful_restart == GracefulRestart(2)


def test_reserved_bits_of_a_restart_capability_mean_nothing() -> None:
    body = raw("04 fc00 005a c0000201 0a  02 08 40 06 3005 0001 01 7f")
    restart = decode_open(body).capabilities.graceful_restart
    assert restart == GracefulRestart(5, families=(RestartFamily(IPV4_UNICAST),))


@pytest.mark.parametrize("text", ["40 00", "40 03 800100", "06 01 00"])
def test_a_capability_of_a_wrong_length_is_not_that_capability(text: str) -> None:
    item = raw(text)
    size = f"{len(item):02x}"
    head = raw(f"04 fc00 005a c0000201 {len(item) + 2:02x} 02 {size}")
    read = decode_open(head + item).capabilities
    assert (read.graceful_restart, read.extended_messages) == (None, False)
    assert read.unknown == (RawCapability(item[0], item[2:]),)


@pytest.mark.parametrize(("text", "value"), OPENS)
def test_open_both_ways(text: str, value: Open) -> None:
    assert decode_open(raw(text)) == value
    assert encode_open(value) == encode_frame(MessageType.OPEN, raw(text))


def test_capabilities_in_one_parameter_or_in_the_extended_form_read_the_same() -> None:
    several = decode_open(raw("04 fc00 005a c0000201 0a  02 08 01 04 0001 00 01 02 00"))
    extended = decode_open(raw("04 fc00 005a c0000201 ff ff 000b  02 0008 01 04 0001 00 01 02 00"))
    assert several == extended
    assert several.capabilities.route_refresh


def test_our_open_shows_as_trans_for_a_large_asn() -> None:
    small = make_open(64512, 90, ROUTER, Capabilities())
    large = make_open(4200000001, 90, ROUTER, Capabilities())
    assert (small.asn, small.true_asn) == (64512, 64512)
    assert (large.asn, large.true_asn) == (23456, 4200000001)


@pytest.mark.parametrize(("octets", "form"), [(251, "ff 02 fd"), (252, "ff ff 0101")])
def test_the_extended_form_begins_beyond_255_octets(octets: int, form: str) -> None:
    one = Capabilities(unknown=(RawCapability(200, bytes(octets)),))
    body = encode_open(Open(64512, 90, ROUTER, one))[19:]
    assert body[9:].startswith(raw(form))  # RFC 9072 §2
    assert decode_open(body).capabilities == one


def test_many_capabilities_take_the_extended_form() -> None:
    many = Capabilities(unknown=tuple(RawCapability(200, bytes((n,)) * 100) for n in range(9)))
    message = Open(64512, 90, ROUTER, many)
    assert decode_open(encode_open(message)[19:]) == message


BAD_OPENS = [
    ("03 fc00 005a c0000201 00", 1, "0004"),  # version 3; data is the version we speak
    ("04 0000 005a c0000201 00", 2, ""),  # AS 0 (RFC 7607)
    ("04 fc00 005a c0000201 08 02 06 41 04 00000000", 2, ""),
    ("04 fc00 005a 00000000 00", 3, ""),
    ("04 fc00 005a c0000201 02 01 00", 4, ""),  # authentication parameter
    ("04 fc00 0001 c0000201 00", 6, ""),
    ("04 fc00 0002 c0000201 00", 6, ""),
    ("04 fc00 005a c0000201 05 02 00", 0, ""),  # length of the parameters is wrong
    ("04 fc00 005a c0000201 02 02 06", 0, ""),  # parameter cut short
    ("04 fc00 005a c0000201 03 02 01 01", 0, ""),  # capability cut short
    ("04 fc00 005a c0000201 04 02 02 01 04", 0, ""),
]


@pytest.mark.parametrize(("text", "subcode", "data"), BAD_OPENS)
def test_a_bad_open_is_an_open_message_error(text: str, subcode: int, data: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_open(raw(text))
    assert (caught.value.code, caught.value.subcode) == (2, subcode)
    assert caught.value.data == raw(data)


# -- attributes ------------------------------------------------------------------------------------

ATTRIBUTES: list[tuple[str, dict[str, Any]]] = [
    ("40 01 01 00", {"origin": Origin.IGP}),  # RFC 4271 §4.3 a
    ("40 02 00", {"as_path": ()}),  # RFC 4271 §4.3 b
    ("40 02 0a 02 02 0000fc00 fa56ea01", {"as_path": (AsSegment(SEQUENCE, (64512, 4200000001)),)}),
    ("40 03 04 c0000201", {"next_hop": ROUTER}),
    ("80 04 04 00000064", {"multi_exit_disc": 100}),
    ("40 05 04 00000000", {"local_pref": 0}),
    ("40 06 00", {"atomic_aggregate": True}),
    ("c0 07 08 0000fc00 c0000201", {"aggregator": Aggregator(64512, ROUTER)}),
    ("c0 08 08 1f400320 ffffff02", {"communities": (8000 << 16 | 800, 0xFFFFFF02)}),
    ("80 09 04 c0000201", {"originator_id": ROUTER}),
    ("80 0a 04 c0000201", {"cluster_list": (ROUTER,)}),
    # Prefixes of any length, in as few octets as hold them (RFC 4760 §5).
    (
        "80 0e 1a 0001 01 04 c0000201 00 20 cb007107 18 cb0071 1d cb007100 00 01 80",
        {
            "mp_reach": MpReach(
                IPV4_UNICAST,
                (ROUTER,),
                tuple(
                    parse_prefix(text)
                    for text in (
                        "203.0.113.7/32",
                        "203.0.113.0/24",
                        "203.0.113.0/29",
                        "0.0.0.0/0",
                        "128.0.0.0/1",
                    )
                ),
            )
        },
    ),
    (
        "80 0e 21 0002 01 10 20010db8000000000000000000000001 00 40 20010db8000000ff 10 2001",
        {
            "mp_reach": MpReach(
                IPV6_UNICAST,
                (parse_address("2001:db8::1"),),
                (parse_prefix("2001:db8:0:ff::/64"), parse_prefix("2001::/16")),
            )
        },
    ),
    # The link-local next hop stands behind the global one (RFC 2545 §3).
    (
        "800e26 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 00",
        {
            "mp_reach": MpReach(
                IPV6_UNICAST,
                (parse_address("2001:db8::1"), parse_address("fe80::1")),
                (parse_prefix("::/0"),),
            )
        },
    ),
    # AFI 2, SAFI 1 is unicast (RFC 4760 §4, §6).
    ("80 0f 03 0002 01", {"mp_unreach": MpUnreach(IPV6_UNICAST)}),
    (
        "80 0f 08 0002 01 20 20010db8",
        {"mp_unreach": MpUnreach(IPV6_UNICAST, (parse_prefix("2001:db8::/32"),))},
    ),
    ("c0 10 08 4004fc0049742400", {"extended_communities": (0x4004FC0049742400,)}),  # RFC 4360 §2
    ("c0 11 06 02 01 fa56ea01", {"as4_path": (AsSegment(SEQUENCE, (4200000001,)),)}),
    (
        "c0 20 0c fa56ea01 00000001 00000002",
        {"large_communities": (LargeCommunity(4200000001, 1, 2),)},
    ),
    ("c0 63 02 abcd", {"unknown": (RawAttribute(99, 0xC0, b"\xab\xcd"),)}),
]


@pytest.mark.parametrize(("text", "fields"), ATTRIBUTES)
def test_attribute_both_ways(text: str, fields: dict[str, Any]) -> None:
    value = PathAttributes(**fields)
    assert decode_attributes(raw(text), four_octet_asn=True, internal=True) == (value, ())
    assert encode_attributes(value, four_octet_asn=True) == raw(text)


def test_a_two_octet_speaker_sees_as_trans_and_the_true_path_beside_it() -> None:
    """RFC 6793 §4.2.2."""
    path = (AsSegment(SEQUENCE, (4200000001, 64512)),)
    written = encode_attributes(PathAttributes(as_path=path, as4_path=path), four_octet_asn=False)
    assert written == raw("40 02 06 02 02 5ba0 fc00  c0 11 0a 02 02 fa56ea01 0000fc00")
    read, faults = decode_attributes(written, four_octet_asn=False, internal=False)
    assert faults == ()
    assert merge_as4_path(read) == path


MERGES = [
    # AS_PATH (two octets), AS4_PATH, the true path (RFC 6793 §4.2.3)
    ((64500, 23456, 64512), (4200000001, 64512), (64500, 4200000001, 64512)),
    ((23456,), (1, 2), (23456,)),  # longer than the path: ignored
    ((64500, 64501), (), (64500, 64501)),
]


@pytest.mark.parametrize(("path", "four", "merged"), MERGES)
def test_merging_as4_path(
    path: tuple[int, ...], four: tuple[int, ...], merged: tuple[int, ...]
) -> None:
    attributes = PathAttributes(
        as_path=(AsSegment(SEQUENCE, path),),
        as4_path=(AsSegment(SEQUENCE, four),) if four else None,
    )
    flat = tuple(asn for segment in merge_as4_path(attributes) for asn in segment.asns)
    assert flat == merged


def test_routes_of_a_family_not_spoken_are_kept_as_they_came() -> None:
    text = "80 0f 04 4004 47 00"  # BGP-LS
    value, faults = decode_attributes(raw(text), four_octet_asn=True, internal=False)
    assert faults == ()
    assert value.mp_unreach is None
    assert encode_attributes(value, four_octet_asn=True) == raw(text)


def test_the_routes_of_an_attribute_come_before_all_that_may_be_faulty() -> None:
    """RFC 7606 §5.1: who cannot read the rest still knows which routes it was about."""
    reach = MpReach(IPV6_UNICAST, (parse_address("2001:db8::1"),), (parse_prefix("2000::/8"),))
    unreach = MpUnreach(IPV6_UNICAST, (parse_prefix("2001:db8::/32"),))
    value = PathAttributes(origin=Origin.IGP, as_path=(), mp_reach=reach, mp_unreach=unreach)
    written = encode_attributes(value, four_octet_asn=True)
    only = [
        encode_attributes(PathAttributes(**part), four_octet_asn=True)
        for part in ({"mp_reach": reach}, {"mp_unreach": unreach})
    ]
    assert written.startswith(b"".join(only))


@pytest.mark.parametrize(
    ("kind", "hops"),
    [
        (SegmentType.AS_SEQUENCE, 3),
        (SegmentType.AS_SET, 1),
        (SegmentType.AS_CONFED_SEQUENCE, 0),
        (SegmentType.AS_CONFED_SET, 0),
    ],
)
def test_how_long_a_path_is(kind: SegmentType, hops: int) -> None:
    """RFC 4271 §9.1.2.2: a set counts as one; RFC 5065 §3: types 3 and 4 are a confederation's."""
    one = AsSegment(SEQUENCE, (64500,))
    assert path_length((one, AsSegment(kind, (64501, 64502, 64503)))) == 1 + hops


def test_a_large_community_is_written_with_colons() -> None:
    assert str(LargeCommunity(4200000001, 0, 20)) == "4200000001:0:20"  # RFC 8092 §5


# -- UPDATE ----------------------------------------------------------------------------------------


def test_update_both_ways() -> None:
    body = raw(
        "0005 20 cb007108  0014 40 01 01 00  40 02 06 02 01 0000fc00  40 03 04 c0000201"
        " 20 cb007107 18 c63364"
    )
    value = Update(
        withdrawn=(parse_prefix("203.0.113.8/32"),),
        attributes=PathAttributes(
            origin=Origin.IGP, as_path=(AsSegment(SEQUENCE, (64512,)),), next_hop=ROUTER
        ),
        nlri=(parse_prefix("203.0.113.7/32"), parse_prefix("198.51.100.0/24")),
    )
    assert decode_update(body, four_octet_asn=True, internal=False) == value
    assert encode_update(value, four_octet_asn=True)[19:] == body


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_end_of_rib(family: Family) -> None:
    marker = decode_update(end_of_rib(family)[19:], four_octet_asn=True, internal=False)
    assert marker.end_of_rib == family
    assert end_of_rib(IPV4_UNICAST) == raw("MARKER 0017 02 0000 0000")
    assert end_of_rib(IPV6_UNICAST) == raw("MARKER 001d 02 0000 0006 80 0f 03 0002 01")


# -- NOTIFICATION ----------------------------------------------------------------------------------

TOO_MANY = "Cease/Maximum Number Of Prefixes Reached"
NOTIFICATIONS = [
    (Notification(4), "Hold Timer Expired"),
    (Notification(6, 2), "Cease/Administrative Shutdown"),
    (cease(Cease.ADMINISTRATIVE_SHUTDOWN, "bye"), 'Cease/Administrative Shutdown: "bye"'),
    (Notification(2, 2), "Open Message/Bad Peer AS"),
    (Notification(2, 7), "Open Message/Unsupported Capability"),  # RFC 5492 §5
    (Notification(6, 99), "Cease/subcode 99"),
    (Notification(99, 1), "error 99 subcode 1"),
    (Notification(6, 10), "Cease/BFD Down"),
    # Words that are not what RFC 9003 §2 says are shown as they came.
    (Notification(6, 2, b"\x02\xff\xfe"), "Cease/Administrative Shutdown (data 02fffe)"),
    (Notification(6, 2, b"\x05ab"), "Cease/Administrative Shutdown (data 056162)"),
    (Notification(6, 4, b"\x04a\n\x1b["), 'Cease/Administrative Reset: "a\\n\\x1b["'),
    (Notification(6, 2, "\x04a\u202e".encode()), 'Cease/Administrative Shutdown: "a\\u202e"'),
    (too_many_prefixes(IPV6_UNICAST, 100), f"{TOO_MANY}: ipv6-unicast, 100 allowed"),
    (Notification(6, 1, b"\x00" * 40), f"{TOO_MANY} (data {'00' * 32}...)"),
    (
        hard_reset(cease(Cease.ADMINISTRATIVE_SHUTDOWN, "bye")),
        'Cease/Hard Reset (Cease/Administrative Shutdown: "bye")',
    ),
    # Words without codes in front of them, as GoBGP puts them there.
    (Notification(6, 9, b"\x03bye"), "Cease/Hard Reset (data 03627965)"),
    (Notification(6, 9), "Cease/Hard Reset"),
]


@pytest.mark.parametrize(("value", "words"), NOTIFICATIONS)
def test_a_notification_in_words(value: Notification, words: str) -> None:
    """RFC 4271 §4.5; the subcodes of Cease RFC 4486 §3."""
    assert describe(value) == words
    assert decode_notification(encode_notification(value)[19:]) == value


def test_a_shutdown_communication_on_the_wire() -> None:
    message = encode_notification(cease(Cease.ADMINISTRATIVE_SHUTDOWN, "weg: ß"))
    assert message == raw("MARKER 001d 03 06 02 07 7765673a20 c39f")


def test_long_words_are_cut_between_characters() -> None:
    assert len(cease(Cease.ADMINISTRATIVE_RESET, "x" * 300).communication) == 255
    assert cease(Cease.ADMINISTRATIVE_RESET, "ß" * 300).communication == "ß" * 127
    assert cease(Cease.OUT_OF_RESOURCES, "words").data == b""
