"""The ARP codec against bytes written by hand from RFC 826."""

import pytest

from clarion.base.addr import Address, parse_address
from clarion.proto.l2 import arp
from clarion.proto.l2.ethernet import BROADCAST, UNKNOWN, FrameError

CLIENT_MAC = bytes.fromhex("02005e000001")
OWN_MAC = bytes.fromhex("02005e0000aa")
VIP = parse_address("203.0.113.10")
REQUEST = bytes.fromhex(
    "ffffffffffff 02005e000001 0806"  # to all, from the client, ARP
    "0001 0800 06 04 0001"  # Ethernet, IPv4, request
    "02005e000001 c0000201"  # sender: the client, 192.0.2.1
    "000000000000 cb00710a"  # target: unknown, 203.0.113.10
)


def test_reads_a_request() -> None:
    packet = arp.decode(REQUEST)
    assert packet == arp.ArpPacket(
        destination=BROADCAST,
        source=CLIENT_MAC,
        operation=arp.Operation.REQUEST,
        sender_mac=CLIENT_MAC,
        sender=parse_address("192.0.2.1"),
        target_mac=UNKNOWN,
        target=VIP,
    )
    assert arp.encode(packet) == REQUEST


def test_padding_is_passed_over() -> None:
    assert arp.decode(REQUEST + bytes(18)) == arp.decode(REQUEST)


def test_the_reply_goes_to_who_asked() -> None:
    reply = arp.encode(arp.reply(arp.decode(REQUEST), OWN_MAC))
    assert reply == bytes.fromhex(
        "02005e000001 02005e0000aa 0806"
        "0001 0800 06 04 0002"
        "02005e0000aa cb00710a"
        "02005e000001 c0000201"
    )


def test_the_reply_to_a_probe_names_no_address() -> None:
    probe = REQUEST[:28] + bytes(4) + REQUEST[32:]
    assert arp.reply(arp.decode(probe), OWN_MAC).target == Address(4, 0)


def test_announcements_are_a_request_and_a_reply_that_linux_believes() -> None:
    request, reply = arp.announcements(VIP, OWN_MAC)
    for packet in (request, reply):
        assert packet.destination == BROADCAST
        assert packet.sender == packet.target == VIP
        assert packet.sender_mac == packet.source == OWN_MAC
    assert (request.operation, request.target_mac) == (arp.Operation.REQUEST, UNKNOWN)
    assert (reply.operation, reply.target_mac) == (arp.Operation.REPLY, OWN_MAC)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (12, "86dd", "EtherType"),
        (14, "0006", "hardware 6"),
        (16, "86dd", "protocol 0x86dd"),
        (18, "08", "addresses of 8"),
        (19, "10", "and 16 bytes"),
    ],
)
def test_what_is_no_arp_for_ipv4_over_ethernet_is_refused(
    offset: int, value: str, words: str
) -> None:
    change = bytes.fromhex(value)
    frame = REQUEST[:offset] + change + REQUEST[offset + len(change) :]
    with pytest.raises(FrameError, match=words):
        arp.decode(frame)


@pytest.mark.parametrize("length", [0, 13, 14, 41])
def test_a_cut_frame_is_refused(length: int) -> None:
    with pytest.raises(FrameError, match=f"of {length} bytes"):
        arp.decode(REQUEST[:length])
