"""What is attacked: one function from bytes per decoder or machine, with seeds that it accepts.

A target returns when the bytes were read or refused in the defined way, and raises otherwise.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from clarion.apiserver.protobuf import decode_protobuf
from clarion.apiserver.status import ApiError
from clarion.base.addr import Address
from clarion.base.errors import DecodeError
from clarion.edge.ipc import UNREADABLE
from clarion.model.manifests import load
from clarion.proto.bfd.config import BfdConfig
from clarion.proto.bfd.packet import LENGTH, BfdDecodeError, ControlPacket, State
from clarion.proto.bfd.packet import decode as decode_bfd
from clarion.proto.bfd.packet import encode as encode_bfd
from clarion.proto.bfd.session import BfdSession, Memory
from clarion.proto.bgp.attrs import decode_attributes, encode_attributes, merge_as4_path
from clarion.proto.bgp.iana import SUBCODES, ErrorCode, HeaderError, MessageType
from clarion.proto.bgp.nlri import decode_prefixes, encode_prefixes
from clarion.proto.bgp.notify import decode_notification, describe, encode_notification
from clarion.proto.bgp.open import decode_open, encode_open
from clarion.proto.bgp.update import decode_update
from clarion.proto.bgp.wire import (
    KEEPALIVE,
    Framer,
    decode_route_refresh,
    encode_frame,
    encode_route_refresh,
)
from clarion.proto.frr.delta import parse
from clarion.proto.kube import wire as kube
from clarion.proto.l2 import arp, ndp
from clarion.proto.l2.ethernet import FrameError
from clarion.proto.l2.responder import Answer, Drop, Link, Responder
from clarion.proto.pulse import messages

from . import bgp_session
from .tape import Tape, piece

VIP, VIP6 = Address(4, 0xCB00710A), Address(6, 0x20010DB8 << 96 | 0x10)
MAC, OTHER = bytes.fromhex("02005e0000aa"), bytes.fromhex("02005e0000bb")


BFD_LONGEST_SECONDS = 255 * (1 << 32) / 1e6
"""What a peer may ask for: the largest multiplier of the largest interval (RFC 5880 §4.1)."""


class Target(msgspec.Struct, frozen=True):
    """What is attacked, and what to begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def refused(error: DecodeError, *codes: ErrorCode) -> None:
    """A fault has one of these error codes, with a subcode of its registry and words."""
    assert error.code in codes, error
    assert error.subcode == 0 or SUBCODES[error.code](error.subcode), error
    assert error.message
    encode_notification(decode_notification(bytes((error.code, error.subcode)) + error.data))


def bgp_frames(data: bytes) -> None:
    """However a stream is cut into pieces, the same messages and the same error come out."""
    cut = data[0] % 64 + 1 if data else 1
    stream = data[1:]
    whole = _frames([stream])
    assert whole == _frames([stream[i : i + cut] for i in range(0, len(stream), cut)])
    sent = b"".join(encode_frame(kind, body) for kind, body in whole[0])
    assert stream.startswith(sent)
    if whole[1] is not None:
        code, subcode = whole[1]
        assert (code, HeaderError(subcode)) == (1, _header_fault(stream[len(sent) :]))


def _frames(pieces: list[bytes]) -> tuple[list[tuple[MessageType, bytes]], tuple[int, int] | None]:
    framer, found = Framer(), list[tuple[MessageType, bytes]]()
    for each in pieces:
        framer.feed(each)
        try:
            while (frame := framer.next_frame()) is not None:
                found.append((frame.type, frame.body))
        except DecodeError as error:
            refused(error, ErrorCode.MESSAGE_HEADER)
            return found, (error.code, error.subcode)
    return found, None


def _header_fault(rest: bytes) -> HeaderError:
    """What is wrong with the header at the start of `rest` (RFC 4271 §6.1), told independently."""
    if rest[:16] != b"\xff" * 16:
        return HeaderError.CONNECTION_NOT_SYNCHRONIZED
    if not 1 <= rest[18] <= 5:
        return HeaderError.BAD_MESSAGE_TYPE
    return HeaderError.BAD_MESSAGE_LENGTH


