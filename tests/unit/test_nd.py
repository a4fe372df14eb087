"""Router Advertisements for unnumbered peers: the messages, and the machine of one interface."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.base.addr import Address, parse_address
from clarion.base.limits import (
    ND_ADVERTISE_SECONDS_MAX,
    ND_ADVERTISE_SECONDS_MIN,
    ND_ANSWER_GAP_SECONDS,
    ND_SOLICIT_SECONDS,
    ND_SOLICITATIONS,
)
from clarion.proto.nd.beacon import Beacon
from clarion.proto.nd.messages import (
    ALL_NODES,
    ALL_ROUTERS,
    Advertisement,
    NdError,
    Solicitation,
    decode,
    encode_advertisement,
    encode_solicitation,
)

PEER, OTHER = parse_address("fe80::2"), parse_address("fe80::3")
MAC, MAC2 = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
NOBODY = Address(6, 0)


def test_what_is_written_can_be_read() -> None:
    assert decode(encode_advertisement(MAC), PEER, 255) == Advertisement(PEER, 0, MAC)
    assert decode(encode_advertisement(b""), PEER, 255) == Advertisement(PEER, 0)
    assert decode(encode_solicitation(MAC), PEER, 255) == Solicitation(PEER)
    # RFC 4861 §4.1, §4.2 and §4.6.1, octet by octet; the checksum is the kernel's (RFC 3542 §3.1).
    assert encode_solicitation(MAC).hex(" ", 8) == "8500000000000000 0101" + MAC.hex()
    assert encode_advertisement(MAC).hex(" ", 8) == "8600000000000000 0000000000000000 0101" + (
        MAC.hex()
    )


def advertisement(options: bytes = b"", code: int = 0, kind: int = 134) -> bytes:
    return struct.pack("!BBHBBHII", kind, code, 0, 64, 0, 1800, 0, 0) + options


PREFIX_OPTION = bytes((3, 4)) + bytes(30)


def test_an_advertisement_of_a_whole_router_is_read() -> None:
    payload = advertisement(PREFIX_OPTION + b"\x01\x01" + MAC + b"\x01\x01" + MAC2)
    assert decode(payload, PEER, 255) == Advertisement(PEER, 1800, MAC)


@pytest.mark.parametrize(
    ("payload", "source", "hop_limit", "said"),
    [
        (advertisement(), PEER, 254, "hop limit 254"),
        (advertisement(code=1), PEER, 255, "ICMPv6 code 1"),
        (advertisement()[:15], PEER, 255, "ICMPv6 of 15 bytes, 16 at least"),
        (encode_solicitation(b"")[:7], PEER, 255, "ICMPv6 of 7 bytes, 8 at least"),
        (b"\x86\0\0", PEER, 255, "ICMPv6 of 3 bytes"),
        (advertisement(kind=136), PEER, 255, "ICMPv6 type 136"),
        (advertisement(), parse_address("2001:db8::1"), 255, "no link-local address"),
        (advertisement(), parse_address("169.254.0.1"), 255, "no link-local address"),
        (advertisement(b"\x01\x00" + MAC), PEER, 255, "an option of no length"),
        (advertisement(b"\x01\x02" + MAC), PEER, 255, "longer than the message"),
        (advertisement(b"\x01"), PEER, 255, "an option of no length"),
        (encode_solicitation(MAC), NOBODY, 255, "a solicitation from ::"),
    ],
)
def test_what_must_be_dropped_is(
    payload: bytes, source: Address, hop_limit: int, said: str
) -> None:
    """RFC 4861 §6.1.1, §6.1.2."""
    with pytest.raises(NdError, match=said):
        decode(payload, source, hop_limit)


ADDRESSES = st.sampled_from((PEER, NOBODY, parse_address("2001:db8::1")))
HEADS = st.sampled_from((b"\x85\0\0\0\0\0\0\0", advertisement(), b"\x86\0", b""))


@given(HEADS, st.binary(max_size=64), ADDRESSES, st.sampled_from((255, 0)))
def test_any_bytes_are_a_message_or_dropped(
    head: bytes, rest: bytes, source: Address, hop_limit: int
) -> None:
    try:
        message = decode(head + rest, source, hop_limit)
    except NdError:
        return
    assert hop_limit == 255
    if isinstance(message, Advertisement):
        assert source.is_link_local
        assert len(message.link_layer) in (0, 6)


def sent(beacon: Beacon) -> list[Address]:
    return [each.destination for each in beacon.outputs()]


def run_until(beacon: Beacon, end: float) -> list[tuple[float, Address]]:
    """What is sent, and when, until a moment."""
    found = []
    while (deadline := beacon.next_deadline()) is not None and deadline <= end:
        beacon.timers(deadline)
        found += [(deadline, each) for each in sent(beacon)]
    return found


def test_it_introduces_itself_asks_three_times_and_goes_on_advertising() -> None:
    """RFC 4861 §6.2.4, §6.3.7."""
    beacon = Beacon()
    assert beacon.next_deadline() is None
    beacon.up(MAC, 100.0)
    assert sent(beacon) == [ALL_NODES, ALL_ROUTERS]
    beacon.jitter = 0.5
    later = run_until(beacon, 200.0)
    asked = [at for at, group in later if group == ALL_ROUTERS]
    assert asked == [100.0 + ND_SOLICIT_SECONDS * n for n in range(1, ND_SOLICITATIONS)]
    told = [100.0, *(at for at, group in later if group == ALL_NODES)]
    gaps = [after - before for before, after in itertools.pairwise(told)]
    middle = (ND_ADVERTISE_SECONDS_MIN + ND_ADVERTISE_SECONDS_MAX) / 2
    assert gaps[:3] == pytest.approx([ND_ADVERTISE_SECONDS_MIN] * 2 + [middle])
    assert gaps[3:] == pytest.approx([middle] * len(gaps[3:]))
    beacon.stop()
    assert sent(beacon) == [ALL_NODES]  # RFC 4861 §6.2.5
    assert beacon.next_deadline() is None
    beacon.stop()
    assert sent(beacon) == []


def test_questions_are_answered_soon_but_never_more_often_than_every_three_seconds() -> None:
    """RFC 4861 §6.2.6."""
    beacon = Beacon()
    beacon.up(MAC, 0.0)
    beacon.hear(Advertisement(PEER, 0, MAC2), 0.0)
    run_until(beacon, 50.0)
    start = beacon.next_deadline()
    assert start is not None
    beacon.timers(start)
    sent(beacon)
    told = []
    now = start
    while now < start + 60:  # somebody asks ten times a second
        now += 0.1
        beacon.hear(Solicitation(OTHER), now)
        told += run_until(beacon, now)
    assert len(told) == pytest.approx(60 / ND_ANSWER_GAP_SECONDS, abs=2)
    moments = [at for at, _ in told]
    assert all(
        after - before >= ND_ANSWER_GAP_SECONDS - 1e-6
        for before, after in itertools.pairwise(moments)
    )


def neighbor(beacon: Beacon) -> Address | None:
    return beacon.neighbor


def test_the_other_end_is_whoever_advertises_and_a_session_is_not_given_up_for_a_stranger() -> None:
    """RFC 4861 §6.3.7: nobody asks once a router is heard."""
    beacon = Beacon()
    beacon.hear(Advertisement(PEER, 0, MAC2), 0.0)
    assert neighbor(beacon) is None  # nothing is heard before the interface can speak
    beacon.up(MAC, 0.0)
    sent(beacon)
    beacon.hear(Advertisement(PEER, 0, MAC2), 1.0)
    assert neighbor(beacon) == PEER
    assert [group for _, group in run_until(beacon, 30.0) if group == ALL_ROUTERS] == []
    beacon.hear(Advertisement(OTHER, 0, MAC), 30.0, settled=True)
    assert (neighbor(beacon), beacon.strangers) == (PEER, 1)
    beacon.hear(Advertisement(OTHER, 0, MAC2), 31.0, settled=True)
    assert neighbor(beacon) == OTHER  # the same hardware: the same router
    beacon.hear(Advertisement(PEER, 0, MAC), 32.0, settled=False)
    assert (neighbor(beacon), beacon.strangers) == (PEER, 2)
    beacon.down()
    assert neighbor(beacon) is None
    assert beacon.next_deadline() is None


def test_who_was_only_met_gives_way_to_who_advertises_and_a_lost_session_asks_again() -> None:
    beacon = Beacon()
    beacon.up(MAC, 0.0)
    beacon.meet(OTHER)
    beacon.meet(PEER)
    assert neighbor(beacon) == OTHER
    beacon.hear(Advertisement(PEER, 0, MAC2), 1.0, settled=True)
    assert neighbor(beacon) == PEER
    sent(beacon)
    beacon.solicit(2.0)
    beacon.solicit(2.5)
    asked = [at for at, group in run_until(beacon, 60.0) if group == ALL_ROUTERS]
    assert asked == [ND_SOLICIT_SECONDS * n for n in range(1, ND_SOLICITATIONS + 1)]
