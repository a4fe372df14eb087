"""AS paths: segments as they stand in AS_PATH and AS4_PATH, and what is wrong with them.

RFC 4271 §4.3 b; four-octet ASNs RFC 6793; confederations RFC 5065.
"""

from typing import Final

import msgspec

from clarion.proto.bgp.iana import AS_TRANS, MAX_TWO_OCTET_ASN, SegmentType

_SEGMENT_TYPES: Final = frozenset(int(kind) for kind in SegmentType)
_SEGMENT_ASNS: Final = 255
_CONFEDERATION: Final = {SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET}
_SETS: Final = {SegmentType.AS_SET, SegmentType.AS_CONFED_SET}


class MalformedError(Exception):
    """A value that is not well formed; the row of the attribute says what that costs."""


class AsSegment(msgspec.Struct, frozen=True):
    """One AS_PATH segment, at most 255 ASNs long."""

    type: SegmentType
    asns: tuple[int, ...]


def decode_path(data: bytes, width: int) -> tuple[AsSegment, ...]:
    """Read segments whose ASNs have `width` octets, 2 or 4.

    Raises:
        MalformedError: lengths that contradict each other, an unknown type, or AS 0.
    """
    segments: list[AsSegment] = []
    position = 0
    while position < len(data):
        if len(data) - position < 2:  # RFC 7606 §7.2: underrun
            raise MalformedError("a segment header is cut short")
        kind, count = data[position], data[position + 1]
        start, position = position + 2, position + 2 + count * width
        if kind not in _SEGMENT_TYPES or count == 0 or position > len(data):
            raise MalformedError(f"segment type {kind} with {count} ASNs")
        numbers = range(start, position, width)
        asns = tuple(int.from_bytes(data[i : i + width], "big") for i in numbers)
        if 0 in asns:  # RFC 7607 §2
            raise MalformedError("AS 0 in the path")
        segments.append(AsSegment(SegmentType(kind), asns))
    return tuple(segments)


def encode_path(path: tuple[AsSegment, ...], width: int) -> bytes:
    """Segments with ASNs of `width` octets, 2 or 4."""
    out = bytearray()
    for segment in path:
        assert 0 < len(segment.asns) <= _SEGMENT_ASNS
        out += bytes((segment.type, len(segment.asns)))
        for asn in segment.asns:
            # RFC 6793 §4.2.2: AS_TRANS stands for what two octets cannot hold.
            fits = width == 4 or asn <= MAX_TWO_OCTET_ASN
            out += (asn if fits else AS_TRANS).to_bytes(width, "big")
    return bytes(out)


def check_segments(path: tuple[AsSegment, ...], *, internal: bool) -> None:
    """Refuse segments that are well formed and still must not come.

    Raises:
        MalformedError: there are some.
    """
    kinds = {segment.type for segment in path}
    if not internal and kinds & _CONFEDERATION:  # RFC 5065 §5: we are in none with the peer
        raise MalformedError("a confederation segment from an external peer")
    if kinds & _SETS:  # RFC 9774 §3
        raise MalformedError("a set of ASNs in the path")


def path_length(path: tuple[AsSegment, ...]) -> int:
    """Hops of a path: an AS_SET counts one (RFC 4271 §9.1.2.2), confederation segments none."""
    total = 0
    for segment in path:
        if segment.type is SegmentType.AS_SEQUENCE:
            total += len(segment.asns)
        elif segment.type is SegmentType.AS_SET:
            total += 1
    return total
