"""The layer-2 codecs and the schedule under everything that Hypothesis thinks of."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.addr import Address
from clarion.base.limits import L2_BURST_ROUNDS, L2_FRAMES_AT_ONCE
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import FrameError
from clarion.proto.l2.responder import Answer, Drop, Link, Responder
from clarion.proto.l2.schedule import Schedule

MAC = st.binary(min_size=6, max_size=6)
IPV4 = st.builds(Address, st.just(4), st.integers(0, 2**32 - 1))
IPV6 = st.builds(Address, st.just(6), st.integers(0, 2**128 - 1))
UNICAST6 = IPV6.filter(lambda a: not ndp.is_multicast(a) and a != ndp.UNSPECIFIED)
ARP = st.builds(arp.ArpPacket, MAC, MAC, st.integers(0, 65535), MAC, IPV4, MAC, IPV4)
SOLICITATION = st.builds(
    ndp.Solicitation, MAC, MAC, UNICAST6, IPV6, UNICAST6, st.one_of(st.none(), MAC)
)
ADVERTISEMENT = st.builds(
    ndp.Advertisement,
    MAC,
    MAC,
    UNICAST6,
    UNICAST6,
    UNICAST6,
    st.integers(0, 7).map(lambda bits: ndp.Flag(bits << 29)),
    st.one_of(st.none(), MAC),
)
LINK = Link("eth0", bytes.fromhex("02005e0000aa"))
VIP, VIP6 = Address(4, 0xCB00710A), Address(6, 0x20010DB8 << 96 | 0x10)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ARP)
def test_arp_round_trip(packet: arp.ArpPacket) -> None:
    assert arp.decode(arp.encode(packet)) == packet


@settings(derandomize=True, max_examples=300, deadline=None)
@given(SOLICITATION, ADVERTISEMENT)
def test_ndp_round_trip(question: ndp.Solicitation, told: ndp.Advertisement) -> None:
    assert ndp.decode_solicitation(ndp.encode_solicitation(question)) == question
    assert ndp.decode_advertisement(ndp.encode_advertisement(told)) == told


def _damaged(frame: bytes, cut: int, position: int, value: int) -> bytes:
    damaged = bytearray(frame[: len(frame) - cut % (len(frame) + 1)])
    if damaged:
        damaged[position % len(damaged)] = value
    return bytes(damaged)


@settings(derandomize=True, max_examples=600, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.builds(
            _damaged,
            st.one_of(
                ARP.map(arp.encode),
                SOLICITATION.map(ndp.encode_solicitation),
                ADVERTISEMENT.map(ndp.encode_advertisement),
            ),
            st.integers(0, 20),
            st.integers(0, 200),
            st.integers(0, 255),
        ),
    )
)
def test_decoders_raise_their_own_error_only(frame: bytes) -> None:
    for decode in (arp.decode, ndp.decode_solicitation, ndp.decode_advertisement):
        with contextlib.suppress(FrameError):
            decode(frame)
    responder = Responder()
    responder.announce(VIP, None)
    responder.announce(VIP6, None)
    for receive in (responder.receive_arp, responder.receive_ndp):
        assert isinstance(receive(frame, LINK), Answer | Drop)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(ARP, st.lists(IPV4, max_size=4))
def test_an_answer_names_only_what_is_announced(
    packet: arp.ArpPacket, table: list[Address]
) -> None:
    responder = Responder()
    for address in table:
        responder.announce(address, None)
    verdict = responder.receive_arp(arp.encode(packet), LINK)
    if isinstance(verdict, Answer):
        answer = arp.decode(verdict.frame)
        assert answer.sender == packet.target == verdict.address
        assert answer.sender in table
        assert answer.destination == packet.sender_mac
        assert not answer.destination[0] & 1, "never flooded"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 30),
            st.integers(0, 400),
            st.integers(1, 3),
            st.sampled_from(["start", "cancel"]),
        ),
        min_size=1,
        max_size=60,
    ),
    st.floats(20, 2000),
)
def test_the_budget_holds_and_every_burst_is_complete(
    script: list[tuple[float, int, int, str]], rate: float
) -> None:
    schedule: Schedule[int] = Schedule(0, rate)
    sent: list[tuple[float, int, int]] = []
    last_action: dict[int, tuple[float, str, int]] = {}

    def drain(until: float) -> None:
        while (deadline := schedule.next_deadline()) is not None and deadline <= until:
            taken = schedule.take(deadline)
            assert taken, "a deadline gives something"
            sent.extend((deadline, key, costs[key]) for key in taken)

    costs: dict[int, int] = {}
    for at, key, cost, action in sorted(script):
        drain(at)
        last_action[key] = (at, action, len(sent))
        if action == "start":
            costs[key] = cost
            schedule.start(key, cost=cost, now=at, jitter=0.5)
        else:
            schedule.cancel(key)
    drain(10_000)

    for key, (_, action, after) in last_action.items():
        rounds = sum(1 for _, other, _ in sent[after:] if other == key)
        assert rounds == (L2_BURST_ROUNDS if action == "start" else 0)
    for first in range(len(sent)):
        total = 0
        for now, _, cost in sent[first:]:
            total += cost
            assert total <= L2_FRAMES_AT_ONCE + rate * (now - sent[first][0]) + 3 + 1e-3
