"""BFD Control and echo packets as bytes, and the rules by which packets are discarded."""

import struct

import msgspec
import pytest

from clarion.base.addr import Address, parse_address
from clarion.proto.bfd.config import BfdConfig
from clarion.proto.bfd.demux import Arrival, Demux, Endpoint, Refusal
from clarion.proto.bfd.echo import EchoFunction, echo_contents, echo_datagram
from clarion.proto.bfd.packet import (
    BfdDecodeError,
    ControlPacket,
    Diagnostic,
    State,
    decode,
    diagnostic_words,
    encode,
    microseconds,
)
from clarion.proto.bfd.session import BfdSession, Memory

# Sent by FRR's bfdd on its way up, as tcpdump shows it: Init, no flags, multiplier 3, 1 s, 0.3 s.
INIT = bytes.fromhex("2080031800000001000000020 00f4240000493e00000c350".replace(" ", ""))
PACKET = ControlPacket(
    state=State.INIT,
    detect_multiplier=3,
    my_discriminator=1,
    your_discriminator=2,
    desired_min_tx=1_000_000,
    required_min_rx=300_000,
    required_min_echo_rx=50_000,
)
FOUR, SIX = parse_address("192.0.2.9"), parse_address("2001:db8::9")


def test_a_packet_is_24_octets_in_the_order_of_the_rfc() -> None:
    """RFC 5880 §4.1."""
    assert decode(INIT) == PACKET
    assert encode(PACKET) == INIT


@pytest.mark.parametrize("flag", ["poll", "final", "independent", "demand"])
@pytest.mark.parametrize("state", list(State))
def test_flags_and_states_survive(flag: str, state: State) -> None:
    packet = msgspec.structs.replace(PACKET, state=state, diagnostic=5, **{flag: True})
    assert decode(encode(packet)) == packet


def test_what_follows_the_packet_is_ignored() -> None:
    assert decode(INIT + b"\xff" * 40) == PACKET


def spoiled(**fields: object) -> bytes:
    return encode(msgspec.structs.replace(PACKET, **fields))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 octets"),
        (INIT[:23], "23 octets"),
        (spoiled(version=0), "version"),
        (spoiled(version=2), "version"),
        (spoiled(length=23), "too small"),
        (spoiled(length=25, authenticated=True) + b"\0", "too small"),
        (spoiled(length=25), "exceeds"),
        (spoiled(detect_multiplier=0), "Detect Mult"),
        (spoiled(multipoint=True), "Multipoint"),
        (spoiled(my_discriminator=0), "My Discriminator"),
        (spoiled(your_discriminator=0), "Your Discriminator"),
        (spoiled(your_discriminator=0, state=State.UP), "Your Discriminator"),
        (spoiled(length=28, authenticated=True) + b"\1\4\1\0", "authenticated"),
        # The first rule in the RFC's order is the one that is named.
        (spoiled(version=0, detect_multiplier=0, multipoint=True), "version"),
    ],
)
def test_what_must_be_discarded_is(data: bytes, words: str) -> None:
    """RFC 5880 §6.8.6."""
    with pytest.raises(BfdDecodeError, match=words):
        decode(data)


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN])
def test_down_may_come_without_our_discriminator(state: State) -> None:
    assert decode(spoiled(your_discriminator=0, state=state)).state is state


def test_intervals_fit_their_field() -> None:
    assert microseconds(0.3) == 300_000
    assert microseconds(1e9) == 0xFFFFFFFF


def test_every_diagnostic_has_words() -> None:
    assert all(diagnostic_words(code) for code in Diagnostic if code)
    assert diagnostic_words(0) == ""
    assert diagnostic_words(31) == "diagnostic 31"


# Which session.

PEER = parse_address("192.0.2.1")
HERE = Arrival(source=PEER, destination=FOUR, ttl=255, interface="eth0", vrf="", multihop=False)


def arrived(**fields: object) -> Arrival:
    return msgspec.structs.replace(HERE, **fields)


def sessions(endpoint: Endpoint, *, ttl: int = 254) -> tuple[Demux, BfdSession]:
    demux = Demux()
    session = BfdSession(BfdConfig(minimum_ttl=ttl), Memory(discriminator=2), 0.0)
    demux.add(endpoint, session)
    return demux, session


