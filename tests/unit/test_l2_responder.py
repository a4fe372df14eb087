"""What is answered, and for which reason nothing is."""

from typing import Any

import msgspec
import pytest

from clarion.base.addr import Address, parse_address
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import BROADCAST, UNKNOWN, multicast_mac
from clarion.proto.l2.responder import Answer, Counts, Drop, Link, Responder

CLIENT_MAC = bytes.fromhex("02005e000001")
OWN_MAC = bytes.fromhex("02005e0000aa")
OTHER_MAC = bytes.fromhex("02005e0000bb")
CLIENT = parse_address("192.0.2.1")
VIP = parse_address("203.0.113.10")
VIP6 = parse_address("2001:db8::10")
ETH0, ETH1 = Link("eth0", OWN_MAC), Link("eth1", OTHER_MAC)

REQUEST = arp.ArpPacket(
    destination=BROADCAST,
    source=CLIENT_MAC,
    operation=arp.Operation.REQUEST,
    sender_mac=CLIENT_MAC,
    sender=CLIENT,
    target_mac=UNKNOWN,
    target=VIP,
)
SOLICITATION = ndp.Solicitation(
    destination_mac=multicast_mac(ndp.solicited_node(VIP6)),
    source_mac=CLIENT_MAC,
    source=parse_address("fe80::1"),
    destination=ndp.solicited_node(VIP6),
    target=VIP6,
    source_link_layer=CLIENT_MAC,
)


def responder(*, interfaces: frozenset[str] | None = None) -> Responder:
    made = Responder()
    made.announce(VIP, interfaces)
    made.announce(VIP6, interfaces)
    made.set_own_macs([OWN_MAC, OTHER_MAC])
    return made


def ask(made: Responder, link: Link = ETH0, **change: Any) -> Answer | Drop:
    return made.receive_arp(arp.encode(msgspec.structs.replace(REQUEST, **change)), link)


def ask6(made: Responder, link: Link = ETH0, **change: Any) -> Answer | Drop:
    message = msgspec.structs.replace(SOLICITATION, **change)
    return made.receive_ndp(ndp.encode_solicitation(message), link)


def test_a_request_is_answered_with_the_mac_of_its_interface() -> None:
    made = responder()
    for link in (ETH0, ETH1):
        answer = ask(made, link)
        assert isinstance(answer, Answer)
        assert answer.address == VIP
        assert arp.decode(answer.frame) == arp.reply(REQUEST, link.mac)


def test_a_request_to_this_station_alone_is_answered() -> None:
    assert isinstance(ask(responder(), destination=OWN_MAC), Answer)


def test_a_probe_is_answered() -> None:
    assert isinstance(ask(responder(), sender=Address(4, 0)), Answer)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"operation": arp.Operation.REPLY}, Drop.NOT_A_REQUEST),
        ({"operation": 3}, Drop.NOT_A_REQUEST),
        ({"destination": OTHER_MAC}, Drop.WRONG_DESTINATION),
        ({"destination": bytes.fromhex("01005e000001")}, Drop.WRONG_DESTINATION),
        ({"sender_mac": BROADCAST}, Drop.WRONG_SOURCE),
        ({"sender_mac": UNKNOWN}, Drop.WRONG_SOURCE),
        ({"target": parse_address("203.0.113.11")}, Drop.NOT_ANNOUNCED),
        ({"sender": VIP, "sender_mac": CLIENT_MAC}, Drop.CLAIM_OF_ANOTHER),
        ({"sender": VIP, "sender_mac": OTHER_MAC}, Drop.OWN_FRAME),
    ],
)
def test_reasons_for_silence_to_arp(change: dict[str, Any], reason: Drop) -> None:
    assert ask(responder(), **change) is reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"destination_mac": OTHER_MAC}, Drop.WRONG_DESTINATION),
        ({"destination_mac": BROADCAST}, Drop.WRONG_DESTINATION),
        ({"destination": ndp.ALL_NODES}, Drop.WRONG_DESTINATION),
        ({"source_link_layer": BROADCAST}, Drop.WRONG_SOURCE),
        ({"source_link_layer": None, "source_mac": UNKNOWN}, Drop.WRONG_SOURCE),
        ({"source": ndp.ALL_NODES}, Drop.WRONG_SOURCE),
        ({"target": parse_address("2001:db8:ff::10")}, Drop.NOT_ANNOUNCED),
    ],
)
def test_reasons_for_silence_to_ndp(change: dict[str, Any], reason: Drop) -> None:
    assert ask6(responder(), **change) is reason


