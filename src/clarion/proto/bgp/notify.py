"""NOTIFICATION messages: codes, the shutdown communication, and their reading in words.

RFC 4271 §4.5 and §6; Cease subcodes RFC 4486; shutdown communication RFC 9003.
"""

import msgspec

from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_COMMUNICATION_BYTES, BGP_MESSAGE_BYTES
from clarion.proto.bgp.iana import SUBCODES, Cease, ErrorCode, HeaderError, MessageType
from clarion.proto.bgp.wire import HEADER_BYTES, encode_frame

_SPOKEN = (Cease.ADMINISTRATIVE_SHUTDOWN, Cease.ADMINISTRATIVE_RESET)


class Notification(msgspec.Struct, frozen=True):
    """Why a connection ends: error code, subcode and data as on the wire."""

    code: int
    subcode: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        return describe(self)

    @property
    def communication(self) -> str:
        """The operator's words in a shutdown or reset (RFC 9003 §2); empty when there are none."""
        if self.code != ErrorCode.CEASE or self.subcode not in _SPOKEN or not self.data:
            return ""
        length = self.data[0]
        return self.data[1 : 1 + length].decode("utf-8", "replace")


def cease(subcode: Cease, communication: str = "") -> Notification:
    """A Cease. Only a shutdown or reset carries words; they are cut to the octets that fit."""
    if subcode not in _SPOKEN:
        return Notification(ErrorCode.CEASE, subcode)
    text = communication.encode("utf-8", "replace")[:BGP_COMMUNICATION_BYTES]
    text = text.decode("utf-8", "ignore").encode()  # never half a character
    data = bytes((len(text),)) + text if text else b""
    return Notification(ErrorCode.CEASE, subcode, data)


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
    try:
        text = _words(ErrorCode(notification.code).name)
    except ValueError:
        return f"error {notification.code} subcode {notification.subcode}"
    registry = SUBCODES.get(notification.code)
    if registry is not None and notification.subcode:
        try:
            text += f"/{_words(registry(notification.subcode).name)}"
        except ValueError:
            text += f"/subcode {notification.subcode}"
    if notification.communication:
        text += f': "{notification.communication}"'
    return text


def _words(name: str) -> str:
    return name.replace("_", " ").title()