def bgp_open(data: bytes) -> None:
    """An OPEN's body: refused with code 2, or read so that it can be written again."""
    try:
        read = decode_open(data)
    except DecodeError as error:
        refused(error, ErrorCode.OPEN_MESSAGE)
        return
    assert decode_open(encode_open(read)[19:]) == read


def bgp_update(data: bytes) -> None:
    """An UPDATE's body, read in each of the four kinds of session."""
    for four in (True, False):
        for internal in (True, False):
            try:
                update = decode_update(data, four_octet_asn=four, internal=internal)
            except DecodeError as error:
                refused(error, ErrorCode.UPDATE_MESSAGE)
                continue
            assert not (update.treat_as_withdraw and update.announced)
            assert update.end_of_rib is None or not update.reachable
            merge_as4_path(update.attributes)


def bgp_attributes(data: bytes) -> None:
    """Attributes with well-formed headers: flags, code and value from a tape."""
    tape, listed = Tape(data), bytearray()
    while tape:
        flags, code, value = tape.octet(), tape.octet(), tape.piece()
        listed += bytes((flags | 0x10, code)) + piece(value)
    try:
        read, _faults = decode_attributes(bytes(listed), four_octet_asn=True, internal=True)
    except DecodeError as error:
        refused(error, ErrorCode.UPDATE_MESSAGE)
        return
    written = encode_attributes(read, four_octet_asn=True)
    assert decode_attributes(written, four_octet_asn=True, internal=True)[0] == read


def bgp_small(data: bytes) -> None:
    """NOTIFICATION, ROUTE-REFRESH and lists of prefixes."""
    with contextlib.suppress(DecodeError):
        said = decode_notification(data)
        assert describe(said)
        assert decode_notification(encode_notification(said)[19:]).code == said.code
    try:
        asked = decode_route_refresh(data)
    except DecodeError as error:
        refused(error, ErrorCode.ROUTE_REFRESH_MESSAGE, ErrorCode.MESSAGE_HEADER)
    else:
        assert decode_route_refresh(encode_route_refresh(asked)[19:]) == asked
    for version in (4, 6):
        try:
            read = decode_prefixes(data, version)
        except DecodeError as error:
            refused(error, ErrorCode.UPDATE_MESSAGE)
        else:
            assert decode_prefixes(encode_prefixes(read), version) == read


def bfd(data: bytes) -> None:
    """BFD control packets, and a machine that hears them at any time."""
    tape = Tape(data)
    session = BfdSession(BfdConfig(), Memory(discriminator=7), 0.0)
    now = 0.0
    while tape:
        now += tape.octet() / 10
        for sent in session.tick(now, 0.5):
            decode_bfd(sent)
        packet = tape.octets(tape.octet() % 64)
        try:
            read = decode_bfd(packet)
        except BfdDecodeError:
            continue
        if read.length == LENGTH:  # a longer packet is heard, never sent
            assert decode_bfd(encode_bfd(read)) == read
        for sent in session.receive(read, now, 0.5):
            decode_bfd(sent)
        deadline = session.next_deadline
        assert deadline is None or deadline <= now + BFD_LONGEST_SECONDS


def l2(data: bytes) -> None:
    """Frames of ARP and NDP, and the responder that hears them."""
    for decode in (arp.decode, ndp.decode_solicitation, ndp.decode_advertisement):
        with contextlib.suppress(FrameError):
            decode(data)
    responder = Responder()
    responder.announce(VIP, None)
    responder.announce(VIP6, None)
    link = Link("eth0", MAC)
    for receive in (responder.receive_arp, responder.receive_ndp):
        verdict = receive(data, link)
        assert isinstance(verdict, Answer | Drop)
        if isinstance(verdict, Answer):
            assert verdict.address in (VIP, VIP6)


_TO_PULSE: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.ToPulse)
_FROM_PULSE: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.FromPulse)


def pulse(data: bytes) -> None:
    """Messages between the speaker and its pulse process."""
    for decoder in (_TO_PULSE, _FROM_PULSE):
        try:
            read = decoder.decode(data)
        except UNREADABLE:
            continue
        assert decoder.decode(msgspec.msgpack.encode(read)) == read


