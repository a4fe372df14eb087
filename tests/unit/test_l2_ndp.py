"""The neighbor discovery codec against recorded messages and each rule of RFC 4861 §7.1."""

import pytest

from clarion.base.addr import parse_address
from clarion.proto.l2 import ndp
from clarion.proto.l2.ethernet import FrameError, multicast_mac

CLIENT_MAC = bytes.fromhex("02005e000001")
OWN_MAC = bytes.fromhex("02005e0000aa")
CLIENT = parse_address("fe80::5eff:fe00:1")
VIP = parse_address("2001:db8::10")
GROUP = parse_address("ff02::1:ff00:10")

QUESTION = ndp.Solicitation(
    destination_mac=bytes.fromhex("3333ff000010"),
    source_mac=CLIENT_MAC,
    source=CLIENT,
    destination=GROUP,
    target=VIP,
    source_link_layer=CLIENT_MAC,
)
FRAME = ndp.encode_solicitation(QUESTION)


def patched(offset: int, value: bytes, frame: bytes = FRAME, *, resum: bool = True) -> bytes:
    """The frame with other bytes at an offset, and a checksum that is right again."""
    frame = frame[:offset] + value + frame[offset + len(value) :]
    if resum:
        payload = frame[54:56] + b"\0\0" + frame[58:]
        total = ndp.checksum(frame[22:38], frame[38:54], payload)
        frame = frame[:56] + total.to_bytes(2, "big") + frame[58:]
    return frame


def test_the_checksum_of_a_message_that_linux_accepted() -> None:
    source = parse_address("fe80::3c3d:95ff:fe96:8cc6").packed
    destination = parse_address("fe80::f072:5aff:fe52:3829").packed
    payload = bytes.fromhex("8800aab5 60000000 20010db8000000000000000000000010 02013e3d95968cc6")
    assert ndp.checksum(source, destination, payload) == 0
    unsummed = payload[:2] + b"\0\0" + payload[4:]
    assert ndp.checksum(source, destination, unsummed) == 0xAAB5


def test_groups() -> None:
    assert ndp.solicited_node(VIP) == GROUP
    assert multicast_mac(GROUP) == bytes.fromhex("3333ff000010")
    assert multicast_mac(ndp.ALL_NODES) == bytes.fromhex("333300000001")


def test_a_solicitation_survives_the_wire() -> None:
    assert ndp.decode_solicitation(FRAME) == QUESTION
    assert ndp.decode_solicitation(FRAME + bytes(4)) == QUESTION, "padding"


def test_the_answer_is_solicited_and_overrides() -> None:
    answer = ndp.answer(QUESTION, OWN_MAC)
    assert answer.flags == ndp.Flag.SOLICITED | ndp.Flag.OVERRIDE
    assert (answer.destination, answer.destination_mac) == (CLIENT, CLIENT_MAC)
    assert answer.source == answer.target == VIP
    assert answer.target_link_layer == answer.source_mac == OWN_MAC
    assert ndp.decode_advertisement(ndp.encode_advertisement(answer)) == answer


def test_without_the_option_the_answer_goes_to_the_sender_of_the_frame() -> None:
    unicast = ndp.Solicitation(
        destination_mac=OWN_MAC, source_mac=CLIENT_MAC, source=CLIENT, destination=VIP, target=VIP
    )
    decoded = ndp.decode_solicitation(ndp.encode_solicitation(unicast))
    assert decoded == unicast
    assert ndp.answer(decoded, OWN_MAC).destination_mac == CLIENT_MAC


def test_who_tests_the_address_is_told_before_all() -> None:
    detection = ndp.Solicitation(
        destination_mac=multicast_mac(GROUP),
        source_mac=CLIENT_MAC,
        source=ndp.UNSPECIFIED,
        destination=GROUP,
        target=VIP,
    )
    answer = ndp.answer(ndp.decode_solicitation(ndp.encode_solicitation(detection)), OWN_MAC)
    assert answer.flags == ndp.Flag.OVERRIDE
    assert answer.destination == ndp.ALL_NODES
    assert answer.destination_mac == bytes.fromhex("333300000001")


def test_the_announcement_is_for_all_nodes() -> None:
    message = ndp.announcement(VIP, OWN_MAC)
    assert message.flags == ndp.Flag.OVERRIDE
    assert message.destination == ndp.ALL_NODES
    assert message.target_link_layer == OWN_MAC


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (patched(12, b"\x08\x00"), "no ICMPv6"),
        (patched(14, b"\x40"), "no ICMPv6"),
        (patched(20, b"\x11"), "no ICMPv6"),
        (patched(21, b"\xfe"), "hop limit 254"),
        (patched(18, b"\x00\x17"), "of 23 bytes"),
        (patched(18, b"\x00\x40"), "are said to be"),
        (patched(54, b"\x88"), "type 136"),
        (patched(55, b"\x01"), "code 1"),
        (patched(56, b"\x00\x00", resum=False), "checksum"),
        (patched(62, b"\xff\x02"), "multicast"),
        (patched(79, b"\x00"), "option of no length"),
        (patched(79, b"\x02"), "longer than the message"),
        (patched(22, bytes(16)), "with a source link-layer"),
        (patched(22, bytes(16) + VIP.packed), "outside the solicited-node"),
        (FRAME[:77], "too short"),
    ],
)
def test_what_must_be_discarded_is(frame: bytes, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        ndp.decode_solicitation(frame)


def test_unknown_options_are_passed_over() -> None:
    nonce = patched(78, b"\x0e")
    assert ndp.decode_solicitation(nonce).source_link_layer is None


def test_a_solicited_advertisement_to_a_group_is_refused() -> None:
    frame = patched(58, b"\x60", ndp.encode_advertisement(ndp.announcement(VIP, OWN_MAC)))
    with pytest.raises(FrameError, match="solicited advertisement"):
        ndp.decode_advertisement(frame)
