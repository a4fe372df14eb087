"""Message framing: the 19-octet header, and a byte stream cut into messages (RFC 4271 §4.1).

Bodies are opaque here; `open`, `update` and `notify` read them. Message types that carry no more
than a fixed form (KEEPALIVE, ROUTE-REFRESH) are completed in this module.
"""

from typing import Final

import msgspec

from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_MESSAGE_BYTES
from clarion.proto.bgp.iana import (
    ErrorCode,
    Family,
    HeaderError,
    MessageType,
    RefreshSubtype,
    RouteRefreshError,
)

MARKER: Final = b"\xff" * 16
HEADER_BYTES: Final = 19

MINIMUM_BYTES: Final = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 19,
}
"""Least length of a whole message, by type (RFC 4271 §4.2 to §4.5).

A ROUTE-REFRESH has 23 octets, but what one of another length costs depends on what it says.
"""

KEEPALIVE: Final = MARKER + b"\x00\x13\x04"
"""The only KEEPALIVE there is (RFC 4271 §4.4)."""
_REFRESH_BYTES: Final = 4


class Frame(msgspec.Struct, frozen=True):
    """One whole message: its type and what follows the header."""

    type: MessageType
    body: bytes


class RouteRefresh(msgspec.Struct, frozen=True):
    """A ROUTE-REFRESH message (RFC 2918 §3); `subtype` per RFC 7313 §3.2."""

    family: Family
    subtype: int = 0


def encode_frame(kind: MessageType, body: bytes) -> bytes:
    """Put the header before a body."""
    return MARKER + (HEADER_BYTES + len(body)).to_bytes(2, "big") + kind.to_bytes(1, "big") + body


class Framer:
    """Cuts a byte stream into messages. Holds at most one incomplete message.

    Attributes:
        message_bytes: The longest message accepted; 4096 unless we offered to take extended ones
            (RFC 8654 §4). OPEN and KEEPALIVE never grow.
    """

    def __init__(self, message_bytes: int = BGP_MESSAGE_BYTES) -> None:
        self.message_bytes = message_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what the connection delivered."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Take one message, or None when the next one is incomplete.

        Raises:
            DecodeError: the header is wrong (Message Header Error). The stream is lost from there.
        """
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        length, kind = self._check_header(bytes(buffer[:HEADER_BYTES]))
        if len(buffer) < length:
            return None
        frame = Frame(kind, bytes(buffer[HEADER_BYTES:length]))
        del buffer[:length]
        return frame

    def _check_header(self, header: bytes) -> tuple[int, MessageType]:
        if header[:16] != MARKER:  # RFC 4271 §6.1: all ones, or Connection Not Synchronized
            raise DecodeError(
                "the marker of a message is not all ones",
                ErrorCode.MESSAGE_HEADER,
                HeaderError.CONNECTION_NOT_SYNCHRONIZED,
            )
        length = int.from_bytes(header[16:18], "big")
        try:
            kind = MessageType(header[18])
        except ValueError:  # RFC 4271 §6.1: Bad Message Type, data is the type
            raise DecodeError(
                f"message type {header[18]} does not exist",
                ErrorCode.MESSAGE_HEADER,
                HeaderError.BAD_MESSAGE_TYPE,
                header[18:19],
            ) from None
        maximum = self.message_bytes
        if kind in (MessageType.OPEN, MessageType.KEEPALIVE):
            maximum = BGP_MESSAGE_BYTES  # RFC 8654 §4
        wrong = not MINIMUM_BYTES[kind] <= length <= maximum
        if kind is MessageType.KEEPALIVE and length != HEADER_BYTES:
            wrong = True
        if wrong:  # RFC 4271 §6.1: Bad Message Length, data is the length field
            raise DecodeError(
                f"a {kind.name} of {length} octets is too short or too long",
                ErrorCode.MESSAGE_HEADER,
                HeaderError.BAD_MESSAGE_LENGTH,
                header[16:18],
            )
        return length, kind


def encode_route_refresh(message: RouteRefresh) -> bytes:
    """The whole ROUTE-REFRESH message."""
    family = message.family
    body = family.afi.to_bytes(2, "big") + bytes((message.subtype, family.safi))
    return encode_frame(MessageType.ROUTE_REFRESH, body)


def decode_route_refresh(body: bytes, *, enhanced: bool = True) -> RouteRefresh:
    """Read the body of a ROUTE-REFRESH; what follows its four octets is not for us (RFC 5291).

    Args:
        body: What follows the header.
        enhanced: The markers of RFC 7313 were agreed on.

    Raises:
        DecodeError: too short, or a marker that is too short or too long.
    """
    subtype = body[2] if len(body) > 2 else RefreshSubtype.REQUEST
    marker = subtype in (RefreshSubtype.BEGIN, RefreshSubtype.END)
    if enhanced and marker and len(body) != _REFRESH_BYTES:
        raise DecodeError(  # RFC 7313 §5: data is the complete message
            f"a ROUTE-REFRESH body of {len(body)} octets instead of {_REFRESH_BYTES}",
            ErrorCode.ROUTE_REFRESH_MESSAGE,
            RouteRefreshError.INVALID_MESSAGE_LENGTH,
            encode_frame(MessageType.ROUTE_REFRESH, body),
        )
    if len(body) < _REFRESH_BYTES:  # RFC 2918 §3
        raise DecodeError(
            f"a ROUTE-REFRESH body of {len(body)} octets",
            ErrorCode.MESSAGE_HEADER,
            HeaderError.BAD_MESSAGE_LENGTH,
            (HEADER_BYTES + len(body)).to_bytes(2, "big"),
        )
    return RouteRefresh(Family(int.from_bytes(body[:2], "big"), body[3]), subtype)