@pytest.mark.parametrize(
    ("endpoint", "arrival", "refusal"),
    [
        (Endpoint(remote=PEER), HERE, None),
        (Endpoint(remote=PEER, local=FOUR), HERE, None),
        (Endpoint(remote=PEER, interface="eth0"), HERE, None),
        (Endpoint(remote=PEER), arrived(ttl=254), Refusal.HOPS),
        (Endpoint(remote=PEER), arrived(source=FOUR), Refusal.ELSEWHERE),
        (Endpoint(remote=PEER), arrived(vrf="red"), Refusal.ELSEWHERE),
        (Endpoint(remote=PEER), arrived(multihop=True), Refusal.ELSEWHERE),
        (Endpoint(remote=PEER, interface="eth1"), HERE, Refusal.ELSEWHERE),
        (Endpoint(remote=PEER, local=PEER), HERE, Refusal.ELSEWHERE),
        (Endpoint(remote=PEER, multihop=True), arrived(multihop=True, ttl=254), None),
        (Endpoint(remote=PEER, multihop=True), arrived(multihop=True, ttl=253), Refusal.HOPS),
    ],
)
def test_a_packet_reaches_the_session_of_its_sender_only(
    endpoint: Endpoint, arrival: Arrival, refusal: Refusal | None
) -> None:
    """RFC 5881 §3, §5; RFC 5883 §3, §4."""
    demux, session = sessions(endpoint)
    assert demux.find(PACKET, arrival) == (refusal or session)
    assert session.memory.discarded == (refusal is not None)


def test_the_least_ttl_of_a_multihop_session_is_its_own() -> None:
    demux, session = sessions(Endpoint(remote=PEER, multihop=True), ttl=250)
    assert demux.find(PACKET, arrived(multihop=True, ttl=250)) is session
    assert demux.find(PACKET, arrived(multihop=True, ttl=249)) is Refusal.HOPS


def test_ports_tell_how_many_hops_are_allowed() -> None:
    assert Endpoint(remote=PEER).port == 3784  # RFC 5881 §4
    assert Endpoint(remote=PEER, multihop=True).port == 4784  # RFC 5883 §5


def test_the_first_packet_is_known_by_its_address() -> None:
    """RFC 5880 §6.3, RFC 5881 §3."""
    demux, session = sessions(Endpoint(remote=PEER))
    first = msgspec.structs.replace(PACKET, state=State.DOWN, your_discriminator=0)
    assert demux.find(first, HERE) is session
    assert demux.find(first, arrived(source=FOUR)) is Refusal.UNKNOWN


def test_a_foreign_discriminator_is_nobodys() -> None:
    """RFC 5880 §6.3."""
    demux, session = sessions(Endpoint(remote=PEER))
    other = msgspec.structs.replace(PACKET, your_discriminator=3)
    assert demux.find(other, HERE) is Refusal.UNKNOWN
    demux.remove(session)
    assert demux.find(PACKET, HERE) is Refusal.UNKNOWN
    assert list(demux) == []


# Echo.


def summed(data: bytes) -> int:
    """The sum of RFC 1071, which is 0xFFFF over data that holds its own checksum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_an_echo_is_a_whole_packet_to_ourselves(address: Address) -> None:
    """RFC 5881 §4, §5; RFC 4594 §3.1: class selector 6."""
    datagram = echo_datagram(address, 7, 9, 1 << 63)
    assert echo_contents(datagram) == (7, 9, 1 << 63)
    head = 20 if address.version == 4 else 40
    assert datagram[head - 2 * len(address.packed) : head] == address.packed * 2
    pseudo = address.packed * 2 + struct.pack("!II", len(datagram) - head, 17)
    assert summed(pseudo + datagram[head:]) == 0xFFFF
    if address.version == 4:
        assert summed(datagram[:20]) == 0xFFFF
    assert datagram[8 if address.version == 4 else 7] == 255
    service = (
        datagram[1] if address.version == 4 else int.from_bytes(datagram[:2], "big") >> 4 & 255
    )
    assert service >> 2 == 48
    assert datagram[head + 2 : head + 4] == (3785).to_bytes(2, "big")


@pytest.mark.parametrize("data", [b"", b"\x45", INIT, echo_datagram(FOUR, 1, 1, 1)[:40]])
def test_what_is_no_echo_has_no_contents(data: bytes) -> None:
    assert echo_contents(data) is None


def test_echo_counts_from_the_first_that_came_back() -> None:
    """RFC 5880 §6.8.5, §6.8.8."""
    echo = EchoFunction(secret=5)
    echo.run(0.05, now=0.0)
    now = 0.0
    for _ in range(10):  # nothing comes back, which proves nothing
        assert echo.tick(now, 0.5, 3) is not None
        now += 0.05
        assert not echo.failed(now, 3)
    assert not echo.heard(3, secret=6)
    assert not echo.heard(99, secret=5)
    assert echo.heard(10, secret=5)
    for _ in range(3):
        assert echo.tick(now, 0.5, 3) is not None
        now += 0.05
    assert echo.failed(now, 3)
    assert echo.tick(now, 0.5, 3) is None
    assert not echo.heard(12, secret=5)
    assert not echo.failed(now, 3)


def test_a_pause_of_our_own_is_no_loss_of_echos() -> None:
    echo = EchoFunction(secret=5)
    echo.run(0.05, now=0.0)
    echo.heard(echo.tick(0.0, 0.5, 3) or 0, secret=5)
    assert not echo.failed(60.0, 3)
    assert echo.tick(60.0, 0.5, 3) == 2
