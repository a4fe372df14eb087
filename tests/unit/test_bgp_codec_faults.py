"""What a fault in an UPDATE costs: every clause of RFC 7606 that concerns what we read."""

import pytest

from clarion.base.addr import parse_prefix
from clarion.base.errors import DecodeError
from clarion.proto.bgp.attrs import Severity, decode_attributes
from clarion.proto.bgp.update import decode_update


def raw(text: str) -> bytes:
    """Bytes from hexadecimal digits."""
    return bytes.fromhex(text)


def message(attributes: str, nlri: str = "", withdrawn: str = "") -> bytes:
    """The body of an UPDATE from its three fields."""
    gone, path, routes = raw(withdrawn), raw(attributes), raw(nlri)
    return len(gone).to_bytes(2, "big") + gone + len(path).to_bytes(2, "big") + path + routes


DISCARD, WITHDRAW = Severity.ATTRIBUTE_DISCARD, Severity.TREAT_AS_WITHDRAW
FAULTS = [
    # attributes on an external session, severity (RFC 7606 §7)
    ("40 01 01 03", WITHDRAW),  # ORIGIN 3
    ("40 01 02 0000", WITHDRAW),
    ("c0 01 01 00", WITHDRAW),  # flags of ORIGIN
    ("40 02 01 02", WITHDRAW),  # AS_PATH: header cut short
    ("40 02 02 02 00", WITHDRAW),  # empty segment
    ("40 02 06 05 01 0000fc00", WITHDRAW),  # segment type 5
    ("40 02 06 02 01 00000000", WITHDRAW),  # AS 0 (RFC 7607)
    ("40 02 06 02 02 0000fc00", WITHDRAW),  # segment overruns
    ("40 02 06 03 01 0000fc00", WITHDRAW),  # a confederation that is not ours (RFC 5065 §5)
    ("40 02 06 01 01 0000fc00", WITHDRAW),  # AS_SET (RFC 9774 §3)
    ("40 03 03 c00002", WITHDRAW),
    ("40 03 04 00000000", WITHDRAW),  # nobody's address (RFC 4271 §6.3)
    ("40 03 04 e0000001", WITHDRAW),  # multicast
    ("80 04 03 000000", WITHDRAW),
    ("40 05 04 00000064", DISCARD),  # LOCAL_PREF from an external peer
    ("40 06 01 00", DISCARD),
    ("c0 07 06 fc00 c0000201", DISCARD),
    ("c0 07 08 00000000 c0000201", DISCARD),  # AS 0 (RFC 7607)
    ("80 06 00", WITHDRAW),  # flags are worse than what is inside
    ("40 0f 03 0001 01", WITHDRAW),  # flags of MP_UNREACH
    ("c0 0e 0e 0001 01 04 c0000201 00 20 cb007107", WITHDRAW),  # flags of MP_REACH
    ("c0 08 03 000000", WITHDRAW),
    ("c0 08 00", WITHDRAW),
    ("80 09 04 c0000201", DISCARD),
    ("c0 10 07 00000000000000", WITHDRAW),
    ("c0 10 00", WITHDRAW),
    ("80 10 08 4004fc0049742400", WITHDRAW),  # flags of EXTENDED_COMMUNITIES
    ("c0 11 02 02 01", DISCARD),
    ("c0 20 0b 0000000000000000000000", WITHDRAW),
    ("c0 08 04 00000001 c0 08 04 00000002", DISCARD),  # twice: the first counts
    ("40 01 05 00", WITHDRAW),  # overruns the list
    ("40 01", WITHDRAW),
]


@pytest.mark.parametrize(("text", "severity"), FAULTS)
def test_a_malformed_attribute_costs_what_rfc_7606_says(text: str, severity: Severity) -> None:
    _, faults = decode_attributes(raw(text), four_octet_asn=True, internal=False)
    assert max(fault.severity for fault in faults) is severity


RESETS = [
    # what still ends the session, subcode of UPDATE Message Error, data
    ("40 63 01 00", 2, "40 63 01 00"),  # unknown well-known attribute
    ("80 0e 03 0001 01", 9, "80 0e 03 0001 01"),  # MP_REACH too short
    ("80 0e 06 0002 01 20 0000", 9, "80 0e 06 0002 01 20 0000"),  # next hop overruns
    ("80 0e 08 0001 01 03 c00002 00", 9, "80 0e 08 0001 01 03 c00002 00"),  # next hop of 3 octets
    # /33, and a prefix cut short: of an MP attribute they are faults of it (RFC 4760 §7)
    ("80 0e 0b 0001 01 04 c0000201 00 21 cb", 9, "80 0e 0b 0001 01 04 c0000201 00 21 cb"),
    ("80 0f 05 0002 01 40 20", 9, "80 0f 05 0002 01 40 20"),
    ("80 0f 03 0001 01 80 0f 03 0001 01", 1, ""),  # twice
]


