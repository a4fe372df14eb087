"""NOTIFICATION messages: codes, the shutdown communication, and their reading in words.

RFC 4271 §4.5 and §6; Cease subcodes RFC 4486; shutdown communication RFC 9003; Hard Reset RFC 8538.
"""

from typing import Final

import msgspec

from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_COMMUNICATION_BYTES, BGP_MESSAGE_BYTES
from clarion.proto.bgp.iana import (
    SUBCODES,
    Cease,
    ErrorCode,
    Family,
    HeaderError,
    MessageType,
)
from clarion.proto.bgp.wire import HEADER_BYTES, encode_frame

_SPOKEN: Final = (Cease.ADMINISTRATIVE_SHUTDOWN, Cease.ADMINISTRATIVE_RESET)
_DATA_SHOWN: Final = 32
_CAPITALS: Final = frozenset(("AS", "BFD", "BGP"))


class Notification(msgspec.Struct, frozen=True):
    """Why a connection ends: error code, subcode and data as on the wire."""

    code: int
    subcode: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        return describe(self)

    @property
    def communication(self) -> str:
        """The operator's words in a shutdown or reset (RFC 9003 §2).

        Empty when there are none, or none that can be read. They are a stranger's: `describe` shows
        them so that a terminal or a log takes no harm.
        """
        if self.code != ErrorCode.CEASE or self.subcode not in _SPOKEN or not self.data:
            return ""
        if len(self.data) <= self.data[0]:  # RFC 9003 §2: the length leads beyond the data
            return ""
        try:
            return self.data[1 : 1 + self.data[0]].decode()
        except UnicodeDecodeError:
            return ""

    @property
    def hard_reset(self) -> "Notification | None":
        """The true reason inside a Hard Reset (RFC 8538 §3), where it is well formed."""
        if (self.code, self.subcode) != (ErrorCode.CEASE, Cease.HARD_RESET) or len(self.data) < 2:
            return None
        inner = Notification(self.data[0], self.data[1], self.data[2:])
        # Some speakers put their words there without the codes in front of them.
        nested = (inner.code, inner.subcode) == (ErrorCode.CEASE, Cease.HARD_RESET)
        return None if nested or "subcode" in _name(inner) else inner


def cease(subcode: Cease, communication: str = "") -> Notification:
    """A Cease. Only a shutdown or reset carries words; they are cut to the octets that fit."""
    if subcode not in _SPOKEN:
        return Notification(ErrorCode.CEASE, subcode)
    text = communication.encode("utf-8", "replace")[:BGP_COMMUNICATION_BYTES]
    text = text.decode("utf-8", "ignore").encode()  # never half a character
    data = bytes((len(text),)) + text if text else b""
    return Notification(ErrorCode.CEASE, subcode, data)


def too_many_prefixes(family: Family, limit: int) -> Notification:
    """The peer announces more than so many prefixes of a family (RFC 4486 §4)."""
    data = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + limit.to_bytes(4, "big")
    return Notification(ErrorCode.CEASE, Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED, data)


def from_error(error: DecodeError) -> Notification:
    """What to tell the sender of bytes that could not be read."""
    return Notification(error.code, error.subcode, error.data)


def encode_notification(notification: Notification) -> bytes:
    """The whole message; data beyond the message size is cut."""
    data = notification.data[: BGP_MESSAGE_BYTES - HEADER_BYTES - 2]
    body = bytes((notification.code, notification.subcode)) + data
    return encode_frame(MessageType.NOTIFICATION, body)


def decode_notification(body: bytes) -> Notification:
    """Read the body of a NOTIFICATION.

    Raises:
        DecodeError: shorter than code and subcode. Never to be answered (RFC 4271 §6.4).
    """
    if len(body) < 2:
        raise DecodeError(
            "a NOTIFICATION without code and subcode",
            ErrorCode.MESSAGE_HEADER,
            HeaderError.BAD_MESSAGE_LENGTH,
        )
    return Notification(body[0], body[1], body[2:])


def describe(notification: Notification) -> str:
    """The notification in words, for example `Cease/Administrative Shutdown: "maintenance"`."""
    name, data = _name(notification), notification.data
    inner = notification.hard_reset
    if inner is not None:
        return f"{name} ({describe(inner)})"
    if notification.communication:
        return f'{name}: "{_harmless(notification.communication)}"'
    if not data:
        return name
    limit = (ErrorCode.CEASE, Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED)
    if (notification.code, notification.subcode) == limit and len(data) == 7:
        family = Family(int.from_bytes(data[:2], "big"), data[2])
        return f"{name}: {family}, {int.from_bytes(data[3:], 'big')} allowed"
    cut = "..." if len(data) > _DATA_SHOWN else ""
    return f"{name} (data {data[:_DATA_SHOWN].hex()}{cut})"


def _name(notification: Notification) -> str:
    try:
        text = _words(ErrorCode(notification.code).name)
    except ValueError:
        return f"error {notification.code} subcode {notification.subcode}"
    registry = SUBCODES.get(notification.code)
    if not notification.subcode:
        return text
    try:
        if registry is None:
            raise ValueError
        return f"{text}/{_words(registry(notification.subcode).name)}"
    except ValueError:
        return f"{text}/subcode {notification.subcode}"


def _words(name: str) -> str:
    words = name.split("_")
    return " ".join(word if word in _CAPITALS else word.title() for word in words)


def _harmless(text: str) -> str:
    """Without line ends, escape sequences and marks that turn the direction of writing."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
