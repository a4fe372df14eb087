"""The Echo function (RFC 5880 §6.4, §6.8.5, §6.8.8, §6.8.9; RFC 5881 §4).

An echo packet is an IP packet from us to us that is handed to the other side's hardware address:
its kernel forwards it back, and nothing but its forwarding is tested. The contents are ours alone,
with a secret so that nobody off the path can answer in the other side's place.

The other side may promise to send echoes back and not do it (a host that does not forward). Echo
counts from the first packet that came back; before that its loss means nothing.
"""

import struct
from typing import Final

from clarion.base.addr import Address

PORT: Final = 3785
"""RFC 5881 §4."""

_CONTENTS: Final = struct.Struct("!IIQ")
_UDP: Final = struct.Struct("!HHHH")
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_PROTOCOL_UDP: Final = 17
_TTL: Final = 255
CLASS_SELECTOR_6: Final = 0xC0
"""DSCP CS6, network control (RFC 4594 §3.1), as octet of the IP header."""


def echo_datagram(address: Address, discriminator: int, sequence: int, secret: int) -> bytes:
    """A whole IP packet from `address` to itself; nothing else has an echo's contents."""
    contents = _CONTENTS.pack(discriminator, sequence & 0xFFFFFFFF, secret)
    packed, length = address.packed, _UDP.size + len(contents)
    pseudo = packed + packed + struct.pack("!II", length, _PROTOCOL_UDP)
    summed = pseudo + _UDP.pack(PORT, PORT, length, 0) + contents
    udp = _UDP.pack(PORT, PORT, length, _checksum(summed) or 0xFFFF) + contents
    if address.version == 6:
        # RFC 5881 §5: TTL or Hop Limit 255.
        return (
            _IPV6.pack(
                6 << 28 | CLASS_SELECTOR_6 << 20, length, _PROTOCOL_UDP, _TTL, packed, packed
            )
            + udp
        )
    total = _IPV4.size + length
    fields = (0x45, CLASS_SELECTOR_6, total, 0, 0, _TTL, _PROTOCOL_UDP)
    head = _IPV4.pack(*fields, 0, packed, packed)
    return _IPV4.pack(*fields, _checksum(head), packed, packed) + udp


def echo_contents(datagram: bytes) -> tuple[int, int, int] | None:
    """Discriminator, sequence and secret of an IP packet that is an echo; None for any other."""
    if not datagram:
        return None
    if datagram[0] >> 4 == 4:
        start, protocol_at = (datagram[0] & 15) * 4, 9
    else:
        start, protocol_at = _IPV6.size, 6
    end = start + _UDP.size + _CONTENTS.size
    if len(datagram) < end or datagram[protocol_at] != _PROTOCOL_UDP:
        return None
    if _UDP.unpack_from(datagram, start)[1] != PORT:
        return None
    found: tuple[int, int, int] = _CONTENTS.unpack_from(datagram, start + _UDP.size)
    return found


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class EchoFunction:
    """When echo packets of one session are sent, and whether they come back.

    Args:
        secret: 64 unpredictable bits.
    """

    __slots__ = ("_answered", "_due", "_interval", "_sequence", "counted", "received", "secret")

    def __init__(self, secret: int) -> None:
        self.secret = secret
        self._interval = 0.0
        self._due = 0.0
        self._sequence = 0
        self._answered = 0
        self.counted = False
        """Some packet came back since the start: the function is in use."""
        self.received = 0

    @property
    def interval(self) -> float:
        """Seconds between two packets before jitter; 0 while none are sent."""
        return self._interval

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        return self._due if self._interval else None

    def run(self, interval: float, now: float) -> None:
        """Send at this interval from now on; 0 stops."""
        if interval and not self._interval:
            self._due, self._answered, self.counted = now, self._sequence, False
        if not interval:
            self.counted = False
        self._interval = interval

    def tick(self, now: float, spread: float, multiplier: int) -> int | None:
        """The sequence number of a packet to send now, or None.

        What failed shows at the next packet, so that a pause of our own, in which nothing was sent
        and nothing could come back, is no failure.
        """
        if not self._interval or now < self._due or self.failed(now, multiplier):
            return None
        self._sequence += 1
        # RFC 5880 §6.8.9: the actual interval may be between 75 and 100 percent.
        self._due = now + self._interval * (0.75 + 0.25 * spread)
        return self._sequence

    def failed(self, now: float, multiplier: int) -> bool:
        """Whether so many packets stayed away in a row (RFC 5880 §6.8.5)."""
        unanswered = self._sequence - self._answered
        return self.counted and now >= self._due and unanswered >= multiplier

    def heard(self, sequence: int, secret: int) -> bool:
        """Take in a packet that came back.

        Returns:
            Whether this was the first one since the start.
        """
        if secret != self.secret or not self._interval or not 0 < sequence <= self._sequence:
            return False
        self.received += 1
        self._answered = max(self._answered, sequence)
        first, self.counted = not self.counted, True
        return first