def test_rubbish_is_malformed() -> None:
    made = responder()
    assert made.receive_arp(b"", ETH0) is Drop.MALFORMED
    assert made.receive_ndp(bytes(100), ETH0) is Drop.MALFORMED


def test_every_reason_is_tried_here() -> None:
    tried = {Drop.MALFORMED, Drop.OTHER_INTERFACE}
    for test in (test_reasons_for_silence_to_arp, test_reasons_for_silence_to_ndp):
        (mark,) = test.pytestmark
        tried |= {reason for _, reason in mark.args[1]}
    assert tried == set(Drop)


def test_other_interfaces_stay_silent() -> None:
    made = responder(interfaces=frozenset({"eth1", "eth7"}))
    assert ask(made, ETH0) is Drop.OTHER_INTERFACE
    assert ask6(made, ETH0) is Drop.OTHER_INTERFACE
    assert isinstance(ask(made, ETH1), Answer)
    assert isinstance(ask6(made, ETH1), Answer)


def test_a_solicitation_is_answered_however_it_is_addressed() -> None:
    made = responder()
    to_group, to_target = ask6(made), ask6(made, destination=VIP6, destination_mac=OWN_MAC)
    group_by_unicast = ask6(made, destination_mac=OWN_MAC)
    for answer in (to_group, to_target, group_by_unicast):
        assert isinstance(answer, Answer)
        assert ndp.decode_advertisement(answer.frame) == ndp.answer(SOLICITATION, OWN_MAC)


def test_a_claim_is_counted_and_its_question_answered() -> None:
    made = responder()
    other = parse_address("203.0.113.11")
    made.announce(other, None)
    assert ask(made, sender=VIP) is Drop.CLAIM_OF_ANOTHER
    assert isinstance(ask(made, sender=VIP, target=other), Answer)
    assert made.counts(VIP).conflicts == 2
    assert made.take_claims() == {VIP: CLIENT_MAC}
    assert made.take_claims() == {}


def test_counts_are_taken_once() -> None:
    made = responder()
    ask(made)
    ask(made, target=parse_address("203.0.113.11"))
    made.count_sent(VIP, responses=1)
    made.count_sent(VIP6, gratuitous=1)
    made.count_sent(parse_address("203.0.113.99"), responses=1)
    assert made.take_changed_counts() == {
        VIP: Counts(requests=1, responses=1),
        VIP6: Counts(gratuitous=1),
    }
    assert not made.has_changed_counts
    made.announce(VIP, frozenset({"eth1"}))
    assert made.counts(VIP).requests == 1, "a change of interfaces keeps the counts"


def test_withdrawn_is_forgotten() -> None:
    made = responder()
    ask(made)
    made.withdraw(VIP)
    assert VIP not in made
    assert not made.has_changed_counts
    assert ask(made) is Drop.NOT_ANNOUNCED
    made.withdraw(VIP)


def test_unsolicited_frames() -> None:
    made = responder()
    four, six = made.gratuitous(VIP, ETH0), made.gratuitous(VIP6, ETH1)
    assert [arp.decode(frame).operation for frame in four] == [1, 2]
    (advertisement,) = (ndp.decode_advertisement(frame) for frame in six)
    assert advertisement == ndp.announcement(VIP6, OTHER_MAC)