@pytest.mark.parametrize(("text", "subcode", "data"), RESETS)
def test_a_fault_that_hides_the_routes_ends_the_session(text: str, subcode: int, data: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_attributes(raw(text), four_octet_asn=True, internal=False)
    assert (caught.value.code, caught.value.subcode) == (3, subcode)
    assert caught.value.data == raw(data)


# -- UPDATE as a whole -----------------------------------------------------------------------------

GOOD = "40 01 01 00  40 02 06 02 01 0000fc00  40 03 04 c0000201"
HOST, GONE = parse_prefix("203.0.113.7/32"), parse_prefix("203.0.113.8/32")
REACH6 = "80 0e 26 0002 01 10 20010db8000000000000000000000001 00 80 20010db800ff" + "00" * 10
HOST6 = parse_prefix("2001:db8:ff::/128")


@pytest.mark.parametrize(
    ("attributes", "subcode"),
    [
        ("40 01 01 03", 6),  # ORIGIN 3
        ("40 01 02 0000", 5),
        ("80 01 01 00", 4),  # flags
        ("40 02 02 02 00", 11),  # an empty segment
        ("40 03 03 c00002", 5),
        ("40 03 04 00000000", 8),
        ("40 05 03 000000", 5),
        ("c0 08 03 000000", 9),
    ],
)
def test_a_grave_fault_beside_no_route_ends_the_session(attributes: str, subcode: int) -> None:
    """RFC 7606 §5.2: the fault may hide routes; RFC 4271 §6.3: data is the attribute."""
    with pytest.raises(DecodeError) as caught:
        decode_update(message(attributes), four_octet_asn=True, internal=True)
    assert (caught.value.code, caught.value.subcode) == (3, subcode)
    assert caught.value.data == raw(attributes)


def test_a_list_that_is_overrun_beside_no_route_ends_the_session() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_update(message("40 01 05 00"), four_octet_asn=True, internal=True)
    assert (caught.value.code, caught.value.subcode, caught.value.data) == (3, 1, b"")


def test_a_mild_fault_beside_no_route_costs_nothing() -> None:
    update = decode_update(message("40 06 01 00"), four_octet_asn=True, internal=True)
    assert [fault.severity for fault in update.faults] == [Severity.ATTRIBUTE_DISCARD]


def test_withdrawals_alone_are_read_whatever_their_flags() -> None:
    """RFC 7606 §5.2: an MP_UNREACH_NLRI without company hides nothing."""
    body = message("40 0f 14 0002 01 80 20010db800ff" + "00" * 10)
    update = decode_update(body, four_octet_asn=True, internal=False)
    assert update.treat_as_withdraw
    assert update.withdrawn_all == (HOST6,)


def test_a_fault_beside_routes_of_a_family_not_read_here_costs_these_only() -> None:
    body = message("40 01 01 03  80 0e 06 4004 47 00 00 00")
    assert decode_update(body, four_octet_asn=True, internal=False).treat_as_withdraw


def test_routes_of_both_families_are_withdrawn_for_one_fault() -> None:
    body = message(f"{REACH6} {GOOD} c0 08 00", "20 cb007107", "20 cb007108")
    update = decode_update(body, four_octet_asn=True, internal=False)
    assert update.announced == ()
    assert set(update.withdrawn_all) == {HOST, GONE, HOST6}


def test_routes_with_wrong_flags_on_mp_reach_are_withdrawn() -> None:
    """RFC 7606 §3 c: they can be told, so the session lives."""
    update = decode_update(
        message(REACH6.replace("80 0e", "c0 0e", 1) + GOOD), four_octet_asn=True, internal=False
    )
    assert update.withdrawn_all == (HOST6,)


def test_a_next_hop_beside_routes_with_their_own_is_ignored() -> None:
    """RFC 4760 §3, whatever it says."""
    good = GOOD.replace("40 03 04 c0000201", "40 03 04 00000000")
    update = decode_update(message(REACH6 + good), four_octet_asn=True, internal=False)
    assert update.announced == (HOST6,)
    assert update.faults == ()


def test_confederations_are_an_internal_matter() -> None:
    """RFC 5065 §5."""
    path = raw("40 02 06 03 01 0000fc00")
    _, faults = decode_attributes(path, four_octet_asn=True, internal=True)
    assert faults == ()


def test_of_two_equal_attributes_the_first_counts() -> None:
    body = message(GOOD + "40 01 01 02", "20 cb007107")  # RFC 7606 §3 g
    update = decode_update(body, four_octet_asn=True, internal=False)
    assert update.attributes.origin == 0
    assert update.announced == (HOST,)


def test_the_worst_of_several_faults_decides() -> None:
    body = message(GOOD + "40 06 01 00  c0 08 00", "20 cb007107")  # RFC 7606 §3 h
    update = decode_update(body, four_octet_asn=True, internal=False)
    assert update.withdrawn_all == (HOST,)


def test_a_route_without_its_mandatory_attributes_counts_as_withdrawn() -> None:
    """RFC 7606 §3 d."""
    body = raw("0000 0004 40 01 01 00 20 cb007107")
    update = decode_update(body, four_octet_asn=True, internal=False)
    assert update.treat_as_withdraw
    assert [fault.message for fault in update.faults] == [
        "AS_PATH is missing",
        "NEXT_HOP is missing",
    ]
    assert update.announced == ()
    assert update.withdrawn_all == (parse_prefix("203.0.113.7/32"),)


@pytest.mark.parametrize(
    ("text", "subcode"),
    [
        ("0000", 1),
        ("0005 00", 1),  # withdrawn routes overrun (RFC 7606 §3 a)
        ("0000 0005 40 01", 1),  # attributes overrun (RFC 7606 §3 b)
        ("0000 0000 21 cb00710700", 10),
        ("0001 20 0000", 10),
    ],
)
def test_lengths_that_contradict_each_other_end_the_session(text: str, subcode: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_update(raw(text), four_octet_asn=True, internal=False)
    assert (caught.value.code, caught.value.subcode) == (3, subcode)
