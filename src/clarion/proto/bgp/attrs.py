"""Path attributes: one row per attribute in `TABLE` says how it is written, read and judged.

RFC 4271 §4.3 and §5; multiprotocol RFC 4760; 4-octet ASN RFC 6793; communities RFC 1997, 4360 and
8092; next hops of the other family RFC 8950 and 2545. What a malformed attribute costs is the
`severity` of its row (RFC 7606 §7). An attribute without a row is kept as it came.
"""

import enum
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.errors import DecodeError, InvalidInputError
from clarion.proto.bgp.aspath import (
    AsSegment,
    MalformedError,
    check_segments,
    decode_path,
    encode_path,
    path_length,
)
from clarion.proto.bgp.iana import (
    AS_TRANS,
    FAMILY_NAMES,
    IPV4_UNICAST,
    LINK_BANDWIDTH,
    MAX_TWO_OCTET_ASN,
    AttributeCode,
    AttributeFlag,
    ErrorCode,
    Family,
    Origin,
    SegmentType,
    UpdateError,
)
from clarion.proto.bgp.nlri import decode_prefixes, encode_prefixes

_OPTIONAL: Final = int(AttributeFlag.OPTIONAL)
_TRANSITIVE: Final = int(AttributeFlag.TRANSITIVE)
_KIND: Final = _OPTIONAL | _TRANSITIVE
_FIRST_MULTICAST: Final = 0xE0000000


class Severity(enum.IntEnum):
    """What a fault costs, from mild to grave (RFC 7606 §2)."""

    ATTRIBUTE_DISCARD = 1
    TREAT_AS_WITHDRAW = 2
    SESSION_RESET = 3


class Fault(msgspec.Struct, frozen=True):
    """One fault of a received UPDATE that did not end the session.

    `subcode` and `data` are for a NOTIFICATION, where it ends the session after all.
    """

    severity: Severity
    attribute: int
    message: str
    subcode: UpdateError = UpdateError.MALFORMED_ATTRIBUTE_LIST
    data: bytes = b""


class Aggregator(msgspec.Struct, frozen=True):
    """Who aggregated a route."""

    asn: int
    router_id: Address


class LargeCommunity(msgspec.Struct, frozen=True, order=True):
    """A large community, written `global:local1:local2` (RFC 8092 §5)."""

    global_admin: int
    local1: int
    local2: int

    def __str__(self) -> str:
        return f"{self.global_admin}:{self.local1}:{self.local2}"


def link_bandwidth_community(asn: int, octets_per_second: float) -> int:
    """The link bandwidth as an extended community, non-transitive (RFC 10005 §2).

    An ASN of four octets is written as AS_TRANS; the bandwidth as the nearest number of 32 bits,
    which has to be below 3.4e38.
    """
    administrator = asn if asn <= MAX_TWO_OCTET_ASN else AS_TRANS
    value = struct.pack(">HHf", LINK_BANDWIDTH, administrator, octets_per_second)
    return int.from_bytes(value, "big")


class MpReach(msgspec.Struct, frozen=True):
    """Routes of a family and their next hops: one, or a global and a link-local (RFC 2545 §3)."""

    family: Family
    next_hops: tuple[Address, ...]
    prefixes: tuple[Prefix, ...] = ()


class MpUnreach(msgspec.Struct, frozen=True):
    """Withdrawn routes of a family; none of them is the End-of-RIB marker (RFC 4724 §2)."""

    family: Family
    prefixes: tuple[Prefix, ...] = ()


class RawAttribute(msgspec.Struct, frozen=True):
    """An attribute that is not interpreted; `flags` without the Extended Length bit."""

    code: int
    flags: int
    data: bytes


class PathAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of one UPDATE; None or empty where the attribute is absent."""

    origin: Origin | None = None
    as_path: tuple[AsSegment, ...] | None = None
    next_hop: Address | None = None
    multi_exit_disc: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: Aggregator | None = None
    communities: tuple[int, ...] = ()
    originator_id: Address | None = None
    cluster_list: tuple[Address, ...] = ()
    mp_reach: MpReach | None = None
    mp_unreach: MpUnreach | None = None
    extended_communities: tuple[int, ...] = ()
    as4_path: tuple[AsSegment, ...] | None = None
    as4_aggregator: Aggregator | None = None
    large_communities: tuple[LargeCommunity, ...] = ()
    unknown: tuple[RawAttribute, ...] = ()


_NOTHING: Final = PathAttributes()


class Row(msgspec.Struct, frozen=True):
    """How one attribute is handled.

    `decode` and `encode` are told the octets of an ASN (2 or 4). `external` is the severity when
    the session is external, where it differs.
    """

    code: AttributeCode
    flags: int
    field: str
    decode: Callable[[bytes, int], Any]
    encode: Callable[[Any, int], bytes]
    severity: Severity
    subcode: UpdateError = UpdateError.OPTIONAL_ATTRIBUTE_ERROR
    internal_only: bool = False


class UnknownFamilyError(Exception):
    """An MP attribute of a family that is not read here; its bytes are kept as they came."""


class WrongLengthError(MalformedError):
    """A value that is longer or shorter than its attribute always is."""


def _fixed(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise WrongLengthError(f"{len(data)} octets instead of {size}")
    return data


def _units(data: bytes, size: int) -> list[bytes]:
    # RFC 7606 §7.8, §7.14; RFC 8092 §6: a non-zero multiple of the unit.
    if not data or len(data) % size:
        raise MalformedError(f"{len(data)} octets are not a non-zero multiple of {size}")
    return [data[i : i + size] for i in range(0, len(data), size)]


def _decode_origin(data: bytes, _width: int) -> Origin:
    try:
        return Origin(_fixed(data, 1)[0])
    except ValueError:  # RFC 7606 §7.1
        raise MalformedError(f"undefined value {data[0]}") from None


def _decode_address(data: bytes, _width: int) -> Address:
    return Address.from_packed(_fixed(data, 4))


def _decode_next_hop(data: bytes, width: int) -> Address:
    address = _decode_address(data, width)
    if address.value == 0 or address.value >= _FIRST_MULTICAST:  # RFC 4271 §6.3
        raise MalformedError(f"{address} is not a host's address")
    return address


def _decode_word(data: bytes, _width: int) -> int:
    return int.from_bytes(_fixed(data, 4), "big")


def _decode_flag(data: bytes, _width: int) -> bool:
    _fixed(data, 0)
    return True


def _decode_aggregator(data: bytes, width: int) -> Aggregator:
    asn = int.from_bytes(_fixed(data, width + 4)[:width], "big")
    if asn == 0:  # RFC 7607 §2
        raise MalformedError("AS 0")
    return Aggregator(asn, Address.from_packed(data[width:]))


def _encode_aggregator(value: Aggregator, width: int) -> bytes:
    fits = width == 4 or value.asn <= MAX_TWO_OCTET_ASN
    asn = value.asn if fits else AS_TRANS
    return asn.to_bytes(width, "big") + value.router_id.packed


def _decode_communities(data: bytes, _width: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(unit, "big") for unit in _units(data, 4))


def _decode_cluster_list(data: bytes, _width: int) -> tuple[Address, ...]:
    return tuple(Address.from_packed(unit) for unit in _units(data, 4))


def _decode_large(data: bytes, _width: int) -> tuple[LargeCommunity, ...]:
    return tuple(
        LargeCommunity(*(int.from_bytes(unit[i : i + 4], "big") for i in (0, 4, 8)))
        for unit in _units(data, 12)
    )


def _encode_large(value: tuple[LargeCommunity, ...], _width: int) -> bytes:
    return b"".join(
        (item.global_admin << 64 | item.local1 << 32 | item.local2).to_bytes(12, "big")
        for item in value
    )


def _mp_family(data: bytes, least: int) -> tuple[Family, int]:
    if len(data) < least:
        raise MalformedError(f"{len(data)} octets, fewer than {least}")
    family = Family(int.from_bytes(data[:2], "big"), data[2])
    if family not in FAMILY_NAMES:
        raise UnknownFamilyError
    return family, 4 if family == IPV4_UNICAST else 6


def _routes(data: bytes, version: int) -> tuple[Prefix, ...]:
    """The routes of an MP attribute: what is wrong with them is wrong with it (RFC 4760 §7)."""
    try:
        return decode_prefixes(data, version)
    except DecodeError as error:
        raise MalformedError(error.message) from None


def _decode_reach(data: bytes, _width: int) -> MpReach:
    family, version = _mp_family(data, 5)
    size = data[3]
    hops, rest = data[4 : 4 + size], data[4 + size :]
    if len(hops) != size or not rest:
        raise MalformedError("the next hop overruns the attribute")
    # RFC 4760 §3, RFC 2545 §3, RFC 8950 §3: 4, 16, or 16 and 16 octets of link-local address.
    if size not in ((4, 16, 32) if version == 4 else (16, 32)):
        raise MalformedError(f"a next hop of {size} octets")
    width = 4 if size == 4 else 16
    addresses = tuple(Address.from_packed(hops[i : i + width]) for i in range(0, size, width))
    return MpReach(family, addresses, _routes(rest[1:], version))  # rest[0] is reserved


def _encode_reach(value: MpReach, _width: int) -> bytes:
    hops = b"".join(address.packed for address in value.next_hops)
    head = value.family.afi.to_bytes(2, "big") + bytes((value.family.safi, len(hops)))
    return head + hops + b"\x00" + encode_prefixes(value.prefixes)


def _decode_unreach(data: bytes, _width: int) -> MpUnreach:
    family, version = _mp_family(data, 3)
    return MpUnreach(family, _routes(data[3:], version))


def _encode_unreach(value: MpUnreach, _width: int) -> bytes:
    head = value.family.afi.to_bytes(2, "big") + bytes((value.family.safi,))
    return head + encode_prefixes(value.prefixes)


def _encode_word(value: int, _width: int) -> bytes:
    return value.to_bytes(4, "big")


def _encode_address(value: Address, _width: int) -> bytes:
    return value.packed


_DISCARD, _WITHDRAW, _RESET = Severity
_A, _E = AttributeCode, UpdateError
_WELL_KNOWN, _BOTH = _TRANSITIVE, _OPTIONAL | _TRANSITIVE

TABLE: Final[tuple[Row, ...]] = (
    # RFC 7606 §5.1: the MP attributes come first, so that a receiver finds the NLRI in any case.
    Row(_A.MP_REACH_NLRI, _OPTIONAL, "mp_reach", _decode_reach, _encode_reach, _RESET),
    Row(_A.MP_UNREACH_NLRI, _OPTIONAL, "mp_unreach", _decode_unreach, _encode_unreach, _RESET),
    Row(
        _A.ORIGIN,
        _WELL_KNOWN,
        "origin",
        _decode_origin,
        lambda value, _: bytes((value,)),
        _WITHDRAW,
        _E.INVALID_ORIGIN_ATTRIBUTE,
    ),
    Row(
        _A.AS_PATH,
        _WELL_KNOWN,
        "as_path",
        decode_path,
        encode_path,
        _WITHDRAW,
        _E.MALFORMED_AS_PATH,
    ),
    Row(
        _A.NEXT_HOP,
        _WELL_KNOWN,
        "next_hop",
        _decode_next_hop,
        _encode_address,
        _WITHDRAW,
        _E.INVALID_NEXT_HOP_ATTRIBUTE,
    ),
    Row(_A.MULTI_EXIT_DISC, _OPTIONAL, "multi_exit_disc", _decode_word, _encode_word, _WITHDRAW),
    Row(
        _A.LOCAL_PREF,
        _WELL_KNOWN,
        "local_pref",
        _decode_word,
        _encode_word,
        _WITHDRAW,
        _E.ATTRIBUTE_LENGTH_ERROR,
        internal_only=True,
    ),
    Row(
        _A.ATOMIC_AGGREGATE,
        _WELL_KNOWN,
        "atomic_aggregate",
        _decode_flag,
        lambda _value, _width: b"",
        _DISCARD,
    ),
    Row(_A.AGGREGATOR, _BOTH, "aggregator", _decode_aggregator, _encode_aggregator, _DISCARD),
    Row(
        _A.COMMUNITIES,
        _BOTH,
        "communities",
        _decode_communities,
        lambda value, _: b"".join(item.to_bytes(4, "big") for item in value),
        _WITHDRAW,
    ),
    Row(
        _A.ORIGINATOR_ID,
        _OPTIONAL,
        "originator_id",
        _decode_address,
        _encode_address,
        _WITHDRAW,
        internal_only=True,
    ),
    Row(
        _A.CLUSTER_LIST,
        _OPTIONAL,
        "cluster_list",
        _decode_cluster_list,
        lambda value, _: b"".join(item.packed for item in value),
        _WITHDRAW,
        internal_only=True,
    ),
    Row(
        _A.EXTENDED_COMMUNITIES,
        _BOTH,
        "extended_communities",
        lambda data, _: tuple(int.from_bytes(unit, "big") for unit in _units(data, 8)),
        lambda value, _: b"".join(item.to_bytes(8, "big") for item in value),
        _WITHDRAW,
    ),
    # RFC 6793 §6: a malformed AS4_ attribute is discarded. Both are always four octets wide.
    Row(
        _A.AS4_PATH,
        _BOTH,
        "as4_path",
        lambda data, _: decode_path(data, 4),
        lambda value, _: encode_path(value, 4),
        _DISCARD,
    ),
    Row(
        _A.AS4_AGGREGATOR,
        _BOTH,
        "as4_aggregator",
        lambda data, _: _decode_aggregator(data, 4),
        lambda value, _: _encode_aggregator(value, 4),
        _DISCARD,
    ),
    Row(_A.LARGE_COMMUNITY, _BOTH, "large_communities", _decode_large, _encode_large, _WITHDRAW),
)
ROWS: Final[dict[int, Row]] = {row.code: row for row in TABLE}
MP_CODES: Final = (AttributeCode.MP_REACH_NLRI, AttributeCode.MP_UNREACH_NLRI)


def encode_attribute(code: int, flags: int, data: bytes) -> bytes:
    """One attribute, with the long length form where needed (RFC 4271 §4.3)."""
    if len(data) > 255:
        long_flags = flags | AttributeFlag.EXTENDED_LENGTH
        return bytes((long_flags, code)) + len(data).to_bytes(2, "big") + data
    return bytes((flags & ~AttributeFlag.EXTENDED_LENGTH, code, len(data))) + data


def encode_attributes(attributes: PathAttributes, *, four_octet_asn: bool) -> bytes:
    """All attributes that are present, in the order of `TABLE`, unknown ones last."""
    width = 4 if four_octet_asn else 2
    out = bytearray()
    for row in TABLE:
        value = getattr(attributes, row.field)
        if value == getattr(_NOTHING, row.field):
            continue
        out += encode_attribute(row.code, row.flags, row.encode(value, width))
    for raw in attributes.unknown:
        out += encode_attribute(raw.code, raw.flags, raw.data)
    return bytes(out)


def decode_attributes(
    data: bytes, *, four_octet_asn: bool, internal: bool
) -> tuple[PathAttributes, tuple[Fault, ...]]:
    """Read the path attributes of an UPDATE and judge each fault by its severity.

    Returns:
        What could be read, and the faults that do not end the session.

    Raises:
        DecodeError: a fault of severity SESSION_RESET (UPDATE Message Error).
    """
    width = 4 if four_octet_asn else 2
    fields: dict[str, Any] = {}
    unknown: list[RawAttribute] = []
    faults: list[Fault] = []
    seen: set[int] = set()
    position = 0
    while position < len(data):
        item = _cut(data, position)
        if item is None:  # RFC 7606 §4: the NLRI is still known, so treat-as-withdraw suffices
            faults.append(Fault(_WITHDRAW, 0, "an attribute overruns the list"))
            break
        raw, whole, position = item
        if raw.code in seen:
            if raw.code in MP_CODES:  # RFC 7606 §3 g
                raise _reset(f"attribute {raw.code} twice", _E.MALFORMED_ATTRIBUTE_LIST)
            faults.append(Fault(_DISCARD, raw.code, "appears more than once"))
            continue
        seen.add(raw.code)
        row = ROWS.get(raw.code)
        if row is None:
            _keep_unknown(raw, whole, unknown)
        elif row.internal_only and not internal:  # RFC 7606 §7.5, §7.9, §7.10
            faults.append(Fault(_DISCARD, raw.code, "has no place on an external session"))
        else:
            try:
                misflagged = _check_flags(row, raw, whole)
                if misflagged is not None:
                    faults.append(misflagged)
                # Of the MP attributes, the routes are needed: they are to be withdrawn.
                if misflagged is None or row.code in MP_CODES:
                    fields[row.field] = _read(row, raw, width, internal=internal)
            except UnknownFamilyError:
                unknown.append(raw)
            except (MalformedError, InvalidInputError) as error:
                faults.append(_judge(row, error, whole))
    return PathAttributes(**fields, unknown=tuple(unknown)), tuple(faults)


def _cut(data: bytes, position: int) -> tuple[RawAttribute, bytes, int] | None:
    """One attribute at `position`: its parts, all its bytes, and where the next one begins."""
    if len(data) - position < 3:
        return None
    flags, code = data[position], data[position + 1]
    long_form = bool(flags & AttributeFlag.EXTENDED_LENGTH)
    start = position + (4 if long_form else 3)
    if start > len(data):
        return None
    end = start + int.from_bytes(data[position + 2 : start], "big")
    if end > len(data):
        return None
    # RFC 4271 §4.3: the low four bits mean nothing and are ignored.
    raw = RawAttribute(code, flags & 0xE0, data[start:end])
    return raw, data[position:end], end


def _keep_unknown(raw: RawAttribute, whole: bytes, unknown: list[RawAttribute]) -> None:
    if not raw.flags & _OPTIONAL:  # RFC 4271 §6.3: data is the attribute
        raise _reset(
            f"well-known attribute {raw.code} is not known",
            _E.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            whole,
        )
    unknown.append(raw)


def _check_flags(row: Row, raw: RawAttribute, whole: bytes) -> Fault | None:
    if raw.flags & _KIND == row.flags:
        return None
    # RFC 7606 §3 c; RFC 4271 §6.3: data is the attribute
    message = f"flags {raw.flags:#04x} are not those of {row.code.name}"
    return Fault(_WITHDRAW, raw.code, message, _E.ATTRIBUTE_FLAGS_ERROR, whole)


def _read(row: Row, raw: RawAttribute, width: int, *, internal: bool) -> Any:
    value = row.decode(raw.data, width)
    if row.code is _A.AS_PATH:
        check_segments(value, internal=internal)
    return value


def _judge(row: Row, error: Exception, whole: bytes) -> Fault:
    """What a value that cannot be read costs."""
    message = f"{row.code.name}: {error}"
    # RFC 4271 §6.3: data is the attribute
    subcode = _E.ATTRIBUTE_LENGTH_ERROR if isinstance(error, WrongLengthError) else row.subcode
    if row.severity is _RESET:
        raise _reset(message, subcode, whole)
    return Fault(row.severity, row.code, message, subcode, whole)


def _reset(message: str, subcode: UpdateError, data: bytes = b"") -> DecodeError:
    return DecodeError(message, ErrorCode.UPDATE_MESSAGE, subcode, data)


def merge_as4_path(attributes: PathAttributes) -> tuple[AsSegment, ...]:
    """The true AS path of a route from a two-octet speaker (RFC 6793 §4.2.3)."""
    path, four = attributes.as_path or (), attributes.as4_path or ()
    missing = path_length(path) - path_length(four)
    if not four or missing < 0:  # RFC 6793 §4.2.3: a longer AS4_PATH is ignored
        return path
    head: list[AsSegment] = []
    for segment in path:
        if missing <= 0:
            break
        if segment.type is SegmentType.AS_SEQUENCE and len(segment.asns) > missing:
            head.append(AsSegment(segment.type, segment.asns[:missing]))
            break
        head.append(segment)
        missing -= path_length((segment,))
    return (*head, *four)