def kube_wire(data: bytes) -> None:
    """What an API server answers: pages, watch lines, Status."""
    for decode in (kube.decode_page, kube.decode_frame, kube.decode_metadata):
        with contextlib.suppress(DecodeError):
            decode(data)
    kube.decode_status(data)
    with contextlib.suppress(DecodeError):
        splitter = kube.LineSplitter(64)
        for start in range(0, len(data), 7):
            for line in splitter.feed(data[start : start + 7]):
                assert b"\n" not in line
                assert len(line) <= 64


def frr_running(data: bytes) -> None:
    """What FRR prints as its configuration."""
    parse(data.decode("utf-8", "replace"))


def manifests(data: bytes) -> None:
    """YAML of users: objects or problems, each with its place."""
    found = load([("file.yaml", data.decode("utf-8", "replace"))])
    for problem in found.problems:
        assert problem.line >= 0
        assert problem.message


def protobuf(data: bytes) -> None:
    """Request bodies in Kubernetes' protobuf form."""
    for body in (data, b"k8s\x00" + data):
        with contextlib.suppress(ApiError):
            decode_protobuf(body)


_BFD = encode_bfd(
    ControlPacket(
        state=State.DOWN,
        detect_multiplier=3,
        my_discriminator=9,
        your_discriminator=0,
        desired_min_tx=1_000_000,
        required_min_rx=1_000_000,
    )
)
_QUESTION = arp.ArpPacket(
    b"\xff" * 6, OTHER, arp.Operation.REQUEST, OTHER, Address(4, 0xCB007101), bytes(6), VIP
)
_ATTRIBUTES = (
    b"\x40\x01" + piece(b"\0"),
    b"\x40\x02" + piece(bytes.fromhex("02010000fc01")),
    b"\x40\x03" + piece(bytes.fromhex("c0000202")),
    b"\xc0\x08" + piece(bytes.fromhex("fc010001")),
    b"\x80\x0e" + piece(bytes.fromhex("0002011020010db8000100000000000000000002002020010db8")),
    b"\xc0\x20" + piece(bytes.fromhex("0000fc010000000100000002")),
)
_UPDATE = bytes.fromhex(
    "0000001440010100400206020100 00fc01400304c000020218c63364".replace(" ", "")
)
_PAGE = b'{"metadata":{"resourceVersion":"5","continue":"x"},"items":[{"metadata":{"name":"a"}}]}'
_LINE = b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}\n'
_POOL = b"""apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: a, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
"""
_RUNNING = b"router bgp 64512\n neighbor 192.0.2.1 remote-as 64513\n exit\nend\n"

TARGETS: dict[str, Target] = {
    "bgp-frames": Target(bgp_frames, (b"\x05" + KEEPALIVE * 2 + bgp_session.good_open(),)),
    "bgp-open": Target(bgp_open, (bgp_session.good_open()[19:],)),
    "bgp-update": Target(bgp_update, (_UPDATE, bytes(4))),
    "bgp-attributes": Target(bgp_attributes, (b"".join(_ATTRIBUTES), *_ATTRIBUTES)),
    "bgp-small": Target(bgp_small, (b"\6\2", b"\0\1\0\1", b"\x18\xc6\x33\x64\x20\xcb\0\x71\7")),
    "bgp-session": Target(bgp_session.run, bgp_session.SEEDS),
    "bfd": Target(bfd, ((b"\x0a" + bytes((len(_BFD),)) + _BFD) * 3,)),
    "l2": Target(l2, (arp.encode(_QUESTION),)),
    "pulse": Target(
        pulse,
        (
            msgspec.msgpack.encode(messages.Heartbeat(1)),
            msgspec.msgpack.encode(
                messages.ChangeTable(1, (messages.Entry(b"\xcb\0\x71\7", None),))
            ),
        ),
    ),
    "kube-wire": Target(kube_wire, (_PAGE, _LINE)),
    "frr-running": Target(frr_running, (_RUNNING,)),
    "manifests": Target(manifests, (_POOL,)),
    "protobuf": Target(protobuf, (b"k8s\0\n\x0f\n\x02v1\x12\x09Namespace",)),
}
