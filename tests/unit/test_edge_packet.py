"""The kernel filter as a program: run by a small BPF machine, on frames of every kind."""

import socket
import struct

import pytest

from clarion.base.addr import parse_address
from clarion.edge.packet import arp_checks, filter_program, ndp_checks
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import BROADCAST

MAC = bytes.fromhex("02005e000001")
INDEX = 7
REQUEST, REPLY = (arp.encode(p) for p in arp.announcements(parse_address("203.0.113.1"), MAC))
VIP = parse_address("2001:db8::10")
SOLICITATION = ndp.encode_solicitation(
    ndp.Solicitation(BROADCAST, MAC, parse_address("fe80::1"), VIP, VIP, MAC)
)
ADVERTISEMENT = ndp.encode_advertisement(ndp.announcement(VIP, MAC))
SIZES = {0x20: 4, 0x28: 2, 0x30: 1}


def accepts(program: bytes, frame: bytes, *, index: int = INDEX, kind: int = 0) -> bool:
    """Run a classic BPF program as bpf(4) describes it."""
    ancillary = {0xFFFFF004: kind, 0xFFFFF008: index}
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        op, if_true, if_false, operand = code[position]
        position += 1
        if op in SIZES:
            if operand in ancillary:
                accumulator = ancillary[operand]
            elif operand + SIZES[op] > len(frame):
                return False  # a load beyond the end drops the packet
            else:
                accumulator = int.from_bytes(frame[operand : operand + SIZES[op]], "big")
        elif op == 0x15:
            position += if_true if accumulator == operand else if_false
        else:
            assert op == 0x06
            return bool(operand)


@pytest.mark.parametrize(
    ("frame", "for_arp", "for_ndp"),
    [
        (REQUEST, True, False),
        (REPLY, False, False),
        (SOLICITATION, False, True),
        (ADVERTISEMENT, False, False),
        (SOLICITATION[:20] + b"\x11" + SOLICITATION[21:], False, False),
        (REQUEST[:20], False, False),
        (SOLICITATION[:54], False, False),
        (b"", False, False),
    ],
)
def test_only_questions_pass(frame: bytes, for_arp: bool, for_ndp: bool) -> None:
    assert accepts(filter_program(INDEX, arp_checks()), frame) is for_arp
    assert accepts(filter_program(INDEX, ndp_checks()), frame) is for_ndp


@pytest.mark.parametrize("kind", [socket.PACKET_HOST, socket.PACKET_BROADCAST])
def test_frames_for_this_host_and_for_all_pass(kind: int) -> None:
    assert accepts(filter_program(INDEX, arp_checks()), REQUEST, kind=kind)


def test_frames_of_a_vlan_on_top_do_not_pass() -> None:
    program = filter_program(INDEX, arp_checks())
    assert not accepts(program, REQUEST, index=INDEX + 1)
    assert not accepts(program, REQUEST, kind=socket.PACKET_OTHERHOST)
